// Package podspec holds the rules of pods and pod templates, a file per idea:
// what is filled in (defaults.go), what must be right (containers, volumes,
// probes, resources, security …), and what of a pod may change (update.go).
//
// Messages, field paths and reasons are upstream's (Kubernetes 1.37). The
// functions are pure; podspec knows no store, no node and no controller.
package podspec

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// ValidatePod reports every fault of a pod and, on update (old is not nil),
// every change that is not allowed.
func ValidatePod(p, old *corev1.Pod) (errs field.ErrorList) {
	if old != nil {
		return validateUpdate(p, old)
	}
	spec := field.NewPath("spec")
	errs = append(errs, annotations(p.Annotations, field.NewPath("metadata", "annotations"))...)
	errs = append(errs, validateSpec(&p.Spec, options{}, spec)...)
	errs = append(errs, onlyForPods(&p.Spec, spec)...)
	if len(p.Spec.EphemeralContainers) > 0 {
		errs = append(errs, field.Forbidden(spec.Child("ephemeralContainers"), "cannot be set on create"))
	}
	if len(p.Spec.SchedulingGates) > 0 && p.Spec.NodeName != "" {
		errs = append(errs, field.Forbidden(spec.Child("nodeName"), "cannot be set until all schedulingGates have been cleared"))
	}
	return errs
}

// ValidateTemplate reports the faults of a workload's pod template. A template
// that has not changed is not reported again, whatever it says: rules grow
// stricter, and a controller must still be able to scale it.
func ValidateTemplate(t, old *corev1.PodTemplateSpec, path *field.Path) (errs field.ErrorList) {
	if old != nil && equal(t, old) {
		return nil
	}
	errs = append(errs, metadata(t, path)...)
	errs = append(errs, annotations(t.Annotations, path.Child("annotations"))...)
	spec := path.Child("spec")
	errs = append(errs, validateSpec(&t.Spec, options{template: true}, spec)...)
	if len(t.Spec.EphemeralContainers) > 0 {
		errs = append(errs, field.Forbidden(spec.Child("ephemeralContainers"), "ephemeral containers not allowed in pod template"))
	}
	return errs
}

// options say where a spec is met.
type options struct{ template bool }

// onlyForPods are rules that came too late for templates, which must stay
// what they were.
func onlyForPods(s *corev1.PodSpec, path *field.Path) (errs field.ErrorList) {
	if s.ServiceAccountName == "" {
		for i, v := range s.Volumes {
			if v.Projected == nil {
				continue
			}
			for j, source := range v.Projected.Sources {
				if source.ServiceAccountToken != nil {
					errs = append(errs, field.Forbidden(path.Child("volumes").Index(i).Child("projected", "sources").Index(j).Child("serviceAccountToken"),
						"must not be specified when serviceAccountName is not set"))
				}
			}
		}
	}
	trimmed := func(ref string, at *field.Path) {
		if strings.TrimSpace(ref) != ref {
			errs = append(errs, field.Invalid(at.Child("image"), ref, "must not have leading or trailing whitespace"))
		}
	}
	for i := range s.Containers {
		trimmed(s.Containers[i].Image, path.Child("containers").Index(i))
	}
	for i := range s.InitContainers {
		trimmed(s.InitContainers[i].Image, path.Child("initContainers").Index(i))
	}
	for i := range s.EphemeralContainers {
		trimmed(s.EphemeralContainers[i].Image, path.Child("ephemeralContainers").Index(i))
	}
	return errs
}

// validateSpec checks what pods and templates have in common.
func validateSpec(s *corev1.PodSpec, o options, path *field.Path) (errs field.ErrorList) {
	if n := s.TerminationGracePeriodSeconds; n == nil {
		errs = append(errs, field.Required(path.Child("terminationGracePeriodSeconds"), ""))
	}
	volumes, e := validateVolumes(s, path.Child("volumes"))
	errs = append(errs, e...)
	errs = append(errs, validateContainers(s, volumes, path)...)
	errs = append(errs, restartPolicy(s, path.Child("restartPolicy"))...)
	errs = append(errs, validateDNS(s, path)...)
	errs = append(errs, validateNames(s, path)...)
	errs = append(errs, validatePodSecurity(s, path.Child("securityContext"))...)
	errs = append(errs, validateHost(s, path)...)
	errs = append(errs, validateScheduling(s, o, path)...)
	errs = append(errs, validatePodResources(s, path)...)
	if n := s.ActiveDeadlineSeconds; n != nil && (*n < 1 || *n > maxInt32) {
		errs = append(errs, field.Invalid(path.Child("activeDeadlineSeconds"), *n, between(1, maxInt32)))
	}
	return errs
}

func restartPolicy(s *corev1.PodSpec, path *field.Path) field.ErrorList {
	switch s.RestartPolicy {
	case corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever:
		return nil
	case "":
		return field.ErrorList{field.Required(path, "")}
	}
	return field.ErrorList{field.NotSupported(path, s.RestartPolicy,
		[]corev1.RestartPolicy{corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever})}
}
