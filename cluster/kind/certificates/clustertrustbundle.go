package certificates

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	certificatesv1beta1 "k8s.io/api/certificates/v1beta1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
)

// longestBundle is the size of a trust bundle at most.
const longestBundle = 1 << 20

// ClusterTrustBundle is certificates of authorities, for pods to trust.
func ClusterTrustBundle() *kind.Kind {
	return kind.Declare(kind.Of[certificatesv1.ClusterTrustBundle]{
		GVK:          certificatesv1.SchemeGroupVersion.WithKind("ClusterTrustBundle"),
		Plural:       "clustertrustbundles",
		Stored:       []kind.Version{kind.StoredLike[certificatesv1beta1.ClusterTrustBundle, certificatesv1.ClusterTrustBundle](certificatesv1beta1.SchemeGroupVersion)},
		Cluster:      true,
		Conditional:  true,
		ValidateName: func(string, bool) []string { return nil }, // depends on the signer: see validateBundle
		Validate:     validateBundle,
		Columns: []kind.Column[certificatesv1.ClusterTrustBundle]{
			{Name: "SignerName", Description: certificatesv1.ClusterTrustBundleSpec{}.SwaggerDoc()["signerName"],
				Cell: func(b *certificatesv1.ClusterTrustBundle, _ time.Time) any { return orNone(b.Spec.SignerName) }},
		},
		Fields: map[string]func(*certificatesv1.ClusterTrustBundle) string{
			"spec.signerName": func(b *certificatesv1.ClusterTrustBundle) string { return b.Spec.SignerName },
		},
	})
}

func validateBundle(b, old *certificatesv1.ClusterTrustBundle) (errs field.ErrorList) {
	signer, path := b.Spec.SignerName, field.NewPath("spec")
	for _, msg := range bundleName(b.Name, signer) {
		errs = append(errs, field.Invalid(field.NewPath("metadata", "name"), b.Name, msg))
	}
	if signer != "" {
		errs = append(errs, kind.SignerName(signer, path.Child("signerName"))...)
	}
	// What has not changed is not parsed again: libraries grow stricter.
	if old == nil || old.Spec.TrustBundle != b.Spec.TrustBundle {
		errs = append(errs, anchors(b.Spec.TrustBundle, path.Child("trustBundle"))...)
	}
	if old != nil {
		errs = append(errs, kind.Immutable(signer, old.Spec.SignerName, path.Child("signerName"))...)
	}
	return errs
}

func bundleName(name, signer string) []string {
	if signer == "" {
		if strings.Contains(name, ":") {
			return []string{`ClusterTrustBundle without signer name must not have ":" in its name`}
		}
		return apivalidation.NameIsDNSSubdomain(name, false)
	}
	rest, ok := strings.CutPrefix(name, signerPrefix(signer))
	if !ok {
		return []string{fmt.Sprintf("ClusterTrustBundle for signerName %s must be named with prefix %s", signer, signerPrefix(signer))}
	}
	return apivalidation.NameIsDNSSubdomain(rest, false)
}

// anchors checks that a bundle has certificates of authorities, each once, and
// nothing else but text between them.
func anchors(bundle string, path *field.Path) (errs field.ErrorList) {
	if len(bundle) > longestBundle {
		return field.ErrorList{field.TooLong(path, "", longestBundle)}
	}
	fault := func(format string, args ...any) {
		errs = append(errs, field.Invalid(path, "<value omitted>", fmt.Sprintf(format, args...)))
	}
	seen := map[string][]int{}
	i := 0
	for block, rest := pem.Decode([]byte(bundle)); block != nil; block, rest = pem.Decode(rest) {
		c, err := x509.ParseCertificate(block.Bytes)
		switch {
		case block.Type != "CERTIFICATE":
			fault("entry %d has bad block type: %v", i, block.Type)
		case len(block.Headers) > 0:
			fault("entry %d has PEM block headers", i)
		case err != nil:
			fault("entry %d does not parse as X.509", i)
		case !c.IsCA:
			fault("entry %d does not have the CA bit set", i)
		case !c.BasicConstraintsValid:
			fault("entry %d has invalid basic constraints", i)
		default:
			seen[string(block.Bytes)] = append(seen[string(block.Bytes)], i)
		}
		i++
	}
	if len(errs) > 0 {
		return errs
	}
	if len(seen) == 0 {
		fault("at least one trust anchor must be provided")
	}
	for _, at := range slices.SortedFunc(maps.Values(seen), func(a, b []int) int { return a[0] - b[0] }) {
		if len(at) > 1 {
			fault("duplicate trust anchor (indices %v)", at)
		}
	}
	return errs
}
