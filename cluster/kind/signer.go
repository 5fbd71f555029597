package kind

import (
	"fmt"
	"strings"

	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Checks of what certificates are asked for with. Messages are upstream's.

// SignerName checks the name of a signer: "example.com/signer-name".
func SignerName(name string, path *field.Path) (errs field.ErrorList) {
	if name == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	domain, rest, ok := strings.Cut(name, "/")
	if !ok || strings.Contains(rest, "/") {
		return field.ErrorList{field.Invalid(path, name, "must be a fully qualified domain and path of the form 'example.com/signer-name'")}
	}
	if len(domain) > validation.DNS1123SubdomainMaxLength {
		errs = append(errs, field.TooLong(path, "", validation.DNS1123SubdomainMaxLength))
	}
	labels := strings.Split(domain, ".")
	errs = append(errs, firstFaults(labels, domain, validation.IsDNS1123Label, path)...)
	if len(labels) < 2 {
		errs = append(errs, field.Invalid(path, domain, "should be a domain with at least two segments separated by dots"))
	}
	errs = append(errs, firstFaults(strings.Split(rest, "."), rest, validation.IsDNS1123Subdomain, path)...)
	// Behind the domain there is room for a name and a namespace.
	const most = validation.DNS1123SubdomainMaxLength + 1 + validation.DNS1123SubdomainMaxLength + validation.DNS1123LabelMaxLength + 1
	if len(name) > most {
		errs = append(errs, field.TooLong(path, "", most))
	}
	return errs
}

// firstFaults reports what is wrong with the first part that is: the others
// could not be told apart.
func firstFaults(parts []string, whole string, check func(string) []string, path *field.Path) (errs field.ErrorList) {
	for _, p := range parts {
		for _, msg := range check(p) {
			errs = append(errs, field.Invalid(path, whole, fmt.Sprintf("validating label %q: %s", p, msg)))
		}
		if len(errs) > 0 {
			return errs
		}
	}
	return nil
}

// Limits of the life of a pod's certificate, in seconds (KEP-4317).
const (
	ShortestCertificate          = 60 * 60
	longestCertificate           = 91 * 24 * 60 * 60
	longestKubernetesCertificate = 24 * 60 * 60
)

// LongestCertificate is how long a pod's certificate of a signer may live, in
// seconds: those of Kubernetes itself are short-lived.
func LongestCertificate(signer string) int32 {
	domain, _, _ := strings.Cut(signer, "/")
	if domain == "kubernetes.io" || strings.HasSuffix(domain, ".kubernetes.io") {
		return longestKubernetesCertificate
	}
	return longestCertificate
}

// SignerAnnotations checks what a pod tells its signer.
func SignerAnnotations(all map[string]string, path *field.Path) (errs field.ErrorList) {
	for key := range all {
		errs = append(errs, validation.IsDomainPrefixedKey(path, strings.ToLower(key))...)
	}
	if apivalidation.ValidateAnnotationsSize(all) != nil {
		errs = append(errs, field.TooLong(path, "", apivalidation.TotalAnnotationSizeLimitB))
	}
	return errs
}
