package apps

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
)

// ControllerRevision is one past state of a workload, kept for roll-back.
func ControllerRevision() *kind.Kind {
	return kind.Declare(kind.Of[appsv1.ControllerRevision]{
		GVK:       appsv1.SchemeGroupVersion.WithKind("ControllerRevision"),
		Plural:    "controllerrevisions",
		Rechecked: true,
		Validate:  validateRevision,
		Columns: []kind.Column[appsv1.ControllerRevision]{
			{Name: "Controller", Description: "Controller of the object",
				Cell: func(r *appsv1.ControllerRevision, _ time.Time) any { return controllerCell(r) }},
			{Name: "Revision", Description: appsv1.ControllerRevision{}.SwaggerDoc()["revision"],
				Cell: func(r *appsv1.ControllerRevision, _ time.Time) any { return r.Revision }},
			kind.Age[appsv1.ControllerRevision](),
		},
	})
}

// validateRevision looks at what the data are only once: they do not change.
func validateRevision(r, old *appsv1.ControllerRevision) (errs field.ErrorList) {
	errs = kind.NotNegative(r.Revision, field.NewPath("revision"))
	data := field.NewPath("data")
	if old != nil {
		return append(errs, kind.Immutable(r.Data, old.Data, data)...)
	}
	raw := bytes.TrimSpace(r.Data.Raw)
	switch {
	case len(raw) == 0 && r.Data.Object == nil || string(raw) == "null":
		errs = append(errs, field.Required(data, "data is mandatory"))
	case len(raw) > 0 && raw[0] != '{':
		errs = append(errs, field.Required(data, "data must be a valid JSON object"))
	}
	return errs
}

func controllerCell(r *appsv1.ControllerRevision) string {
	owner := metav1.GetControllerOf(r)
	if owner == nil {
		return "<none>"
	}
	group := ""
	if g, _, ok := strings.Cut(owner.APIVersion, "/"); ok {
		group = "." + g
	}
	return fmt.Sprintf("%s%s/%s", strings.ToLower(owner.Kind), group, owner.Name)
}
