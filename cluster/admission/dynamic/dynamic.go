// Package dynamic asks admission webhooks: programs of users' that are called
// for the writes their configurations select, and may change or refuse them.
// (Upstream: MutatingAdmissionWebhook and ValidatingAdmissionWebhook.)
//
// Which writes, package match decides. How they are reached, package webhook
// knows.
package dynamic

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/admission/plugin/cel"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/utils/ptr"

	"sampan/cluster/admission/match"
	"sampan/cluster/client"
	"sampan/cluster/webhook"
)

// Config is what both plugins need; all but Metrics is required.
type Config struct {
	Objects client.Reader   // has the configurations and the namespaces
	Calls   *webhook.Caller // reaches webhooks
	May     authorizer.UnconditionalAuthorizer
	Log     *slog.Logger
	Metrics *Metrics // nil: nothing is counted
}

func (c Config) check() error {
	if c.Objects == nil || c.Calls == nil || c.May == nil || c.Log == nil {
		return errors.New("dynamic: Config.Objects, Calls, May and Log are required")
	}
	return nil
}

// hook is one webhook of a configuration, compiled. Mutating and validating
// ones differ in two fields only, which are zero here for the latter.
type hook struct {
	admissionregistrationv1.ValidatingWebhook
	again      bool   // reinvocationPolicy is IfNeeded
	of         string // the configuration's name
	selection  *match.Selection
	conditions *match.Conditions
}

// ignored says whether a failure of the call is no reason to refuse.
func (h *hook) ignored() bool {
	return h.FailurePolicy != nil && *h.FailurePolicy == admissionregistrationv1.Ignore
}

func newHook(of string, w admissionregistrationv1.ValidatingWebhook, again bool) (*hook, error) {
	rules := make([]match.Rule, len(w.Rules))
	for i, r := range w.Rules {
		rules[i].RuleWithOperations = r
	}
	selection, err := match.NewSelection(rules, nil, w.NamespaceSelector, w.ObjectSelector, w.MatchPolicy)
	if err != nil {
		return nil, fmt.Errorf("webhook %q of %s: %w", w.Name, of, err)
	}
	return &hook{ValidatingWebhook: w, again: again, of: of, selection: selection, conditions: match.NewConditions(w.MatchConditions, nil, cel.OptionalVariableDeclarations{HasAuthorizer: true})}, nil
}

func (h *hook) target() webhook.Target {
	c := h.ClientConfig
	t := webhook.Target{URL: ptr.Deref(c.URL, ""), CA: c.CABundle}
	if s := c.Service; s != nil {
		t.Service = &webhook.Service{Namespace: s.Namespace, Name: s.Name, Path: ptr.Deref(s.Path, ""), Port: ptr.Deref(s.Port, 443)}
	}
	return t
}

// timeout is how long an answer may take; upstream's default is ten seconds.
func (h *hook) timeout() time.Duration {
	return time.Duration(ptr.Deref(h.TimeoutSeconds, 10)) * time.Second
}

// hooks are the compiled webhooks of all configurations of type T.
type hooks[T client.Typed] struct {
	objects  client.Reader
	of       func(T) ([]*hook, error)
	compiled match.Compiled[T, []*hook]
}

// all returns the webhooks in the order in which they are called: that of the
// configurations' names.
func (h *hooks[T]) all(ctx context.Context) ([]*hook, error) {
	configurations, err := client.List[T](ctx, h.objects, client.Query{})
	if err != nil {
		return nil, err
	}
	var all []*hook
	for _, c := range h.compiled.Of(configurations, h.of) {
		if c.Err != nil {
			return nil, apierrors.NewInternalError(c.Err)
		}
		all = append(all, c.Value...)
	}
	return all, nil
}

// concerns says whether h is to be called for s, and as what s is shown to it.
func (c *Config) concerns(ctx context.Context, h *hook, s *match.Subject) (as match.As, ok bool, err error) {
	as, ok, err = h.selection.Match(ctx, c.Objects, s)
	if err != nil {
		var status apierrors.APIStatus
		if errors.As(err, &status) {
			return as, false, err
		}
		return as, false, apierrors.NewInternalError(err)
	}
	if !ok {
		return as, false, nil
	}
	ok, err = h.conditions.Match(ctx, s, as, nil, c.May)
	if err != nil {
		if h.ignored() {
			c.Log.Warn("match conditions failed: the webhook is not asked", "webhook", h.Name, "configuration", h.of, "err", err)
			return as, false, nil
		}
		return as, false, apierrors.NewForbidden(s.Resource.GroupResource(), s.Request.Name, err)
	}
	return as, ok, nil
}

// denied is what a webhook's refusal looks like. (Upstream:
// webhook/errors.ToStatusErr.)
func denied(name string, result *metav1.Status) *apierrors.StatusError {
	by := fmt.Sprintf("admission webhook %q denied the request", name)
	if result == nil {
		result = &metav1.Status{}
	}
	s := *result
	s.Code = max(s.Code, http.StatusBadRequest)
	if s.Status == "" || s.Status == metav1.StatusSuccess {
		s.Status = metav1.StatusFailure
	}
	switch {
	case s.Message != "":
		s.Message = by + ": " + s.Message
	case s.Reason != "":
		s.Message = by + ": " + string(s.Reason)
	default:
		s.Message = by + " without explanation"
	}
	return &apierrors.StatusError{ErrStatus: s}
}
