package resource

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
)

// DeviceClass names a kind of devices for claims to ask for.
func DeviceClass() *kind.Kind {
	return kind.Declare(kind.Of[resourcev1.DeviceClass]{
		GVK:      resourcev1.SchemeGroupVersion.WithKind("DeviceClass"),
		Plural:   "deviceclasses",
		Cluster:  true,
		Validate: validateDeviceClass,
		Ignored:  kind.Paths("", DeviceClassGaps),
		Spec:     func(c *resourcev1.DeviceClass) any { return &c.Spec },

		ReturnDeleted: true, // as upstream
		Columns:       []kind.Column[resourcev1.DeviceClass]{kind.Age[resourcev1.DeviceClass]()},
	})
}

func validateDeviceClass(c, old *resourcev1.DeviceClass) (errs field.ErrorList) {
	spec := field.NewPath("spec")
	storedSelectors := old != nil && kind.Equal(c.Spec.Selectors, old.Spec.Selectors)
	storedConfig := old != nil && kind.Equal(c.Spec.Config, old.Spec.Config)
	errs = append(errs, selectors(c.Spec.Selectors, storedSelectors, spec.Child("selectors"))...)
	errs = append(errs, each(c.Spec.Config, resourcev1.DeviceConfigMaxSize, func(c *resourcev1.DeviceClassConfiguration, path *field.Path) field.ErrorList {
		return configuration(&c.DeviceConfiguration, storedConfig, path)
	}, spec.Child("config"))...)
	if name := c.Spec.ExtendedResourceName; name != nil && !extendedResource(*name) {
		errs = append(errs, field.Invalid(spec.Child("extendedResourceName"), *name, "must be a valid extended resource name").
			WithOrigin("format=k8s-extended-resource-name"))
	}
	return errs
}

// extendedResource is true for a name with a domain that is not Kubernetes'
// own, and that a quota can count.
func extendedResource(name string) bool {
	return strings.Contains(name, "/") && !strings.Contains(name, corev1.ResourceDefaultNamespacePrefix) &&
		!strings.HasPrefix(name, corev1.DefaultResourceRequestsPrefix) &&
		len(validation.IsQualifiedName(corev1.DefaultResourceRequestsPrefix+name)) == 0
}
