// Package certificates declares the kinds of certificates.k8s.io, a file per
// kind. Who may approve, sign and attest depends on who asks, and is
// admission's.
package certificates

import "sampan/cluster/kind"

// Kinds is the table of this group.
func Kinds() []*kind.Kind {
	return []*kind.Kind{
		CertificateSigningRequest(),
		ClusterTrustBundle(),
		PodCertificateRequest(),
	}
}

func orNone(s string) string {
	if s == "" {
		return "<none>"
	}
	return s
}
