package admission

import (
	"context"
	"iter"

	corev1 "k8s.io/api/core/v1"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// AlwaysPullImages has every image pulled, so that nobody runs one for which
// he has no credentials because it happens to lie on the node.
type AlwaysPullImages struct{}

// Mutate implements Mutator.
func (AlwaysPullImages) Mutate(_ context.Context, a *Attempt) error {
	if pod, ok := newImages(a); ok {
		for _, policy := range pullPolicies(&pod.Spec) {
			*policy = corev1.PullAlways
		}
	}
	return nil
}

// Review implements Reviewer: a webhook may have changed what Mutate wrote.
func (AlwaysPullImages) Review(_ context.Context, a *Attempt) error {
	pod, ok := newImages(a)
	if !ok {
		return nil
	}
	var refusals []error
	for path, policy := range pullPolicies(&pod.Spec) {
		if *policy != corev1.PullAlways {
			refusals = append(refusals, forbidden(a, field.NotSupported(path, *policy, []string{string(corev1.PullAlways)})))
		}
	}
	return utilerrors.NewAggregate(refusals)
}

// newImages returns the pod that is written, if images are that were not
// there.
func newImages(a *Attempt) (*corev1.Pod, bool) {
	pod, ok := writtenPod(a)
	old, _ := a.Old.(*corev1.Pod)
	if !ok || old == nil {
		return pod, ok
	}
	had := map[string]bool{}
	for _, c := range containers(&old.Spec) {
		had[c.Image] = true
	}
	for _, c := range containers(&pod.Spec) {
		if !had[c.Image] {
			return pod, true
		}
	}
	return nil, false
}

// writtenPod returns the pod of a create or update of the whole.
func writtenPod(a *Attempt) (*corev1.Pod, bool) {
	if a.Operation != Create && a.Operation != Update || a.Request.Subresource != "" {
		return nil, false
	}
	pod, ok := a.Object.(*corev1.Pod)
	return pod, ok
}

// pullPolicies are those of containers and of image volumes, and where each
// stands.
func pullPolicies(s *corev1.PodSpec) iter.Seq2[*field.Path, *corev1.PullPolicy] {
	return func(yield func(*field.Path, *corev1.PullPolicy) bool) {
		for path, c := range containers(s) {
			if !yield(path.Child("imagePullPolicy"), &c.ImagePullPolicy) {
				return
			}
		}
		for i := range s.Volumes {
			if image := s.Volumes[i].Image; image != nil &&
				!yield(field.NewPath("spec", "volumes").Index(i).Child("image", "pullPolicy"), &image.PullPolicy) {
				return
			}
		}
	}
}

// containers are all of a pod, in upstream's order, and where each stands.
func containers(s *corev1.PodSpec) iter.Seq2[*field.Path, *corev1.Container] {
	return func(yield func(*field.Path, *corev1.Container) bool) {
		for i := range s.InitContainers {
			if !yield(field.NewPath("spec", "initContainers").Index(i), &s.InitContainers[i]) {
				return
			}
		}
		for i := range s.Containers {
			if !yield(field.NewPath("spec", "containers").Index(i), &s.Containers[i]) {
				return
			}
		}
		for i := range s.EphemeralContainers {
			if !yield(field.NewPath("spec", "ephemeralContainers").Index(i), (*corev1.Container)(&s.EphemeralContainers[i].EphemeralContainerCommon)) {
				return
			}
		}
	}
}
