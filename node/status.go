package node

import (
	"cmp"
	"context"
	"maps"
	"runtime"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"sampan/cluster/client"
	"sampan/node/resource"
)

// keepStatus makes the Node object and keeps its status true: it writes when
// something changed, and every StatusEvery.
func (a *Agent) keepStatus(ctx context.Context) error {
	for tries := 0; ; {
		ready, err := a.report(ctx)
		if apierrors.IsConflict(err) && tries < statusTries {
			tries++ // somebody else wrote the Node meanwhile
			continue
		}
		if err != nil {
			return err
		}
		tries = 0
		again := a.c.StatusEvery
		if !ready {
			again = notReadyEvery
		}
		t := time.NewTimer(again)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case <-a.changed:
			t.Stop()
		case <-t.C:
		}
	}
}

// statusTries is how often a write of the status that was overtaken is tried
// again at once (upstream: nodeStatusUpdateRetry).
const statusTries = 5

// notReadyEvery is how often a runtime that is not ready is asked again: nothing
// tells when it is.
const notReadyEvery = 2 * time.Second

// followNode has the Node made again when somebody deletes it, and looked at
// again when somebody says otherwise whether it is ready.
func (a *Agent) followNode(ctx context.Context) error {
	return client.Follow(ctx, a.c.Client, client.Query{Name: a.c.NodeName}, func(e client.Change[*corev1.Node]) {
		switch e.Type {
		case client.Deleted:
			a.poke()
		case client.Added, client.Modified:
			a.mu.Lock()
			mine := a.node
			a.mu.Unlock()
			if mine != nil && readiness(mine) != readiness(e.Object) {
				a.poke()
			}
		}
	})
}

func readiness(n *corev1.Node) corev1.ConditionStatus {
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status
		}
	}
	return corev1.ConditionUnknown
}

func (a *Agent) poke() {
	select {
	case a.changed <- struct{}{}:
	default:
	}
}

// report writes the Node as it should be.
func (a *Agent) report(ctx context.Context) (ready bool, err error) {
	message := a.unready(ctx)
	return message == "", a.write(ctx, conditions(message))
}

func (a *Agent) write(ctx context.Context, conditions []corev1.NodeCondition) error {
	now := metav1.Now().Rfc3339Copy()
	live, err := client.Get[*corev1.Node](ctx, a.c.Client, "", a.c.NodeName)
	switch {
	case apierrors.IsNotFound(err):
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: a.c.NodeName}}
		a.fill(n)
		n.Spec.Taints = slices.Clone(a.c.Taints)
		if len(a.c.PodCIDRs) > 0 {
			n.Spec.PodCIDR, n.Spec.PodCIDRs = a.c.PodCIDRs[0], a.c.PodCIDRs
		}
		a.fillStatus(n, conditions, now)
		status := n.Status.DeepCopy()
		made, err := client.Create(ctx, a.c.Client, n)
		if err != nil {
			return err
		}
		a.events.EventAbout(a.reference(), corev1.EventTypeNormal, "Starting", "Starting kubelet.")
		if equality.Semantic.DeepEqual(made.Status, *status) {
			a.keep(made)
			return nil
		}
		live = made // the API server drops the status of a new object
	case err != nil:
		return err
	}
	want := live.DeepCopy()
	a.fill(want)
	if !equality.Semantic.DeepEqual(live.ObjectMeta, want.ObjectMeta) || !equality.Semantic.DeepEqual(live.Spec, want.Spec) {
		if live, err = client.Update(ctx, a.c.Client, want); err != nil {
			return err
		}
		want = live.DeepCopy()
	}
	a.fillStatus(want, conditions, now)
	if same(live, want) && now.Sub(heartbeat(live)) < a.c.StatusEvery-time.Second {
		a.keep(live)
		return nil
	}
	for i := range want.Status.Conditions {
		if mine(want.Status.Conditions[i].Type) {
			want.Status.Conditions[i].LastHeartbeatTime = now
		}
	}
	written, err := client.UpdateStatus(ctx, a.c.Client, want)
	if err != nil {
		return err
	}
	a.keep(written)
	return nil
}

func (a *Agent) keep(n *corev1.Node) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.node = n
}

func (a *Agent) reference() corev1.ObjectReference {
	return corev1.ObjectReference{Kind: "Node", APIVersion: "v1", Name: a.c.NodeName}
}

// same compares statuses but for heartbeats.
func same(a, b *corev1.Node) bool {
	x, y := a.Status.DeepCopy(), b.Status.DeepCopy()
	for _, s := range []*corev1.NodeStatus{x, y} {
		for i := range s.Conditions {
			s.Conditions[i].LastHeartbeatTime = metav1.Time{}
		}
	}
	return equality.Semantic.DeepEqual(x, y)
}

func heartbeat(n *corev1.Node) time.Time {
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.LastHeartbeatTime.Time
		}
	}
	return time.Time{}
}

// fill sets the well-known labels.
func (a *Agent) fill(n *corev1.Node) {
	if n.Labels == nil {
		n.Labels = map[string]string{}
	}
	if n.UID == "" { // only of a node that is made here: later they are the user's
		maps.Copy(n.Labels, a.c.Labels)
	}
	n.Labels[corev1.LabelHostname] = a.c.NodeName
	n.Labels[corev1.LabelOSStable], n.Labels["beta.kubernetes.io/os"] = runtime.GOOS, runtime.GOOS
	n.Labels[corev1.LabelArchStable], n.Labels["beta.kubernetes.io/arch"] = runtime.GOARCH, runtime.GOARCH
}

func (a *Agent) fillStatus(n *corev1.Node, conditions []corev1.NodeCondition, now metav1.Time) {
	s := &n.Status
	capacity := a.machine.Capacity(a.c.MaxPods)
	if s.Capacity == nil {
		s.Capacity, s.Allocatable = corev1.ResourceList{}, corev1.ResourceList{}
	}
	// Extended resources that somebody patched in stay.
	maps.Copy(s.Capacity, capacity)
	maps.Copy(s.Allocatable, resource.Allocatable(capacity, a.c.Reserved))
	for name, q := range s.Capacity {
		if _, ours := capacity[name]; !ours {
			s.Allocatable[name] = q
		}
	}
	s.Addresses = slices.Clone(a.c.Addresses)
	if !slices.ContainsFunc(s.Addresses, func(x corev1.NodeAddress) bool { return x.Type == corev1.NodeHostName }) {
		s.Addresses = append(s.Addresses, corev1.NodeAddress{Type: corev1.NodeHostName, Address: a.c.NodeName})
	}
	s.DaemonEndpoints.KubeletEndpoint.Port = int32(a.c.Port)
	s.NodeInfo = corev1.NodeSystemInfo{
		MachineID: a.machine.MachineID, SystemUUID: a.machine.SystemUUID, BootID: a.machine.BootID,
		KernelVersion: a.machine.Kernel, OSImage: a.machine.OSImage, OperatingSystem: runtime.GOOS, Architecture: runtime.GOARCH,
		ContainerRuntimeVersion: a.version.RuntimeName + "://" + a.version.RuntimeVersion, KubeletVersion: a.c.Version,
	}
	for _, c := range conditions {
		putCondition(s, c, now)
	}
}

func putCondition(s *corev1.NodeStatus, c corev1.NodeCondition, now metav1.Time) {
	c.LastHeartbeatTime, c.LastTransitionTime = now, now
	for i := range s.Conditions {
		if old := &s.Conditions[i]; old.Type == c.Type {
			if old.Status == c.Status {
				c.LastTransitionTime = old.LastTransitionTime
			}
			c.LastHeartbeatTime = old.LastHeartbeatTime
			*old = c
			return
		}
	}
	s.Conditions = append(s.Conditions, c)
}

func mine(t corev1.NodeConditionType) bool {
	switch t {
	case corev1.NodeReady, corev1.NodeMemoryPressure, corev1.NodeDiskPressure, corev1.NodePIDPressure:
		return true
	}
	return false
}

// conditions are what the node says of its health. Pressure is not measured
// yet: there is no eviction.
func conditions(unready string) []corev1.NodeCondition {
	fine := func(t corev1.NodeConditionType, reason, message string) corev1.NodeCondition {
		return corev1.NodeCondition{Type: t, Status: corev1.ConditionFalse, Reason: reason, Message: message}
	}
	ready := corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady", Message: "kubelet is posting ready status"}
	if unready != "" {
		ready.Status, ready.Reason, ready.Message = corev1.ConditionFalse, "KubeletNotReady", unready
	}
	return []corev1.NodeCondition{
		fine(corev1.NodeMemoryPressure, "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
		fine(corev1.NodeDiskPressure, "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
		fine(corev1.NodePIDPressure, "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
		ready,
	}
}

// unready is what the runtime lacks, empty if nothing.
func (a *Agent) unready(ctx context.Context) string {
	s, err := a.c.Runtime.Status(ctx, &runtimeapi.StatusRequest{})
	if err != nil {
		return "container runtime is down: " + err.Error()
	}
	for _, c := range s.GetStatus().GetConditions() {
		if c.Status {
			continue
		}
		switch c.Type {
		case runtimeapi.RuntimeReady:
			return "container runtime not ready: RuntimeReady=false reason:" + cmp.Or(c.Reason, "unknown") + " message:" + c.Message
		case runtimeapi.NetworkReady:
			return "container runtime network not ready: NetworkReady=false reason:" + cmp.Or(c.Reason, "unknown") + " message:" + c.Message
		}
	}
	return ""
}
