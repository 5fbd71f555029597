// Package networking declares the kinds of networking.k8s.io, a file per kind:
// how traffic enters the cluster, which of it pods take, and the addresses of
// services.
package networking

import (
	"k8s.io/apimachinery/pkg/api/validate/content"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
)

// Kinds is the table of this group.
func Kinds() []*kind.Kind {
	return []*kind.Kind{
		Ingress(),
		IngressClass(),
		IPAddress(),
		NetworkPolicy(),
		ServiceCIDR(),
	}
}

// segment checks a required name that has to fit into a URL.
func segment(s string, path *field.Path) (errs field.ErrorList) {
	if s == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	for _, msg := range content.IsPathSegmentName(s) {
		errs = append(errs, field.Invalid(path, s, msg))
	}
	return errs
}
