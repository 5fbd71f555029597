package admission

import (
	"context"

	corev1 "k8s.io/api/core/v1"
)

// Tolerations lets a pod stay for a while on a node that is not ready or not
// reachable, unless it says itself how long: upstream's
// DefaultTolerationSeconds.
type Tolerations struct{}

// tolerated is how long, in seconds.
const tolerated = int64(300)

// Mutate implements Mutator.
func (Tolerations) Mutate(_ context.Context, a *Attempt) error {
	pod, ok := a.Object.(*corev1.Pod)
	if !ok || a.Request.Subresource != "" {
		return nil
	}
	for _, key := range []string{corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable} {
		if !tolerates(pod.Spec.Tolerations, key) {
			seconds := tolerated
			pod.Spec.Tolerations = append(pod.Spec.Tolerations, corev1.Toleration{
				Key: key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &seconds})
		}
	}
	return nil
}

func tolerates(all []corev1.Toleration, key string) bool {
	for _, t := range all {
		if (t.Key == key || t.Key == "") && (t.Effect == corev1.TaintEffectNoExecute || t.Effect == "") {
			return true
		}
	}
	return false
}
