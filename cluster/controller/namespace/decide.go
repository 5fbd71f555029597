package namespace

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sampan/cluster/kind"
)

// content is what a namespace holds of one kind.
type content struct {
	kind    schema.GroupVersionResource
	of      *kind.Kind
	objects []kind.Object
}

// pods is the kind that goes first.
var pods = corev1.SchemeGroupVersion.WithResource("pods")

// due returns the kinds whose turn it is: while there are pods, pods alone, so
// that what guards them (network policies, for one) outlives them (KEP-5080).
func due(all []content) []content {
	for _, c := range all {
		if c.kind == pods && len(c.objects) > 0 {
			return []content{c}
		}
	}
	return slices.DeleteFunc(slices.Clone(all), func(c content) bool { return len(c.objects) == 0 })
}

// doomed says whether o is to be deleted. What is on its way already is left
// alone, unless it waits for its dependants: in a namespace that ends,
// everything goes anyway.
func doomed(o kind.Object) bool {
	waits := slices.Contains(o.GetFinalizers(), metav1.FinalizerOrphanDependents) ||
		slices.Contains(o.GetFinalizers(), metav1.FinalizerDeleteDependents)
	return o.GetDeletionTimestamp() == nil || waits
}

// patience is how much longer the pods that remain may take to stop, by the
// longest grace period among those that run. Upstream counts from the
// namespace's deletion.
func patience(ns *corev1.Namespace, remain []content, now time.Time) time.Duration {
	var longest int64
	for _, c := range remain {
		if c.kind != pods {
			continue
		}
		for _, o := range c.objects {
			p, ok := o.(*corev1.Pod)
			if !ok || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
				continue
			}
			if s := p.Spec.TerminationGracePeriodSeconds; s != nil {
				longest = max(longest, *s)
			}
		}
	}
	return max(0, time.Duration(longest)*time.Second-now.Sub(ns.DeletionTimestamp.Time))
}

// stuck reports the kinds of which objects remain although nothing says why:
// no finalizer holds them, and pods have had their grace period.
func stuck(ns *corev1.Namespace, remain []content, now time.Time) (failures []error) {
	for _, c := range remain {
		held := slices.ContainsFunc(c.objects, func(o kind.Object) bool { return len(o.GetFinalizers()) > 0 })
		if held || c.kind == pods && patience(ns, []content{c}, now) > 0 {
			continue
		}
		failures = append(failures, fmt.Errorf("unexpected items still remain in namespace: %s for gvr: %v", ns.Name, c.kind))
	}
	return failures
}

// conditions returns have brought up to date: what remains, what holds it and
// what failed, with upstream's reasons and messages. Times change only with
// the status of a condition.
func conditions(have []corev1.NamespaceCondition, remain []content, failures []error, now time.Time) []corev1.NamespaceCondition {
	all := slices.Clone(have)
	failures, discovery := withoutDiscovery(failures)
	for _, want := range []corev1.NamespaceCondition{
		discovery,
		{Type: corev1.NamespaceDeletionGVParsingFailure, Reason: "ParsedGroupVersions", Message: "All legacy kube types successfully parsed"},
		failed(failures),
		remaining(remain),
		finalizers(remain),
	} {
		if want.Status == "" {
			want.Status = corev1.ConditionFalse
		}
		want.LastTransitionTime = metav1.NewTime(now.Truncate(time.Second))
		i := slices.IndexFunc(all, func(c corev1.NamespaceCondition) bool { return c.Type == want.Type })
		if i < 0 {
			all = append(all, want)
			continue
		}
		if all[i].Status == want.Status {
			want.LastTransitionTime = all[i].LastTransitionTime
		}
		all[i] = want
	}
	return all
}

// undiscovered are group versions of which nobody knows now what they have: as
// long as that is so, no namespace is known to be empty.
type undiscovered []schema.GroupVersion

// Error is what upstream's discovery client says of them.
func (u undiscovered) Error() string {
	texts := make([]string, len(u))
	for i, gv := range u {
		texts[i] = fmt.Sprintf("%s: stale GroupVersion discovery: %s", gv, gv)
	}
	slices.Sort(texts)
	return "unable to retrieve the complete list of server APIs: " + strings.Join(texts, ", ")
}

// withoutDiscovery is what else has failed, and the condition about discovery.
func withoutDiscovery(failures []error) (others []error, c corev1.NamespaceCondition) {
	c = corev1.NamespaceCondition{Type: corev1.NamespaceDeletionDiscoveryFailure, Reason: "ResourcesDiscovered", Message: "All resources successfully discovered"}
	for _, err := range failures {
		u, ok := err.(undiscovered)
		if !ok {
			others = append(others, err)
			continue
		}
		c.Status, c.Reason = corev1.ConditionTrue, "DiscoveryFailed"
		c.Message = fmt.Sprintf("Discovery failed for some groups, %d failing: %v", len(u), err)
	}
	return others, c
}

func failed(failures []error) corev1.NamespaceCondition {
	if len(failures) == 0 {
		return corev1.NamespaceCondition{Type: corev1.NamespaceDeletionContentFailure,
			Reason: "ContentDeleted", Message: "All content successfully deleted, may be waiting on finalization"}
	}
	texts := make([]string, len(failures))
	for i, err := range failures {
		texts[i] = err.Error()
	}
	slices.Sort(texts)
	return corev1.NamespaceCondition{Type: corev1.NamespaceDeletionContentFailure, Status: corev1.ConditionTrue,
		Reason:  "ContentDeletionFailed",
		Message: fmt.Sprintf("Failed to delete all resource types, %d remaining: %v", len(failures), strings.Join(texts, ", "))}
}

func remaining(remain []content) corev1.NamespaceCondition {
	var texts []string
	for _, c := range remain {
		texts = append(texts, fmt.Sprintf("%s.%s has %d resource instances", c.kind.Resource, c.kind.Group, len(c.objects)))
	}
	if len(texts) == 0 {
		return corev1.NamespaceCondition{Type: corev1.NamespaceContentRemaining, Reason: "ContentRemoved", Message: "All content successfully removed"}
	}
	slices.Sort(texts)
	return corev1.NamespaceCondition{Type: corev1.NamespaceContentRemaining, Status: corev1.ConditionTrue,
		Reason: "SomeResourcesRemain", Message: "Some resources are remaining: " + strings.Join(texts, ", ")}
}

func finalizers(remain []content) corev1.NamespaceCondition {
	count := map[string]int{}
	for _, c := range remain {
		for _, o := range c.objects {
			for _, f := range o.GetFinalizers() {
				count[f]++
			}
		}
	}
	if len(count) == 0 {
		return corev1.NamespaceCondition{Type: corev1.NamespaceFinalizersRemaining, Reason: "ContentRemoved", Message: "All content successfully removed"}
	}
	var texts []string
	for f, n := range count {
		texts = append(texts, fmt.Sprintf("%s in %d resource instances", f, n))
	}
	slices.Sort(texts)
	return corev1.NamespaceCondition{Type: corev1.NamespaceFinalizersRemaining, Status: corev1.ConditionTrue,
		Reason: "SomeFinalizersRemain", Message: "Some content in the namespace has finalizers remaining: " + strings.Join(texts, ", ")}
}
