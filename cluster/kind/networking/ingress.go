package networking

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
)

// classAnnotation is the predecessor of spec.ingressClassName.
const classAnnotation = "kubernetes.io/ingress.class"

// Ingress says which requests from outside go to which services.
func Ingress() *kind.Kind {
	return kind.Declare(kind.Of[networkingv1.Ingress]{
		GVK:       networkingv1.SchemeGroupVersion.WithKind("Ingress"),
		Plural:    "ingresses",
		Rechecked: true,
		Short:     []string{"ing"},
		Prefix:    "ingress", // upstream's, from before the group moved
		Validate:  validateIngress,
		Warn: func(i, old *networkingv1.Ingress) []string {
			if _, ok := i.Annotations[classAnnotation]; ok && old == nil && i.Spec.IngressClassName == nil {
				return []string{fmt.Sprintf("annotation %q is deprecated, please use 'spec.ingressClassName' instead", classAnnotation)}
			}
			return nil
		},
		Spec: func(i *networkingv1.Ingress) any { return &i.Spec },
		Parts: map[string]kind.Part[networkingv1.Ingress]{
			"status": {
				Take:         func(dst, src *networkingv1.Ingress) { dst.Status = src.Status },
				WithMetadata: true,
				Validate:     validateIngressStatus,
			},
		},
		Columns: []kind.Column[networkingv1.Ingress]{
			{Name: "Class", Description: "The name of the IngressClass resource that should be used for additional configuration",
				Cell: func(i *networkingv1.Ingress, _ time.Time) any {
					if i.Spec.IngressClassName == nil {
						return "<none>"
					}
					return *i.Spec.IngressClassName
				}},
			{Name: "Hosts", Description: "Hosts that incoming requests are matched against before the ingress rule",
				Cell: func(i *networkingv1.Ingress, _ time.Time) any { return hostsCell(i.Spec.Rules) }},
			{Name: "Address", Description: "Address is a list containing ingress points for the load-balancer",
				Cell: func(i *networkingv1.Ingress, _ time.Time) any { return addressCell(i.Status.LoadBalancer.Ingress) }},
			{Name: "Ports", Description: "Ports of TLS configurations that open",
				Cell: func(i *networkingv1.Ingress, _ time.Time) any {
					if len(i.Spec.TLS) > 0 {
						return "80, 443"
					}
					return "80"
				}},
			kind.Age[networkingv1.Ingress](),
		},
	})
}

func hostsCell(rules []networkingv1.IngressRule) string {
	const most = 3
	var hosts []string
	more := false
	for _, r := range rules {
		if len(hosts) == most {
			more = true
			break
		}
		if r.Host != "" {
			hosts = append(hosts, r.Host)
		}
	}
	if len(hosts) == 0 {
		return "*"
	}
	text := strings.Join(hosts, ",")
	if more {
		text += fmt.Sprintf(" + %d more...", len(rules)-most)
	}
	return text
}

func addressCell(all []networkingv1.IngressLoadBalancerIngress) string {
	const width = 16
	var points []string
	for _, a := range all {
		if a.IP != "" {
			points = append(points, a.IP)
		} else if a.Hostname != "" {
			points = append(points, a.Hostname)
		}
	}
	slices.Sort(points)
	text := strings.Join(slices.Compact(points), ",")
	if len(text) > width {
		text = text[:width-3] + "..."
	}
	return text
}

func validateIngress(i, old *networkingv1.Ingress) (errs field.ErrorList) {
	spec, s := field.NewPath("spec"), &i.Spec
	if len(s.Rules) == 0 && s.DefaultBackend == nil {
		errs = append(errs, field.Invalid(spec, s.Rules, "either `defaultBackend` or `rules` must be specified"))
	}
	if s.DefaultBackend != nil {
		errs = append(errs, backend(s.DefaultBackend, spec.Child("defaultBackend"))...)
	}
	// What was stored before a rule came stays as it is.
	oldWildcards := old != nil && slices.ContainsFunc(old.Spec.Rules, func(r networkingv1.IngressRule) bool {
		return strings.Contains(r.Host, "*") && len(httpRule(r.HTTP, nil)) > 0
	})
	for n := range s.Rules {
		r, at := &s.Rules[n], spec.Child("rules").Index(n)
		wildcard := strings.Contains(r.Host, "*")
		if r.Host != "" {
			errs = append(errs, host(r.Host, at.Child("host"))...)
		}
		if !wildcard || !oldWildcards {
			errs = append(errs, httpRule(r.HTTP, at.Child("http"))...)
		}
	}
	errs = append(errs, ingressTLS(s.TLS, old, spec.Child("tls"))...)
	if s.IngressClassName != nil {
		for _, msg := range apivalidation.NameIsDNSSubdomain(*s.IngressClassName, false) {
			errs = append(errs, field.Invalid(spec.Child("ingressClassName"), *s.IngressClassName, msg))
		}
	}
	if class, ok := i.Annotations[classAnnotation]; ok && old == nil && s.IngressClassName != nil && class != *s.IngressClassName {
		errs = append(errs, field.Invalid(field.NewPath("annotations").Child(classAnnotation), class, "must match `ingressClassName` when both are specified"))
	}
	return errs
}

func host(s string, path *field.Path) (errs field.ErrorList) {
	if _, err := netip.ParseAddr(s); err == nil {
		errs = append(errs, field.Invalid(path, s, "must be a DNS name, not an IP address"))
	}
	return append(errs, dnsName(s, path)...)
}

func dnsName(s string, path *field.Path) (errs field.ErrorList) {
	check := validation.IsDNS1123Subdomain
	if strings.Contains(s, "*") {
		check = validation.IsWildcardDNS1123Subdomain
	}
	for _, msg := range check(s) {
		errs = append(errs, field.Invalid(path, s, msg))
	}
	return errs
}

func ingressTLS(all []networkingv1.IngressTLS, old *networkingv1.Ingress, path *field.Path) (errs field.ErrorList) {
	badSecret := func(t networkingv1.IngressTLS) bool {
		return t.SecretName != "" && len(apivalidation.NameIsDNSSubdomain(t.SecretName, false)) > 0
	}
	for i, t := range all {
		for j, name := range t.Hosts {
			errs = append(errs, dnsName(name, path.Index(i).Child("hosts").Index(j))...)
		}
		if badSecret(t) && (old == nil || !slices.ContainsFunc(old.Spec.TLS, badSecret)) {
			errs = append(errs, kind.DNSSubdomain(t.SecretName, path.Index(i).Child("secretName"))...)
		}
	}
	return errs
}

func httpRule(h *networkingv1.HTTPIngressRuleValue, path *field.Path) (errs field.ErrorList) {
	if h == nil {
		return nil
	}
	if len(h.Paths) == 0 {
		errs = append(errs, field.Required(path.Child("paths"), ""))
	}
	for i := range h.Paths {
		errs = append(errs, httpPath(&h.Paths[i], path.Child("paths").Index(i))...)
	}
	return errs
}

func httpPath(p *networkingv1.HTTPIngressPath, path *field.Path) (errs field.ErrorList) {
	if p.PathType == nil {
		return field.ErrorList{field.Required(path.Child("pathType"), "pathType must be specified")}
	}
	at := path.Child("path")
	absolute := func() {
		if !strings.HasPrefix(p.Path, "/") {
			errs = append(errs, field.Invalid(at, p.Path, "must be an absolute path"))
		}
	}
	switch *p.PathType {
	case networkingv1.PathTypeExact, networkingv1.PathTypePrefix:
		absolute()
		for _, bad := range []string{"//", "/./", "/../", "%2f", "%2F"} {
			if strings.Contains(p.Path, bad) {
				errs = append(errs, field.Invalid(at, p.Path, fmt.Sprintf("must not contain '%s'", bad)))
			}
		}
		for _, bad := range []string{"/..", "/."} {
			if strings.HasSuffix(p.Path, bad) {
				errs = append(errs, field.Invalid(at, p.Path, fmt.Sprintf("cannot end with '%s'", bad)))
			}
		}
	case networkingv1.PathTypeImplementationSpecific:
		if p.Path != "" {
			absolute()
		}
	default:
		errs = append(errs, field.NotSupported(path.Child("pathType"), *p.PathType, []networkingv1.PathType{
			networkingv1.PathTypeExact, networkingv1.PathTypeImplementationSpecific, networkingv1.PathTypePrefix}))
	}
	return append(errs, backend(&p.Backend, path.Child("backend"))...)
}

func backend(b *networkingv1.IngressBackend, path *field.Path) (errs field.ErrorList) {
	switch {
	case b.Resource != nil && b.Service != nil:
		return field.ErrorList{field.Invalid(path, "", "cannot set both resource and service backends")}
	case b.Resource != nil:
		at := path.Child("resource")
		if b.Resource.APIGroup != nil {
			errs = append(errs, kind.DNSSubdomain(*b.Resource.APIGroup, at.Child("apiGroup"))...)
		}
		errs = append(errs, segment(b.Resource.Kind, at.Child("kind"))...)
		return append(errs, segment(b.Resource.Name, at.Child("name"))...)
	case b.Service == nil:
		return field.ErrorList{field.Invalid(path, "", "resource or service backend is required")}
	}
	service := path.Child("service")
	if b.Service.Name == "" {
		errs = append(errs, field.Required(service.Child("name"), ""))
	} else {
		errs = append(errs, kind.DNSLabel(b.Service.Name, service.Child("name"))...)
	}
	switch p := b.Service.Port; {
	case p.Name != "" && p.Number != 0:
		errs = append(errs, field.Invalid(path, "", "cannot set both port name & port number"))
	case p.Name != "":
		for _, msg := range validation.IsValidPortName(p.Name) {
			errs = append(errs, field.Invalid(service.Child("port", "name"), p.Name, msg))
		}
	case p.Number != 0:
		errs = append(errs, kind.Port(p.Number, service.Child("port", "number"))...)
	default:
		errs = append(errs, field.Required(path, "port name or number is required"))
	}
	return errs
}

func validateIngressStatus(i, old *networkingv1.Ingress) (errs field.ErrorList) {
	var before []string
	if old != nil {
		for _, a := range old.Status.LoadBalancer.Ingress {
			before = append(before, a.IP)
		}
	}
	for n, a := range i.Status.LoadBalancer.Ingress {
		at := field.NewPath("status", "loadBalancer", "ingress").Index(n)
		if a.IP != "" {
			errs = append(errs, validation.IsValidIPForLegacyField(at.Child("ip"), a.IP, true, before)...)
		}
		if a.Hostname != "" {
			errs = append(errs, kind.DNSSubdomain(a.Hostname, at.Child("hostname"))...)
			if _, err := netip.ParseAddr(a.Hostname); err == nil {
				errs = append(errs, field.Invalid(at.Child("hostname"), a.Hostname, "must be a DNS name, not an IP address"))
			}
		}
	}
	return errs
}
