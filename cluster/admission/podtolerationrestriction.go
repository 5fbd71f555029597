package admission

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"sampan/cluster/client"
	"sampan/cluster/kind/podspec"
)

// PodTolerationRestriction gives the pods of a namespace the tolerations that
// an annotation of it names, and lets them have no others than another one
// does. Without annotations those count that the administrator names.
type PodTolerationRestriction struct {
	reader client.Reader
	told   tolerationConfiguration
}

type tolerationConfiguration struct {
	APIVersion string              `json:"apiVersion"`
	Kind       string              `json:"kind"`
	Default    []corev1.Toleration `json:"default"`
	Whitelist  []corev1.Toleration `json:"whitelist"`
}

const (
	defaultTolerationsAnnotation = "scheduler.alpha.kubernetes.io/defaultTolerations"
	allowedTolerationsAnnotation = "scheduler.alpha.kubernetes.io/tolerationsWhitelist"
)

// NewPodTolerationRestriction returns the plugin, told a Configuration of
// podtolerationrestriction.admission.k8s.io/v1alpha1 or nothing.
func NewPodTolerationRestriction(reader client.Reader, configuration []byte) (*PodTolerationRestriction, error) {
	p := &PodTolerationRestriction{reader: reader}
	if len(configuration) == 0 {
		return p, nil
	}
	return p, versioned("PodTolerationRestriction", configuration, &p.told, "Configuration", "podtolerationrestriction.admission.k8s.io/v1alpha1")
}

// Mutate implements Mutator.
func (p *PodTolerationRestriction) Mutate(ctx context.Context, a *Attempt) error {
	pod, ok := writtenPod(a)
	if !ok {
		return nil
	}
	var more []corev1.Toleration
	if a.Operation == Create {
		said, ok, err := p.annotated(ctx, a, defaultTolerationsAnnotation)
		if err != nil {
			return err
		}
		if more = said; !ok {
			more = p.told.Default
		}
	}
	if podspec.QOSClass(pod) != corev1.PodQOSBestEffort {
		more = append(slices.Clip(more), corev1.Toleration{Key: corev1.TaintNodeMemoryPressure, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule})
	}
	if len(more) > 0 {
		pod.Spec.Tolerations = mergeTolerations(pod.Spec.Tolerations, more)
	}
	return p.Review(ctx, a)
}

// Review implements Reviewer.
func (p *PodTolerationRestriction) Review(ctx context.Context, a *Attempt) error {
	pod, ok := writtenPod(a)
	if !ok || len(pod.Spec.Tolerations) == 0 {
		return nil
	}
	allowed, ok, err := p.annotated(ctx, a, allowedTolerationsAnnotation)
	if err != nil {
		return err
	}
	scope := "namespace"
	if !ok {
		allowed, scope = p.told.Whitelist, "cluster"
	}
	for _, t := range pod.Spec.Tolerations {
		if len(allowed) > 0 && !slices.ContainsFunc(allowed, func(w corev1.Toleration) bool { return covers(&w, &t) }) {
			return fmt.Errorf("pod tolerations (possibly merged with namespace default tolerations) conflict with its %s whitelist", scope)
		}
	}
	return nil
}

// annotated are the tolerations in an annotation of the namespace, and whether
// it is there. An empty one says that there are none.
func (p *PodTolerationRestriction) annotated(ctx context.Context, a *Attempt, key string) (all []corev1.Toleration, ok bool, err error) {
	ns, err := client.Get[*corev1.Namespace](ctx, p.reader, "", a.Request.Namespace)
	if err != nil {
		return nil, false, err
	}
	text, ok := ns.Annotations[key]
	if text == "" {
		return nil, ok, nil
	}
	err = json.Unmarshal([]byte(text), &all)
	return all, all != nil, err
}
