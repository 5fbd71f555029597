package admission

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
	"sampan/cluster/request"
)

// Certificates has what the kinds of certificates.k8s.io cannot know: who asks
// for a certificate, and when. Upstream has it in the registry.
type Certificates struct {
	May Signers
	Now func() time.Time
}

// CertificateApproval lets those approve a request for a certificate who may.
type CertificateApproval struct{ May Signers }

// CertificateSigning lets those sign who may.
type CertificateSigning struct{ May Signers }

// CertificateSubjectRestriction refuses requests to be everything, from the
// signer whose certificates the API server believes.
type CertificateSubjectRestriction struct{}

// ClusterTrustBundleAttest lets those publish what a signer is known by who
// may.
type ClusterTrustBundleAttest struct{ May Signers }

// Signers answers for the verbs "approve", "sign" and "attest" of signers.
type Signers interface {
	MaySigner(ctx context.Context, u request.User, verb, signer string) bool
}

// Mutate implements Mutator: it writes down who asks, and when conditions
// changed.
func (c Certificates) Mutate(_ context.Context, a *Attempt) error {
	r, ok := a.Object.(*certificatesv1.CertificateSigningRequest)
	if !ok {
		return nil
	}
	switch {
	case a.Operation == Create:
		u := a.Request.User
		r.Spec.Username, r.Spec.UID, r.Spec.Groups, r.Spec.Extra = u.Name, u.UID, slices.Clone(u.Groups), nil
		for key, values := range u.Extra {
			if r.Spec.Extra == nil {
				r.Spec.Extra = map[string]certificatesv1.ExtraValue{}
			}
			r.Spec.Extra[key] = slices.Clone(values)
		}
	case a.Operation == Update && a.Request.Subresource != "":
		stampConditions(r, a.Old.(*certificatesv1.CertificateSigningRequest), metav1.NewTime(c.Now()).Rfc3339Copy())
	}
	return nil
}

// stampConditions fills in times that were left out. A condition that there
// was with the same status has not changed.
func stampConditions(r, old *certificatesv1.CertificateSigningRequest, now metav1.Time) {
	r.Status.Conditions = slices.Clone(r.Status.Conditions)
	for i := range r.Status.Conditions {
		c := &r.Status.Conditions[i]
		if c.LastUpdateTime.IsZero() {
			c.LastUpdateTime = now
		}
		if !c.LastTransitionTime.IsZero() {
			continue
		}
		c.LastTransitionTime = now
		for _, had := range old.Status.Conditions {
			if had.Type == c.Type && had.Status == c.Status && !had.LastTransitionTime.IsZero() {
				c.LastTransitionTime = had.LastTransitionTime
				break
			}
		}
	}
}

// Review implements Reviewer.
func (c Certificates) Review(ctx context.Context, a *Attempt) error {
	if r, ok := a.Object.(*certificatesv1.PodCertificateRequest); ok {
		return c.podRequest(ctx, a, r)
	}
	return nil
}

// signing returns the request for a certificate of which a subresource is
// written, as it is and as it was.
func signing(a *Attempt, subresource string) (r, old *certificatesv1.CertificateSigningRequest, ok bool) {
	r, ok = a.Object.(*certificatesv1.CertificateSigningRequest)
	if !ok || a.Operation != Update || a.Request.Subresource != subresource {
		return nil, nil, false
	}
	old, ok = a.Old.(*certificatesv1.CertificateSigningRequest)
	return r, old, ok
}

// Review implements Reviewer.
func (c CertificateApproval) Review(ctx context.Context, a *Attempt) error {
	if _, old, ok := signing(a, "approval"); ok && !c.May.MaySigner(ctx, a.Request.User, "approve", old.Spec.SignerName) {
		return forbidden(a, fmt.Errorf("user not permitted to approve requests with signerName %q", old.Spec.SignerName))
	}
	return nil
}

// Review implements Reviewer.
func (c CertificateSigning) Review(ctx context.Context, a *Attempt) error {
	r, old, ok := signing(a, "status")
	if !ok || bytes.Equal(r.Status.Certificate, old.Status.Certificate) && kind.Equal(r.Status.Conditions, old.Status.Conditions) {
		return nil
	}
	if !c.May.MaySigner(ctx, a.Request.User, "sign", old.Spec.SignerName) {
		return forbidden(a, fmt.Errorf("user not permitted to sign requests with signerName %q", old.Spec.SignerName))
	}
	return nil
}

// Review implements Reviewer.
func (CertificateSubjectRestriction) Review(_ context.Context, a *Attempt) error {
	r, ok := a.Object.(*certificatesv1.CertificateSigningRequest)
	if !ok || a.Operation != Create || a.Request.Subresource != "" || r.Spec.SignerName != certificatesv1.KubeAPIServerClientSignerName {
		return nil
	}
	block, _ := pem.Decode(r.Spec.Request)
	if block == nil {
		return forbidden(a, errors.New("failed to parse CSR: PEM block type must be CERTIFICATE REQUEST"))
	}
	asked, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return forbidden(a, fmt.Errorf("failed to parse CSR: %w", err))
	}
	if slices.Contains(asked.Subject.Organization, masters) {
		return forbidden(a, fmt.Errorf("use of %s signer with system:masters group is not allowed", r.Spec.SignerName))
	}
	return nil
}

// Review implements Reviewer.
func (c ClusterTrustBundleAttest) Review(ctx context.Context, a *Attempt) error {
	b, ok := a.Object.(*certificatesv1.ClusterTrustBundle)
	if !ok || b.Spec.SignerName == "" || a.Operation == Update && onlyForCollector(a) {
		return nil
	}
	if !c.May.MaySigner(ctx, a.Request.User, "attest", b.Spec.SignerName) {
		return forbidden(a, fmt.Errorf("user not permitted to attest for signerName %q", b.Spec.SignerName))
	}
	return nil
}

// podRequest lets those sign who may, and certificates begin now: the clocks
// of signer and server agree.
func (c Certificates) podRequest(ctx context.Context, a *Attempt, r *certificatesv1.PodCertificateRequest) error {
	old, _ := a.Old.(*certificatesv1.PodCertificateRequest)
	if a.Request.Subresource != "status" || old == nil || kind.Equal(r.Status, old.Status) {
		return nil
	}
	var errs field.ErrorList
	if t := r.Status.NotBefore; t != nil {
		const skew = 5 * time.Minute
		if off := c.Now().Sub(t.Time); off <= -skew || off >= skew {
			errs = append(errs, field.Invalid(field.NewPath("status", "notBefore"), t.Time, "must be set to within 5 minutes of kube-apiserver's current time"))
		}
	}
	if len(errs) == 0 && !c.May.MaySigner(ctx, a.Request.User, "sign", old.Spec.SignerName) {
		errs = append(errs, field.Forbidden(field.NewPath("spec", "signerName"),
			fmt.Sprintf("User %q is not permitted to \"sign\" for signer %q", a.Request.User.Name, old.Spec.SignerName)))
	}
	if len(errs) > 0 {
		return apierrors.NewInvalid(a.Request.Kind.GVK.GroupKind(), r.Name, errs)
	}
	return nil
}
