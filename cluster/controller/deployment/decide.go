package deployment

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
)

// decision is what must happen so that a Deployment moves towards its
// template and size.
type decision struct {
	create   *appsv1.ReplicaSet // nil: none; its ReplicaSet's status is empty
	update   []change           // sizes and annotations, in this order
	remove   []*appsv1.ReplicaSet
	rollback *rollback // nil: none; else the status is not to be written
	revision string    // for the Deployment's annotation; "": as it is
	status   appsv1.DeploymentStatus
	again    time.Duration // when the progress deadline is over; 0: never
}

// change is a replica set before and after.
type change struct{ from, to *appsv1.ReplicaSet }

// decide is a pure function of what the cache holds. sets are the replica sets
// that d controls. running has the number of pods, by the UID of their replica
// set, that have not ended; only the strategy Recreate asks for it.
//
// The rules are upstream's (pkg/controller/deployment), with one difference:
// what upstream does in several syncs that wait for nothing, such as scaling
// the new set up and the old ones down, is one decision here.
func decide(d *appsv1.Deployment, sets []*appsv1.ReplicaSet, running map[types.UID]int, now time.Time) decision {
	p := newPlan(d, sets, now)
	to, back := wanted(d)
	switch {
	case d.DeletionTimestamp != nil:
		p.settle()
		return p.out
	case d.Spec.Paused:
		p.pause()
		p.follow()
		p.scale()
		p.settle()
		p.trim()
	case back:
		p.follow()
		if p.newest == nil {
			p.found()
		}
		p.rollBack(to)
	case p.resized():
		p.pause()
		p.follow()
		p.scale()
		p.settle()
	case d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType:
		p.pause()
		p.recreate(running)
		p.progress()
	default:
		p.pause()
		p.roll()
		p.progress()
	}
	p.finish()
	return p.out
}

// plan is a decision under way.
type plan struct {
	d       *appsv1.Deployment
	now     time.Time
	newest  *set   // has d's template; nil if none does
	old     []*set // oldest first
	size    int32  // pods wanted
	surge   int32  // pods that may be there beyond size
	missing int32  // pods of size that may be unavailable
	out     decision
}

// set is a replica set as planned.
type set struct {
	live        *appsv1.ReplicaSet // what is there; for a fresh one what will be
	fresh       bool
	replicas    int32
	annotations map[string]string // shared with live unless changed
	minReady    int32
}

func newPlan(d *appsv1.Deployment, sets []*appsv1.ReplicaSet, now time.Time) *plan {
	p := &plan{d: d, now: now, size: ptr.Deref(d.Spec.Replicas, 1)}
	p.surge, p.missing = bounds(d)
	p.out.status.Conditions = slices.Clone(d.Status.Conditions)
	sets = slices.Clone(sets)
	slices.SortFunc(sets, byAge)
	for _, rs := range sets {
		s := &set{live: rs, replicas: ptr.Deref(rs.Spec.Replicas, 1), annotations: rs.Annotations, minReady: rs.Spec.MinReadySeconds}
		if p.newest == nil && sameTemplate(&d.Spec.Template, &rs.Spec.Template) {
			p.newest = s
		} else {
			p.old = append(p.old, s)
		}
	}
	return p
}

// bounds are maxSurge and maxUnavailable as numbers of pods. Both cannot be 0,
// since then nothing could move.
func bounds(d *appsv1.Deployment) (surge, missing int32) {
	r := d.Spec.Strategy.RollingUpdate
	if d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType {
		return 0, 0
	}
	if r == nil {
		r = &appsv1.RollingUpdateDeployment{}
	}
	size := ptr.Deref(d.Spec.Replicas, 1)
	count := func(v *intstr.IntOrString, up bool) int32 {
		if v == nil {
			return 0
		}
		n, err := intstr.GetScaledValueFromIntOrPercent(v, int(size), up)
		if err != nil {
			return 0 // validation has refused it
		}
		return int32(max(0, min(n, math.MaxInt32)))
	}
	surge, missing = count(r.MaxSurge, true), count(r.MaxUnavailable, false)
	if surge == 0 && missing == 0 {
		missing = 1
	}
	return surge, min(missing, size)
}

// roll moves pods from the old sets to the newest without leaving the bounds.
func (p *plan) roll() {
	p.follow()
	if p.newest == nil {
		p.found()
	}
	for moved := true; moved; { // what shrinks makes room for what grows
		p.resize(p.newest, p.newestSize())
		before := p.total()
		p.shrink()
		moved = p.total() != before
	}
}

// newestSize is how far the newest set may go now. Sizes count, not pods: a
// pod that was asked for is on its way.
func (p *plan) newestSize() int32 {
	if p.d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType {
		return p.size
	}
	have := int32(0)
	if p.newest != nil {
		have = p.newest.replicas
	}
	if have >= p.size {
		return p.size
	}
	room := p.size + p.surge - p.total()
	return have + max(0, min(room, p.size-have))
}

// shrink takes from the old sets what the newest can do without: first pods
// that serve nobody, then such that do.
func (p *plan) shrink() {
	if sum(p.old, planned) == 0 {
		return
	}
	least := p.size - p.missing
	pending := p.newest.replicas - availableOf(p.newest)
	room := p.total() - least - pending
	for _, s := range p.old {
		if !observed(s) {
			continue // nobody knows which of its pods are well
		}
		if n := min(room, s.replicas-availableOf(s)); n > 0 {
			p.resize(s, s.replicas-n)
			room -= n
		}
	}
	available := availableOf(p.newest)
	for _, s := range p.old {
		available += availableOf(s)
	}
	room = min(room, available-least)
	for _, s := range p.old {
		if n := min(room, s.replicas); n > 0 {
			p.resize(s, s.replicas-n)
			room -= n
		}
	}
}

// recreate ends all old pods before it makes the first new one.
func (p *plan) recreate(running map[types.UID]int) {
	p.follow()
	waiting := false
	for _, s := range p.old {
		waiting = waiting || s.replicas > 0 || s.live.Status.Replicas > 0 || running[s.live.UID] > 0
		p.drop(s)
	}
	switch {
	case waiting:
	case p.newest == nil:
		p.found()
	default:
		p.resize(p.newest, p.size)
	}
}

// resized is true if d was scaled since the sets were last told its size.
func (p *plan) resized() bool {
	return slices.ContainsFunc(p.all(), func(s *set) bool {
		n, ok := number(s.annotations[desiredAnnotation])
		return s.replicas > 0 && ok && n != p.size
	})
}

// scale spreads a new size over the sets as they are: while a roll-out is
// under way each keeps its share.
func (p *plan) scale() {
	all := p.all()
	if len(all) == 0 {
		return
	}
	alive := slices.DeleteFunc(slices.Clone(all), func(s *set) bool { return s.replicas == 0 })
	switch {
	case len(alive) == 1:
		p.resize(alive[0], p.size)
		return
	case len(alive) == 0 && p.newest != nil:
		p.resize(p.newest, p.size)
		return
	case len(alive) == 0:
		p.resize(p.old[len(p.old)-1], p.size)
		return
	case p.saturated():
		for _, s := range p.old {
			p.drop(s)
		}
		return
	case p.d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType:
		return
	}
	p.share(alive)
}

// share gives each of the sets its part of what is to be added (KEP: see
// "Proportional scaling" in the Deployment documentation). The largest set
// takes what rounding leaves.
func (p *plan) share(alive []*set) {
	allowed := int32(0)
	if p.size > 0 {
		allowed = p.size + p.surge
	}
	total := allowed - sum(alive, planned)
	slices.SortStableFunc(alive, func(a, b *set) int {
		age := byAge(a.live, b.live)
		if total > 0 {
			age = -age // grow the younger of two that are alike
		}
		return cmp.Or(cmp.Compare(b.replicas, a.replicas), age)
	})
	added, sizes := int32(0), make([]int32, len(alive))
	for i, s := range alive {
		part := p.part(s, total-added)
		sizes[i] = s.replicas + part
		added += part
	}
	sizes[0] += total - added
	for i, s := range alive {
		p.resize(s, max(0, sizes[i]))
	}
}

// part is the share of one set in what is left to be added, or taken if left
// is negative.
func (p *plan) part(s *set, left int32) int32 {
	if left == 0 {
		return 0
	}
	part := -s.replicas
	if p.size > 0 {
		before, ok := number(s.annotations[maximumAnnotation])
		if !ok || before == 0 {
			before = p.d.Status.Replicas
		}
		if before == 0 {
			return 0
		}
		grown := float64(s.replicas) * float64(p.size+p.surge) / float64(before)
		part = int32(math.Round(grown)) - s.replicas
	}
	if left > 0 {
		return max(0, min(part, left))
	}
	return min(0, max(part, left))
}

// drop takes all pods from a set. One that has none is left as it is: history
// is not written to.
func (p *plan) drop(s *set) {
	if s.replicas > 0 {
		p.resize(s, 0)
	}
}

// saturated is true if the newest set does all the work alone.
func (p *plan) saturated() bool {
	if p.newest == nil {
		return false
	}
	n, ok := number(p.newest.annotations[desiredAnnotation])
	return ok && n == p.size && p.newest.replicas == p.size && p.newest.live.Status.AvailableReplicas == p.size
}

// trim forgets old sets beyond the history limit, the oldest revisions first.
func (p *plan) trim() {
	limit := ptr.Deref(p.d.Spec.RevisionHistoryLimit, math.MaxInt32)
	if limit == math.MaxInt32 {
		return
	}
	var kept []*set
	for _, s := range p.old {
		if s.live.DeletionTimestamp == nil {
			kept = append(kept, s)
		}
	}
	slices.SortStableFunc(kept, func(a, b *set) int {
		return cmp.Or(cmp.Compare(revision(a.annotations), revision(b.annotations)), byAge(a.live, b.live))
	})
	for i := 0; i < len(kept)-int(limit); i++ {
		s := kept[i]
		if s.live.Status.Replicas == 0 && s.replicas == 0 && ptr.Deref(s.live.Spec.Replicas, 1) == 0 &&
			s.live.Generation <= s.live.Status.ObservedGeneration {
			p.out.remove = append(p.out.remove, s.live)
		}
	}
}

// finish turns the sets as planned into writes.
func (p *plan) finish() {
	for _, s := range p.all() {
		switch rs := s.live; {
		case s.fresh:
			p.out.create = rs
		case slices.Contains(p.out.remove, rs):
		case s.replicas != ptr.Deref(rs.Spec.Replicas, 1), s.minReady != rs.Spec.MinReadySeconds, !sameMap(s.annotations, rs.Annotations):
			to := rs.DeepCopy()
			to.Spec.Replicas, to.Spec.MinReadySeconds, to.Annotations = &s.replicas, s.minReady, s.annotations
			p.out.update = append(p.out.update, change{rs, to})
		}
	}
}

// all are the sets, the newest first.
func (p *plan) all() []*set {
	if p.newest == nil {
		return p.old
	}
	return append([]*set{p.newest}, p.old...)
}

func (p *plan) total() int32 { return sum(p.all(), planned) }

func planned(s *set) int32 { return s.replicas }

// availableOf is what a set has available for sure, and will keep as planned.
// A status that is older than the size beside it may count pods that are being
// stopped for the size before; upstream believes it.
func availableOf(s *set) int32 {
	if s.fresh || !observed(s) {
		return 0
	}
	return min(s.live.Status.AvailableReplicas, ptr.Deref(s.live.Spec.Replicas, 1), s.replicas)
}

// observed is true if a set's status is of its present size.
func observed(s *set) bool { return s.live.Status.ObservedGeneration >= s.live.Generation }

func sum(sets []*set, of func(*set) int32) (n int32) {
	for _, s := range sets {
		n += of(s)
	}
	return n
}

// byAge orders the older first.
func byAge(a, b *appsv1.ReplicaSet) int {
	return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
}

func number(text string) (int32, bool) {
	n, err := strconv.ParseInt(text, 10, 32)
	return int32(n), err == nil
}
