package quota

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcehelper "k8s.io/component-helpers/resource"

	"sampan/cluster/kind/podspec"
)

const requests = corev1.DefaultResourceRequestsPrefix

// ofPods is true for names under which pods are counted.
func ofPods(name corev1.ResourceName) bool {
	switch name {
	case corev1.ResourcePods, corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage,
		corev1.ResourceRequestsCPU, corev1.ResourceRequestsMemory, corev1.ResourceRequestsEphemeralStorage,
		corev1.ResourceLimitsCPU, corev1.ResourceLimitsMemory, corev1.ResourceLimitsEphemeralStorage, "count/pods":
		return true
	}
	text := string(name)
	return strings.HasPrefix(text, corev1.ResourceHugePagesPrefix) || strings.HasPrefix(text, corev1.ResourceRequestsHugePagesPrefix) ||
		strings.HasPrefix(text, requests) && !podspec.Native(name)
}

// podUsage adds what p counts for. One that has ended counts as an object
// only; so does one that should be gone and that its node does not let go.
func podUsage(used corev1.ResourceList, p *corev1.Pod, now time.Time) {
	if p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
		return
	}
	if at, ok := Overdue(p); ok && now.After(at) {
		return
	}
	used[corev1.ResourcePods] = one()
	o := resourcehelper.PodResourcesOptions{UseStatusResources: true}
	compute(used, resourcehelper.PodRequests(p, o), resourcehelper.PodLimits(p, o))
}

// Overdue is when a pod that is being deleted stops to count; false for one
// that is not.
func Overdue(p *corev1.Pod) (at time.Time, ok bool) {
	if p.DeletionTimestamp == nil || p.DeletionGracePeriodSeconds == nil {
		return at, false
	}
	return p.DeletionTimestamp.Add(time.Duration(*p.DeletionGracePeriodSeconds) * time.Second), true
}

// compute adds what is asked for, by its names in quotas.
func compute(used, asked, limits corev1.ResourceList) {
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage} {
		if q, ok := asked[name]; ok {
			used[name], used[requests+name] = q, q
		}
		if q, ok := limits[name]; ok {
			used["limits."+name] = q
		}
	}
	for name, q := range asked {
		switch {
		case strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix):
			used[name], used[requests+name] = q, q
		case podspec.Extended(name):
			used[requests+name] = q
		}
	}
}

// Constraint says what p has to ask for because a quota counts it under
// names; empty: nothing is missing. Each container of a pod has to ask for the
// cpu and memory that are counted, unless the pod as a whole does.
func Constraint(p *corev1.Pod, names []corev1.ResourceName) string {
	if resourcehelper.IsPodLevelResourcesSet(p) {
		return ""
	}
	var missing []string
	for _, name := range names {
		switch name {
		case corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceRequestsCPU, corev1.ResourceRequestsMemory,
			corev1.ResourceLimitsCPU, corev1.ResourceLimitsMemory:
		default:
			continue
		}
		var without []string
		for _, list := range [][]corev1.Container{p.Spec.Containers, p.Spec.InitContainers} {
			for _, c := range list {
				has := corev1.ResourceList{}
				compute(has, c.Resources.Requests, c.Resources.Limits)
				if _, ok := has[name]; !ok && !slices.Contains(without, c.Name) {
					without = append(without, c.Name)
				}
			}
		}
		if len(without) > 0 {
			slices.Sort(without)
			missing = append(missing, fmt.Sprintf("%s for: %s", name, strings.Join(without, ",")))
		}
	}
	if len(missing) == 0 {
		return ""
	}
	slices.Sort(missing)
	return "must specify " + strings.Join(missing, "; ")
}

// Terminating is true for a pod that ends by itself after a time: the scope of
// that name.
func Terminating(p *corev1.Pod) bool {
	return p.Spec.ActiveDeadlineSeconds != nil && *p.Spec.ActiveDeadlineSeconds >= 0
}

func podInScope(r corev1.ScopedResourceSelectorRequirement, p *corev1.Pod) bool {
	bestEffort := func() bool { return podspec.QOSClass(p) == corev1.PodQOSBestEffort }
	switch r.ScopeName {
	case corev1.ResourceQuotaScopeTerminating:
		return Terminating(p)
	case corev1.ResourceQuotaScopeNotTerminating:
		return !Terminating(p)
	case corev1.ResourceQuotaScopeBestEffort:
		return bestEffort()
	case corev1.ResourceQuotaScopeNotBestEffort:
		return !bestEffort()
	case corev1.ResourceQuotaScopeCrossNamespacePodAffinity:
		return reachesOut(p)
	case corev1.ResourceQuotaScopePriorityClass:
		if p.Spec.PriorityClassName == "" {
			return fits(r)
		}
		return fits(r, p.Spec.PriorityClassName)
	}
	return false
}

// reachesOut is true for a pod with affinity to pods of other namespaces.
func reachesOut(p *corev1.Pod) bool {
	out := func(t corev1.PodAffinityTerm) bool { return len(t.Namespaces) > 0 || t.NamespaceSelector != nil }
	weighted := func(t corev1.WeightedPodAffinityTerm) bool { return out(t.PodAffinityTerm) }
	a := p.Spec.Affinity
	if a == nil {
		return false
	}
	if t := a.PodAffinity; t != nil && (slices.ContainsFunc(t.RequiredDuringSchedulingIgnoredDuringExecution, out) ||
		slices.ContainsFunc(t.PreferredDuringSchedulingIgnoredDuringExecution, weighted)) {
		return true
	}
	t := a.PodAntiAffinity
	return t != nil && (slices.ContainsFunc(t.RequiredDuringSchedulingIgnoredDuringExecution, out) ||
		slices.ContainsFunc(t.PreferredDuringSchedulingIgnoredDuringExecution, weighted))
}
