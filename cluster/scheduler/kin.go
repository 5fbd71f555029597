package scheduler

import (
	"context"
	"maps"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sampan/cluster/client"
)

// kin selects the pods that do the same as p: those of its services and of
// its controller together. Nil: p is on its own.
func (s *Scheduler) kin(ctx context.Context, p *corev1.Pod) labels.Selector {
	set := labels.Set{}
	for _, selector := range s.services[p.Namespace] {
		if len(selector) > 0 && hasLabels(p, selector) {
			maps.Copy(set, selector)
		}
	}
	if len(set) == 0 && metav1.GetControllerOfNoCopy(p) == nil {
		return nil
	}
	selector := set.AsSelectorPreValidated()
	if owner := s.ownerSelector(ctx, p); owner != nil {
		if all, ok := owner.Requirements(); ok {
			selector = selector.Add(all...)
		}
	}
	if selector.Empty() {
		return nil
	}
	return selector
}

func hasLabels(p *corev1.Pod, set labels.Set) bool {
	for key, value := range set {
		if own, ok := p.Labels[key]; !ok || own != value {
			return false
		}
	}
	return true
}

// ownerSelector is the selector of p's controller, nil if it has none.
func (s *Scheduler) ownerSelector(ctx context.Context, p *corev1.Pod) labels.Selector {
	ref := metav1.GetControllerOfNoCopy(p)
	if ref == nil {
		return nil
	}
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	if err != nil {
		return nil
	}
	switch (schema.GroupKind{Group: gv.Group, Kind: ref.Kind}) {
	case schema.GroupKind{Kind: "ReplicationController"}, schema.GroupKind{Group: "apps", Kind: "ReplicaSet"},
		schema.GroupKind{Group: "apps", Kind: "StatefulSet"}:
	default:
		return nil
	}
	k := s.cfg.Client.Kinds().ByGVK(gv.WithKind(ref.Kind))
	if k == nil {
		return nil
	}
	obj, err := s.cfg.Client.Get(ctx, k, p.Namespace, ref.Name)
	if err != nil {
		return nil // without its controller p is on its own
	}
	var selector *metav1.LabelSelector
	switch obj := obj.(type) {
	case *corev1.ReplicationController:
		selector = &metav1.LabelSelector{MatchLabels: obj.Spec.Selector}
	case *appsv1.ReplicaSet:
		selector = obj.Spec.Selector
	case *appsv1.StatefulSet:
		selector = obj.Spec.Selector
	}
	made, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		return nil
	}
	return made
}

// applyService keeps the selectors of services by namespace.
func (s *Scheduler) applyService(c *client.Change[*corev1.Service]) {
	ns, name := c.Object.Namespace, c.Object.Name
	if c.Type == client.Deleted {
		if delete(s.services[ns], name); len(s.services[ns]) == 0 {
			delete(s.services, ns)
		}
		return
	}
	if s.services[ns] == nil {
		s.services[ns] = map[string]labels.Set{}
	}
	s.services[ns][name] = c.Object.Spec.Selector
}
