package node

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc/metadata"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	kubelet "k8s.io/kubelet/pkg/types"

	"sampan/cluster/client"
	"sampan/internal/fault"
	"sampan/node/pod"
	"sampan/node/resource"
)

// learn finds out what the machine is and how its runtime is called. It waits
// for the runtime, and ends early only with ctx.
func (a *Agent) learn(ctx context.Context) error {
	machine, err := resource.ReadMachine(a.c.PodsDir)
	if err != nil {
		return err
	}
	a.machine = machine
	hosts, err := os.ReadFile("/etc/hosts")
	if err != nil && !os.IsNotExist(err) {
		return &fault.Error{Op: "read hosts file", On: "/etc/hosts", Err: err}
	}
	for delay := 100 * time.Millisecond; ctx.Err() == nil; delay = min(2*delay, 30*time.Second) {
		v, err := a.c.Runtime.Version(ctx, &runtimeapi.VersionRequest{})
		if err != nil {
			a.c.Log.Warn("the container runtime does not answer yet", "retry", delay, "err", err)
			wait(ctx, delay)
			continue
		}
		a.mu.Lock()
		a.version = v
		a.shared = &pod.Config{
			Runtime: a.c.Runtime, RuntimeName: v.RuntimeName, API: (*api)(a), Volumes: a.volumes, Events: a.events, Cgroups: a.c.Cgroups,
			Host: func() *pod.Host { return a.host(hosts) }, HostIPs: a.hostIPs, Dir: a.c.PodsDir, Log: a.c.Log, Admit: a.admitPod, AdmitResize: a.admitResize,
		}
		a.mu.Unlock()
		return nil
	}
	return nil
}

// host is what pods are made with. The machine's resolver settings are read
// each time: they follow its network.
func (a *Agent) host(hosts []byte) *pod.Host {
	h := &pod.Host{LogDir: a.c.LogDir, CgroupRoot: a.c.CgroupRoot, MemoryBytes: a.machine.MemoryBytes,
		ClusterDNS: a.c.ClusterDNS, ClusterDomain: a.c.ClusterDomain, NodeName: a.c.NodeName, HostsFile: hosts}
	b, err := os.ReadFile(a.c.ResolvConf)
	if err != nil {
		a.c.Log.Warn("resolver settings not read", "file", a.c.ResolvConf, "err", err)
		return h
	}
	h.Resolver = pod.ParseResolver(b)
	return h
}

// followPods gives every pod of this node to its worker. Once all are known,
// what runs without a pod is ended.
func (a *Agent) followPods(ctx context.Context) error {
	if err := a.listSandboxes(ctx); err != nil {
		return err
	}
	present := map[types.UID]bool{}
	return client.Follow(ctx, a.c.Client, client.Query{Index: "spec.nodeName", Value: a.c.NodeName}, func(e client.Change[*corev1.Pod]) {
		switch e.Type {
		case client.Synced:
			a.adopt(ctx, present)
			present = nil
		case client.Deleted:
			a.deleted(ctx, e.Object)
		default:
			if present != nil {
				present[e.Object.UID] = true
			}
			if e.Old != nil && e.Old.UID != e.Object.UID {
				a.deleted(ctx, e.Old) // deleted and made again between two looks
			}
			a.update(ctx, e.Object)
		}
	})
}

func (a *Agent) update(ctx context.Context, p *corev1.Pod) {
	a.mu.Lock()
	w := a.workers[p.UID]
	if w == nil {
		a.startLocked(ctx, p, false)
	}
	a.mu.Unlock()
	if w != nil {
		w.Update(p)
	}
}

func (a *Agent) deleted(ctx context.Context, last *corev1.Pod) {
	a.mu.Lock()
	w := a.workers[last.UID]
	a.mu.Unlock()
	if w != nil {
		w.Deleted(last)
	}
}

// startLocked begins the worker of a pod.
func (a *Agent) startLocked(ctx context.Context, p *corev1.Pod, gone bool) {
	boxes := a.boxes[p.UID]
	if boxes == nil {
		boxes = []string{} // made after the list was: the runtime has nothing of it
	}
	delete(a.boxes, p.UID)
	w := pod.NewWorker(a.shared, p, gone, boxes)
	key := p.Namespace + "/" + p.Name
	a.workers[p.UID], a.names[key] = w, p.UID
	if !gone && p.Status.StartTime != nil {
		a.admitted[p.UID] = true // taken before this program started
	}
	a.group.Go(func() {
		w.Run(ctx)
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.workers, p.UID)
		delete(a.admitted, p.UID)
		if a.names[key] == p.UID {
			delete(a.names, key)
		}
	})
}

// adopt ends what runs here without a pod in the API, and what workers know
// of pods that vanished while the watch was away.
func (a *Agent) adopt(ctx context.Context, present map[types.UID]bool) {
	a.mu.Lock()
	for uid, w := range a.workers {
		if !present[uid] {
			w.Deleted(w.Pod())
		}
	}
	a.mu.Unlock()
	for uid, box := range a.orphans() {
		a.orphan(ctx, uid, box)
	}
	a.sweep(ctx, present)
}

// listSandboxes asks once, for all pods, what the runtime has.
func (a *Agent) listSandboxes(ctx context.Context) error {
	list, err := a.c.Runtime.ListPodSandbox(ctx, &runtimeapi.ListPodSandboxRequest{})
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.boxes, a.found = map[types.UID][]string{}, map[types.UID]*runtimeapi.PodSandbox{}
	for _, box := range list.Items {
		if uid := types.UID(box.Labels[kubelet.KubernetesPodUIDLabel]); uid != "" && a.workers[uid] == nil {
			a.boxes[uid] = append(a.boxes[uid], box.Id)
			a.found[uid] = box
		}
	}
	return nil
}

// orphans are the pods of listSandboxes that no worker took.
func (a *Agent) orphans() map[types.UID]*runtimeapi.PodSandbox {
	a.mu.Lock()
	defer a.mu.Unlock()
	left := map[types.UID]*runtimeapi.PodSandbox{}
	for uid := range a.boxes {
		left[uid] = a.found[uid]
	}
	a.found = nil
	return left
}

// orphan gives a sandbox without pod a worker that ends it.
func (a *Agent) orphan(ctx context.Context, uid types.UID, box *runtimeapi.PodSandbox) {
	grace := int64(1)
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Name: box.Labels[kubelet.KubernetesPodNameLabel], Namespace: box.Labels[kubelet.KubernetesPodNamespaceLabel],
		UID: uid, DeletionGracePeriodSeconds: &grace}}
	a.c.Log.Info("ending containers of a pod that is gone", "key", p.Namespace+"/"+p.Name, "uid", uid)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.workers[uid] == nil {
		a.startLocked(ctx, p, true)
	}
}

// sweep removes files and logs of pods that neither the API nor the runtime
// has.
func (a *Agent) sweep(ctx context.Context, present map[types.UID]bool) {
	kept := func(uid types.UID) bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return present[uid] || a.workers[uid] != nil
	}
	for _, dir := range []string{a.c.PodsDir, a.c.LogDir} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			a.c.Log.Warn("directory of pods not read", "dir", dir, "err", err)
			continue
		}
		for _, e := range entries {
			// A pod's directory is its UID, that of its logs ends in it.
			uid := types.UID(e.Name()[strings.LastIndexByte(e.Name(), '_')+1:])
			if kept(uid) || ctx.Err() != nil {
				continue
			}
			if err := a.volumes.Unmount(ctx, uid); err != nil {
				a.c.Log.Warn("volumes of a pod that is gone not removed", "uid", uid, "err", err)
				continue
			}
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				a.c.Log.Warn("files of a pod that is gone not removed", "uid", uid, "err", err)
			}
		}
	}
}

func (a *Agent) wake(uid types.UID, n pod.News) {
	a.mu.Lock()
	w := a.workers[uid]
	a.mu.Unlock()
	if w != nil {
		w.Wake(n)
	}
}

// followRuntime wakes the worker of every pod in which the runtime reports a
// change. It returns when the stream ends.
func (a *Agent) followRuntime(ctx context.Context) error {
	a.mu.Lock()
	for _, w := range a.workers {
		w.Wake(pod.Runtimes) // what happened while nobody listened
	}
	a.mu.Unlock()
	err := a.c.Runtime.GetContainerEvents(&runtimeapi.GetEventsRequest{}, &eventStream{ctx: ctx, agent: a})
	if err == nil && ctx.Err() == nil {
		return &fault.Error{Class: fault.Unavailable, Op: "follow container events", On: a.version.RuntimeName}
	}
	return err
}

// eventStream is the server's end of a gRPC stream, without gRPC.
type eventStream struct {
	ctx   context.Context
	agent *Agent
}

func (s *eventStream) Send(e *runtimeapi.ContainerEventResponse) error {
	uid := types.UID(e.GetPodSandboxStatus().GetMetadata().GetUid())
	if uid == "" {
		uid = types.UID(e.GetPodSandboxStatus().GetLabels()[kubelet.KubernetesPodUIDLabel])
	}
	for _, c := range e.ContainersStatuses {
		if uid == "" {
			uid = types.UID(c.Labels[kubelet.KubernetesPodUIDLabel])
		}
	}
	if uid != "" {
		s.agent.wake(uid, pod.Runtimes)
		return s.ctx.Err()
	}
	// The runtime does not say which pod: all look.
	s.agent.mu.Lock()
	defer s.agent.mu.Unlock()
	for _, w := range s.agent.workers {
		w.Wake(pod.Runtimes)
	}
	return s.ctx.Err()
}

func (s *eventStream) Context() context.Context     { return s.ctx }
func (s *eventStream) SetHeader(metadata.MD) error  { return nil }
func (s *eventStream) SendHeader(metadata.MD) error { return nil }
func (s *eventStream) SetTrailer(metadata.MD)       {}
func (s *eventStream) SendMsg(m any) error {
	if e, ok := m.(*runtimeapi.ContainerEventResponse); ok {
		return s.Send(e)
	}
	return &fault.Error{Class: fault.Invalid, Op: "receive container event", Err: fmt.Errorf("message is %T", m)}
}
func (s *eventStream) RecvMsg(any) error {
	return &fault.Error{Class: fault.Invalid, Op: "receive on a stream of events that only sends"}
}
