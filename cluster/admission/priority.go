package admission

import (
	"context"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"sampan/cluster/client"
	"sampan/cluster/kind"
	"sampan/cluster/kind/scheduling"
)

// Priorities gives each new pod the number that its class stands for, and
// keeps a second class from becoming the one of pods without a class.
type Priorities struct{ Reader client.Reader }

// Mutate implements Mutator.
func (p Priorities) Mutate(ctx context.Context, a *Attempt) error {
	if pod, ok := a.Object.(*corev1.Pod); ok && a.Operation == Update && a.Request.Subresource == "" {
		if old := a.Old.(*corev1.Pod); pod.Spec.Priority == nil {
			pod.Spec.Priority, pod.Spec.PreemptionPolicy = old.Spec.Priority, old.Spec.PreemptionPolicy
		}
		return nil
	}
	pod, ok := newPod(a)
	if !ok {
		return nil
	}
	name, value, policy, err := p.class(ctx, pod.Spec.PriorityClassName)
	if err == nil && pod.Spec.Priority != nil && *pod.Spec.Priority != value {
		err = fmt.Errorf("the integer value of priority (%d) must not be provided in pod spec; "+
			"priority admission controller computed %d from the given PriorityClass name", *pod.Spec.Priority, value)
	}
	if err == nil && pod.Spec.PreemptionPolicy != nil && *pod.Spec.PreemptionPolicy != policy {
		err = fmt.Errorf("the string value of PreemptionPolicy (%s) must not be provided in pod spec; "+
			"priority admission controller computed %s from the given PriorityClass name", *pod.Spec.PreemptionPolicy, policy)
	}
	if err != nil {
		return apierrors.NewForbidden(a.Request.Kind.GroupResource(), pod.Name, err)
	}
	pod.Spec.PriorityClassName, pod.Spec.Priority, pod.Spec.PreemptionPolicy = name, &value, &policy
	return nil
}

// Review implements Reviewer.
func (p Priorities) Review(ctx context.Context, a *Attempt) error {
	if class, ok := a.Old.(*schedulingv1.PriorityClass); ok && a.Operation == Delete && a.Request.Verb == "delete" && system(class.Name) {
		return apierrors.NewForbidden(a.Request.Kind.GroupResource(), class.Name, errors.New("this is a system priority class and cannot be deleted"))
	}
	class, ok := a.Object.(*schedulingv1.PriorityClass)
	if !ok || !class.GlobalDefault || a.Operation != Create && a.Operation != Update {
		return nil
	}
	other, err := p.standard(ctx, a.Request.Kind)
	if err != nil || other == nil || other.Name == class.Name {
		return err
	}
	return apierrors.NewForbidden(a.Request.Kind.GroupResource(), class.Name,
		fmt.Errorf("PriorityClass %v is already marked as default. Only one default can exist", other.Name))
}

// system says whether every cluster has a class of that name. Upstream's storage
// refuses to delete one, unless all classes are deleted by one request.
func system(name string) bool {
	return slices.ContainsFunc(scheduling.SystemClasses(), func(c *schedulingv1.PriorityClass) bool { return c.Name == name })
}

// standard is the class of pods that name none, nil if there is none. Of
// several, which a race may leave, the one with the lowest value counts.
func (p Priorities) standard(ctx context.Context, k *kind.Kind) (chosen *schedulingv1.PriorityClass, err error) {
	all, err := p.Reader.List(ctx, k, client.Query{})
	for _, obj := range all {
		if c := obj.(*schedulingv1.PriorityClass); c.GlobalDefault && (chosen == nil || c.Value < chosen.Value) {
			chosen = c
		}
	}
	return chosen, err
}

// class is what a class, or the default one for an empty name, stands for.
// The system's classes stand for the same whether or not their objects are
// there: the first pods of a cluster may need them.
func (p Priorities) class(ctx context.Context, name string) (string, int32, corev1.PreemptionPolicy, error) {
	k := p.Reader.Kinds().ByGVK(schedulingv1.SchemeGroupVersion.WithKind("PriorityClass"))
	if name != "" {
		c, err := p.named(ctx, k, name)
		if err != nil {
			return "", 0, "", err
		}
		return name, c.Value, preemption(c), nil
	}
	if k == nil {
		return "", 0, corev1.PreemptLowerPriority, nil
	}
	chosen, err := p.standard(ctx, k)
	if err != nil || chosen == nil {
		return "", 0, corev1.PreemptLowerPriority, err
	}
	return chosen.Name, chosen.Value, preemption(chosen), nil
}

func (p Priorities) named(ctx context.Context, k *kind.Kind, name string) (*schedulingv1.PriorityClass, error) {
	if k != nil {
		obj, err := p.Reader.Get(ctx, k, "", name)
		if err == nil {
			return obj.(*schedulingv1.PriorityClass), nil
		}
		if !apierrors.IsNotFound(err) {
			return nil, err
		}
	}
	for _, c := range scheduling.SystemClasses() {
		if c.Name == name {
			return c, nil
		}
	}
	return nil, fmt.Errorf("no PriorityClass with name %v was found", name)
}

func preemption(c *schedulingv1.PriorityClass) corev1.PreemptionPolicy {
	if c.PreemptionPolicy != nil {
		return *c.PreemptionPolicy
	}
	return corev1.PreemptLowerPriority
}
