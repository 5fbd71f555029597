package core

import (
	"bytes"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
)

// ConfigMap holds configuration that pods read as files or variables.
func ConfigMap() *kind.Kind {
	return kind.Declare(kind.Of[corev1.ConfigMap]{
		GVK:       corev1.SchemeGroupVersion.WithKind("ConfigMap"),
		Plural:    "configmaps",
		Rechecked: true,
		Short:     []string{"cm"},
		Validate:  validateConfigMap,
		Columns: []kind.Column[corev1.ConfigMap]{
			{Name: "Data", Description: corev1.ConfigMap{}.SwaggerDoc()["data"],
				Cell: func(c *corev1.ConfigMap, _ time.Time) any { return int64(len(c.Data) + len(c.BinaryData)) }},
			kind.Age[corev1.ConfigMap](),
		},
	})
}

func validateConfigMap(obj, old *corev1.ConfigMap) (errs field.ErrorList) {
	data, binary := field.NewPath("data"), field.NewPath("binaryData")
	total := 0
	for _, key := range slices.Sorted(maps.Keys(obj.Data)) {
		errs = append(errs, dataKey(key, data)...)
		if _, both := obj.BinaryData[key]; both {
			errs = append(errs, field.Invalid(data.Key(key), key, "duplicate of key present in binaryData"))
		}
		total += len(obj.Data[key])
	}
	for _, key := range slices.Sorted(maps.Keys(obj.BinaryData)) {
		errs = append(errs, dataKey(key, binary)...)
		total += len(obj.BinaryData[key])
	}
	if total > corev1.MaxSecretSize {
		errs = append(errs, field.TooLong(field.NewPath(""), "" /* too long to show */, corev1.MaxSecretSize))
	}
	if old != nil && old.Immutable != nil && *old.Immutable {
		errs = append(errs, stillImmutable(obj.Immutable)...)
		if !maps.Equal(obj.Data, old.Data) {
			errs = append(errs, field.Forbidden(data, "field is immutable when `immutable` is set"))
		}
		if !maps.EqualFunc(obj.BinaryData, old.BinaryData, bytes.Equal) {
			errs = append(errs, field.Forbidden(binary, "field is immutable when `immutable` is set"))
		}
	}
	return errs
}

// dataKey checks a key of a ConfigMap or Secret, which becomes a file name.
func dataKey(key string, data *field.Path) (errs field.ErrorList) {
	for _, msg := range utilvalidation.IsConfigMapKey(key) {
		errs = append(errs, field.Invalid(data.Key(key), key, msg))
	}
	return errs
}

// stillImmutable reports that an immutable object may not become mutable.
func stillImmutable(now *bool) field.ErrorList {
	if now != nil && *now {
		return nil
	}
	return field.ErrorList{field.Forbidden(field.NewPath("immutable"), "field is immutable when `immutable` is set")}
}
