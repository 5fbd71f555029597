package dynamic

import (
	"context"
	"errors"
	"fmt"
	"slices"

	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/utils/ptr"

	"sampan/cluster/admission/match"
	"sampan/cluster/webhook"
)

// failed is a call that brought no answer, apart from a refusal.
type failed struct{ err error }

func (f *failed) Error() string { return f.err.Error() }
func (f *failed) Unwrap() error { return f.err }

// refused is a webhook's own no.
type refused struct{ *apierrors.StatusError }

// ask calls a webhook for s, and returns its answer if it agrees. A refusal is
// *refused; a call that failed is a *failed. patches says whether the answer
// may have a patch.
func (c *Config) ask(ctx context.Context, h *hook, s *match.Subject, as match.As, patches bool) (*admissionv1.AdmissionResponse, error) {
	if effects := ptr.Deref(h.SideEffects, admissionregistrationv1.SideEffectClassUnknown); s.Request.DryRun &&
		effects != admissionregistrationv1.SideEffectClassNone && effects != admissionregistrationv1.SideEffectClassNoneOnDryRun {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("admission webhook %q does not support dry run", h.Name))
	}
	trouble := func(what string, err error) error {
		return &failed{fmt.Errorf("failed calling webhook %q: %s: %w", h.Name, what, err)}
	}
	// v1 and v1beta1 are the same but for their name.
	i := slices.IndexFunc(h.AdmissionReviewVersions, func(v string) bool { return v == "v1" || v == "v1beta1" })
	if i < 0 {
		return nil, trouble("could not create admission objects", errors.New("webhook does not accept known AdmissionReview versions (v1, v1beta1)"))
	}
	request, err := s.Ask(as)
	if err != nil {
		return nil, trouble("could not create admission objects", err)
	}
	request.UID = uuid.NewUUID()
	review := admissionv1.AdmissionReview{Request: request, TypeMeta: metav1.TypeMeta{
		APIVersion: admissionv1.GroupName + "/" + h.AdmissionReviewVersions[i], Kind: "AdmissionReview"}}
	var answer admissionv1.AdmissionReview
	err = c.Calls.Post(ctx, webhook.Call{Target: h.target(), Timeout: h.timeout(), Announce: true}, &review, &answer)
	if ctx.Err() != nil {
		return nil, apierrors.NewTimeoutError("request did not complete within requested timeout", 0)
	}
	if err != nil {
		return nil, trouble("failed to call webhook", err)
	}
	if err := valid(&review, &answer, patches); err != nil {
		return nil, trouble("received invalid webhook response", err)
	}
	for key, value := range answer.Response.AuditAnnotations {
		s.Request.Note(h.Name+"/"+key, value)
	}
	if warn := s.Request.Warn; warn != nil {
		for _, text := range answer.Response.Warnings {
			warn(text)
		}
	}
	if !answer.Response.Allowed {
		return nil, &refused{denied(h.Name, answer.Response.Result)}
	}
	return answer.Response, nil
}

// valid says what is wrong with an answer. (Upstream:
// VerifyAdmissionResponse, with its texts; v1beta1 is taken as it comes.)
func valid(review, answer *admissionv1.AdmissionReview, patches bool) error {
	r := answer.Response
	if r == nil {
		return errors.New("webhook response was absent")
	}
	if review.APIVersion != admissionv1.SchemeGroupVersion.String() {
		if patches && len(r.Patch) > 0 {
			r.PatchType = ptr.To(admissionv1.PatchTypeJSONPatch)
		}
		return nil
	}
	switch want, got := review.GroupVersionKind(), answer.GroupVersionKind(); {
	case r.UID != review.Request.UID:
		return fmt.Errorf("expected response.uid=%q, got %q", review.Request.UID, r.UID)
	case want != got:
		return fmt.Errorf("expected webhook response of %v, got %v", want, got)
	case !patches && len(r.Patch) > 0:
		return errors.New("validating webhook may not return response.patch")
	case !patches && r.PatchType != nil:
		return errors.New("validating webhook may not return response.patchType")
	case len(r.Patch) > 0 && r.PatchType == nil:
		return errors.New("webhook returned response.patch but not response.patchType")
	case len(r.Patch) == 0 && r.PatchType != nil:
		return errors.New("webhook returned response.patchType but not response.patch")
	case r.PatchType != nil && *r.PatchType == "":
		return fmt.Errorf("webhook returned invalid response.patchType of %q", *r.PatchType)
	}
	return nil
}
