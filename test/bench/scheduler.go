package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
)

// workload is a kind of pods to find nodes for.
type workload struct {
	name string
	pods int

	shape func(*corev1.Pod)
	// first is what must be there before; may be nil.
	first func(*corev1.Pod)
}

func workloads(nodes int) []workload {
	own := &metav1.LabelSelector{MatchLabels: map[string]string{"app": "bench"}}
	return []workload{
		{name: "plain pods", pods: 1000, shape: func(*corev1.Pod) {}},
		{name: "pods with affinity to a zone and against their own node", pods: min(300, nodes), shape: func(p *corev1.Pod) {
			p.Spec.Affinity = &corev1.Affinity{
				PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{
					{LabelSelector: own, TopologyKey: corev1.LabelHostname}}},
				NodeAffinity: &corev1.NodeAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.PreferredSchedulingTerm{
					{Weight: 10, Preference: corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{
						{Key: corev1.LabelTopologyZone, Operator: corev1.NodeSelectorOpIn, Values: []string{"zone-1", "zone-2"}}}}}}},
			}
		}},
		{name: "pods spread over zones", pods: 300, shape: func(p *corev1.Pod) {
			p.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{
				{MaxSkew: 1, TopologyKey: corev1.LabelTopologyZone, WhenUnsatisfiable: corev1.DoNotSchedule, LabelSelector: own}}
		}},
		{name: "pods that drive off others", pods: 50,
			first: func(p *corev1.Pod) {
				p.Spec.Containers[0].Resources.Requests[corev1.ResourceCPU] = resource.MustParse("30")
			},
			shape: func(p *corev1.Pod) {
				p.Spec.PriorityClassName = "bench-high"
				p.Spec.Containers[0].Resources.Requests[corev1.ResourceCPU] = resource.MustParse("30")
			}},
	}
}

// scheduler measures how fast pods get nodes that exist in the API alone: from
// the first creation until a watch has told of the last binding.
func scheduler(ctx context.Context, b *bench) error {
	sides, closeSides, err := b.openSides(ctx, "--node-monitor-grace-period=30m")
	defer func() {
		if err := closeSides(); err != nil {
			fmt.Fprintln(os.Stderr, "bench: clean up:", err)
		}
	}()
	if err != nil {
		return err
	}
	for _, s := range sides {
		if err := s.prepareNodes(ctx); err != nil {
			return err
		}
	}
	for _, nodes := range []int{100, 1000, 5000} {
		for _, s := range sides {
			if err := s.createNodes(ctx, nodes); err != nil {
				return err
			}
			// The scheduler has seen the nodes when it has used some.
			warm := workload{name: "warm", pods: 20, shape: func(*corev1.Pod) {}}
			if _, _, err := s.schedule(ctx, warm); err != nil {
				return err
			}
		}
		for _, w := range workloads(nodes) {
			if w.first != nil && nodes > 100 {
				continue // to fill more nodes takes longer than to empty some
			}
			r := b.row(fmt.Sprintf("%d nodes, %s", nodes, w.name), "pods/s", moreIsBetter)
			for range map[bool]int{true: 2, false: 1}[nodes < 5000] {
				for _, s := range sides {
					rate, cpu, err := s.schedule(ctx, w)
					if ctx.Err() != nil {
						return ctx.Err()
					}
					if err != nil {
						r.fail(s.who, err)
						continue
					}
					r.add(s.who, rate, milliseconds(cpu))
				}
			}
		}
	}
	return nil
}

// prepareNodes keeps pods off the real node, and makes a class of priority.
func (s *side) prepareNodes(ctx context.Context) error {
	c := s.clients[asProtobuf][0]
	list, err := c.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for i := range list.Items {
		_, err := c.CoreV1().Nodes().Patch(ctx, list.Items[i].Name, "application/merge-patch+json", []byte(`{"spec":{"unschedulable":true}}`), metav1.PatchOptions{})
		if err != nil {
			return err
		}
	}
	_, err = c.SchedulingV1().PriorityClasses().Create(ctx, &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: "bench-high"}, Value: 1000}, metav1.CreateOptions{})
	if apierrors.IsNotFound(err) {
		return nil // no such kind: pods that name the class will be refused, and the row says so
	}
	return err
}

func nodeName(i int) string { return fmt.Sprintf("node-%04d", i) }

// createNodes adds what lacks until there are n, and waits until all of them
// take pods.
func (s *side) createNodes(ctx context.Context, n int) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	_, _, err := s.spread(asProtobuf, n, func(c *kubernetes.Clientset, i int) error {
		now := metav1.Now()
		room := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("32"), corev1.ResourceMemory: resource.MustParse("256Gi"), corev1.ResourcePods: resource.MustParse("110")}
		_, err := c.CoreV1().Nodes().Create(ctx, &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: nodeName(i), Labels: map[string]string{
				corev1.LabelHostname: nodeName(i), corev1.LabelTopologyZone: fmt.Sprintf("zone-%d", i%10)}},
			Status: corev1.NodeStatus{Capacity: room, Allocatable: room, Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue,
				Reason: "KubeletReady", LastHeartbeatTime: now, LastTransitionTime: now}}},
		}, metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) {
			return nil
		}
		if err == nil {
			err = s.keepAlive(ctx, c, nodeName(i))
		}
		return err
	})
	if err != nil {
		return err
	}
	w, err := s.clients[asProtobuf][0].CoreV1().Nodes().Watch(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	defer w.Stop()
	free := map[string]bool{}
	for e := range w.ResultChan() {
		node, ok := e.Object.(*corev1.Node)
		if !ok {
			return fmt.Errorf("%s: watch nodes: %v", s.who, e.Object)
		}
		if free[node.Name] = len(node.Spec.Taints) == 0 && e.Type != watch.Deleted; !free[node.Name] {
			delete(free, node.Name)
		}
		if len(free) >= n {
			return nil
		}
	}
	return fmt.Errorf("%s: %d of %d nodes take pods after 2 minutes", s.who, len(free), n)
}

// keepAlive says for a node that nobody need worry for the next hour. (Upstream
// does not ask how long a lease lasts; it is told by a flag.)
func (s *side) keepAlive(ctx context.Context, c *kubernetes.Clientset, node string) error {
	hour, now := int32(3600), metav1.NowMicro()
	_, err := c.CoordinationV1().Leases(corev1.NamespaceNodeLease).Create(ctx, &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: node},
		Spec: coordinationv1.LeaseSpec{HolderIdentity: &node, LeaseDurationSeconds: &hour, RenewTime: &now}}, metav1.CreateOptions{})
	return err
}

// schedule makes the pods of a workload, waits until all have nodes, and
// removes them. Nobody runs them.
func (s *side) schedule(ctx context.Context, w workload) (rate float64, cpu time.Duration, err error) {
	s.ignored.Store(nil)
	ctx, cancel := context.WithTimeout(ctx, 45*time.Second)
	defer cancel()
	defer func() {
		if e := s.removePods(context.WithoutCancel(ctx)); err == nil {
			err = e
		}
	}()
	if w.first != nil {
		if _, _, err := s.place(ctx, "first", w.pods*2, w.first); err != nil {
			return 0, 0, err
		}
	}
	profiled := s.ours.profile(ctx, "schedule "+w.name, 2)
	wall, cpu, err := s.place(ctx, "bench", w.pods, w.shape)
	<-profiled
	if what := s.ignored.Load(); what != nil {
		return 0, 0, errors.New(*what)
	}
	return float64(w.pods) / wall.Seconds(), cpu, err
}

func (s *side) place(ctx context.Context, app string, n int, shape func(*corev1.Pod)) (wall, cpu time.Duration, err error) {
	watching, done := context.WithCancel(ctx)
	defer done()
	last := make(chan time.Time, 1)
	missing := make(chan int, 1)
	go s.await(watching, app, n, last, missing)
	before, began := s.spent(), time.Now()
	_, _, err = s.spread(asProtobuf, n, func(c *kubernetes.Clientset, i int) error {
		_, err := c.CoreV1().Pods("default").Create(ctx, fakePod(app, i, shape), metav1.CreateOptions{})
		return err
	})
	if err != nil {
		return 0, 0, err
	}
	select {
	case at := <-last:
		return at.Sub(began), (s.spent() - before) / time.Duration(n), nil
	case m := <-missing:
		return 0, 0, fmt.Errorf("%d of %d pods have no node after 45 s", m, n)
	}
}

// await watches pods until n of them have nodes, and says when; or, at the end,
// how many have none. A server may end a watch whose client is slow: then it
// begins again.
func (s *side) await(ctx context.Context, app string, n int, last chan<- time.Time, missing chan<- int) {
	bound := map[string]bool{}
	for ctx.Err() == nil {
		seen, err := s.clients[asProtobuf][0].CoreV1().Pods("default").Watch(ctx, metav1.ListOptions{LabelSelector: "app=" + app})
		if err != nil {
			_ = pause(ctx, 50*time.Millisecond)
			continue
		}
		for e := range seen.ResultChan() {
			if p, ok := e.Object.(*corev1.Pod); ok && p.Spec.NodeName != "" {
				if bound[p.Name] = true; len(bound) == n {
					seen.Stop()
					last <- time.Now()
					return
				}
			}
		}
		seen.Stop()
	}
	missing <- n - len(bound)
}

// fakePod leaves at once when it is deleted: nobody would confirm it.
func fakePod(app string, i int, shape func(*corev1.Pod)) *corev1.Pod {
	var none int64
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("%s-%05d", app, i), Labels: map[string]string{"app": app}},
		Spec: corev1.PodSpec{TerminationGracePeriodSeconds: &none, Containers: []corev1.Container{{Name: "c", Image: guestImage,
			Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: resource.MustParse("100Mi")}}}}},
	}
	shape(p)
	return p
}

func (s *side) removePods(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var now int64
	c := s.clients[asProtobuf][0].CoreV1().Pods("default")
	if err := c.DeleteCollection(ctx, metav1.DeleteOptions{GracePeriodSeconds: &now}, metav1.ListOptions{}); err != nil {
		return err
	}
	for {
		list, err := c.List(ctx, metav1.ListOptions{Limit: 1})
		if err != nil || len(list.Items) == 0 {
			return err
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return fmt.Errorf("%s: pods of the last round do not go: %w", s.who, err)
		}
	}
}
