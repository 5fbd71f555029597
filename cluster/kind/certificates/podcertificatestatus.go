package certificates

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/mail"
	"strings"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
)

var endings = []string{certificatesv1.PodCertificateRequestConditionTypeIssued, certificatesv1.PodCertificateRequestConditionTypeDenied,
	certificatesv1.PodCertificateRequestConditionTypeFailed}

// ended is how a request has ended: Issued, Denied, Failed, or "".
func ended(r *certificatesv1.PodCertificateRequest) string {
	for _, c := range r.Status.Conditions {
		for _, t := range endings {
			if c.Type == t && c.Status == metav1.ConditionTrue {
				return t
			}
		}
	}
	return ""
}

// validatePodRequestStatus lets a request end, once, and nothing else. That
// the certificate begins now is admission's to check: kinds know no clock.
func validatePodRequestStatus(r, old *certificatesv1.PodCertificateRequest) (errs field.ErrorList) {
	if old == nil {
		old = &certificatesv1.PodCertificateRequest{}
	}
	path := field.NewPath("status")
	at := path.Child("conditions")
	for i, c := range r.Status.Conditions {
		errs = append(errs, kind.OneOf(c.Type, at.Index(i).Child("type"), endings...)...)
		if i > 0 {
			errs = append(errs, field.Invalid(at.Index(i).Child("type"), c.Type, `There may be at most one condition with type "Issued", "Denied", or "Failed"`))
		}
		if c.Status != metav1.ConditionTrue {
			errs = append(errs, field.NotSupported(at.Index(i).Child("status"), c.Status, []metav1.ConditionStatus{metav1.ConditionTrue}))
		}
	}
	errs = append(errs, metav1validation.ValidateConditions(r.Status.Conditions, at)...)
	if len(errs) > 0 {
		return errs
	}
	same := func(want certificatesv1.PodCertificateRequestStatus, why string) field.ErrorList {
		if kind.Equal(r.Status, want) {
			return nil
		}
		return field.ErrorList{field.Invalid(path, field.OmitValueType{}, why)}
	}
	if ended(old) != "" {
		return same(old.Status, "immutable after PodCertificateRequest is issued, denied, or failed")
	}
	switch ended(r) {
	case certificatesv1.PodCertificateRequestConditionTypeIssued:
		return issued(r, old, path)
	case "":
		return same(old.Status, `status is immutable unless transitioning to "Issued", "Denied", or "Failed"`)
	}
	return same(certificatesv1.PodCertificateRequestStatus{Conditions: r.Status.Conditions},
		"non-condition status fields must be empty when denying or failing the PodCertificateRequest")
}

func issued(r, old *certificatesv1.PodCertificateRequest, path *field.Path) (errs field.ErrorList) {
	at, chain := path.Child("certificateChain"), r.Status.CertificateChain
	fault := func(why string) field.ErrorList { return field.ErrorList{field.Invalid(at, chain, why)} }
	if len(chain) > longestChain {
		return field.ErrorList{field.TooLong(at, chain, longestChain)}
	}
	block, rest := pem.Decode([]byte(chain))
	if block == nil {
		return fault("issued certificate chain must contain at least one certificate")
	}
	if block.Type != "CERTIFICATE" {
		return fault("issued certificate chain must consist entirely of CERTIFICATE PEM blocks")
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return fault("leaf certificate does not parse as valid X.509")
	}
	errs = append(errs, leafNames(leaf, at)...)
	wanted, faults := requestedKey(old)
	if len(faults) > 0 {
		return append(errs, faults...)
	}
	if k, ok := wanted.(interface{ Equal(crypto.PublicKey) bool }); ok && !k.Equal(leaf.PublicKey) {
		return append(errs, fault("leaf certificate was not issued to the requested public key")...)
	}
	if errs = append(errs, times(r, leaf, path)...); len(errs) > 0 {
		return errs
	}
	for block, rest = pem.Decode(rest); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			return fault("issued certificate chain must consist entirely of CERTFICATE PEM blocks") // upstream's spelling
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return fault("intermediate certificate does not parse as valid X.509")
		}
	}
	return nil
}

// leafNames refuses names that other libraries would choke on.
func leafNames(leaf *x509.Certificate, path *field.Path) (errs field.ErrorList) {
	for _, name := range leaf.DNSNames {
		switch {
		case name == "":
			errs = append(errs, field.Invalid(path, name, "leaf certificate should not contain empty DNSName"))
		case strings.Contains(name, ".."):
			errs = append(errs, field.Invalid(path, name, "leaf certificate's DNSName should not contain '..'"))
		case strings.HasPrefix(name, ".") || strings.HasSuffix(name, "."):
			errs = append(errs, field.Invalid(path, name, "leaf certificate's DNSName should not start or end with '.'"))
		}
	}
	for _, address := range leaf.EmailAddresses {
		if _, err := mail.ParseAddress(address); err != nil {
			errs = append(errs, field.Invalid(path, address, "leaf certificate should not contain invalid EmailAddress"))
		}
	}
	return errs
}

func requestedKey(r *certificatesv1.PodCertificateRequest) (crypto.PublicKey, field.ErrorList) {
	asked, err := x509.ParseCertificateRequest(r.Spec.StubPKCS10Request)
	if err != nil {
		return nil, field.ErrorList{field.Invalid(field.NewPath("spec", "stubPKCS10Request"), field.OmitValueType{}, "must be a valid PKCS#10 CSR")}
	}
	return asked.PublicKey, nil
}

func times(r *certificatesv1.PodCertificateRequest, leaf *x509.Certificate, path *field.Path) (errs field.ErrorList) {
	s := &r.Status
	before, after, refresh := path.Child("notBefore"), path.Child("notAfter"), path.Child("beginRefreshAt")
	const consistent = "must be present and consistent with the issued certificate"
	if s.NotBefore == nil {
		errs = append(errs, field.Required(before, consistent))
	}
	if s.NotAfter == nil {
		errs = append(errs, field.Required(after, consistent))
	}
	if s.BeginRefreshAt == nil {
		errs = append(errs, field.Required(refresh, "must be present and in the range [notbefore+10min, notafter-10min]"))
	}
	if len(errs) > 0 {
		return errs
	}
	life := leaf.NotAfter.Sub(leaf.NotBefore)
	var most int32
	if r.Spec.MaxExpirationSeconds != nil {
		most = *r.Spec.MaxExpirationSeconds
	}
	const margin = 10 * time.Minute
	one := func(at *field.Path, value any, why string) field.ErrorList {
		return field.ErrorList{field.Invalid(at, value, why)}
	}
	switch chain := path.Child("certificateChain"); {
	case !s.NotBefore.Time.Equal(leaf.NotBefore):
		return one(before, s.NotBefore.Time, "must be set to the NotBefore time encoded in the leaf certificate")
	case !s.NotAfter.Time.Equal(leaf.NotAfter):
		return one(after, s.NotAfter.Time, "must be set to the NotAfter time encoded in the leaf certificate")
	case life < time.Hour:
		return one(chain, life, "leaf certificate lifetime must be >= 1 hour")
	case life > time.Duration(most)*time.Second:
		return one(chain, life, fmt.Sprintf("leaf certificate lifetime must be <= spec.maxExpirationSeconds (%v)", most))
	case s.BeginRefreshAt.Time.Before(s.NotBefore.Add(margin)):
		return one(refresh, s.BeginRefreshAt.Time, "must be at least 10 minutes after status.notBefore")
	case s.BeginRefreshAt.Time.After(s.NotAfter.Add(-margin)):
		return one(refresh, s.BeginRefreshAt.Time, "must be at least 10 minutes before status.notAfter")
	}
	return nil
}
