package admission

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"sampan/cluster/client"
	"sampan/cluster/kind"
	"sampan/cluster/kind/quota"
)

// Quotas refuses what would exceed a ResourceQuota of its namespace.
//
// It does not trust the quota's status, which the controller writes a moment
// later: what is used is counted from the objects that are stored and from the
// writes under way. So nothing has to be written before the object itself is,
// nothing is used up by a write that fails, and of two writes that come
// together and fit alone only one is let through.
type Quotas struct {
	reader client.Reader

	mu      sync.Mutex // guards all below
	pending map[string]map[*Attempt]struct{}
	known   map[string]map[types.UID]known
}

// known is what a stored object counts for, worked out when it was first met:
// so that each look at a namespace is adding up.
type known struct {
	obj   kind.Object // shared
	usage corev1.ResourceList
}

// mostKnown is of how many namespaces what their objects count for is kept.
const mostKnown = 64

// NewQuotas returns the plugin. It comes last: what others refuse or change
// has to be settled.
func NewQuotas(reader client.Reader) *Quotas {
	return &Quotas{reader: reader, pending: map[string]map[*Attempt]struct{}{}, known: map[string]map[types.UID]known{}}
}

// Review implements Reviewer.
func (q *Quotas) Review(ctx context.Context, a *Attempt) error {
	if a.Request.Namespace == "" || !counts(a) {
		return nil
	}
	all, err := client.List[*corev1.ResourceQuota](ctx, q.reader, client.Query{Namespace: a.Request.Namespace})
	if err != nil || len(all) == 0 {
		return err
	}
	now := time.Now()
	more := usage{kind: a.Request.Kind, new: a.Object, old: a.Old, now: now}
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, r := range all {
		if err := q.reviewLocked(ctx, a, r, &more); err != nil {
			return err
		}
	}
	if !a.Request.DryRun {
		q.holdLocked(a)
	}
	return nil
}

// reviewLocked refuses a if it does not fit into r.
func (q *Quotas) reviewLocked(ctx context.Context, a *Attempt, r *corev1.ResourceQuota, more *usage) error {
	names := quota.Concerned(a.Request.Kind, r.Spec.Hard)
	if len(names) == 0 || !quota.Matches(r, a.Object) {
		return nil
	}
	refuse := func(format string, args ...any) error {
		return apierrors.NewForbidden(a.Request.Kind.GroupResource(), a.Object.GetName(), fmt.Errorf(format, args...))
	}
	if pod, ok := a.Object.(*corev1.Pod); ok {
		if missing := quota.Constraint(pod, names); missing != "" {
			return refuse("failed quota: %s: %s", r.Name, missing)
		}
	}
	asked := more.in(r, names)
	var negative []string
	grows := names[:0:0] // what a asks for more of
	for _, name := range names {
		switch amount := asked[name]; amount.Sign() {
		case 1:
			grows = append(grows, name)
		case -1:
			if all := more.usage(a.Object)[name]; all.Sign() < 0 {
				negative = append(negative, string(name))
			}
		}
	}
	if len(negative) > 0 {
		return refuse("quota usage is negative for resource(s): %s", strings.Join(negative, ","))
	}
	if len(grows) == 0 {
		return nil
	}
	used, err := q.usedLocked(ctx, a, r, grows, more.now)
	if err != nil {
		return err
	}
	var over []corev1.ResourceName
	for _, name := range grows {
		total, hard := used[name].DeepCopy(), r.Spec.Hard[name]
		total.Add(asked[name])
		if total.Cmp(hard) > 0 {
			over = append(over, name)
		}
	}
	if len(over) == 0 {
		return nil
	}
	for _, name := range over {
		used[name] = used[name].DeepCopy() // "0", where nothing is used
	}
	return refuse("exceeded quota: %s, requested: %s, used: %s, limited: %s", r.Name,
		quota.Format(asked, over), quota.Format(used, over), quota.Format(r.Spec.Hard, over))
}

// usedLocked is what counts for r under names: what is stored, and what other
// writes will have stored.
func (q *Quotas) usedLocked(ctx context.Context, a *Attempt, r *corev1.ResourceQuota, names []corev1.ResourceName, now time.Time) (corev1.ResourceList, error) {
	used, all := corev1.ResourceList{}, 0
	under := map[types.UID]string{} // revisions of those that somebody writes
	for other := range q.pending[a.Request.Namespace] {
		under[other.Object.GetUID()] = ""
	}
	for _, k := range q.reader.Kinds().All() {
		some := slices.DeleteFunc(slices.Clone(quota.Concerned(k, r.Spec.Hard)), func(n corev1.ResourceName) bool { return !slices.Contains(names, n) })
		if len(some) == 0 {
			continue
		}
		stored, err := q.reader.List(ctx, k, client.Query{Namespace: a.Request.Namespace})
		if err != nil {
			return nil, err
		}
		all += len(stored)
		for _, obj := range stored {
			if _, written := under[obj.GetUID()]; written {
				under[obj.GetUID()] = obj.GetResourceVersion()
			}
			if quota.Matches(r, obj) {
				quota.Add(used, q.usageLocked(k, obj, now), some)
			}
		}
		for other := range q.pending[a.Request.Namespace] {
			// One whose write has arrived, or has lost its race, is among
			// those stored, whatever it is now.
			if other == a || other.Request.Kind != k || under[other.Object.GetUID()] != revision(other.Old) {
				continue
			}
			more := usage{kind: k, new: other.Object, old: other.Old, now: now}
			quota.Add(used, more.in(r, some), some)
		}
	}
	q.forgetLocked(a.Request.Namespace, all)
	return used, nil
}

// usageLocked is what a stored object counts for.
func (q *Quotas) usageLocked(k *kind.Kind, obj kind.Object, now time.Time) corev1.ResourceList {
	if obj.GetDeletionTimestamp() != nil {
		return quota.Usage(k, obj, now) // it changes with time
	}
	in := q.known[obj.GetNamespace()]
	if had, ok := in[obj.GetUID()]; ok && had.obj == obj {
		return had.usage
	}
	if in == nil {
		if len(q.known) >= mostKnown {
			clear(q.known)
		}
		in = map[types.UID]known{}
		q.known[obj.GetNamespace()] = in
	}
	usage := quota.Usage(k, obj, now)
	in[obj.GetUID()] = known{obj, usage}
	return usage
}

// forgetLocked drops what is known of objects that are gone, once they are
// the most.
func (q *Quotas) forgetLocked(namespace string, stored int) {
	if len(q.known[namespace]) > 2*stored+100 {
		delete(q.known, namespace)
	}
}

// revision is which state of an object this is; empty for none.
func revision(obj kind.Object) string {
	if obj == nil {
		return ""
	}
	return obj.GetResourceVersion()
}

// holdLocked counts a with those under way until it is over: then either the
// object is stored, where others see it, or it is not.
func (q *Quotas) holdLocked(a *Attempt) {
	ns := a.Request.Namespace
	if q.pending[ns] == nil {
		q.pending[ns] = map[*Attempt]struct{}{}
	}
	q.pending[ns][a] = struct{}{}
	a.OnDone(func(bool) {
		q.mu.Lock()
		defer q.mu.Unlock()
		if delete(q.pending[ns], a); len(q.pending[ns]) == 0 {
			delete(q.pending, ns)
		}
	})
}

// counts says whether a is a write that can change what its object counts for.
func counts(a *Attempt) bool {
	if a.Object == nil || quota.Free(a.Request.Kind) || a.Body != nil {
		return false
	}
	if a.Operation == Create {
		return a.Request.Subresource == ""
	}
	if a.Operation != Update {
		return false
	}
	switch obj := a.Object.(type) {
	case *corev1.Pod:
		return a.Request.Subresource == "resize" ||
			a.Request.Subresource == "" && quota.Terminating(obj) != quota.Terminating(a.Old.(*corev1.Pod))
	case *corev1.Service, *corev1.PersistentVolumeClaim:
		return a.Request.Subresource == ""
	}
	return false
}

// usage is how much more an object counts for after a write. A field that is
// asked for by several quotas is worked out once.
type usage struct {
	kind     *kind.Kind
	new, old kind.Object
	now      time.Time

	after, before corev1.ResourceList
}

func (u *usage) usage(obj kind.Object) corev1.ResourceList { return quota.Usage(u.kind, obj, u.now) }

// in is how much more counts for r under names. Where nothing changes there is
// no entry, or zero.
func (u *usage) in(r *corev1.ResourceQuota, names []corev1.ResourceName) corev1.ResourceList {
	if !quota.Matches(r, u.new) {
		return corev1.ResourceList{}
	}
	if u.after == nil {
		u.after = u.usage(u.new)
		if u.old != nil {
			u.before = u.usage(u.old)
		}
	}
	more := corev1.ResourceList{}
	quota.Add(more, u.after, names)
	if u.old != nil && quota.Matches(r, u.old) {
		for _, name := range names {
			total, had := more[name], u.before[name]
			total.Sub(had)
			more[name] = total
		}
	}
	return more
}
