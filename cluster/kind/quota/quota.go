// Package quota says what an object counts for in a ResourceQuota, and which
// quotas count it. Admission asks before an object is stored, the controller
// counts what is stored: both ask here.
//
// Its functions are pure. The rules are upstream's quota evaluators: pods,
// services and claims count for more than their number, all others are counted
// by "count/RESOURCE.GROUP".
package quota

import (
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sampan/cluster/kind"
)

const countPrefix = "count/"

var (
	pods     = schema.GroupResource{Resource: "pods"}
	services = schema.GroupResource{Resource: "services"}
	claims   = schema.GroupResource{Resource: "persistentvolumeclaims"}
)

// Counted is the resource whose objects name is about. ok is false for a name
// that nothing is counted by: a typing mistake, or a kind that is not served
// (count/… of such a kind is recognized as soon as it is).
func Counted(table *kind.Table, name corev1.ResourceName) (r schema.GroupResource, ok bool) {
	if text, count := strings.CutPrefix(string(name), countPrefix); count {
		r = schema.ParseGroupResource(text)
		for _, k := range table.All() {
			if k.GroupResource() == r && !Free(k) {
				return r, true
			}
		}
		return r, false
	}
	switch name {
	case corev1.ResourceConfigMaps, corev1.ResourceQuotas, corev1.ResourceReplicationControllers, corev1.ResourceSecrets:
		return schema.GroupResource{Resource: string(name)}, true
	case corev1.ResourceServices, corev1.ResourceServicesNodePorts, corev1.ResourceServicesLoadBalancers:
		return services, true
	}
	switch {
	case ofPods(name):
		return pods, true
	case ofClaims(name):
		return claims, true
	}
	return r, false
}

// Free is true for kinds that no quota counts: those without namespace, and
// events.
func Free(k *kind.Kind) bool { return k.Cluster || k.GVK.Kind == "Event" }

// Concerned are the names of hard that objects of kind k may count for,
// sorted.
func Concerned(k *kind.Kind, hard corev1.ResourceList) (names []corev1.ResourceName) {
	if Free(k) {
		return nil
	}
	r := k.GroupResource()
	for name := range hard {
		if about(r, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func about(r schema.GroupResource, name corev1.ResourceName) bool {
	if name == countName(r) {
		return true
	}
	switch r {
	case pods:
		return ofPods(name)
	case services:
		return name == corev1.ResourceServices || name == corev1.ResourceServicesNodePorts || name == corev1.ResourceServicesLoadBalancers
	case claims:
		return ofClaims(name)
	}
	return r.Group == "" && alias(name) && string(name) == r.Resource
}

// alias is true for names from before count/….
func alias(name corev1.ResourceName) bool {
	switch name {
	case corev1.ResourceConfigMaps, corev1.ResourceQuotas, corev1.ResourceReplicationControllers, corev1.ResourceSecrets:
		return true
	}
	return false
}

func countName(r schema.GroupResource) corev1.ResourceName {
	return corev1.ResourceName(countPrefix + r.String())
}

// Usage is what obj counts for, under all its names. It belongs to the caller.
func Usage(k *kind.Kind, obj kind.Object, now time.Time) corev1.ResourceList {
	r := k.GroupResource()
	used := corev1.ResourceList{countName(r): one()}
	switch obj := obj.(type) {
	case *corev1.Pod:
		podUsage(used, obj, now)
	case *corev1.Service:
		serviceUsage(used, obj)
	case *corev1.PersistentVolumeClaim:
		claimUsage(used, obj)
	default:
		if name := corev1.ResourceName(r.Resource); r.Group == "" && alias(name) {
			used[name] = one()
		}
	}
	return used
}

func one() resource.Quantity { return *resource.NewQuantity(1, resource.DecimalSI) }

// Matches says whether obj is in q's scopes. (A quota without scopes has all
// objects in it; only pods and claims can be in a scope.)
func Matches(q *corev1.ResourceQuota, obj kind.Object) bool {
	for _, s := range q.Spec.Scopes {
		if !inScope(corev1.ScopedResourceSelectorRequirement{ScopeName: s, Operator: corev1.ScopeSelectorOpExists}, obj) {
			return false
		}
	}
	if q.Spec.ScopeSelector == nil {
		return true
	}
	for _, r := range q.Spec.ScopeSelector.MatchExpressions {
		if !inScope(r, obj) {
			return false
		}
	}
	return true
}

func inScope(r corev1.ScopedResourceSelectorRequirement, obj kind.Object) bool {
	switch obj := obj.(type) {
	case *corev1.Pod:
		return podInScope(r, obj)
	case *corev1.PersistentVolumeClaim:
		return claimInScope(r, obj)
	}
	return false
}

// fits says whether a set of names is what r asks for.
func fits(r corev1.ScopedResourceSelectorRequirement, names ...string) bool {
	in := slices.ContainsFunc(names, func(n string) bool { return slices.Contains(r.Values, n) })
	out := slices.ContainsFunc(names, func(n string) bool { return !slices.Contains(r.Values, n) })
	switch r.Operator {
	case corev1.ScopeSelectorOpIn:
		return in
	case corev1.ScopeSelectorOpNotIn:
		return len(names) == 0 || out
	case corev1.ScopeSelectorOpExists:
		return len(names) > 0
	case corev1.ScopeSelectorOpDoesNotExist:
		return len(names) == 0
	}
	return false
}

// Add adds to sum what used has under names.
func Add(sum, used corev1.ResourceList, names []corev1.ResourceName) {
	for _, name := range names {
		q, ok := used[name]
		if !ok {
			continue
		}
		total, had := sum[name]
		if !had {
			sum[name] = q.DeepCopy()
			continue
		}
		total.Add(q)
		sum[name] = total
	}
}

// Format is a list of amounts as upstream's messages have it: "cpu=1,pods=2".
func Format(list corev1.ResourceList, names []corev1.ResourceName) string {
	parts := make([]string, 0, len(names))
	for _, name := range slices.Sorted(slices.Values(names)) {
		if q, ok := list[name]; ok {
			parts = append(parts, string(name)+"="+q.String())
		}
	}
	return strings.Join(parts, ",")
}

// Names are the names of list, sorted.
func Names(list corev1.ResourceList) []corev1.ResourceName { return slices.Sorted(maps.Keys(list)) }
