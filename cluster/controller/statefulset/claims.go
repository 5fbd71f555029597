package statefulset

import (
	"maps"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

var (
	setKind = appsv1.SchemeGroupVersion.WithKind("StatefulSet")
	podKind = corev1.SchemeGroupVersion.WithKind("Pod")
)

// claimsOf are the claims that a pod needs, as they are made.
func claimsOf(set *appsv1.StatefulSet, ordinal int) (all []*corev1.PersistentVolumeClaim) {
	for i := range set.Spec.VolumeClaimTemplates {
		c := set.Spec.VolumeClaimTemplates[i].DeepCopy()
		c.Name, c.Namespace = claimName(set, c.Name, ordinal), set.Namespace
		if c.Labels == nil {
			c.Labels = map[string]string{}
		}
		maps.Copy(c.Labels, set.Spec.Selector.MatchLabels)
		all = append(all, c)
	}
	return all
}

const deletes = appsv1.DeletePersistentVolumeClaimRetentionPolicyType

// keepers says who has to own a pod's claims, so that these go with their
// owner (KEP-1847): the set, if they go with it; the pod, once it is one too
// many, if they go when the set shrinks.
func keepers(set *appsv1.StatefulSet, p *corev1.Pod) (bySet, byPod bool) {
	policy := set.Spec.PersistentVolumeClaimRetentionPolicy
	switch {
	case policy == nil:
		return false, false
	case policy.WhenScaled == deletes && !within(set, ordinal(p)):
		return false, true
	}
	return policy.WhenDeleted == deletes, false
}

// owned is true if a claim has the owners that it should have, or must not be
// touched: its owner has the name of ours and is another, an earlier one, and
// the garbage collector will come for it.
func owned(c *corev1.PersistentVolumeClaim, set *appsv1.StatefulSet, p *corev1.Pod) bool {
	if stale(c, set, setKind) || stale(c, p, podKind) {
		return true
	}
	hasSet, hasPod := refers(c, set), refers(c, p)
	if contested(c, set, p) {
		return !hasSet && !hasPod
	}
	for _, ref := range c.OwnerReferences {
		if (ref.UID == set.UID || ref.UID == p.UID) && (ref.Controller == nil || !*ref.Controller) {
			return false
		}
	}
	bySet, byPod := keepers(set, p)
	return hasSet == bySet && hasPod == byPod
}

// owners are the owners that a claim should have.
func owners(c *corev1.PersistentVolumeClaim, set *appsv1.StatefulSet, p *corev1.Pod) []metav1.OwnerReference {
	refs := slices.DeleteFunc(slices.Clone(c.OwnerReferences), func(ref metav1.OwnerReference) bool {
		return names(ref, set, setKind) || names(ref, p, podKind)
	})
	if contested(c, set, p) {
		return refs
	}
	bySet, byPod := keepers(set, p)
	if bySet {
		refs = append(refs, *metav1.NewControllerRef(set, setKind))
	}
	if byPod {
		refs = append(refs, *metav1.NewControllerRef(p, podKind))
	}
	return refs
}

// contested is true for a claim that somebody else controls although its set
// says when it is to be deleted.
func contested(c *corev1.PersistentVolumeClaim, set *appsv1.StatefulSet, p *corev1.Pod) bool {
	policy := set.Spec.PersistentVolumeClaimRetentionPolicy
	if policy == nil || policy.WhenScaled != deletes && policy.WhenDeleted != deletes {
		return false
	}
	for _, ref := range c.OwnerReferences {
		switch {
		case names(ref, set, setKind):
			if ref.UID != set.UID {
				return true
			}
		case names(ref, p, podKind):
			if ref.UID != p.UID {
				return true
			}
		case ref.Controller != nil && *ref.Controller:
			return true
		}
	}
	return false
}

// names is true for a reference to an object of this name and kind, this one
// or an earlier one.
func names(ref metav1.OwnerReference, obj metav1.Object, k schema.GroupVersionKind) bool {
	return ref.APIVersion == k.GroupVersion().String() && ref.Kind == k.Kind && ref.Name == obj.GetName()
}

// stale is true for a claim whose owner has the name of obj, and is another.
func stale(c *corev1.PersistentVolumeClaim, obj metav1.Object, k schema.GroupVersionKind) bool {
	for _, ref := range c.OwnerReferences {
		if names(ref, obj, k) {
			return ref.UID != obj.GetUID()
		}
	}
	return false
}

func refers(c *corev1.PersistentVolumeClaim, obj metav1.Object) bool {
	return slices.ContainsFunc(c.OwnerReferences, func(ref metav1.OwnerReference) bool { return ref.UID == obj.GetUID() })
}
