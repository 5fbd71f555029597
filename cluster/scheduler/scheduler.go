// Package scheduler gives every pod a node.
//
// One goroutine holds the cluster as a snapshot, changed by the events of
// pods and nodes, and places one pod after the other in it (place.go, pure).
// Binding is done beside it: the pod counts as placed at once, and is taken
// back if the binding fails.
//
// It knows no store and no container; what a rule of placing is, is one file
// (see plugin.go).
package scheduler

import (
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"math/rand/v2"
	"reflect"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"sampan/cluster/client"
	"sampan/cluster/client/event"
)

// Name is who schedules pods that name nobody else in spec.schedulerName.
const Name = corev1.DefaultSchedulerName

// Config is what a scheduler needs.
type Config struct {
	Client client.Client
	Log    *slog.Logger
	Binds  int // bindings under way at once; default 32
}

// Scheduler places pods. See the package comment.
type Scheduler struct {
	cfg     Config
	events  *event.Recorder
	plugins []Plugin
	wakes   map[string]Change

	changes chan change

	// All below belongs to Run's goroutine.
	snapshot *Snapshot
	queue    *queue
	assumed  map[types.UID]string // bound by us, not yet seen bound
	from     int
	rand     *rand.Rand
}

// change is one event, or the end of a binding.
type change struct {
	pod   *client.Change[*corev1.Pod]
	node  *client.Change[*corev1.Node]
	bound *entry // its binding ended with err
	err   error
}

// New returns a scheduler.
func New(cfg Config) *Scheduler {
	if cfg.Binds == 0 {
		cfg.Binds = 32
	}
	s := &Scheduler{
		cfg:      cfg,
		events:   &event.Recorder{Client: cfg.Client, Component: Name, Log: cfg.Log},
		plugins:  Plugins(),
		wakes:    map[string]Change{},
		changes:  make(chan change, 256),
		snapshot: NewSnapshot(nil, nil),
		queue:    newQueue(),
		assumed:  map[types.UID]string{},
		rand:     rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0)),
	}
	for _, p := range s.plugins {
		s.wakes[p.Name] = p.Wakes
	}
	return s
}

// Run schedules until ctx ends.
func (s *Scheduler) Run(ctx context.Context) error {
	var all sync.WaitGroup
	defer all.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	failed := make(chan error, 2)

	all.Go(func() { s.events.Run(ctx) })
	all.Go(func() {
		failed <- client.Follow(ctx, s.cfg.Client, client.Query{}, func(c client.Change[*corev1.Node]) {
			s.send(ctx, change{node: &c})
		})
	})
	all.Go(func() {
		failed <- client.Follow(ctx, s.cfg.Client, client.Query{}, func(c client.Change[*corev1.Pod]) {
			s.send(ctx, change{pod: &c})
		})
	})

	binding := make(chan struct{}, s.cfg.Binds) // one token per binding under way
	synced := 0
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		// What has happened comes before the next pod.
		select {
		case c := <-s.changes:
			synced += s.apply(c)
			continue
		case <-ctx.Done():
			return nil
		default:
		}
		var e *entry
		if synced == 2 {
			e = s.queue.Pop(time.Now())
		}
		if e != nil {
			if node := s.place(ctx, e); node != "" {
				select {
				case binding <- struct{}{}:
				case <-ctx.Done():
					return nil
				}
				all.Go(func() {
					defer func() { <-binding }()
					s.send(ctx, change{bound: e, err: s.bind(ctx, e.pod.Pod, node)})
				})
			}
			continue
		}
		timer.Stop()
		if next, ok := s.queue.Next(); ok && synced == 2 {
			timer.Reset(time.Until(next))
		}
		select {
		case c := <-s.changes:
			synced += s.apply(c)
		case <-timer.C:
		case err := <-failed:
			return err
		case <-ctx.Done():
			return nil
		}
	}
}

func (s *Scheduler) send(ctx context.Context, c change) {
	select {
	case s.changes <- c:
	case <-ctx.Done():
	}
}

// apply brings snapshot and queue up to date. It returns 1 when a kind has
// been read for the first time.
func (s *Scheduler) apply(c change) int {
	now := time.Now()
	switch {
	case c.node != nil && c.node.Type == client.Synced, c.pod != nil && c.pod.Type == client.Synced:
		return 1
	case c.node != nil:
		s.applyNode(c.node, now)
	case c.pod != nil:
		s.applyPod(c.pod, now)
	case c.bound != nil:
		s.applyBound(c.bound, c.err, now)
	}
	return 0
}

func (s *Scheduler) applyNode(c *client.Change[*corev1.Node], now time.Time) {
	if c.Type == client.Deleted {
		s.snapshot.DropNode(c.Object.Name)
		return
	}
	s.snapshot.SetNode(c.Object)
	s.queue.Happened(nodeChange(c.Old, c.Object), now)
}

func nodeChange(old, now *corev1.Node) (c Change) {
	if old == nil {
		return NodeAdded
	}
	if !reflect.DeepEqual(old.Status.Allocatable, now.Status.Allocatable) {
		c |= NodeRoom
	}
	if !maps.Equal(old.Labels, now.Labels) {
		c |= NodeLabels
	}
	if old.Spec.Unschedulable != now.Spec.Unschedulable || !reflect.DeepEqual(old.Spec.Taints, now.Spec.Taints) {
		c |= NodeTaints
	}
	return c
}

func (s *Scheduler) applyPod(c *client.Change[*corev1.Pod], now time.Time) {
	p := c.Object
	switch {
	case c.Type == client.Deleted || ended(p):
		s.queue.Drop(p.UID)
		delete(s.assumed, p.UID)
		if s.snapshot.DropPod(p.UID) {
			s.queue.Happened(PodGone, now)
		}
	case p.Spec.NodeName != "":
		s.queue.Drop(p.UID)
		delete(s.assumed, p.UID)
		s.snapshot.SetPod(NewPod(p), p.Spec.NodeName)
	case s.assumed[p.UID] != "":
		// The event is older than our binding.
	case p.DeletionTimestamp != nil || p.Spec.SchedulerName != Name || len(p.Spec.SchedulingGates) > 0:
		s.queue.Drop(p.UID)
	default:
		s.queue.Add(NewPod(p), now)
	}
}

func (s *Scheduler) applyBound(e *entry, err error, now time.Time) {
	p := e.pod
	if err == nil {
		s.queue.Drop(p.UID)
		return
	}
	if s.assumed[p.UID] == "" {
		return // seen bound, or gone, meanwhile
	}
	delete(s.assumed, p.UID)
	if s.snapshot.DropPod(p.UID) {
		s.queue.Happened(PodGone, now)
	}
	if apierrors.IsNotFound(err) {
		s.queue.Drop(p.UID)
		return
	}
	s.cfg.Log.Warn("binding failed", "key", p.Namespace+"/"+p.Name, "err", err)
	s.queue.Retry(e, now)
}

// place finds a node for e's pod, or says why there is none.
func (s *Scheduler) place(ctx context.Context, e *entry) (node string) {
	var found Placement
	found, s.from = Place(e.pod, s.snapshot, s.plugins, s.from, s.rand)
	if found.Node != "" {
		s.assumed[e.pod.UID] = found.Node
		s.snapshot.SetPod(e.pod, found.Node)
		return found.Node
	}
	wakes := NodeAdded
	for _, r := range found.Rejected {
		wakes |= s.wakes[r.Plugin]
	}
	s.queue.Park(e, wakes, time.Now())
	message := found.Message()
	s.events.Eventf(e.pod.Pod, corev1.EventTypeWarning, "FailedScheduling", "%s", message)
	if err := s.mark(ctx, e.pod.Pod, message); err != nil && ctx.Err() == nil && !apierrors.IsNotFound(err) {
		s.cfg.Log.Warn("pod condition not written", "key", e.pod.Namespace+"/"+e.pod.Name, "err", err)
	}
	return ""
}

// bind writes the node into the pod.
func (s *Scheduler) bind(ctx context.Context, p *corev1.Pod, node string) error {
	_, err := s.cfg.Client.Act(ctx, client.KindOf[*corev1.Pod](s.cfg.Client), p.Namespace, p.Name, "binding", &corev1.Binding{
		ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: p.Name, UID: p.UID},
		Target:     corev1.ObjectReference{Kind: "Node", Name: node},
	})
	if err == nil {
		s.events.Eventf(p, corev1.EventTypeNormal, "Scheduled",
			"Successfully assigned %s/%s to %s", p.Namespace, p.Name, node)
	}
	return err
}

// mark sets the pod's PodScheduled condition to False.
func (s *Scheduler) mark(ctx context.Context, p *corev1.Pod, message string) error {
	since := metav1.Now()
	for _, c := range p.Status.Conditions {
		if c.Type != corev1.PodScheduled {
			continue
		}
		if c.Status == corev1.ConditionFalse && c.Reason == corev1.PodReasonUnschedulable && c.Message == message {
			return nil
		}
		if c.Status == corev1.ConditionFalse {
			since = c.LastTransitionTime
		}
	}
	patch, err := json.Marshal(map[string]any{"status": map[string]any{"conditions": []corev1.PodCondition{{
		Type: corev1.PodScheduled, Status: corev1.ConditionFalse, LastTransitionTime: since,
		Reason: corev1.PodReasonUnschedulable, Message: message, ObservedGeneration: p.Generation,
	}}}})
	if err != nil {
		return err
	}
	_, err = s.cfg.Client.Patch(ctx, client.KindOf[*corev1.Pod](s.cfg.Client), client.Patch{
		Namespace: p.Namespace, Name: p.Name, Sub: "status", Type: types.StrategicMergePatchType, Data: patch})
	return err
}
