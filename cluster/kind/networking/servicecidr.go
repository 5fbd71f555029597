package networking

import (
	"net/netip"
	"strings"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
)

// ServiceCIDR is a range of addresses for services.
func ServiceCIDR() *kind.Kind {
	return kind.Declare(kind.Of[networkingv1.ServiceCIDR]{
		GVK:      networkingv1.SchemeGroupVersion.WithKind("ServiceCIDR"),
		Plural:   "servicecidrs",
		Cluster:  true,
		Validate: validateCIDRs,
		Parts: map[string]kind.Part[networkingv1.ServiceCIDR]{
			"status": {
				Take: func(dst, src *networkingv1.ServiceCIDR) { dst.Status = src.Status },
			},
		},
		Columns: []kind.Column[networkingv1.ServiceCIDR]{
			{Name: "CIDRs", Description: networkingv1.ServiceCIDRSpec{}.SwaggerDoc()["cidrs"],
				Cell: func(c *networkingv1.ServiceCIDR, _ time.Time) any { return strings.Join(c.Spec.CIDRs, ",") }},
			kind.Age[networkingv1.ServiceCIDR](),
		},
	})
}

func validateCIDRs(c, old *networkingv1.ServiceCIDR) (errs field.ErrorList) {
	path, now := field.NewPath("spec", "cidrs"), c.Spec.CIDRs
	if old == nil {
		return cidrs(&c.Spec, path)
	}
	was := old.Spec.CIDRs
	same := func(i int) {
		if now[i] != was[i] {
			errs = append(errs, field.Invalid(path.Index(i), now[i], "field is immutable"))
		}
	}
	switch {
	case len(now) == len(was):
		for i := range was {
			same(i)
		}
	case len(was) == 1 && len(now) == 2: // the other family may come later
		same(0)
		errs = append(errs, cidrs(&c.Spec, path)...)
	default:
		errs = append(errs, field.Invalid(path, now, "field is immutable"))
	}
	return errs
}

func cidrs(s *networkingv1.ServiceCIDRSpec, path *field.Path) (errs field.ErrorList) {
	switch {
	case len(s.CIDRs) == 0:
		return field.ErrorList{field.Required(path, "at least one CIDR required")}
	case len(s.CIDRs) > 2:
		return field.ErrorList{field.Invalid(path, s, "may only hold up to 2 values")}
	}
	var families []bool
	for i, text := range s.CIDRs {
		errs = append(errs, validation.IsValidCIDR(path.Index(i), text)...)
		if p, err := netip.ParsePrefix(text); err == nil {
			families = append(families, p.Addr().Is4())
		}
	}
	if len(families) == 2 && families[0] == families[1] {
		errs = append(errs, field.Invalid(path, s.CIDRs, "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64"))
	}
	return errs
}
