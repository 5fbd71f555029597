package garbage

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"sampan/cluster/kind"
)

// standing is what an owner reference refers to.
type standing int

const (
	solid   standing = iota // it is there, or nobody can know
	waiting                 // it is there until its dependents are gone
	absent                  // it is not there, or another has its name
)

// owner is one of an object's owner references with what it refers to.
type owner struct {
	uid   types.UID
	state standing
}

// decision is what must happen to one object. At most one of the fields
// delete, drop and free is set, beside orphan and look.
type decision struct {
	delete metav1.DeletionPropagation // "": stays
	drop   []types.UID                // owner references that it is to lose
	free   string                     // a finalizer that has had its time

	// unblock: its own owner references are to stop blocking, since the object
	// waits for one that waits for it.
	unblock bool

	orphan []kind.Object // dependents that are to lose their reference to it
	look   []kind.Object // dependents that are to be looked at
}

// decide is a pure function of an object, what its owner references refer to,
// and its dependents, of any kind. These only matter if it is being deleted or
// one of its owners waits. The rules are upstream's
// (pkg/controller/garbagecollector, attemptToDeleteItem).
func decide(obj kind.Object, owners []owner, dependents []kind.Object) (d decision) {
	if obj.GetDeletionTimestamp() != nil {
		switch {
		case has(obj, metav1.FinalizerOrphanDependents):
			// What is on its way itself is let go as well: it is nobody's.
			d.orphan = dependents
			d.free = metav1.FinalizerOrphanDependents
		case has(obj, metav1.FinalizerDeleteDependents):
			// Those that do not block go at the same time; nobody waits for them.
			for _, dep := range dependents {
				if dep.GetDeletionTimestamp() == nil {
					d.look = append(d.look, dep)
				}
			}
			if !slices.ContainsFunc(dependents, func(dep kind.Object) bool { return blocks(dep, obj.GetUID()) }) {
				d.free = metav1.FinalizerDeleteDependents
			}
		}
		return d
	}
	if len(owners) == 0 {
		return d
	}
	var lost, leaving []types.UID
	for _, o := range owners {
		switch o.state {
		case absent:
			lost = append(lost, o.uid)
		case waiting:
			leaving = append(leaving, o.uid)
		}
	}
	switch {
	case len(lost)+len(leaving) < len(owners):
		d.drop = append(lost, leaving...) // somebody else still wants it
	case len(leaving) > 0 && len(dependents) > 0:
		// Its owner waits for it, so it has to wait for its own dependents,
		// unless one of these waits already: that may be the same owner.
		d.unblock = slices.ContainsFunc(dependents, awaits) && slices.ContainsFunc(obj.GetOwnerReferences(), blocking)
		d.delete = metav1.DeletePropagationForeground
	case has(obj, metav1.FinalizerOrphanDependents):
		d.delete = metav1.DeletePropagationOrphan
	case has(obj, metav1.FinalizerDeleteDependents):
		d.delete = metav1.DeletePropagationForeground
	default:
		d.delete = metav1.DeletePropagationBackground
	}
	return d
}

// awaits is true for an object that is there until its dependents are gone.
func awaits(obj kind.Object) bool {
	return obj.GetDeletionTimestamp() != nil && has(obj, metav1.FinalizerDeleteDependents)
}

// blocks is true for a dependent that the owner's end has to wait for.
func blocks(dependent kind.Object, owner types.UID) bool {
	return slices.ContainsFunc(dependent.GetOwnerReferences(), func(r metav1.OwnerReference) bool {
		return r.UID == owner && blocking(r)
	})
}

func blocking(r metav1.OwnerReference) bool {
	return r.BlockOwnerDeletion != nil && *r.BlockOwnerDeletion
}

func has(obj kind.Object, finalizer string) bool {
	return slices.Contains(obj.GetFinalizers(), finalizer)
}

// concerns is true if a change of an object may be one for the collector. Most
// changes are not.
func concerns(old, now kind.Object) bool {
	if old == nil {
		return len(now.GetOwnerReferences()) > 0 || now.GetDeletionTimestamp() != nil
	}
	return (old.GetDeletionTimestamp() == nil) != (now.GetDeletionTimestamp() == nil) ||
		!slices.Equal(old.GetFinalizers(), now.GetFinalizers()) ||
		!sameOwners(old.GetOwnerReferences(), now.GetOwnerReferences())
}

func sameOwners(a, b []metav1.OwnerReference) bool {
	return slices.EqualFunc(a, b, func(x, y metav1.OwnerReference) bool {
		return x.UID == y.UID && x.Kind == y.Kind && x.APIVersion == y.APIVersion && x.Name == y.Name && blocking(x) == blocking(y)
	})
}

// released are the owners that may be free to go after a change: those that
// the object referred to with a block, and does no more, or no more with one.
func released(old, now []metav1.OwnerReference) (free []metav1.OwnerReference) {
	for _, r := range old {
		if blocking(r) && !slices.ContainsFunc(now, func(n metav1.OwnerReference) bool { return n.UID == r.UID && blocking(n) }) {
			free = append(free, r)
		}
	}
	return free
}
