package networking

import (
	"strings"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/validate/content"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
)

// IPAddress says who has an address of the service range. The address is the
// object's name.
func IPAddress() *kind.Kind {
	return kind.Declare(kind.Of[networkingv1.IPAddress]{
		GVK:          networkingv1.SchemeGroupVersion.WithKind("IPAddress"),
		Plural:       "ipaddresses",
		Short:        []string{"ip"},
		Cluster:      true,
		ValidateName: addressName,
		Validate:     validateAddress,
		Columns: []kind.Column[networkingv1.IPAddress]{
			{Name: "ParentRef", Description: networkingv1.IPAddressSpec{}.SwaggerDoc()["parentRef"],
				Cell: func(a *networkingv1.IPAddress, _ time.Time) any { return parentCell(a.Spec.ParentRef) }},
			kind.Age[networkingv1.IPAddress](),
		},
	})
}

func addressName(name string, _ bool) (msgs []string) {
	for _, err := range validation.IsValidIP(&field.Path{}, name) {
		msgs = append(msgs, err.Detail)
	}
	return msgs
}

func parentCell(p *networkingv1.ParentReference) string {
	if p == nil {
		return "<none>"
	}
	text := strings.ToLower(schema.GroupResource{Group: p.Group, Resource: p.Resource}.String())
	if p.Namespace != "" {
		text += "/" + p.Namespace
	}
	return text + "/" + p.Name
}

func validateAddress(a, old *networkingv1.IPAddress) (errs field.ErrorList) {
	path, p := field.NewPath("spec", "parentRef"), a.Spec.ParentRef
	if p == nil {
		errs = append(errs, field.Required(path, ""))
	} else {
		if p.Group != "" {
			errs = append(errs, kind.DNSSubdomain(p.Group, path.Child("group"))...)
		}
		errs = append(errs, segment(p.Resource, path.Child("resource"))...)
		errs = append(errs, segment(p.Name, path.Child("name"))...)
		if p.Namespace != "" {
			for _, msg := range content.IsPathSegmentName(p.Namespace) {
				errs = append(errs, field.Invalid(path.Child("namespace"), p.Namespace, msg))
			}
		}
	}
	if old != nil {
		errs = append(errs, kind.Declared(p, old.Spec.ParentRef, path)...)
	}
	return errs
}
