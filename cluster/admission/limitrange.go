package admission

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	resourcehelper "k8s.io/component-helpers/resource"

	"sampan/cluster/client"
)

// LimitRanges has containers ask for what their namespace's LimitRanges say
// they ask for by default, and refuses pods and claims that ask for less or
// more than these allow: upstream's LimitRanger.
type LimitRanges struct{ Reader client.Reader }

// limitedBy is upstream's annotation, with what was filled in.
const limitedBy = "kubernetes.io/limit-ranger"

// Mutate implements Mutator.
func (l LimitRanges) Mutate(ctx context.Context, a *Attempt) error {
	pod, ok := a.Object.(*corev1.Pod)
	if !ok || !limits(a) {
		return nil
	}
	ranges, err := l.of(ctx, a)
	if err != nil {
		return err
	}
	for _, r := range ranges {
		fillResources(pod, r)
	}
	return nil
}

// Review implements Reviewer.
func (l LimitRanges) Review(ctx context.Context, a *Attempt) error {
	if !limits(a) {
		return nil
	}
	ranges, err := l.of(ctx, a)
	if err != nil {
		return err
	}
	for _, r := range ranges {
		var errs []error
		switch obj := a.Object.(type) {
		case *corev1.Pod:
			errs = podOutside(obj, r)
		case *corev1.PersistentVolumeClaim:
			errs = claimOutside(obj, r)
		}
		if err := utilerrors.NewAggregate(errs); err != nil {
			return apierrors.NewForbidden(a.Request.Kind.GroupResource(), a.Object.GetName(), err)
		}
	}
	return nil
}

func (l LimitRanges) of(ctx context.Context, a *Attempt) ([]*corev1.LimitRange, error) {
	return client.List[*corev1.LimitRange](ctx, l.Reader, client.Query{Namespace: a.Request.Namespace})
}

// limits says whether a is a write whose amounts can be new: of a pod only its
// creation and its resize, for they change at no other time.
func limits(a *Attempt) bool {
	if a.Old != nil && a.Old.GetDeletionTimestamp() != nil {
		return false
	}
	switch a.Object.(type) {
	case *corev1.Pod:
		return a.Operation == Create && a.Request.Subresource == "" || a.Operation == Update && a.Request.Subresource == "resize"
	case *corev1.PersistentVolumeClaim:
		return (a.Operation == Create || a.Operation == Update) && a.Request.Subresource == ""
	}
	return false
}

// fillResources gives pod's containers what r says they ask for by default,
// and says so in an annotation.
func fillResources(pod *corev1.Pod, r *corev1.LimitRange) {
	limit, request := corev1.ResourceList{}, corev1.ResourceList{}
	for _, item := range r.Spec.Limits {
		if item.Type == corev1.LimitTypeContainer {
			maps.Copy(limit, item.Default)
			maps.Copy(request, item.DefaultRequest)
		}
	}
	var notes []string
	fill := func(list *corev1.ResourceList, from corev1.ResourceList, what string, c *corev1.Container) {
		var set []string
		for name, q := range from {
			if _, ok := (*list)[name]; ok {
				continue
			}
			if *list == nil {
				*list = corev1.ResourceList{}
			}
			(*list)[name] = q.DeepCopy()
			set = append(set, string(name))
		}
		if len(set) > 0 {
			slices.Sort(set)
			notes = append(notes, strings.Join(set, ", ")+" "+what+" "+c.Name)
		}
	}
	for i := range pod.Spec.Containers {
		c := &pod.Spec.Containers[i]
		fill(&c.Resources.Requests, request, "request for container", c)
		fill(&c.Resources.Limits, limit, "limit for container", c)
	}
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		fill(&c.Resources.Requests, request, "request for init container", c)
		fill(&c.Resources.Limits, limit, "limit for init container", c)
	}
	if len(notes) > 0 {
		if pod.Annotations == nil {
			pod.Annotations = map[string]string{}
		}
		pod.Annotations[limitedBy] = "LimitRanger plugin set: " + strings.Join(notes, "; ")
	}
}

// podOutside says where pod is outside of r.
func podOutside(pod *corev1.Pod, r *corev1.LimitRange) (errs []error) {
	for i := range r.Spec.Limits {
		switch item := &r.Spec.Limits[i]; item.Type {
		case corev1.LimitTypeContainer:
			for _, list := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
				for _, c := range list {
					errs = append(errs, outside(item, c.Resources.Requests, c.Resources.Limits)...)
				}
			}
		case corev1.LimitTypePod:
			// Overhead is not the user's to answer for.
			o := resourcehelper.PodResourcesOptions{ExcludeOverhead: true}
			errs = append(errs, outside(item, resourcehelper.PodRequests(pod, o), resourcehelper.PodLimits(pod, o))...)
		}
	}
	return errs
}

// outside says where a request and a limit are outside of item.
func outside(item *corev1.LimitRangeItem, request, limit corev1.ResourceList) (errs []error) {
	check := func(list corev1.ResourceList, rule func(what string, bound resource.Quantity, req, lim *resource.Quantity) error) {
		for _, name := range slices.Sorted(maps.Keys(list)) {
			if err := rule(string(name), list[name], lookUp(request, name), lookUp(limit, name)); err != nil {
				errs = append(errs, err)
			}
		}
	}
	check(item.Min, func(what string, least resource.Quantity, req, lim *resource.Quantity) error {
		text := fmt.Sprintf("minimum %s usage per %s is %s", what, item.Type, least.String())
		switch {
		case req == nil:
			return errors.New(text + ".  No request is specified")
		case req.Cmp(least) < 0:
			return fmt.Errorf("%s, but request is %s", text, req)
		case lim != nil && lim.Cmp(least) < 0:
			return fmt.Errorf("%s, but limit is %s", text, lim)
		}
		return nil
	})
	check(item.Max, func(what string, most resource.Quantity, req, lim *resource.Quantity) error {
		text := fmt.Sprintf("maximum %s usage per %s is %s", what, item.Type, most.String())
		switch {
		case lim == nil:
			return errors.New(text + ".  No limit is specified")
		case lim.Cmp(most) > 0:
			return fmt.Errorf("%s, but limit is %s", text, lim)
		case req != nil && req.Cmp(most) > 0:
			return fmt.Errorf("%s, but request is %s", text, req)
		}
		return nil
	})
	check(item.MaxLimitRequestRatio, func(what string, most resource.Quantity, req, lim *resource.Quantity) error {
		text := fmt.Sprintf("%s max limit to request ratio per %s is %s, but", what, item.Type, most.String())
		switch {
		case req == nil || req.IsZero():
			return errors.New(text + " no request is specified or request is 0")
		case lim == nil || lim.IsZero():
			return errors.New(text + " no limit is specified or limit is 0")
		}
		if ratio := lim.AsApproximateFloat64() / req.AsApproximateFloat64(); ratio > most.AsApproximateFloat64() {
			return fmt.Errorf("%s provided ratio is %f", text, ratio)
		}
		return nil
	})
	return errs
}

// claimOutside says where claim is outside of r. Only what it asks for counts.
func claimOutside(claim *corev1.PersistentVolumeClaim, r *corev1.LimitRange) (errs []error) {
	for i := range r.Spec.Limits {
		item := &r.Spec.Limits[i]
		if item.Type != corev1.LimitTypePersistentVolumeClaim {
			continue
		}
		asked := claim.Spec.Resources.Requests
		errs = append(errs, outside(&corev1.LimitRangeItem{Type: item.Type, Min: item.Min}, asked, nil)...)
		for _, name := range slices.Sorted(maps.Keys(item.Max)) {
			most := item.Max[name]
			switch req := lookUp(asked, name); {
			case req == nil:
				errs = append(errs, fmt.Errorf("maximum %s usage per %s is %s.  No request is specified", name, item.Type, most.String()))
			case req.Cmp(most) > 0:
				errs = append(errs, fmt.Errorf("maximum %s usage per %s is %s, but request is %s", name, item.Type, most.String(), req))
			}
		}
	}
	return errs
}

func lookUp(list corev1.ResourceList, name corev1.ResourceName) *resource.Quantity {
	if q, ok := list[name]; ok {
		return &q
	}
	return nil
}
