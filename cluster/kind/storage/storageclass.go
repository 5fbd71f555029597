package storage

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
)

// DefaultClass is the annotation of the class that claims without one get.
const DefaultClass = "storageclass.kubernetes.io/is-default-class"

// betaDefaultClass is its predecessor, which kubectl still shows.
const betaDefaultClass = "storageclass.beta.kubernetes.io/is-default-class"

// StorageClass says how volumes are made for the claims that name it.
func StorageClass() *kind.Kind {
	doc := storagev1.StorageClass{}.SwaggerDoc()
	return kind.Declare(kind.Of[storagev1.StorageClass]{
		GVK:       storagev1.SchemeGroupVersion.WithKind("StorageClass"),
		Plural:    "storageclasses",
		Rechecked: true,
		Short:     []string{"sc"},
		Cluster:   true,
		Default:   defaultStorageClass,
		Validate:  validateStorageClass,
		Ignored:   kind.Paths("", StorageClassGaps),

		ReturnDeleted: true, // as upstream
		Columns: []kind.Column[storagev1.StorageClass]{
			{Name: "Name", Format: "name", Description: metav1.ObjectMeta{}.SwaggerDoc()["name"],
				Cell: func(c *storagev1.StorageClass, _ time.Time) any { return nameCell(c) }},
			{Name: "Provisioner", Description: doc["provisioner"],
				Cell: func(c *storagev1.StorageClass, _ time.Time) any { return c.Provisioner }},
			{Name: "ReclaimPolicy", Description: doc["reclaimPolicy"],
				Cell: func(c *storagev1.StorageClass, _ time.Time) any {
					if c.ReclaimPolicy == nil {
						return string(corev1.PersistentVolumeReclaimDelete)
					}
					return string(*c.ReclaimPolicy)
				}},
			{Name: "VolumeBindingMode", Description: doc["volumeBindingMode"],
				Cell: func(c *storagev1.StorageClass, _ time.Time) any {
					if c.VolumeBindingMode == nil {
						return string(storagev1.VolumeBindingImmediate)
					}
					return string(*c.VolumeBindingMode)
				}},
			{Name: "AllowVolumeExpansion", Description: doc["allowVolumeExpansion"],
				Cell: func(c *storagev1.StorageClass, _ time.Time) any {
					return c.AllowVolumeExpansion != nil && *c.AllowVolumeExpansion
				}},
			kind.Age[storagev1.StorageClass](),
		},
	})
}

func nameCell(c *storagev1.StorageClass) string {
	if c.Annotations[DefaultClass] == "true" || c.Annotations[betaDefaultClass] == "true" {
		return c.Name + " (default)"
	}
	return c.Name
}

func defaultStorageClass(c *storagev1.StorageClass) {
	if c.ReclaimPolicy == nil {
		policy := corev1.PersistentVolumeReclaimDelete
		c.ReclaimPolicy = &policy
	}
	if c.VolumeBindingMode == nil {
		mode := storagev1.VolumeBindingImmediate
		c.VolumeBindingMode = &mode
	}
}

func validateStorageClass(c, old *storagev1.StorageClass) (errs field.ErrorList) {
	path := func(name string) *field.Path { return field.NewPath(name) }
	errs = append(errs, provisioner(c.Provisioner, path("provisioner"))...)
	errs = append(errs, parameters(c.Parameters, false, path("parameters"))...)
	if c.ReclaimPolicy != nil {
		errs = append(errs, kind.OneOfIfSet(*c.ReclaimPolicy, path("reclaimPolicy"),
			corev1.PersistentVolumeReclaimDelete, corev1.PersistentVolumeReclaimRetain)...)
	}
	if c.VolumeBindingMode == nil {
		errs = append(errs, field.Required(path("volumeBindingMode"), ""))
	} else if m := *c.VolumeBindingMode; m != storagev1.VolumeBindingImmediate && m != storagev1.VolumeBindingWaitForFirstConsumer {
		errs = append(errs, field.NotSupported(path("volumeBindingMode"), m, []storagev1.VolumeBindingMode{
			storagev1.VolumeBindingImmediate, storagev1.VolumeBindingWaitForFirstConsumer}))
	}
	errs = append(errs, topologies(c.AllowedTopologies, path("allowedTopologies"))...)
	if old != nil {
		errs = append(errs, kind.Declared(c.Parameters, old.Parameters, path("parameters"))...)
		errs = append(errs, kind.Declared(c.Provisioner, old.Provisioner, path("provisioner"))...)
		errs = append(errs, kind.Declared(c.ReclaimPolicy, old.ReclaimPolicy, path("reclaimPolicy"))...)
		errs = append(errs, kind.Declared(c.VolumeBindingMode, old.VolumeBindingMode, path("volumeBindingMode"))...)
	}
	return errs
}

// topologies checks the places where volumes may be made; no two may say the
// same.
func topologies(terms []corev1.TopologySelectorTerm, path *field.Path) (errs field.ErrorList) {
	before := make([]map[string]map[string]bool, len(terms)) // so that an empty term is there twice: upstream's slip
	for i, term := range terms {
		exprs, said := path.Index(i).Child("matchLabelExpressions"), map[string]map[string]bool{}
		for j, r := range term.MatchLabelExpressions {
			at, values := exprs.Index(j), map[string]bool{}
			if len(r.Values) == 0 {
				errs = append(errs, field.Required(at.Child("values"), ""))
			}
			for k, v := range r.Values {
				if values[v] {
					errs = append(errs, field.Duplicate(at.Child("values").Index(k), v))
				}
				values[v] = true
			}
			errs = append(errs, metav1validation.ValidateLabelName(r.Key, at.Child("key"))...)
			if _, twice := said[r.Key]; twice {
				errs = append(errs, field.Duplicate(at.Child("key"), r.Key))
			}
			said[r.Key] = values
		}
		for _, b := range before {
			if kind.Equal(b, said) {
				errs = append(errs, field.Duplicate(exprs, ""))
				break
			}
		}
		before = append(before, said)
	}
	return errs
}
