package certificates

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// How long requests are kept for people to see, after what has become of them.
const (
	keepAnswered = time.Hour
	keepPending  = 24 * time.Hour
)

// A request that who asks may not have approved by itself is looked at again:
// rights come later than requests while a node joins. The waits are upstream's
// (pkg/controller/certificates/certificate_controller.go); each is as long as
// the request is old, so that they double, over restarts as well.
const (
	firstLook = 200 * time.Millisecond
	lastLook  = 1000 * time.Second
)

// legacySigner signs whatever is approved, for requests from before signers
// had names.
const legacySigner = "kubernetes.io/legacy-unknown"

// decision is what must happen to a request; at most one of the first four.
type decision struct {
	remove  bool
	approve string // the message of the approval
	sign    bool
	fail    string // why it cannot be signed

	again time.Duration // when time alone will change the decision
	left  error         // why it is left to people, though it is for us to approve
}

// decide is a pure function of a request and the time. may says whether who
// asks may have his request approved by itself, by the subresource that stands
// for the right (upstream's sarapprove).
func decide(r *certificatesv1.CertificateSigningRequest, now time.Time, may func(sub string) bool) (d decision) {
	if at := expiry(r); !at.IsZero() {
		if d.again = at.Sub(now); d.again <= 0 {
			return decision{remove: true}
		}
	}
	if len(r.Status.Certificate) > 0 || has(r, certificatesv1.CertificateDenied) != nil || has(r, certificatesv1.CertificateFailed) != nil {
		return d
	}
	asked, err := parse(r.Spec.Request)
	if err != nil {
		return d // its kind lets none in that cannot be read
	}
	if has(r, certificatesv1.CertificateApproved) == nil {
		if d.approve, d.left = approval(r, asked, may); d.left != nil {
			wait := min(max(now.Sub(r.CreationTimestamp.Time), firstLook), lastLook)
			if d.again == 0 || wait < d.again {
				d.again = wait
			}
		}
		return d
	}
	switch known, err := recognize(r, asked); {
	case !known:
		// Another signer's.
	case err != nil:
		d.fail = err.Error()
	default:
		d.sign = true
	}
	return d
}

func has(r *certificatesv1.CertificateSigningRequest, t certificatesv1.RequestConditionType) *certificatesv1.CertificateSigningRequestCondition {
	i := slices.IndexFunc(r.Status.Conditions, func(c certificatesv1.CertificateSigningRequestCondition) bool { return c.Type == t })
	if i < 0 {
		return nil
	}
	return &r.Status.Conditions[i]
}

// expiry is when a request is deleted, zero for never.
func expiry(r *certificatesv1.CertificateSigningRequest) (at time.Time) {
	sooner := func(t metav1.Time, d time.Duration) {
		if !t.IsZero() && (at.IsZero() || t.Add(d).Before(at)) {
			at = t.Add(d)
		}
	}
	if len(r.Status.Conditions) == 0 {
		sooner(r.CreationTimestamp, keepPending)
	}
	for _, t := range []certificatesv1.RequestConditionType{certificatesv1.CertificateDenied, certificatesv1.CertificateFailed} {
		if c := has(r, t); c != nil {
			sooner(c.LastUpdateTime, keepAnswered)
		}
	}
	if c := has(r, certificatesv1.CertificateApproved); c != nil && len(r.Status.Certificate) > 0 {
		sooner(c.LastUpdateTime, keepAnswered)
		if block, _ := pem.Decode(r.Status.Certificate); block != nil {
			if made, err := x509.ParseCertificate(block.Bytes); err == nil {
				sooner(metav1.NewTime(made.NotAfter), 0)
			}
		}
	} else if c != nil {
		sooner(c.LastUpdateTime, keepPending)
	}
	return at
}

func parse(data []byte) (*x509.CertificateRequest, error) {
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return nil, errors.New("PEM block type must be CERTIFICATE REQUEST")
	}
	return x509.ParseCertificateRequest(block.Bytes)
}

// approval is why a request is approved by itself: it is a node's own, or
// somebody asks for one who may.
func approval(r *certificatesv1.CertificateSigningRequest, asked *x509.CertificateRequest, may func(string) bool) (why string, err error) {
	if r.Spec.SignerName != certificatesv1.KubeAPIServerClientKubeletSignerName || kubeletClient(asked, r.Spec.Usages) != nil {
		return "", nil
	}
	var tried []string
	for _, by := range []struct {
		sub, why string
		applies  bool
	}{
		{"selfnodeclient", "Auto approving self kubelet client certificate after SubjectAccessReview.", asked.Subject.CommonName == r.Spec.Username},
		{"nodeclient", "Auto approving kubelet client certificate after SubjectAccessReview.", true},
	} {
		if !by.applies {
			continue
		}
		if may(by.sub) {
			return by.why, nil
		}
		tried = append(tried, by.sub)
	}
	return "", fmt.Errorf("recognized csr %q as %v but subject access review was not approved", r.Name, tried)
}

// recognize says whether a request is for one of our signers, and what is
// wrong with it then.
func recognize(r *certificatesv1.CertificateSigningRequest, asked *x509.CertificateRequest) (known bool, err error) {
	switch r.Spec.SignerName {
	case certificatesv1.KubeletServingSignerName:
		return true, kubeletServing(asked, r.Spec.Usages)
	case certificatesv1.KubeAPIServerClientKubeletSignerName:
		return true, kubeletClient(asked, r.Spec.Usages)
	case certificatesv1.KubeAPIServerClientSignerName:
		return true, clientUsages(r.Spec.Usages)
	case legacySigner:
		return true, nil
	}
	return false, nil
}

func clientUsages(all []certificatesv1.KeyUsage) error {
	client := false
	for _, u := range all {
		switch u {
		case certificatesv1.UsageDigitalSignature, certificatesv1.UsageKeyEncipherment:
		case certificatesv1.UsageClientAuth:
			client = true
		default:
			return fmt.Errorf("invalid usage for client certificate: %s", u)
		}
	}
	if !client {
		return fmt.Errorf("missing required usage for client certificate: %s", certificatesv1.UsageClientAuth)
	}
	return nil
}

func kubeletServing(asked *x509.CertificateRequest, usages []certificatesv1.KeyUsage) error {
	if len(asked.DNSNames)+len(asked.IPAddresses) == 0 && node(asked) == nil {
		return errors.New("DNS or IP subjectAltName is required")
	}
	return first(node(asked), others(asked), exactly(usages, certificatesv1.UsageServerAuth))
}

func kubeletClient(asked *x509.CertificateRequest, usages []certificatesv1.KeyUsage) error {
	var names error
	switch {
	case len(asked.DNSNames) > 0:
		names = errors.New("DNS subjectAltNames are not allowed")
	case len(asked.IPAddresses) > 0:
		names = errors.New("IP subjectAltNames are not allowed")
	}
	return first(node(asked), names, others(asked), exactly(usages, certificatesv1.UsageClientAuth))
}

func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func node(asked *x509.CertificateRequest) error {
	if !slices.Equal(asked.Subject.Organization, []string{"system:nodes"}) {
		return errors.New("subject organization is not system:nodes")
	}
	if !strings.HasPrefix(asked.Subject.CommonName, "system:node:") {
		return errors.New("subject common name does not begin with system:node:")
	}
	return nil
}

func others(asked *x509.CertificateRequest) error {
	switch {
	case len(asked.EmailAddresses) > 0:
		return errors.New("Email subjectAltNames are not allowed")
	case len(asked.URIs) > 0:
		return errors.New("URI subjectAltNames are not allowed")
	}
	return nil
}

// exactly: a node's certificate signs and authenticates; keys that are RSA
// encipher too.
func exactly(have []certificatesv1.KeyUsage, auth certificatesv1.KeyUsage) error {
	want := []certificatesv1.KeyUsage{auth, certificatesv1.UsageDigitalSignature, certificatesv1.UsageKeyEncipherment}
	slices.Sort(want)
	sorted := slices.Compact(slices.Sorted(slices.Values(have)))
	withoutRSA := slices.DeleteFunc(slices.Clone(want), func(u certificatesv1.KeyUsage) bool { return u == certificatesv1.UsageKeyEncipherment })
	if slices.Equal(sorted, want) || slices.Equal(sorted, withoutRSA) {
		return nil
	}
	return fmt.Errorf("usages did not match %v", want)
}

// approved returns a condition that says so.
func approved(why string) certificatesv1.CertificateSigningRequestCondition {
	return certificatesv1.CertificateSigningRequestCondition{Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue,
		Reason: "AutoApproved", Message: why}
}

// failed returns a condition that says so.
func failed(why string, now metav1.Time) certificatesv1.CertificateSigningRequestCondition {
	return certificatesv1.CertificateSigningRequestCondition{Type: certificatesv1.CertificateFailed, Status: corev1.ConditionTrue,
		Reason: "SignerValidationFailure", Message: why, LastUpdateTime: now}
}
