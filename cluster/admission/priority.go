package admission

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"sampan/cluster/client"
)

// Priorities gives each new pod the number that its class stands for.
type Priorities struct{ Reader client.Reader }

// system classes exist whether or not there are objects of them.
var system = map[string]int32{
	"system-cluster-critical": 2_000_000_000,
	"system-node-critical":    2_000_001_000,
}

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

// class is what a class, or the default one for an empty name, stands for.
func (p Priorities) class(ctx context.Context, name string) (string, int32, corev1.PreemptionPolicy, error) {
	if value, ok := system[name]; ok {
		return name, value, corev1.PreemptLowerPriority, nil
	}
	k := p.Reader.Kinds().ByGVK(schedulingv1.SchemeGroupVersion.WithKind("PriorityClass"))
	if k == nil {
		if name == "" {
			return "", 0, corev1.PreemptLowerPriority, nil
		}
		return "", 0, "", fmt.Errorf("no PriorityClass with name %v was found", name)
	}
	if name != "" {
		obj, err := p.Reader.Get(ctx, k, "", name)
		if apierrors.IsNotFound(err) {
			err = fmt.Errorf("no PriorityClass with name %v was found", name)
		}
		if err != nil {
			return "", 0, "", err
		}
		c := obj.(*schedulingv1.PriorityClass)
		return name, c.Value, preemption(c), nil
	}
	all, err := p.Reader.List(ctx, k, client.Query{})
	if err != nil {
		return "", 0, "", err
	}
	// Of several defaults the one with the lowest value counts.
	var chosen *schedulingv1.PriorityClass
	for _, obj := range all {
		if c := obj.(*schedulingv1.PriorityClass); c.GlobalDefault && (chosen == nil || c.Value < chosen.Value) {
			chosen = c
		}
	}
	if chosen == nil {
		return "", 0, corev1.PreemptLowerPriority, nil
	}
	return chosen.Name, chosen.Value, preemption(chosen), nil
}

func preemption(c *schedulingv1.PriorityClass) corev1.PreemptionPolicy {
	if c.PreemptionPolicy != nil {
		return *c.PreemptionPolicy
	}
	return corev1.PreemptLowerPriority
}
