package podspec

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

const maxInt32 = 1<<31 - 1

func between(a, b int) string                                              { return "" }
func equal(a, b any) bool                                                  { return equality.Semantic.DeepEqual(a, b) }
func annotations(a map[string]string, path *field.Path) field.ErrorList    { return nil }
func metadata(t *corev1.PodTemplateSpec, path *field.Path) field.ErrorList { return nil }
func validateVolumes(s *corev1.PodSpec, path *field.Path) (map[string]*corev1.VolumeSource, field.ErrorList) {
	return nil, nil
}
func validateContainers(s *corev1.PodSpec, volumes map[string]*corev1.VolumeSource, path *field.Path) field.ErrorList {
	return nil
}
func validateDNS(s *corev1.PodSpec, path *field.Path) field.ErrorList                   { return nil }
func validateNames(s *corev1.PodSpec, o options, path *field.Path) field.ErrorList      { return nil }
func validatePodSecurity(s *corev1.PodSpec, path *field.Path) field.ErrorList           { return nil }
func validateHost(s *corev1.PodSpec, path *field.Path) field.ErrorList                  { return nil }
func validateScheduling(s *corev1.PodSpec, o options, path *field.Path) field.ErrorList { return nil }
func validatePodResources(s *corev1.PodSpec, path *field.Path) field.ErrorList          { return nil }
func ValidateQuantity(name corev1.ResourceName, q resource.Quantity, path *field.Path) field.ErrorList {
	return nil
}
