// Package node declares the kinds of node.k8s.io. Nodes themselves are in
// core.
package node

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	"k8s.io/apimachinery/pkg/api/validate/content"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
	"sampan/cluster/kind/podspec"
)

// Kinds is the table of this group.
func Kinds() []*kind.Kind { return []*kind.Kind{RuntimeClass()} }

// RuntimeClass names a way in which nodes run containers, what that costs, and
// on which nodes it is there.
func RuntimeClass() *kind.Kind {
	return kind.Declare(kind.Of[nodev1.RuntimeClass]{
		GVK:            nodev1.SchemeGroupVersion.WithKind("RuntimeClass"),
		Plural:         "runtimeclasses",
		AnyFinalizer:   true,
		Rechecked:      true,
		Cluster:        true,
		CreateOnUpdate: true,
		Conditional:    true,
		Validate:       validateRuntimeClass,
		Columns: []kind.Column[nodev1.RuntimeClass]{
			{Name: "Handler", Description: metav1.ObjectMeta{}.SwaggerDoc()["handler"], // empty, as upstream's
				Cell: func(c *nodev1.RuntimeClass, _ time.Time) any { return c.Handler }},
			kind.Age[nodev1.RuntimeClass](),
		},
	})
}

func validateRuntimeClass(c, old *nodev1.RuntimeClass) (errs field.ErrorList) {
	handler := field.NewPath("handler")
	if c.Handler == "" {
		errs = append(errs, field.Required(handler, ""))
	} else {
		label := content.IsDNS1123Label // a declared rule: its limit is in bytes
		if old != nil {
			label = validation.IsDNS1123Label // behind the one that it stays as it is
		}
		for _, msg := range label(c.Handler) {
			errs = append(errs, field.Invalid(handler, c.Handler, msg))
		}
	}
	if c.Overhead != nil {
		errs = append(errs, podspec.ValidateAmounts(&corev1.ResourceRequirements{Limits: c.Overhead.PodFixed}, field.NewPath("overhead"))...)
	}
	if s := c.Scheduling; s != nil {
		errs = append(errs, scheduling(s, field.NewPath("scheduling"))...)
	}
	if old != nil {
		errs = append(errs, kind.Declared(c.Handler, old.Handler, handler)...)
	}
	return errs
}

func scheduling(s *nodev1.Scheduling, path *field.Path) (errs field.ErrorList) {
	errs = append(errs, metav1validation.ValidateLabels(s.NodeSelector, path.Child("nodeSelector"))...)
	tolerations := path.Child("tolerations")
	errs = append(errs, podspec.ValidateTolerations(s.Tolerations, tolerations)...)
	seen := map[corev1.Toleration]bool{}
	for i, t := range s.Tolerations {
		key := corev1.Toleration{Key: t.Key, Operator: t.Operator, Value: t.Value, Effect: t.Effect}
		if seen[key] {
			errs = append(errs, field.Duplicate(tolerations.Index(i), t))
		}
		seen[key] = true
	}
	return errs
}
