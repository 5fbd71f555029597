package oldversion

import (
	"crypto/x509"
	"encoding/pem"
	"slices"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	certificatesv1beta1 "k8s.io/api/certificates/v1beta1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// requests for certificates did not have to name a signer: what is asked for
// tells it, and who signs anything signs the rest.
func requests(t table) {
	add(t, certificatesv1.SchemeGroupVersion, certificatesv1beta1.SchemeGroupVersion, differs[certificatesv1beta1.CertificateSigningRequest, certificatesv1.CertificateSigningRequest]{
		old: func(c *certificatesv1beta1.CertificateSigningRequest) {
			if c.Spec.Usages == nil {
				c.Spec.Usages = []certificatesv1beta1.KeyUsage{certificatesv1beta1.UsageDigitalSignature, certificatesv1beta1.UsageKeyEncipherment}
			}
			fill(&c.Spec.SignerName, signer(&c.Spec))
			for i := range c.Status.Conditions {
				fillEmpty(&c.Status.Conditions[i].Status, corev1.ConditionTrue)
			}
		},
		forgive: forgive(func(e *field.Error) bool {
			switch {
			case e.Field == "spec.signerName":
				return e.BadValue == certificatesv1beta1.LegacyUnknownSignerName
			case strings.HasPrefix(e.Field, "spec.usages"):
				return true
			case strings.HasPrefix(e.Field, "status.conditions"):
				return e.Type == field.ErrorTypeDuplicate || strings.HasSuffix(e.Field, ".type") && e.Type == field.ErrorTypeRequired ||
					strings.Contains(e.Detail, "mutually exclusive")
			case e.Field == "status.certificate":
				return e.BadValue == "<certificate data>"
			}
			return false
		}),
	})
}

// signer is who signs what is asked for.
func signer(s *certificatesv1beta1.CertificateSigningRequestSpec) string {
	block, _ := pem.Decode(s.Request)
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return certificatesv1beta1.LegacyUnknownSignerName
	}
	r, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil || !slices.Equal(r.Subject.Organization, []string{"system:nodes"}) || !strings.HasPrefix(r.Subject.CommonName, "system:node:") ||
		len(r.EmailAddresses) > 0 || len(r.URIs) > 0 {
		return certificatesv1beta1.LegacyUnknownSignerName
	}
	named := len(r.DNSNames)+len(r.IPAddresses) > 0
	switch {
	case !named && uses(s.Usages, certificatesv1beta1.UsageClientAuth):
		return certificatesv1beta1.KubeAPIServerClientKubeletSignerName
	case named && uses(s.Usages, certificatesv1beta1.UsageServerAuth):
		return certificatesv1beta1.KubeletServingSignerName
	}
	return certificatesv1beta1.LegacyUnknownSignerName
}

// uses says whether usages are those of a node's certificate for one purpose.
// Keys that are not RSA's encipher none.
func uses(usages []certificatesv1beta1.KeyUsage, purpose certificatesv1beta1.KeyUsage) bool {
	have := map[certificatesv1beta1.KeyUsage]bool{}
	for _, u := range usages {
		have[u] = true
	}
	wanted := 2
	if have[certificatesv1beta1.UsageKeyEncipherment] {
		wanted = 3
	}
	return len(have) == wanted && have[purpose] && have[certificatesv1beta1.UsageDigitalSignature]
}
