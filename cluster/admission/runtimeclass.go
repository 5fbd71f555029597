package admission

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"sampan/cluster/client"
)

// RuntimeClasses gives a new pod what its runtime class costs, and the nodes
// on which it runs (KEP-585, KEP-688).
type RuntimeClasses struct{ Reader client.Reader }

// Mutate implements Mutator.
func (r RuntimeClasses) Mutate(ctx context.Context, a *Attempt) error {
	pod, ok := newPod(a)
	if !ok {
		return nil
	}
	class, err := r.class(ctx, a, pod)
	if err != nil || class == nil {
		return err
	}
	if o := class.Overhead; o != nil {
		if len(pod.Spec.Overhead) > 0 && !equality.Semantic.DeepEqual(pod.Spec.Overhead, o.PodFixed) {
			return forbidden(a, errOverhead)
		}
		pod.Spec.Overhead = o.PodFixed.DeepCopy()
	}
	s := class.Scheduling
	if s == nil {
		return nil
	}
	for _, key := range slices.Sorted(maps.Keys(s.NodeSelector)) {
		if has, ok := pod.Spec.NodeSelector[key]; ok && has != s.NodeSelector[key] {
			return forbidden(a, fmt.Errorf("conflict: runtimeClass.scheduling.nodeSelector[%s] = %s; pod.spec.nodeSelector[%s] = %s",
				key, s.NodeSelector[key], key, has))
		}
	}
	if len(s.NodeSelector) > 0 {
		if pod.Spec.NodeSelector == nil {
			pod.Spec.NodeSelector = map[string]string{}
		}
		maps.Copy(pod.Spec.NodeSelector, s.NodeSelector)
	}
	pod.Spec.Tolerations = mergeTolerations(pod.Spec.Tolerations, s.Tolerations)
	return nil
}

var errOverhead = errors.New("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead")

// Review implements Reviewer: no pod says by itself what its runtime costs.
func (r RuntimeClasses) Review(ctx context.Context, a *Attempt) error {
	pod, ok := newPod(a)
	if !ok {
		return nil
	}
	class, err := r.class(ctx, a, pod)
	switch {
	case err != nil:
		return err
	case class != nil && class.Overhead != nil:
		if !equality.Semantic.DeepEqual(pod.Spec.Overhead, class.Overhead.PodFixed) {
			return forbidden(a, errOverhead)
		}
	case pod.Spec.Overhead != nil:
		return forbidden(a, errors.New("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"))
	}
	return nil
}

// class is the one that pod names, or nil if it names none.
func (r RuntimeClasses) class(ctx context.Context, a *Attempt, pod *corev1.Pod) (*nodev1.RuntimeClass, error) {
	name := pod.Spec.RuntimeClassName
	if name == nil {
		return nil, nil
	}
	class, err := client.Get[*nodev1.RuntimeClass](ctx, r.Reader, "", *name)
	if apierrors.IsNotFound(err) {
		return nil, forbidden(a, fmt.Errorf("pod rejected: RuntimeClass %q not found", *name))
	}
	return class, err
}

// mergeTolerations is both lists without those that another covers.
func mergeTolerations(first, second []corev1.Toleration) (merged []corev1.Toleration) {
	all := slices.Concat(first, second)
	for i := range all {
		covered := slices.ContainsFunc(merged, func(t corev1.Toleration) bool { return covers(&t, &all[i]) }) ||
			slices.ContainsFunc(all[i+1:], func(t corev1.Toleration) bool {
				return !equality.Semantic.DeepEqual(&t, &all[i]) && covers(&t, &all[i])
			})
		if !covered {
			merged = append(merged, all[i])
		}
	}
	return merged
}

// covers is true if who has the toleration a needs not b.
func covers(a, b *corev1.Toleration) bool {
	switch {
	case equality.Semantic.DeepEqual(a, b):
		return true
	case a.Key != b.Key && (a.Key != "" || a.Operator != corev1.TolerationOpExists), a.Effect != b.Effect && a.Effect != "":
		return false
	case a.Effect == corev1.TaintEffectNoExecute && a.TolerationSeconds != nil && (b.TolerationSeconds == nil || *b.TolerationSeconds > *a.TolerationSeconds):
		return false
	case a.Operator == corev1.TolerationOpExists:
		return true
	}
	return (a.Operator == corev1.TolerationOpEqual || a.Operator == "") && b.Operator == corev1.TolerationOpEqual && a.Value == b.Value
}
