package certificates_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/kind/certificates"
	"sampan/cluster/kind/kindtest"
)

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func stub(t *testing.T, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// certificate is one of the key's own, PEM.
func certificate(t *testing.T, key *ecdsa.PrivateKey, ca bool, life time.Duration) string {
	t.Helper()
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: kindtest.Now, NotAfter: kindtest.Now.Add(life),
		IsCA: ca, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func request(t *testing.T) *certificatesv1.CertificateSigningRequest {
	return &certificatesv1.CertificateSigningRequest{ObjectMeta: metav1.ObjectMeta{Name: "r", UID: "u"}, Spec: certificatesv1.CertificateSigningRequestSpec{
		Request:    pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: stub(t, newKey(t))}),
		SignerName: "example.com/signer", Usages: []certificatesv1.KeyUsage{certificatesv1.UsageClientAuth}}}
}

func TestRequestRules(t *testing.T) {
	k := certificates.CertificateSigningRequest()
	check := func(it string, change func(*certificatesv1.CertificateSigningRequest), want ...string) {
		t.Helper()
		t.Run(it, func(t *testing.T) {
			r := request(t)
			change(r)
			kindtest.Compare(t, k.Validate(r, nil), want...)
		})
	}
	check("a request", func(*certificatesv1.CertificateSigningRequest) {})
	check("a signer has a domain and a name", func(r *certificatesv1.CertificateSigningRequest) { r.Spec.SignerName = "example.com" },
		`spec.signerName: Invalid value: "example.com": must be a fully qualified domain and path of the form 'example.com/signer-name'`)
	check("a domain has dots", func(r *certificatesv1.CertificateSigningRequest) { r.Spec.SignerName = "example/x" },
		`spec.signerName: Invalid value: "example": should be a domain with at least two segments separated by dots`)
	check("nobody signs for nobody", func(r *certificatesv1.CertificateSigningRequest) { r.Spec.SignerName = "" }, `spec.signerName: Required value`)
	check("the old signer is gone", func(r *certificatesv1.CertificateSigningRequest) { r.Spec.SignerName = "kubernetes.io/legacy-unknown" },
		`spec.signerName: Invalid value: "kubernetes.io/legacy-unknown": the legacy signerName is not allowed via this API version`)
	check("a use is needed", func(r *certificatesv1.CertificateSigningRequest) { r.Spec.Usages = nil }, `spec.usages: Required value`)
	check("each once", func(r *certificatesv1.CertificateSigningRequest) {
		r.Spec.Usages = append(r.Spec.Usages, r.Spec.Usages...)
	},
		`spec.usages[1]: Duplicate value: "client auth"`)
	check("ten minutes at least", func(r *certificatesv1.CertificateSigningRequest) { r.Spec.ExpirationSeconds = new(int32(599)) },
		`spec.expirationSeconds: Invalid value: 599: may not specify a duration less than 600 seconds (10 minutes)`)
	bad := request(t)
	bad.Spec.Request = []byte("no")
	if errs := k.Validate(bad, nil); len(errs) != 1 || errs[0].Field != "spec.request" || errs[0].Detail != "PEM block type must be CERTIFICATE REQUEST" {
		t.Errorf("got %v", errs)
	}
}

func TestWhoeverApprovesDoesNotSign(t *testing.T) {
	k := certificates.CertificateSigningRequest()
	yes := func(t certificatesv1.RequestConditionType) certificatesv1.CertificateSigningRequestCondition {
		return certificatesv1.CertificateSigningRequestCondition{Type: t, Status: corev1.ConditionTrue, Reason: "R"}
	}
	old := request(t)
	approved := old.DeepCopy()
	approved.Status.Conditions = append(approved.Status.Conditions, yes(certificatesv1.CertificateApproved))
	signed := approved.DeepCopy()
	signed.Status.Certificate = []byte(certificate(t, newKey(t), false, time.Hour))
	both := approved.DeepCopy()
	both.Status.Conditions = append(both.Status.Conditions, yes(certificatesv1.CertificateDenied))
	check := func(part string, now, old *certificatesv1.CertificateSigningRequest, want ...string) {
		t.Helper()
		kindtest.Compare(t, k.Parts[part].Validate(now, old), want...)
	}
	check("approval", approved, old)
	check("status", approved, old, `status.conditions: Forbidden: updates may not add a condition of type "Approved"`)
	check("status", signed, approved)
	check("approval", signed, approved, `status.certificate: Forbidden: updates may not set certificate content`)
	check("status", old, approved, `status.conditions: Forbidden: updates may not remove a condition of type "Approved"`)
	check("approval", both, old, `status.conditions: Invalid value: "Denied": Approved and Denied conditions are mutually exclusive`)
	again := signed.DeepCopy()
	again.Status.Certificate = []byte(certificate(t, newKey(t), false, time.Hour))
	check("status", again, signed, `status.certificate: Forbidden: updates may not modify existing certificate content`)
	nonsense := approved.DeepCopy()
	nonsense.Status.Certificate = []byte("no")
	check("status", nonsense, approved, `status.certificate: Invalid value: "<certificate data>": must contain at least one CERTIFICATE PEM block`)

	// A signer that sends an old approval does not change it.
	stale := signed.DeepCopy()
	stale.Status.Conditions[0].Message = "mine"
	k.Parts["status"].Prepare(stale, approved)
	if stale.Status.Conditions[0].Message != "" {
		t.Error("the approval was changed by the signer")
	}
	if got := kindtest.Row(k, signed); got[len(got)-1] != "Approved,Issued" {
		t.Errorf("row %q", got)
	}
}

func TestBundleRules(t *testing.T) {
	k := certificates.ClusterTrustBundle()
	ca, leaf := certificate(t, newKey(t), true, time.Hour), certificate(t, newKey(t), false, time.Hour)
	check := func(it, name, signer, bundle string, want ...string) {
		t.Helper()
		t.Run(it, func(t *testing.T) {
			kindtest.Compare(t, k.Validate(&certificatesv1.ClusterTrustBundle{ObjectMeta: metav1.ObjectMeta{Name: name},
				Spec: certificatesv1.ClusterTrustBundleSpec{SignerName: signer, TrustBundle: bundle}}, nil), want...)
		})
	}
	check("of nobody", "a.b", "", ca)
	check("of a signer, with text", "x.io:s:one", "x.io/s", "mine:\n"+ca)
	check("a signer's has its name", "one", "x.io/s", ca, `metadata.name: Invalid value: "one": ClusterTrustBundle for signerName x.io/s must be named with prefix x.io:s:`)
	check("nobody's has no colon", "x:y", "", ca, `metadata.name: Invalid value: "x:y": ClusterTrustBundle without signer name must not have ":" in its name`)
	check("something is trusted", "a", "", "", `spec.trustBundle: Invalid value: "<value omitted>": at least one trust anchor must be provided`)
	check("an authority", "a", "", ca+leaf, `spec.trustBundle: Invalid value: "<value omitted>": entry 1 does not have the CA bit set`)
	check("once", "a", "", ca+ca, `spec.trustBundle: Invalid value: "<value omitted>": duplicate trust anchor (indices [0 1])`)
	check("a certificate", "a", "", strings.ReplaceAll(ca, "CERTIFICATE", "THING"), `spec.trustBundle: Invalid value: "<value omitted>": entry 0 has bad block type: THING`)
}

func podRequest(t *testing.T, key crypto.Signer) *certificatesv1.PodCertificateRequest {
	r := &certificatesv1.PodCertificateRequest{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "r"}, Spec: certificatesv1.PodCertificateRequestSpec{
		SignerName: "x.io/s", PodName: "p", PodUID: "1", ServiceAccountName: "sa", ServiceAccountUID: "2", NodeName: "n", NodeUID: "3", StubPKCS10Request: stub(t, key)}}
	certificates.PodCertificateRequest().Default(r)
	return r
}

func TestPodRequestRules(t *testing.T) {
	k := certificates.PodCertificateRequest()
	r := podRequest(t, newKey(t))
	if *r.Spec.MaxExpirationSeconds != 86400 {
		t.Errorf("lives for %d s", *r.Spec.MaxExpirationSeconds)
	}
	kindtest.Compare(t, k.Validate(r, nil))
	long := r.DeepCopy()
	long.Spec.SignerName, long.Spec.MaxExpirationSeconds = "kubernetes.io/x", new(int32(86401))
	kindtest.Compare(t, k.Validate(long, nil), `spec.maxExpirationSeconds: Invalid value: 86401: must be in the range [3600, 86400]`)
	none := r.DeepCopy()
	none.Spec.StubPKCS10Request, none.Spec.PodUID = nil, ""
	kindtest.Compare(t, k.Validate(none, nil), `spec.podUID: Invalid value: "": must not be empty`,
		`spec: Invalid value: exactly one of (stubPKCS10Request) or (pkixPublicKey, proofOfPossession) must be set`)
	small, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	kindtest.Compare(t, k.Validate(podRequest(t, small), nil), `spec.stubPKCS10Request: Invalid value: "2048-bit modulus": RSA keys must have modulus size 3072 or 4096`)
	other := r.DeepCopy()
	other.Spec.PodName = "q"
	if errs := k.Validate(other, r); len(errs) != 1 || errs[0].Field != "spec" {
		t.Errorf("a request was changed: %v", errs)
	}
}

func TestPodRequestsEndOnce(t *testing.T) {
	k := certificates.PodCertificateRequest()
	key := newKey(t)
	old := podRequest(t, key)
	end := func(of *certificatesv1.PodCertificateRequest, how string) *certificatesv1.PodCertificateRequest {
		r := of.DeepCopy()
		r.Status.Conditions = []metav1.Condition{{Type: how, Status: metav1.ConditionTrue, Reason: "R", LastTransitionTime: metav1.NewTime(kindtest.Now)}}
		return r
	}
	issue := func(key *ecdsa.PrivateKey, life time.Duration) *certificatesv1.PodCertificateRequest {
		r := end(old, "Issued")
		r.Status.CertificateChain = certificate(t, key, false, life)
		r.Status.NotBefore, r.Status.NotAfter = new(metav1.NewTime(kindtest.Now)), new(metav1.NewTime(kindtest.Now.Add(life)))
		r.Status.BeginRefreshAt = new(metav1.NewTime(kindtest.Now.Add(life / 2)))
		return r
	}
	check := func(now, was *certificatesv1.PodCertificateRequest, want ...string) {
		t.Helper()
		var got []string
		for _, e := range k.Parts["status"].Validate(now, was) {
			got = append(got, e.Field+": "+e.Detail)
		}
		if !slices.Equal(got, want) {
			t.Errorf("got %q\nwant %q", got, want)
		}
	}
	check(issue(key, time.Hour), old)
	check(end(old, "Denied"), old)
	check(issue(newKey(t), time.Hour), old, "status.certificateChain: leaf certificate was not issued to the requested public key")
	check(issue(key, time.Minute), old, "status.certificateChain: leaf certificate lifetime must be >= 1 hour")
	check(issue(key, 48*time.Hour), old, "status.certificateChain: leaf certificate lifetime must be <= spec.maxExpirationSeconds (86400)")
	check(end(issue(key, time.Hour), "Failed"), old, "status: non-condition status fields must be empty when denying or failing the PodCertificateRequest")
	check(end(old, "Denied"), issue(key, time.Hour), "status: immutable after PodCertificateRequest is issued, denied, or failed")
	late := issue(key, time.Hour)
	late.Status.BeginRefreshAt = late.Status.NotAfter
	check(late, old, "status.beginRefreshAt: must be at least 10 minutes before status.notAfter")
	early := old.DeepCopy()
	early.Status.CertificateChain = "x"
	check(early, old, `status: status is immutable unless transitioning to "Issued", "Denied", or "Failed"`)
	if got := kindtest.Row(k, issue(key, time.Hour)); got[5] != "Issued" {
		t.Errorf("row %q", got)
	}
}
