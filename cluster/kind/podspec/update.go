package podspec

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func validateUpdate(p, old *corev1.Pod) field.ErrorList                     { return nil }
func ValidateStatus(p, old *corev1.Pod) field.ErrorList                     { return nil }
func ValidateEphemeralUpdate(p, old *corev1.Pod) field.ErrorList            { return nil }
func ValidateResize(p, old *corev1.Pod) field.ErrorList                     { return nil }
func TakeResources(dst, src *corev1.Pod)                                    {}
func ValidateBinding(b *corev1.Binding) field.ErrorList                     { return nil }
func Warnings(p, old *corev1.Pod) []string                                  { return nil }
func TemplateWarnings(t *corev1.PodTemplateSpec, path *field.Path) []string { return nil }
func ValidateTaints(t []corev1.Taint, path *field.Path) field.ErrorList     { return nil }
