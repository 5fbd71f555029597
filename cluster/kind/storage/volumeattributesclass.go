package storage

import (
	"reflect"
	"time"

	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
)

// VolumeAttributesClass names properties of a volume that may change while it
// is in use.
func VolumeAttributesClass() *kind.Kind {
	return kind.Declare(kind.Of[storagev1.VolumeAttributesClass]{
		GVK:       storagev1.SchemeGroupVersion.WithKind("VolumeAttributesClass"),
		Plural:    "volumeattributesclasses",
		Rechecked: true,
		Short:     []string{"vac"},
		Cluster:   true,
		Validate:  validateAttributes,
		Ignored:   kind.Paths("", AttributesGaps),

		ReturnDeleted: true, // as upstream
		Columns: []kind.Column[storagev1.VolumeAttributesClass]{
			{Name: "DriverName", Description: storagev1.VolumeAttributesClass{}.SwaggerDoc()["driverName"],
				Cell: func(c *storagev1.VolumeAttributesClass, _ time.Time) any { return c.DriverName }},
			kind.Age[storagev1.VolumeAttributesClass](),
		},
	})
}

func validateAttributes(c, old *storagev1.VolumeAttributesClass) (errs field.ErrorList) {
	driver, params := field.NewPath("driverName"), field.NewPath("parameters")
	if old != nil {
		if c.DriverName != old.DriverName {
			errs = append(errs, field.Forbidden(driver, "updates to driverName are forbidden."))
		}
		if !reflect.DeepEqual(c.Parameters, old.Parameters) {
			errs = append(errs, field.Forbidden(params, "updates to parameters are forbidden."))
		}
	}
	errs = append(errs, provisioner(c.DriverName, driver)...)
	return append(errs, parameters(c.Parameters, true, params)...)
}
