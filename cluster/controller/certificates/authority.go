package certificates

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
)

const (
	// longestLife is that of a certificate whose request names none
	// (upstream's --cluster-signing-duration).
	longestLife = 365 * 24 * time.Hour

	// backdate is how long before now a certificate begins, for clocks that
	// are late. It is taken from the life of those that live long.
	backdate  = 5 * time.Minute
	shortLife = 8 * time.Hour
)

// Authority signs.
type Authority struct {
	Certificate *x509.Certificate
	Key         crypto.Signer
}

var keyUsages = map[certificatesv1.KeyUsage]x509.KeyUsage{
	certificatesv1.UsageSigning:           x509.KeyUsageDigitalSignature,
	certificatesv1.UsageDigitalSignature:  x509.KeyUsageDigitalSignature,
	certificatesv1.UsageContentCommitment: x509.KeyUsageContentCommitment,
	certificatesv1.UsageKeyEncipherment:   x509.KeyUsageKeyEncipherment,
	certificatesv1.UsageKeyAgreement:      x509.KeyUsageKeyAgreement,
	certificatesv1.UsageDataEncipherment:  x509.KeyUsageDataEncipherment,
	certificatesv1.UsageCertSign:          x509.KeyUsageCertSign,
	certificatesv1.UsageCRLSign:           x509.KeyUsageCRLSign,
	certificatesv1.UsageEncipherOnly:      x509.KeyUsageEncipherOnly,
	certificatesv1.UsageDecipherOnly:      x509.KeyUsageDecipherOnly,
}

var extendedUsages = map[certificatesv1.KeyUsage]x509.ExtKeyUsage{
	certificatesv1.UsageAny:             x509.ExtKeyUsageAny,
	certificatesv1.UsageServerAuth:      x509.ExtKeyUsageServerAuth,
	certificatesv1.UsageClientAuth:      x509.ExtKeyUsageClientAuth,
	certificatesv1.UsageCodeSigning:     x509.ExtKeyUsageCodeSigning,
	certificatesv1.UsageEmailProtection: x509.ExtKeyUsageEmailProtection,
	certificatesv1.UsageSMIME:           x509.ExtKeyUsageEmailProtection,
	certificatesv1.UsageIPsecEndSystem:  x509.ExtKeyUsageIPSECEndSystem,
	certificatesv1.UsageIPsecTunnel:     x509.ExtKeyUsageIPSECTunnel,
	certificatesv1.UsageIPsecUser:       x509.ExtKeyUsageIPSECUser,
	certificatesv1.UsageTimestamping:    x509.ExtKeyUsageTimeStamping,
	certificatesv1.UsageOCSPSigning:     x509.ExtKeyUsageOCSPSigning,
	certificatesv1.UsageMicrosoftSGC:    x509.ExtKeyUsageMicrosoftServerGatedCrypto,
	certificatesv1.UsageNetscapeSGC:     x509.ExtKeyUsageNetscapeServerGatedCrypto,
}

// life is how long a certificate is to live: as asked, within limits.
func life(asked *int32) time.Duration {
	const least = 10 * time.Minute
	if asked == nil {
		return longestLife
	}
	return min(max(time.Duration(*asked)*time.Second, least), longestLife)
}

// sign makes the certificate that r asks for, as PEM.
func (a Authority) sign(r *certificatesv1.CertificateSigningRequest, now time.Time) ([]byte, error) {
	asked, err := parse(r.Spec.Request)
	if err != nil {
		return nil, fmt.Errorf("unable to parse csr %q: %w", r.Name, err)
	}
	if err := asked.CheckSignature(); err != nil {
		return nil, fmt.Errorf("unable to verify certificate request signature: %w", err)
	}
	if !now.Before(a.Certificate.NotAfter) {
		return nil, errors.New("the signer has expired: NotAfter=" + a.Certificate.NotAfter.String())
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 128))
	if err != nil {
		return nil, fmt.Errorf("unable to generate a serial number for %s: %w", asked.Subject.CommonName, err)
	}
	ttl := life(r.Spec.ExpirationSeconds)
	end := now.Add(ttl)
	if ttl >= shortLife {
		end = end.Add(-backdate)
	}
	if end.After(a.Certificate.NotAfter) {
		end = a.Certificate.NotAfter
	}
	made := &x509.Certificate{
		SerialNumber: serial, Subject: asked.Subject, NotBefore: now.Add(-backdate), NotAfter: end,
		DNSNames: asked.DNSNames, IPAddresses: asked.IPAddresses, EmailAddresses: asked.EmailAddresses, URIs: asked.URIs,
		BasicConstraintsValid: true,
	}
	seen := map[x509.ExtKeyUsage]bool{}
	for _, u := range r.Spec.Usages {
		if bit, ok := keyUsages[u]; ok {
			made.KeyUsage |= bit
		} else if ext, ok := extendedUsages[u]; !ok {
			return nil, fmt.Errorf("unrecognized usage: %q", u)
		} else if !seen[ext] {
			seen[ext] = true
			made.ExtKeyUsage = append(made.ExtKeyUsage, ext)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, made, a.Certificate, asked.PublicKey, a.Key)
	if err != nil {
		return nil, fmt.Errorf("failed to sign certificate: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}
