package podspec

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
)

// validateNames checks the names a pod has and those it refers to.
func validateNames(s *corev1.PodSpec, path *field.Path) (errs field.ErrorList) {
	subdomain := func(name, of string) {
		if name != "" {
			errs = append(errs, kind.DNSSubdomain(name, path.Child(of))...)
		}
	}
	subdomain(s.ServiceAccountName, "serviceAccountName")
	subdomain(s.NodeName, "nodeName")
	subdomain(s.PriorityClassName, "priorityClassName")
	if s.RuntimeClassName != nil {
		errs = append(errs, kind.DNSSubdomain(*s.RuntimeClassName, path.Child("runtimeClassName"))...)
	}
	if s.Hostname != "" {
		errs = append(errs, kind.DNSLabel(s.Hostname, path.Child("hostname"))...)
	}
	if s.Subdomain != "" {
		errs = append(errs, kind.DNSLabel(s.Subdomain, path.Child("subdomain"))...)
	}
	if h := s.HostnameOverride; h != nil {
		errs = append(errs, hostnameOverride(s, *h, path)...)
	}
	for i, g := range s.ReadinessGates {
		errs = append(errs, kind.QualifiedName(string(g.ConditionType), path.Child("readinessGates").Index(i).Child("conditionType"))...)
	}
	return errs
}

// hostnameOverride takes the place of all other ways to a host name (KEP-4762).
func hostnameOverride(s *corev1.PodSpec, name string, path *field.Path) (errs field.ErrorList) {
	at := path.Child("hostnameOverride")
	const most = 64 // sethostname(2)
	if len(name) > most {
		errs = append(errs, field.TooLong(at, name, most))
	}
	errs = append(errs, kind.DNSSubdomain(name, at)...)
	if s.HostNetwork {
		errs = append(errs, field.Forbidden(at, "may not be specified when `hostNetwork` is true"))
	}
	if s.SetHostnameAsFQDN != nil && *s.SetHostnameAsFQDN {
		errs = append(errs, field.Forbidden(at, "may not be specified when `setHostnameAsFQDN` is true"))
	}
	return errs
}

// Limits of a resolver's configuration.
const (
	maxNameservers = 3
	maxSearches    = 32
	maxSearchChars = 2048
)

// validateDNS checks how a pod resolves names.
func validateDNS(s *corev1.PodSpec, path *field.Path) (errs field.ErrorList) {
	switch s.DNSPolicy {
	case corev1.DNSClusterFirstWithHostNet, corev1.DNSClusterFirst, corev1.DNSDefault, corev1.DNSNone:
	case "":
		errs = append(errs, field.Required(path.Child("dnsPolicy"), ""))
	default:
		errs = append(errs, field.NotSupported(path.Child("dnsPolicy"), s.DNSPolicy, []corev1.DNSPolicy{
			corev1.DNSClusterFirstWithHostNet, corev1.DNSClusterFirst, corev1.DNSDefault, corev1.DNSNone}))
	}
	errs = append(errs, dnsConfig(s, path.Child("dnsConfig"))...)
	for i, a := range s.HostAliases {
		at := path.Child("hostAliases").Index(i)
		errs = append(errs, validation.IsValidIP(at.Child("ip"), a.IP)...)
		for j, h := range a.Hostnames {
			errs = append(errs, kind.DNSSubdomain(h, at.Child("hostnames").Index(j))...)
		}
	}
	return errs
}

func dnsConfig(s *corev1.PodSpec, path *field.Path) (errs field.ErrorList) {
	c := s.DNSConfig
	if s.DNSPolicy == corev1.DNSNone {
		if c == nil {
			return field.ErrorList{field.Required(path, fmt.Sprintf("must provide `dnsConfig` when `dnsPolicy` is %s", corev1.DNSNone))}
		}
		if len(c.Nameservers) == 0 {
			return field.ErrorList{field.Required(path.Child("nameservers"),
				fmt.Sprintf("must provide at least one DNS nameserver when `dnsPolicy` is %s", corev1.DNSNone))}
		}
	}
	if c == nil {
		return errs
	}
	if len(c.Nameservers) > maxNameservers {
		errs = append(errs, field.Invalid(path.Child("nameservers"), c.Nameservers, fmt.Sprintf("must not have more than %v nameservers", maxNameservers)))
	}
	for i, ns := range c.Nameservers {
		errs = append(errs, validation.IsValidIP(path.Child("nameservers").Index(i), ns)...)
	}
	searches := path.Child("searches")
	if len(c.Searches) > maxSearches {
		errs = append(errs, field.Invalid(searches, c.Searches, fmt.Sprintf("must not have more than %v search paths", maxSearches)))
	}
	if len(strings.Join(c.Searches, " ")) > maxSearchChars {
		errs = append(errs, field.Invalid(searches, c.Searches, fmt.Sprintf("must not have more than %v characters (including spaces) in the search list", maxSearchChars)))
	}
	for i, domain := range c.Searches {
		// A lone dot, a dot at the end and underscores are in use (KEP-4427).
		name := domain
		if name != "." {
			name = strings.TrimSuffix(name, ".")
		}
		if name == "." {
			continue
		}
		for _, msg := range validation.IsDNS1123SubdomainWithUnderscore(name) {
			errs = append(errs, field.Invalid(searches.Index(i), domain, msg))
		}
	}
	for i, o := range c.Options {
		if o.Name == "" {
			errs = append(errs, field.Required(path.Child("options").Index(i), "must not be empty"))
		}
	}
	return errs
}
