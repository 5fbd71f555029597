// Package nodelife follows the life of nodes: it says when nothing is heard of
// one any more, turns a node's state into taints, and drives pods off nodes
// with taints that they do not tolerate, or that are gone.
//
// A node lives as long as its Lease or its status is renewed. Nothing is
// polled: each node has one timer, for the moment when its time runs out.
//
// It does not know what a node does, only what is written of it.
package nodelife

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"sampan/cluster/client"
	"sampan/cluster/client/event"
	"sampan/cluster/controller/loop"
	"sampan/cluster/controller/pods"
)

// Config is what the controller needs.
type Config struct {
	Client client.Client
	Log    *slog.Logger

	// Grace is how long a node may be silent; a Lease that lasts longer counts
	// instead. Default 50 s, upstream's.
	Grace time.Duration

	// StartGrace is Grace for a node that has not yet said whether it is
	// ready. Default 60 s, upstream's.
	StartGrace time.Duration
}

// Controller follows nodes. See the package comment.
type Controller struct {
	cfg         Config
	nodeEvents  *event.Recorder
	taintEvents *event.Recorder
	nodes       *loop.Loop[string]
	pods        *loop.Loop[types.NamespacedName]

	mu      sync.Mutex           // guards all below
	started bool                 // all nodes are known
	seen    map[string]time.Time // the last sign of a node's life, by our clock
	zones   *zones
	waiting map[types.NamespacedName]sentence // pods that will be deleted
}

// sentence is since when a pod has what it will be deleted for.
type sentence struct {
	uid    types.UID
	orphan bool // its node is gone; else taints
	since  time.Time
}

// New returns a controller.
func New(cfg Config) *Controller {
	cfg.Grace = cmp.Or(cfg.Grace, 50*time.Second)
	cfg.StartGrace = cmp.Or(cfg.StartGrace, 60*time.Second)
	c := &Controller{cfg: cfg,
		nodeEvents:  &event.Recorder{Client: cfg.Client, Component: "node-controller", Log: cfg.Log},
		taintEvents: &event.Recorder{Client: cfg.Client, Component: "taint-eviction-controller", Log: cfg.Log},
		seen:        map[string]time.Time{},
		zones:       newZones(),
		waiting:     map[types.NamespacedName]sentence{},
	}
	c.nodes = &loop.Loop[string]{Name: "nodelife", Workers: 4, Log: cfg.Log, Sync: c.syncNode}
	c.pods = &loop.Loop[types.NamespacedName]{Name: "nodelife-pods", Workers: 4, Log: cfg.Log, Sync: c.syncPod}
	return c
}

// Run works until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	failed := make(chan error, 3)
	all.Go(func() {
		failed <- client.Follow(ctx, c.cfg.Client, client.Query{}, func(e client.Change[*corev1.Node]) { c.onNode(ctx, e) })
	})
	all.Go(func() {
		failed <- client.Follow(ctx, c.cfg.Client, client.Query{Namespace: corev1.NamespaceNodeLease}, c.onLease)
	})
	all.Go(func() {
		failed <- client.Follow(ctx, c.cfg.Client, client.Query{}, c.onPod)
	})
	all.Go(func() { c.nodeEvents.Run(ctx) })
	all.Go(func() { c.taintEvents.Run(ctx) })
	all.Go(func() { c.nodes.Run(ctx) })
	all.Go(func() { c.pods.Run(ctx) })
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		return nil
	}
}

func (c *Controller) onNode(ctx context.Context, e client.Change[*corev1.Node]) {
	c.mu.Lock()
	var changed, risen bool
	switch e.Type {
	case client.Synced:
		c.started, changed = true, true
	case client.Deleted:
		delete(c.seen, e.Object.Name)
		changed, risen = c.zones.drop(e.Object.Name)
	default:
		if e.Old == nil || heartbeat(e.Old) != heartbeat(e.Object) {
			c.seen[e.Object.Name] = time.Now()
		}
		if readiness(e.Object.Status.Conditions) == "" && e.Old == nil {
			c.seen[e.Object.Name] = e.Object.CreationTimestamp.Time
		}
		changed, risen = c.zones.set(e.Object, readiness(e.Object.Status.Conditions))
	}
	woken := c.wokenLocked(changed, risen)
	c.mu.Unlock()
	for _, name := range woken {
		c.nodes.Add(name)
	}
	switch {
	case e.Type == client.Synced:
		return
	case e.Type == client.Deleted:
		c.nodeEvents.Eventf(e.Object, corev1.EventTypeNormal, "RemovingNode",
			"Node %s event: Removing Node %s from Controller", e.Object.Name, e.Object.Name)
	case e.Type == client.Added:
		c.nodeEvents.Eventf(e.Object, corev1.EventTypeNormal, "RegisteredNode",
			"Node %s event: Registered Node %s in Controller", e.Object.Name, e.Object.Name)
	}
	if c.running() {
		c.nodes.Add(e.Object.Name)
	}
	if e.Type != client.Modified || e.Old == nil || drivesDifferently(e.Old, e.Object) {
		c.wakePods(ctx, e.Object.Name)
	}
}

// wokenLocked are the nodes to be looked at because others changed.
func (c *Controller) wokenLocked(changed, risen bool) (names []string) {
	if !c.started {
		return nil // of too few nodes no zone can be judged
	}
	for name := range c.zones.nodes {
		if risen {
			c.seen[name] = time.Now() // maybe nobody could be heard
		}
		if changed || risen {
			names = append(names, name)
		}
	}
	return names
}

func (c *Controller) running() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.started
}

// heartbeat is when a node last wrote its status, in seconds: the API has no
// more, and an object that was patched by somebody else has lost the rest.
func heartbeat(n *corev1.Node) int64 {
	for _, cond := range n.Status.Conditions {
		if cond.Type == corev1.NodeReady {
			return cond.LastHeartbeatTime.Unix()
		}
	}
	return 0
}

// drivesDifferently says whether a node's change matters to its pods.
func drivesDifferently(old, now *corev1.Node) bool {
	lost := func(n *corev1.Node) bool { return readiness(n.Status.Conditions) == corev1.ConditionUnknown }
	if lost(now) && !lost(old) {
		return true
	}
	driving := func(n *corev1.Node) map[corev1.Taint]bool {
		all := map[corev1.Taint]bool{}
		for _, t := range n.Spec.Taints {
			if t.Effect == corev1.TaintEffectNoExecute {
				all[corev1.Taint{Key: t.Key, Value: t.Value}] = true
			}
		}
		return all
	}
	was, is := driving(old), driving(now)
	for t := range is {
		if !was[t] {
			return true
		}
	}
	return len(was) != len(is)
}

func (c *Controller) wakePods(ctx context.Context, node string) {
	pods, err := client.List[*corev1.Pod](ctx, c.cfg.Client, client.Query{Index: "spec.nodeName", Value: node})
	if err != nil {
		if ctx.Err() == nil {
			c.cfg.Log.Error("pods of a node not read", "key", node, "err", err)
		}
		return
	}
	for _, p := range pods {
		c.pods.Add(types.NamespacedName{Namespace: p.Namespace, Name: p.Name})
	}
}

func (c *Controller) onLease(e client.Change[*coordinationv1.Lease]) {
	if e.Type != client.Added && e.Type != client.Modified {
		return
	}
	if e.Old != nil && e.Old.Spec.RenewTime.Equal(e.Object.Spec.RenewTime) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	// The node's timer is left alone: it looks again when it fires.
	c.seen[e.Object.Name] = time.Now()
}

func (c *Controller) onPod(e client.Change[*corev1.Pod]) {
	if e.Type == client.Synced {
		return
	}
	key := types.NamespacedName{Namespace: e.Object.Namespace, Name: e.Object.Name}
	switch {
	case e.Type == client.Deleted:
		c.forget(key)
	case e.Object.Spec.NodeName == "":
	case e.Old == nil || e.Old.Spec.NodeName == "" || e.Old.Generation != e.Object.Generation || !pods.Ready(e.Old) && pods.Ready(e.Object):
		c.pods.Add(key)
	}
}

// syncNode notes that a node is lost, and keeps its taints.
func (c *Controller) syncNode(ctx context.Context, name string) (time.Duration, error) {
	node, err := client.Get[*corev1.Node](ctx, c.cfg.Client, "", name)
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	grace, err := c.grace(ctx, node)
	if err != nil {
		return 0, err
	}
	now := time.Now()
	c.mu.Lock()
	seen, ok := c.seen[name]
	if !ok {
		seen = now // its event comes after this
		c.seen[name] = seen
	}
	c.mu.Unlock()
	conditions, changed, again := expire(node, seen, grace, now)
	if changed {
		was := readiness(node.Status.Conditions)
		next := node.DeepCopy()
		next.Status.Conditions = conditions
		if node, err = client.UpdateStatus(ctx, c.cfg.Client, next); err != nil {
			return 0, err
		}
		c.cfg.Log.Warn("node is silent", "key", name, "since", seen)
		if was == corev1.ConditionTrue {
			c.nodeEvents.Eventf(node, corev1.EventTypeNormal, "NodeNotReady", "Node %s status is now: NodeNotReady", name)
		}
	}
	wait, err := c.keepTaints(ctx, node, now)
	if wait > 0 && (again == 0 || wait < again) {
		again = wait
	}
	return again, err
}

// grace is how long node may be silent.
func (c *Controller) grace(ctx context.Context, node *corev1.Node) (time.Duration, error) {
	if readiness(node.Status.Conditions) == "" {
		return c.cfg.StartGrace, nil
	}
	lease, err := client.Get[*coordinationv1.Lease](ctx, c.cfg.Client, corev1.NamespaceNodeLease, node.Name)
	if apierrors.IsNotFound(err) {
		return c.cfg.Grace, nil
	}
	if err != nil {
		return 0, err
	}
	if s := lease.Spec.LeaseDurationSeconds; s != nil {
		return max(c.cfg.Grace, time.Duration(*s)*time.Second), nil
	}
	return c.cfg.Grace, nil
}

func (c *Controller) keepTaints(ctx context.Context, node *corev1.Node, now time.Time) (wait time.Duration, err error) {
	c.mu.Lock()
	woken := c.wokenLocked(c.zones.set(node, readiness(node.Status.Conditions)))
	allowed, wait := c.zones.may(node, now)
	taints, changed, drives := taint(node, allowed, now)
	if drives {
		c.zones.evicted(node, now)
	}
	c.mu.Unlock()
	for _, other := range woken {
		if other != node.Name {
			c.nodes.Add(other)
		}
	}
	if status := readiness(node.Status.Conditions); status != corev1.ConditionFalse && status != corev1.ConditionUnknown {
		wait = 0 // it has no need of a turn
	}
	if !changed {
		return wait, nil
	}
	next := node.DeepCopy()
	next.Spec.Taints = taints
	if _, err = client.Update(ctx, c.cfg.Client, next); err != nil && drives {
		c.mu.Lock()
		c.zones.spared(node)
		c.mu.Unlock()
	}
	return wait, ignoreGone(err)
}

// syncPod deletes a pod that may not stay where it is, and says of one on a
// silent node that it is not ready.
func (c *Controller) syncPod(ctx context.Context, key types.NamespacedName) (time.Duration, error) {
	pod, err := client.Get[*corev1.Pod](ctx, c.cfg.Client, key.Namespace, key.Name)
	if apierrors.IsNotFound(err) {
		c.forget(key)
		return 0, nil
	}
	if err != nil || pod.Spec.NodeName == "" {
		return 0, err
	}
	node, err := client.Get[*corev1.Node](ctx, c.cfg.Client, "", pod.Spec.NodeName)
	if apierrors.IsNotFound(err) {
		if left := c.await(pod, true, quarantine); left > 0 {
			return left, nil
		}
		return 0, c.collect(ctx, pod)
	}
	if err != nil {
		return 0, err
	}
	if readiness(node.Status.Conditions) == corev1.ConditionUnknown && pods.Ready(pod) {
		if pod, err = c.markNotReady(ctx, pod); err != nil || pod == nil {
			return 0, err
		}
	}
	stay, bounded := judge(pod, node.Spec.Taints)
	if !bounded || pod.DeletionTimestamp != nil {
		was, waited := c.forget(key)
		if waited && was.uid == pod.UID && !was.orphan && pod.DeletionTimestamp == nil {
			c.taintEvents.Eventf(pod, corev1.EventTypeNormal, "TaintManagerEviction", "Cancelling deletion of Pod %s", key)
		}
		return 0, nil
	}
	if left := c.await(pod, false, stay); left > 0 {
		return left, nil
	}
	return 0, c.evict(ctx, pod)
}

// await returns how much of the time d the pod has left, from when it was
// asked first for this reason.
func (c *Controller) await(pod *corev1.Pod, orphan bool, d time.Duration) time.Duration {
	key := types.NamespacedName{Namespace: pod.Namespace, Name: pod.Name}
	c.mu.Lock()
	defer c.mu.Unlock()
	s, ok := c.waiting[key]
	if !ok || s.uid != pod.UID || s.orphan != orphan {
		s = sentence{uid: pod.UID, orphan: orphan, since: time.Now()}
		c.waiting[key] = s
	}
	return time.Until(s.since.Add(d))
}

func (c *Controller) forget(key types.NamespacedName) (was sentence, waited bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	was, waited = c.waiting[key]
	delete(c.waiting, key)
	return was, waited
}

// markNotReady returns the pod as written; nil if it is gone.
func (c *Controller) markNotReady(ctx context.Context, pod *corev1.Pod) (*corev1.Pod, error) {
	next := pod.DeepCopy()
	for i := range next.Status.Conditions {
		if cond := &next.Status.Conditions[i]; cond.Type == corev1.PodReady {
			cond.Status, cond.LastTransitionTime = corev1.ConditionFalse, metav1.Now().Rfc3339Copy()
		}
	}
	next, err := client.UpdateStatus(ctx, c.cfg.Client, next)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	c.nodeEvents.Eventf(next, corev1.EventTypeWarning, "NodeNotReady", "Node is not ready")
	return next, nil
}

func (c *Controller) evict(ctx context.Context, pod *corev1.Pod) error {
	if next, changed := withCondition(pod, corev1.PodCondition{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue,
		Reason: "DeletionByTaintManager", Message: "Taint manager: deleting due to NoExecute taint",
		LastTransitionTime: metav1.Now().Rfc3339Copy()}); changed {
		if _, err := client.UpdateStatus(ctx, c.cfg.Client, next); err != nil {
			return ignoreGone(err)
		}
	}
	c.taintEvents.Eventf(pod, corev1.EventTypeNormal, "TaintManagerEviction", "Marking for deletion Pod %s/%s", pod.Namespace, pod.Name)
	return c.delete(ctx, pod, nil)
}

// collect ends a pod whose node is gone: nobody else could.
func (c *Controller) collect(ctx context.Context, pod *corev1.Pod) error {
	next, changed := withCondition(pod, corev1.PodCondition{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue,
		Reason: "DeletionByPodGC", Message: "PodGC: node no longer exists",
		LastTransitionTime: metav1.Now().Rfc3339Copy()})
	if phase := pod.Status.Phase; changed && phase != corev1.PodSucceeded && phase != corev1.PodFailed {
		next.Status.Phase = corev1.PodFailed
		if _, err := client.UpdateStatus(ctx, c.cfg.Client, next); err != nil {
			return ignoreGone(err)
		}
	}
	var none int64
	return c.delete(ctx, pod, &none)
}

func (c *Controller) delete(ctx context.Context, pod *corev1.Pod, grace *int64) error {
	uid := pod.UID
	return ignoreGone(client.Delete[*corev1.Pod](ctx, c.cfg.Client, pod.Namespace, pod.Name, &metav1.DeleteOptions{
		GracePeriodSeconds: grace, Preconditions: &metav1.Preconditions{UID: &uid}}))
}

func ignoreGone(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
