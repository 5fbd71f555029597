package webhook

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"sync"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	authorizationv1beta1 "k8s.io/api/authorization/v1beta1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	authorizationcel "k8s.io/apiserver/pkg/authorization/cel"

	"sampan/cluster/auth"
	"sampan/cluster/request"
	"sampan/internal/fault"
)

// RuleConfig is what a Rule needs. Endpoint and Version are required.
type RuleConfig struct {
	Endpoint *Endpoint
	Version  string // of authorization.k8s.io: v1 or v1beta1

	// How long answers count; zero: each is asked for.
	Yes, No time.Duration

	// OnError is what counts if the webhook, or a condition, gives no answer:
	// auth.NoOpinion or auth.Deny.
	OnError auth.Decision

	// Conditions say which requests the webhook is asked about; nil: all.
	Conditions *authorizationcel.CELMatcher

	Now func() time.Time // default: time.Now
}

// Rule asks a webhook what somebody may do. It is an auth.Rule, safe for
// concurrent use.
type Rule struct {
	cfg RuleConfig

	mu    sync.Mutex // guards all below
	known map[[sha256.Size]byte]said
}

type said struct {
	status authorizationv1.SubjectAccessReviewStatus
	until  time.Time
}

// Upstream's bounds: of answers kept (beyond it all are forgotten at once), and
// of what a client chose in a question whose answer is kept.
const (
	maxKnown = 8192
	maxAsked = 10000
)

// NewRule returns a Rule.
func NewRule(cfg RuleConfig) (*Rule, error) {
	if cfg.Version != "v1" && cfg.Version != "v1beta1" {
		return nil, &fault.Error{Class: fault.Invalid, Op: "configure authorization webhook", On: "version " + cfg.Version,
			Err: errors.New(`supported versions are "v1", "v1beta1"`)}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Rule{cfg: cfg}, nil
}

// Close ends connections that are kept.
func (w *Rule) Close() { w.cfg.Endpoint.Close() }

// Rules implements auth.Rule.
func (w *Rule) Rules(context.Context, request.User, string) ([]rbacv1.PolicyRule, bool, error) {
	return nil, true, errors.New("webhook authorizer does not support user rule resolution")
}

// Decide implements auth.Rule.
func (w *Rule) Decide(ctx context.Context, a auth.Attributes) (auth.Decision, string, error) {
	ask := &authorizationv1.SubjectAccessReview{Spec: a.Review()}
	if w.cfg.Conditions != nil && len(w.cfg.Conditions.CompilationResults) > 0 {
		matches, err := w.cfg.Conditions.Eval(ctx, ask)
		if err != nil {
			return w.cfg.OnError, "", err
		}
		if !matches {
			return auth.NoOpinion, "", nil
		}
	}
	status, err := w.ask(ctx, a, ask.Spec)
	if err != nil {
		return w.cfg.OnError, "", err
	}
	switch {
	case status.Denied && status.Allowed:
		return auth.Deny, status.Reason, errors.New("webhook subject access review returned both allow and deny response")
	case status.Denied:
		return auth.Deny, status.Reason, nil
	case status.Allowed:
		return auth.Allow, status.Reason, nil
	}
	return auth.NoOpinion, status.Reason, nil
}

func (w *Rule) ask(ctx context.Context, a auth.Attributes, spec authorizationv1.SubjectAccessReviewSpec) (authorizationv1.SubjectAccessReviewStatus, error) {
	text, err := json.Marshal(spec) // maps are in order
	if err != nil {
		return authorizationv1.SubjectAccessReviewStatus{}, err
	}
	key := sha256.Sum256(text)
	w.mu.Lock()
	known, ok := w.known[key]
	w.mu.Unlock()
	if ok && w.cfg.Now().Before(known.until) {
		return known.status, nil
	}
	status, err := w.post(ctx, spec)
	if err != nil {
		return status, err
	}
	lasts := w.cfg.No
	if status.Allowed {
		lasts = w.cfg.Yes
	}
	asked := len(a.Namespace) + len(a.Verb) + len(a.Group) + len(a.Version) + len(a.Resource) + len(a.Subresource) + len(a.Name) + len(a.Path)
	if lasts <= 0 || asked >= maxAsked {
		return status, nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.known == nil || len(w.known) >= maxKnown {
		w.known = map[[sha256.Size]byte]said{}
	}
	w.known[key] = said{status, w.cfg.Now().Add(lasts)}
	return status, nil
}

// post asks in the version that the webhook speaks. In v1beta1 the groups have
// another name.
func (w *Rule) post(ctx context.Context, spec authorizationv1.SubjectAccessReviewSpec) (authorizationv1.SubjectAccessReviewStatus, error) {
	kind := metav1.TypeMeta{APIVersion: "authorization.k8s.io/" + w.cfg.Version, Kind: "SubjectAccessReview"}
	if w.cfg.Version == "v1" {
		ask, answer := authorizationv1.SubjectAccessReview{TypeMeta: kind, Spec: spec}, authorizationv1.SubjectAccessReview{}
		if err := w.cfg.Endpoint.post(ctx, ask, &answer); err != nil {
			return answer.Status, err
		}
		return answer.Status, version(answer.TypeMeta, kind)
	}
	old := authorizationv1beta1.SubjectAccessReviewSpec{User: spec.User, UID: spec.UID, Groups: spec.Groups}
	if spec.Extra != nil {
		old.Extra = map[string]authorizationv1beta1.ExtraValue{}
		for k, v := range spec.Extra {
			old.Extra[k] = authorizationv1beta1.ExtraValue(v)
		}
	}
	if r := spec.ResourceAttributes; r != nil {
		old.ResourceAttributes = &authorizationv1beta1.ResourceAttributes{Namespace: r.Namespace, Verb: r.Verb, Group: r.Group, Version: r.Version,
			Resource: r.Resource, Subresource: r.Subresource, Name: r.Name, FieldSelector: r.FieldSelector, LabelSelector: r.LabelSelector}
	}
	if n := spec.NonResourceAttributes; n != nil {
		old.NonResourceAttributes = &authorizationv1beta1.NonResourceAttributes{Path: n.Path, Verb: n.Verb}
	}
	ask, answer := authorizationv1beta1.SubjectAccessReview{TypeMeta: kind, Spec: old}, authorizationv1beta1.SubjectAccessReview{}
	if err := w.cfg.Endpoint.post(ctx, ask, &answer); err != nil {
		return authorizationv1.SubjectAccessReviewStatus{}, err
	}
	return authorizationv1.SubjectAccessReviewStatus{Allowed: answer.Status.Allowed, Denied: answer.Status.Denied,
		Reason: answer.Status.Reason, EvaluationError: answer.Status.EvaluationError}, version(answer.TypeMeta, kind)
}
