// Package scheduler gives every pod a node.
//
// One goroutine holds the cluster as a snapshot, changed by the events of
// pods and nodes, and places one pod after the other in it (place.go, pure).
// What plugins need of many pods at once, such as how many of a service are in
// each zone, the snapshot counts as pods come and go (tally.go, group.go).
// Binding is done beside it: the pod counts as placed at once, and is taken
// back if the binding fails. So is making room (preempt.go) for a pod that fits
// nowhere but beside less important ones (default_preemption.go, pure).
//
// It knows no store and no container; what a rule of placing is, is one file
// (see plugin.go).
package scheduler

import (
	"context"
	"log/slog"
	"maps"
	"math/rand/v2"
	"reflect"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
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
	Binds  int // bindings and other writes under way at once; default 128

	Metrics *Metrics // nil: nobody asks for them
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
	assumed  map[types.UID]string             // bound by us, not yet seen bound
	services map[string]map[string]labels.Set // selectors by namespace and name
	gated    map[types.UID]bool               // not to be tried before their gates are gone
	from     int
	rand     *rand.Rand
	work     sync.WaitGroup
	waiting  []func()      // writes that are to begin; while there are any, no pod is tried
	writing  chan struct{} // one token per write under way
}

// change is one event, or the end of something done beside.
type change struct {
	synced  bool // one kind has been read for the first time
	pod     *client.Change[*corev1.Pod]
	node    *client.Change[*corev1.Node]
	service *client.Change[*corev1.Service]
	space   *client.Change[*corev1.Namespace]
	volumes bool   // a claim or a volume has changed
	bound   *entry // its binding ended with err
	err     error
	failed  *entry // no room could be made for it
}

// kinds is how many kinds are followed.
const kinds = 6

// New returns a scheduler.
func New(cfg Config) *Scheduler {
	if cfg.Binds == 0 {
		cfg.Binds = 128
	}
	if cfg.Metrics == nil {
		cfg.Metrics = NewMetrics(nil)
	}
	s := &Scheduler{
		cfg:      cfg,
		events:   &event.Recorder{Client: cfg.Client, Component: Name, Log: cfg.Log},
		plugins:  Plugins(),
		wakes:    map[string]Change{},
		changes:  make(chan change, 256),
		snapshot: NewSnapshot(nil, nil),
		queue:    newQueue(cfg.Metrics),
		assumed:  map[types.UID]string{},
		services: map[string]map[string]labels.Set{},
		gated:    map[types.UID]bool{},
		writing:  make(chan struct{}, cfg.Binds),
		rand:     rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0)),
	}
	for _, p := range s.plugins {
		s.wakes[p.Name] = p.Wakes
	}
	return s
}

// Run schedules until ctx ends.
func (s *Scheduler) Run(ctx context.Context) error {
	defer s.work.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	failed := make(chan error, kinds)

	s.work.Go(func() { s.events.Run(ctx) })
	s.work.Go(func() {
		failed <- follow(ctx, s, func(c *client.Change[*corev1.Node]) change { return change{node: c} })
	})
	s.work.Go(func() {
		failed <- follow(ctx, s, func(c *client.Change[*corev1.Pod]) change { return change{pod: c} })
	})
	s.work.Go(func() {
		failed <- follow(ctx, s, func(c *client.Change[*corev1.Service]) change { return change{service: c} })
	})
	s.work.Go(func() {
		failed <- follow(ctx, s, func(c *client.Change[*corev1.Namespace]) change { return change{space: c} })
	})

	s.work.Go(func() {
		failed <- follow(ctx, s, func(*client.Change[*corev1.PersistentVolumeClaim]) change { return change{volumes: true} })
	})
	s.work.Go(func() {
		failed <- follow(ctx, s, func(*client.Change[*corev1.PersistentVolume]) change { return change{volumes: true} })
	})

	synced := 0
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		s.cfg.Metrics.waits(s.queue, len(s.gated))
		var begin chan<- struct{}
		if len(s.waiting) > 0 {
			begin = s.writing
		}
		select {
		case begin <- struct{}{}:
			s.write()
			continue
		default:
		}
		// What has happened comes before the next pod.
		select {
		case c := <-s.changes:
			synced += s.apply(c)
			continue
		case <-ctx.Done():
			return nil
		default:
		}
		if begin == nil && synced == kinds {
			if e := s.queue.Pop(time.Now()); e != nil {
				s.try(ctx, e)
				continue
			}
		}
		timer.Stop()
		if next, ok := s.queue.Next(); ok && synced == kinds {
			timer.Reset(time.Until(next))
		}
		select {
		case begin <- struct{}{}:
			s.write()
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

// write begins what waits longest. The caller has a token for it.
func (s *Scheduler) write() {
	do := s.waiting[0]
	s.waiting[0] = nil
	if s.waiting = s.waiting[1:]; len(s.waiting) == 0 {
		s.waiting = nil
	}
	s.work.Go(func() {
		defer func() { <-s.writing }()
		do()
	})
}

// follow sends what happens to the objects of one kind.
func follow[T client.Typed](ctx context.Context, s *Scheduler, as func(c *client.Change[T]) change) error {
	return client.Follow(ctx, s.cfg.Client, client.Query{}, func(c client.Change[T]) {
		if c.Type == client.Synced {
			s.send(ctx, change{synced: true})
			return
		}
		s.send(ctx, as(&c))
	})
}

// beside has something done that waits for the API, beside the scheduler's own
// work. It begins when not too much of that is under way; it must not be waited
// for here, since what is under way tells its end to Run.
func (s *Scheduler) beside(do func()) { s.waiting = append(s.waiting, do) }

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
	case c.synced:
		return 1
	case c.node != nil:
		s.applyNode(c.node, now)
	case c.pod != nil:
		s.applyPod(c.pod, now)
	case c.service != nil:
		s.applyService(c.service)
	case c.space != nil:
		s.applySpace(c.space, now)
	case c.volumes:
		s.queue.Happened(VolumesChanged, now)
	case c.bound != nil:
		s.applyBound(c.bound, c.err, now)
	case c.failed != nil:
		s.snapshot.Book(c.failed.pod, "")
		s.queue.Again(c.failed.pod.UID, now)
	}
	return 0
}

func (s *Scheduler) applyNode(c *client.Change[*corev1.Node], now time.Time) {
	if c.Type == client.Deleted {
		s.snapshot.DropNode(c.Object.Name)
		s.queue.Happened(NodeGone, now)
		return
	}
	s.snapshot.SetNode(c.Object)
	s.queue.Happened(nodeChange(c.Old, c.Object), now)
}

func (s *Scheduler) applySpace(c *client.Change[*corev1.Namespace], now time.Time) {
	set := c.Object.Labels
	if set == nil {
		set = map[string]string{}
	}
	if c.Type == client.Deleted {
		set = nil
	}
	if s.snapshot.SetSpace(c.Object.Name, set) {
		s.queue.Happened(SpaceLabels, now)
	}
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
		s.leave(p)
		if s.snapshot.DropPod(p.UID) {
			s.queue.Happened(PodGone, now)
		}
	case p.Spec.NodeName != "":
		s.leave(p)
		if c.Old != nil && countsAlike(c.Old, p) && s.snapshot.Renew(p) {
			return // most changes are of the status, and mean nothing here
		}
		s.snapshot.SetPod(NewPod(p), p.Spec.NodeName)
		s.queue.Happened(placedChange(c.Old, p), now)
	case s.assumed[p.UID] != "":
		// The event is older than our binding.
	case p.DeletionTimestamp != nil || p.Spec.SchedulerName != Name || len(p.Spec.SchedulingGates) > 0:
		s.leave(p)
		if p.DeletionTimestamp == nil && p.Spec.SchedulerName == Name {
			s.gated[p.UID] = true
		}
	default:
		delete(s.gated, p.UID)
		pod, known := NewPod(p), s.queue.Has(p.UID)
		switch {
		case !known && p.Status.NominatedNodeName != "":
			s.snapshot.Book(pod, p.Status.NominatedNodeName) // room was made before we began
		case s.snapshot.Booked(p.UID) != "":
			s.snapshot.Book(pod, s.snapshot.Booked(p.UID))
		}
		s.queue.Add(pod, now)
	}
}

// leave forgets that p waits for a node.
func (s *Scheduler) leave(p *corev1.Pod) {
	s.queue.Drop(p.UID)
	delete(s.assumed, p.UID)
	delete(s.gated, p.UID)
	if s.snapshot.Booked(p.UID) != "" {
		s.snapshot.Book(&Pod{Pod: p}, "")
	}
}

// countsAlike says whether a pod on a node means the same to others as before.
func countsAlike(old, now *corev1.Pod) bool {
	return old.Spec.NodeName == now.Spec.NodeName && old.Generation == now.Generation && old.Generation != 0 &&
		maps.Equal(old.Labels, now.Labels) && (old.DeletionTimestamp == nil) == (now.DeletionTimestamp == nil) &&
		reflect.DeepEqual(given(old), given(now))
}

// given are the resources that the node has given a pod, which count if they
// are more than it asks for: while it is resized.
func given(p *corev1.Pod) (all []any) {
	add := func(r *corev1.ResourceRequirements, list corev1.ResourceList) {
		if r != nil || list != nil {
			all = append(all, r, list)
		}
	}
	add(p.Status.Resources, p.Status.AllocatedResources)
	for _, list := range [][]corev1.ContainerStatus{p.Status.InitContainerStatuses, p.Status.ContainerStatuses} {
		for i := range list {
			add(list[i].Resources, list[i].AllocatedResources)
		}
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodResizePending {
			all = append(all, c.Reason)
		}
	}
	return all
}

// placedChange is what the change of a pod on a node means to others.
func placedChange(old, now *corev1.Pod) (c Change) {
	if old == nil || old.Spec.NodeName == "" || !maps.Equal(old.Labels, now.Labels) ||
		(old.DeletionTimestamp == nil) != (now.DeletionTimestamp == nil) {
		c |= PodPlaced
	}
	if old != nil && !reflect.DeepEqual(old.Spec.Containers, now.Spec.Containers) {
		c |= PodGone // it may ask for less
	}
	return c
}

func (s *Scheduler) applyBound(e *entry, err error, now time.Time) {
	p := e.pod
	if err == nil {
		s.cfg.Metrics.bound(e, now)
		s.queue.Drop(p.UID)
		return
	}
	s.cfg.Metrics.ended(s.cfg.Metrics.failed, e, now)
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

// try finds a node for e's pod and has it bound, or says why there is none and
// makes room if it may.
func (s *Scheduler) try(ctx context.Context, e *entry) {
	pod := e.pod
	if len(pod.spread) == 0 {
		pod.Kin = s.kin(ctx, pod.Pod)
	}
	var err error
	if pod.Volumes, err = ReadVolumes(ctx, s.cfg.Client, pod.Pod); err != nil {
		s.cfg.Log.Warn("volumes not read", "key", pod.Namespace+"/"+pod.Name, "err", err)
		now := time.Now()
		s.cfg.Metrics.ended(s.cfg.Metrics.failed, e, now)
		s.queue.Retry(e, now)
		return
	}
	var found Placement
	began := time.Now()
	found, s.from = Place(pod, s.snapshot, s.plugins, s.from, s.rand)
	s.cfg.Metrics.algorithm.Observe(time.Since(began).Seconds())
	if found.Node != "" && pod.Volumes != nil && len(pod.Volumes.Later) > 0 {
		s.prepare(ctx, e, found.Node)
		return
	}
	if found.Node != "" {
		s.assumed[pod.UID] = found.Node
		s.snapshot.Book(pod, "")
		s.snapshot.SetPod(pod, found.Node)
		s.queue.Happened(PodPlaced, time.Now())
		s.beside(func() { s.send(ctx, change{bound: e, err: s.bind(ctx, pod.Pod, found.Node)}) })
		return
	}
	wakes := NodeAdded
	for _, r := range found.Rejected {
		wakes |= s.wakes[r.Plugin]
	}
	if found.Missing != "" {
		wakes |= s.wakes[volumeBindingName]
	} else if found.Absent > 0 {
		wakes |= s.wakes["NodeAffinity"]
	}
	now := time.Now()
	before := s.snapshot.Booked(pod.UID)
	var room Preemption
	if found.Total > 0 {
		s.cfg.Metrics.preemptions.Inc()
		room, found.Remark = Preempt(pod, found, s.snapshot, s.plugins, s.budgets(ctx), s.rand.IntN(found.Total), now)
	}
	s.cfg.Metrics.ended(s.cfg.Metrics.unschedulable, e, now)
	s.queue.Park(e, wakes, now)
	booked := before
	switch {
	case room.Node != "":
		s.cfg.Metrics.victims.Observe(float64(len(room.Victims)))
		s.book(ctx, pod, room.Node, now)
		booked = room.Node
		s.beside(func() { s.evict(ctx, e, pod.Pod, room) })
	case before != "" && !s.snapshot.making(pod, found):
		s.snapshot.Book(pod, "")
		booked = ""
	}
	message := found.Message()
	s.events.Eventf(pod.Pod, corev1.EventTypeWarning, "FailedScheduling", "%s", message)
	s.beside(func() {
		if err := s.mark(ctx, pod.Pod, message, booked); err != nil && ctx.Err() == nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			s.cfg.Log.Warn("pod condition not written", "key", pod.Namespace+"/"+pod.Name, "err", err)
		}
	})
}

// prepare has e's pod's claims get volumes for a node. The pod is tried again
// when they have changed, and finds the room kept for it there.
func (s *Scheduler) prepare(ctx context.Context, e *entry, node string) {
	pod := e.pod
	chosen, _ := pod.Volumes.choose(s.snapshot.byName[node])
	s.snapshot.Book(pod, node)
	s.queue.Wait(e, VolumesChanged, time.Now())
	s.beside(func() {
		if err := s.claim(ctx, chosen, node); err != nil && ctx.Err() == nil {
			s.cfg.Log.Warn("claims not bound", "key", pod.Namespace+"/"+pod.Name, "node", node, "err", err)
			s.send(ctx, change{failed: e})
		}
	})
}

// book keeps the room that is made on a node for pod. Less important pods that
// waited for room there may not find it any more: they look elsewhere.
func (s *Scheduler) book(ctx context.Context, pod *Pod, node string, now time.Time) {
	var others []*Pod
	for _, other := range s.snapshot.byName[node].booked {
		if other.UID != pod.UID && other.priority() < pod.priority() {
			others = append(others, other)
		}
	}
	for _, other := range others {
		s.snapshot.Book(other, "")
		s.queue.Wake(other.UID, now)
		s.beside(func() {
			err := s.patchStatus(ctx, other.Pod, map[string]any{"nominatedNodeName": nil})
			if err != nil && ctx.Err() == nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
				s.cfg.Log.Warn("nominated node not cleared", "key", other.Namespace+"/"+other.Name, "err", err)
			}
		})
	}
	s.snapshot.Book(pod, node)
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

// mark sets the pod's PodScheduled condition to False, and the node where room
// is made for it.
func (s *Scheduler) mark(ctx context.Context, p *corev1.Pod, message, booked string) error {
	since, same := metav1.Now(), false
	for _, c := range p.Status.Conditions {
		if c.Type != corev1.PodScheduled || c.Status != corev1.ConditionFalse {
			continue
		}
		since = c.LastTransitionTime
		same = c.Reason == corev1.PodReasonUnschedulable && c.Message == message
	}
	if same && p.Status.NominatedNodeName == booked {
		return nil
	}
	status := map[string]any{"conditions": []corev1.PodCondition{{
		Type: corev1.PodScheduled, Status: corev1.ConditionFalse, LastTransitionTime: since,
		Reason: corev1.PodReasonUnschedulable, Message: message, ObservedGeneration: p.Generation,
	}}}
	if p.Status.NominatedNodeName != booked {
		status["nominatedNodeName"] = booked
		if booked == "" {
			status["nominatedNodeName"] = nil
		}
	}
	return s.patchStatus(ctx, p, status)
}
