package resource

import (
	"context"

	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/operation"
	"k8s.io/apimachinery/pkg/api/validate"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
)

// DeviceClass names a kind of devices for claims to ask for.
func DeviceClass() *kind.Kind {
	return kind.Declare(kind.Of[resourcev1.DeviceClass]{
		GVK:     resourcev1.SchemeGroupVersion.WithKind("DeviceClass"),
		Plural:  "deviceclasses",
		Cluster: true,
		ValidateName: func(name string, prefix bool) []string {
			if prefix { // by declared rules, which know no generateName
				return nil
			}
			return apivalidation.NameIsDNSSubdomain(name, false)
		},
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
	return append(errs, validate.ExtendedResourceName(context.Background(), operation.Operation{}, spec.Child("extendedResourceName"), c.Spec.ExtendedResourceName, nil)...)
}
