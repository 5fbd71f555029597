package certificates

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	certificatesv1beta1 "k8s.io/api/certificates/v1beta1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
)

// legacySigner is the signer of requests that named none, in versions that are
// no longer served.
const legacySigner = "kubernetes.io/legacy-unknown"

// CertificateSigningRequest asks a signer for a certificate: somebody approves
// it, and then it is signed.
func CertificateSigningRequest() *kind.Kind {
	return kind.Declare(kind.Of[certificatesv1.CertificateSigningRequest]{
		GVK:          certificatesv1.SchemeGroupVersion.WithKind("CertificateSigningRequest"),
		Plural:       "certificatesigningrequests",
		Short:        []string{"csr"},
		Cluster:      true,
		ValidateName: func(string, bool) []string { return nil },
		Unowned:      []string{"spec"},
		Prepare: func(c, old *certificatesv1.CertificateSigningRequest) {
			if old != nil {
				c.Spec = old.Spec // what was asked for stays as it was asked
			}
		},
		Validate: func(c, old *certificatesv1.CertificateSigningRequest) field.ErrorList {
			return validateRequest(c, old, "")
		},
		Parts: map[string]kind.Part[certificatesv1.CertificateSigningRequest]{
			"status": {
				Take:         func(dst, src *certificatesv1.CertificateSigningRequest) { dst.Status = src.Status },
				WithMetadata: true,
				Prepare:      keepVerdicts,
				Validate: func(c, old *certificatesv1.CertificateSigningRequest) field.ErrorList {
					return validateRequest(c, old, "status")
				},
			},
			"approval": {
				Take: func(dst, src *certificatesv1.CertificateSigningRequest) {
					dst.Status.Conditions = src.Status.Conditions
				},
				WithMetadata: true,
				Validate: func(c, old *certificatesv1.CertificateSigningRequest) field.ErrorList {
					return validateRequest(c, old, "approval")
				},
			},
		},
		Columns: []kind.Column[certificatesv1.CertificateSigningRequest]{
			kind.Age[certificatesv1.CertificateSigningRequest](),
			{Name: "SignerName", Description: certificatesv1beta1.CertificateSigningRequestSpec{}.SwaggerDoc()["signerName"],
				Cell: func(c *certificatesv1.CertificateSigningRequest, _ time.Time) any { return orNone(c.Spec.SignerName) }},
			{Name: "Requestor", Description: certificatesv1beta1.CertificateSigningRequestSpec{}.SwaggerDoc()["request"],
				Cell: func(c *certificatesv1.CertificateSigningRequest, _ time.Time) any { return c.Spec.Username }},
			{Name: "RequestedDuration", Description: certificatesv1beta1.CertificateSigningRequestSpec{}.SwaggerDoc()["expirationSeconds"],
				Cell: func(c *certificatesv1.CertificateSigningRequest, _ time.Time) any {
					if n := c.Spec.ExpirationSeconds; n != nil {
						return duration.HumanDuration(time.Duration(*n) * time.Second)
					}
					return "<none>"
				}},
			{Name: "Condition", Description: certificatesv1beta1.CertificateSigningRequestStatus{}.SwaggerDoc()["conditions"],
				Cell: func(c *certificatesv1.CertificateSigningRequest, _ time.Time) any { return requestCell(c) }},
		},
		Fields: map[string]func(*certificatesv1.CertificateSigningRequest) string{
			"spec.signerName": func(c *certificatesv1.CertificateSigningRequest) string { return c.Spec.SignerName },
		},
	})
}

func of(c *certificatesv1.CertificateSigningRequest, t certificatesv1.RequestConditionType) (all []certificatesv1.CertificateSigningRequestCondition) {
	for _, had := range c.Status.Conditions {
		if had.Type == t {
			all = append(all, had)
		}
	}
	return all
}

func requestCell(c *certificatesv1.CertificateSigningRequest) string {
	state := "Pending"
	switch {
	case len(of(c, certificatesv1.CertificateDenied)) > 0:
		state = "Denied"
	case len(of(c, certificatesv1.CertificateApproved)) > 0:
		state = "Approved"
	}
	if len(of(c, certificatesv1.CertificateFailed)) > 0 {
		state += ",Failed"
	}
	if len(c.Status.Certificate) > 0 {
		state += ",Issued"
	}
	return state
}

// verdicts are the conditions that only the part "approval" writes.
var verdicts = []certificatesv1.RequestConditionType{certificatesv1.CertificateApproved, certificatesv1.CertificateDenied}

// keepVerdicts puts the verdicts that there were in the place of those of a
// status: a signer may send old ones. Adding and removing one is a fault.
func keepVerdicts(c, old *certificatesv1.CertificateSigningRequest) {
	if old == nil {
		return
	}
	for _, t := range verdicts {
		had := of(old, t)
		if len(had) != len(of(c, t)) {
			continue
		}
		for i := range c.Status.Conditions {
			if c.Status.Conditions[i].Type == t {
				c.Status.Conditions[i], had = had[0], had[1:]
			}
		}
	}
}

// validateRequest checks a request, and on update what a part may change. What
// was wrong before is not reported again.
func validateRequest(c, old *certificatesv1.CertificateSigningRequest, part string) (errs field.ErrorList) {
	if old == nil {
		old = &certificatesv1.CertificateSigningRequest{}
	}
	errs = append(errs, requestSpec(c, old, field.NewPath("spec"))...)
	errs = append(errs, requestConditions(c, old, field.NewPath("status", "conditions"))...)
	if !bytes.Equal(c.Status.Certificate, old.Status.Certificate) && certificateFault(old.Status.Certificate) == nil {
		if err := certificateFault(c.Status.Certificate); err != nil {
			errs = append(errs, field.Invalid(field.NewPath("status", "certificate"), "<certificate data>", err.Error()))
		}
	}
	if old.UID == "" {
		return errs
	}
	return append(errs, requestChange(c, old, part)...)
}

func requestSpec(c, old *certificatesv1.CertificateSigningRequest, path *field.Path) (errs field.ErrorList) {
	if err := requestFault(c.Spec.Request); err != nil {
		errs = append(errs, field.Invalid(path.Child("request"), c.Spec.Request, err.Error()))
	}
	at := path.Child("usages")
	if len(c.Spec.Usages) == 0 {
		errs = append(errs, field.Required(at, ""))
	}
	if !hasUnknown(old.Spec.Usages) {
		for i, u := range c.Spec.Usages {
			if !slices.Contains(usages, u) {
				errs = append(errs, field.NotSupported(at.Index(i), u, usages))
			}
		}
	}
	if !hasTwice(old.Spec.Usages) {
		for i, u := range c.Spec.Usages {
			if slices.Contains(c.Spec.Usages[:i], u) {
				errs = append(errs, field.Duplicate(at.Index(i), u))
			}
		}
	}
	if at := path.Child("signerName"); c.Spec.SignerName == legacySigner && old.Spec.SignerName != legacySigner {
		errs = append(errs, field.Invalid(at, c.Spec.SignerName, "the legacy signerName is not allowed via this API version"))
	} else {
		errs = append(errs, kind.SignerName(c.Spec.SignerName, at)...)
	}
	if n := c.Spec.ExpirationSeconds; n != nil && *n < 600 {
		errs = append(errs, field.Invalid(path.Child("expirationSeconds"), *n, "may not specify a duration less than 600 seconds (10 minutes)"))
	}
	return errs
}

// usages are those that a certificate can have, in upstream's order.
var usages = slices.Sorted(slices.Values([]certificatesv1.KeyUsage{
	certificatesv1.UsageSigning, certificatesv1.UsageDigitalSignature, certificatesv1.UsageContentCommitment, certificatesv1.UsageKeyEncipherment,
	certificatesv1.UsageKeyAgreement, certificatesv1.UsageDataEncipherment, certificatesv1.UsageCertSign, certificatesv1.UsageCRLSign,
	certificatesv1.UsageEncipherOnly, certificatesv1.UsageDecipherOnly, certificatesv1.UsageAny, certificatesv1.UsageServerAuth,
	certificatesv1.UsageClientAuth, certificatesv1.UsageCodeSigning, certificatesv1.UsageEmailProtection, certificatesv1.UsageSMIME,
	certificatesv1.UsageIPsecEndSystem, certificatesv1.UsageIPsecTunnel, certificatesv1.UsageIPsecUser, certificatesv1.UsageTimestamping,
	certificatesv1.UsageOCSPSigning, certificatesv1.UsageMicrosoftSGC, certificatesv1.UsageNetscapeSGC}))

func hasUnknown(all []certificatesv1.KeyUsage) bool {
	return slices.ContainsFunc(all, func(u certificatesv1.KeyUsage) bool { return !slices.Contains(usages, u) })
}

func hasTwice(all []certificatesv1.KeyUsage) bool {
	for i, u := range all {
		if slices.Contains(all[:i], u) {
			return true
		}
	}
	return false
}

func requestFault(data []byte) error {
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return errors.New("PEM block type must be CERTIFICATE REQUEST")
	}
	r, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return err
	}
	return r.CheckSignature()
}

func certificateFault(data []byte) error {
	if len(data) == 0 {
		return nil
	}
	n := 0
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			return fmt.Errorf("only CERTIFICATE PEM blocks are allowed, found %q", block.Type)
		}
		if len(block.Headers) > 0 {
			return errors.New("no PEM block headers are permitted")
		}
		all, err := x509.ParseCertificates(block.Bytes)
		if err != nil {
			return err
		}
		if len(all) == 0 {
			return errors.New("found CERTIFICATE PEM block containing 0 certificates")
		}
		n++
	}
	if n == 0 {
		return errors.New("must contain at least one CERTIFICATE PEM block")
	}
	return nil
}

func requestConditions(c, old *certificatesv1.CertificateSigningRequest, path *field.Path) (errs field.ErrorList) {
	types := func(of *certificatesv1.CertificateSigningRequest) (seen map[certificatesv1.RequestConditionType]int) {
		seen = map[certificatesv1.RequestConditionType]int{}
		for _, had := range of.Status.Conditions {
			seen[had.Type]++
		}
		return seen
	}
	before := types(old)
	twice := slices.ContainsFunc(old.Status.Conditions, func(had certificatesv1.CertificateSigningRequestCondition) bool { return before[had.Type] > 1 })
	both := before[certificatesv1.CertificateApproved] > 0 && before[certificatesv1.CertificateDenied] > 0
	seen := map[certificatesv1.RequestConditionType]bool{}
	for i, now := range c.Status.Conditions {
		at := path.Index(i)
		if now.Type == "" && before[""] == 0 {
			errs = append(errs, field.Required(at.Child("type"), ""))
		}
		valid := []corev1.ConditionStatus{corev1.ConditionFalse, corev1.ConditionTrue, corev1.ConditionUnknown}
		if now.Type == certificatesv1.CertificateFailed || slices.Contains(verdicts, now.Type) {
			valid = valid[1:2]
		}
		errs = append(errs, kind.OneOf(now.Status, at.Child("status"), valid...)...)
		if other := map[certificatesv1.RequestConditionType]certificatesv1.RequestConditionType{
			certificatesv1.CertificateApproved: certificatesv1.CertificateDenied, certificatesv1.CertificateDenied: certificatesv1.CertificateApproved}[now.Type]; other != "" && seen[other] && !both {
			errs = append(errs, field.Invalid(path, now.Type, "Approved and Denied conditions are mutually exclusive"))
		}
		if seen[now.Type] && !twice {
			errs = append(errs, field.Duplicate(at.Child("type"), now.Type))
		}
		seen[now.Type] = true
	}
	return errs
}

// requestChange checks what an update may do: verdicts and failures stay, the
// part "approval" alone gives verdicts, the part "status" alone a certificate,
// once.
func requestChange(c, old *certificatesv1.CertificateSigningRequest, part string) (errs field.ErrorList) {
	path := field.NewPath("status", "conditions")
	for _, t := range append(slices.Clone(verdicts), certificatesv1.CertificateFailed) {
		if len(of(c, t)) < len(of(old, t)) {
			errs = append(errs, field.Forbidden(path, fmt.Sprintf("updates may not remove a condition of type %q", t)))
		}
	}
	for _, t := range verdicts {
		now, had := of(c, t), of(old, t)
		switch {
		case part == "approval" || len(now) < len(had):
		case len(now) > len(had):
			errs = append(errs, field.Forbidden(path, fmt.Sprintf("updates may not add a condition of type %q", t)))
		case !kind.Equal(now, had):
			errs = append(errs, field.Forbidden(path, fmt.Sprintf("updates may not modify a condition of type %q", t)))
		}
	}
	switch at := field.NewPath("status", "certificate"); {
	case bytes.Equal(c.Status.Certificate, old.Status.Certificate):
	case part != "status":
		errs = append(errs, field.Forbidden(at, "updates may not set certificate content"))
	case len(old.Status.Certificate) > 0:
		errs = append(errs, field.Forbidden(at, "updates may not modify existing certificate content"))
	}
	return errs
}

// signerPrefix is what the name of a signer's trust bundle begins with.
func signerPrefix(signer string) string { return strings.ReplaceAll(signer, "/", ":") + ":" }
