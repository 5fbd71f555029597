package certificates

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	certificatesv1beta1 "k8s.io/api/certificates/v1beta1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
)

const (
	longestKey   = 10 << 10
	longestChain = 100 << 10
	longestUID   = 128
)

// PodCertificateRequest asks a signer for a pod's certificate. The pod's node
// writes it.
func PodCertificateRequest() *kind.Kind {
	return kind.Declare(kind.Of[certificatesv1.PodCertificateRequest]{
		GVK:         certificatesv1.SchemeGroupVersion.WithKind("PodCertificateRequest"),
		Plural:      "podcertificaterequests",
		Stored:      []kind.Version{kind.StoredLike[certificatesv1beta1.PodCertificateRequest, certificatesv1.PodCertificateRequest](certificatesv1beta1.SchemeGroupVersion)},
		Conditional: true,
		Default: func(r *certificatesv1.PodCertificateRequest) {
			if r.Spec.MaxExpirationSeconds == nil {
				r.Spec.MaxExpirationSeconds = new(int32(24 * 60 * 60))
			}
		},
		Validate: func(r, old *certificatesv1.PodCertificateRequest) field.ErrorList {
			if old != nil {
				return kind.Immutable(r.Spec, old.Spec, field.NewPath("spec"))
			}
			return validatePodRequest(&r.Spec, field.NewPath("spec"))
		},
		Parts: map[string]kind.Part[certificatesv1.PodCertificateRequest]{
			"status": {
				Take:     func(dst, src *certificatesv1.PodCertificateRequest) { dst.Status = src.Status },
				Validate: validatePodRequestStatus,
			},
		},
		Columns: []kind.Column[certificatesv1.PodCertificateRequest]{
			{Name: "PodName", Description: certificatesv1.PodCertificateRequestSpec{}.SwaggerDoc()["podName"],
				Cell: func(r *certificatesv1.PodCertificateRequest, _ time.Time) any { return r.Spec.PodName }},
			{Name: "ServiceAccountName", Description: certificatesv1.PodCertificateRequestSpec{}.SwaggerDoc()["serviceAccountName"],
				Cell: func(r *certificatesv1.PodCertificateRequest, _ time.Time) any { return r.Spec.ServiceAccountName }},
			{Name: "NodeName", Description: certificatesv1.PodCertificateRequestSpec{}.SwaggerDoc()["nodeName"],
				Cell: func(r *certificatesv1.PodCertificateRequest, _ time.Time) any { return string(r.Spec.NodeName) }},
			{Name: "SignerName", Description: certificatesv1.PodCertificateRequestSpec{}.SwaggerDoc()["signerName"],
				Cell: func(r *certificatesv1.PodCertificateRequest, _ time.Time) any { return r.Spec.SignerName }},
			{Name: "State", Description: "Is the request Pending, Issued, Denied, or Failed?",
				Cell: func(r *certificatesv1.PodCertificateRequest, _ time.Time) any {
					if end := ended(r); end != "" {
						return end
					}
					return "Pending"
				}},
			{Name: "UnverifiedUserAnnotations", Priority: 1, Description: certificatesv1.PodCertificateRequestSpec{}.SwaggerDoc()["unverifiedUserAnnotations"],
				Cell: func(r *certificatesv1.PodCertificateRequest, _ time.Time) any {
					return labels.FormatLabels(r.Spec.UnverifiedUserAnnotations)
				}},
		},
		Fields: map[string]func(*certificatesv1.PodCertificateRequest) string{
			"spec.signerName": func(r *certificatesv1.PodCertificateRequest) string { return r.Spec.SignerName },
			"spec.podName":    func(r *certificatesv1.PodCertificateRequest) string { return r.Spec.PodName },
			"spec.nodeName":   func(r *certificatesv1.PodCertificateRequest) string { return string(r.Spec.NodeName) },
		},
		Indexes: map[string]func(*certificatesv1.PodCertificateRequest) []string{
			"spec.nodeName": func(r *certificatesv1.PodCertificateRequest) []string { return []string{string(r.Spec.NodeName)} },
		},
	})
}

func validatePodRequest(s *certificatesv1.PodCertificateRequestSpec, path *field.Path) (errs field.ErrorList) {
	errs = append(errs, kind.SignerName(s.SignerName, path.Child("signerName"))...)
	errs = append(errs, kind.SignerAnnotations(s.UnverifiedUserAnnotations, path.Child("unverifiedUserAnnotations"))...)
	named := func(name, of string, uid types.UID, uidOf string) {
		for _, msg := range apivalidation.NameIsDNSSubdomain(name, false) {
			errs = append(errs, field.Invalid(path.Child(of), name, msg))
		}
		switch at := path.Child(uidOf); {
		case uid == "":
			errs = append(errs, field.Invalid(at, uid, "must not be empty"))
		case len(uid) > longestUID:
			errs = append(errs, field.TooLong(at, uid, longestUID))
		}
	}
	named(s.PodName, "podName", s.PodUID, "podUID")
	named(s.ServiceAccountName, "serviceAccountName", s.ServiceAccountUID, "serviceAccountUID")
	named(string(s.NodeName), "nodeName", s.NodeUID, "nodeUID")
	at := path.Child("maxExpirationSeconds")
	if s.MaxExpirationSeconds == nil {
		return append(errs, field.Required(at, "must be set"))
	}
	if n, most := *s.MaxExpirationSeconds, kind.LongestCertificate(s.SignerName); n < kind.ShortestCertificate || n > most {
		errs = append(errs, field.Invalid(at, n, fmt.Sprintf("must be in the range [%d, %d]", kind.ShortestCertificate, most)))
	}
	if len(s.StubPKCS10Request) == 0 {
		return append(errs, field.Invalid(path, field.OmitValueType{}, "exactly one of (stubPKCS10Request) or (pkixPublicKey, proofOfPossession) must be set"))
	}
	return append(errs, stubRequest(s.StubPKCS10Request, path.Child("stubPKCS10Request"))...)
}

func stubRequest(data []byte, path *field.Path) field.ErrorList {
	if len(data) > longestKey {
		return field.ErrorList{field.TooLong(path, data, longestKey)}
	}
	r, err := x509.ParseCertificateRequest(data)
	if err != nil {
		return field.ErrorList{field.Invalid(path, field.OmitValueType{}, "must be a valid PKCS#10 CSR")}
	}
	switch k := r.PublicKey.(type) {
	case ed25519.PublicKey:
	case *ecdsa.PublicKey:
		if !slices.Contains([]elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()}, k.Curve) {
			return field.ErrorList{field.Invalid(path, "curve "+k.Curve.Params().Name, "elliptic public keys must use curve P256, P384, or P521")}
		}
	case *rsa.PublicKey:
		if n := k.Size() * 8; n != 3072 && n != 4096 {
			return field.ErrorList{field.Invalid(path, fmt.Sprintf("%d-bit modulus", n), "RSA keys must have modulus size 3072 or 4096")}
		}
	default:
		return field.ErrorList{field.Invalid(path, field.OmitValueType{}, "unknown public key type; supported types are Ed25519, ECDSA, and RSA")}
	}
	if r.CheckSignature() != nil {
		return field.ErrorList{field.Invalid(path, field.OmitValueType{}, "invalid signature")}
	}
	return nil
}
