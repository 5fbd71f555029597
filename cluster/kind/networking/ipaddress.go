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
		Rechecked:    true,
		Short:        []string{"ip"},
		Cluster:      true,
		ValidateName: addressName,
		Validate:     validateAddress,
		Columns: []kind.Column[networkingv1.IPAddress]{
			{Name: "ParentRef", Description: networkingv1.IPAddressSpec{}.SwaggerDoc()["parentRef"],
				Cell: func(a *networkingv1.IPAddress, _ time.Time) any { return parentCell(a.Spec.ParentRef) }},
			kind.Age[networkingv1.IPAddress](),
		},
		Indexes: map[string]func(*networkingv1.IPAddress) []string{
			ParentIndex: func(a *networkingv1.IPAddress) []string {
				if p := a.Spec.ParentRef; p != nil && p.Group == "" {
					return []string{Parent(p.Resource, p.Namespace, p.Name)}
				}
				return nil
			},
			ForeignIndex: func(a *networkingv1.IPAddress) []string {
				if !Allocated(a) {
					return []string{"true"}
				}
				return nil
			},
		},
	})
}

// Allocator is whose the addresses are that were given to services: the value of
// their label managed-by, upstream's.
const Allocator = "ipallocator.k8s.io"

// Allocated says whether an address belongs to a service that was given it.
func Allocated(a *networkingv1.IPAddress) bool {
	return a.Labels[networkingv1.LabelManagedBy] == Allocator
}

const (
	// ParentIndex looks addresses up by Parent.
	ParentIndex = "parent"

	// ForeignIndex has the addresses as "true" that are not Allocated.
	ForeignIndex = "foreign"
)

// Parent names who has an address, an object of the group "".
func Parent(resource, namespace, name string) string { return resource + "/" + namespace + "/" + name }

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
