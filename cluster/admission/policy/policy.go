// Package policy holds writes to the policies that users wrote in CEL, and
// changes them as policies say: ValidatingAdmissionPolicy (KEP-3488) and
// MutatingAdmissionPolicy (KEP-3962). A policy is in force where a binding
// puts it in force, with the parameters that the binding names.
//
// Which writes, package match decides; what expressions mean, the CEL library
// of upstream does.
package policy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apiserver/pkg/admission/plugin/cel"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/utils/ptr"

	"sampan/cluster/admission/match"
	"sampan/cluster/client"
	"sampan/cluster/object"
)

// Config is what both plugins need; all is required, Types by the mutating one
// only.
type Config struct {
	Objects client.Reader // has the policies, their bindings, parameters and the namespaces
	May     authorizer.UnconditionalAuthorizer
	Types   object.Types // the schemas of kinds, to apply configurations by
	Log     *slog.Logger
	Metrics *Metrics // nil: nothing is counted
}

func (c *Config) check() error {
	if c.Objects == nil || c.May == nil || c.Log == nil {
		return errors.New("policy: Config.Objects, May and Log are required")
	}
	return nil
}

// spec is what both kinds of policies have in common.
type spec struct {
	name       string
	failure    *admissionregistrationv1.FailurePolicyType
	params     *admissionregistrationv1.ParamKind
	match      *match.Selection
	conditions *match.Conditions
}

func (s *spec) ignored() bool {
	return ptr.Deref(s.failure, admissionregistrationv1.Fail) == admissionregistrationv1.Ignore
}

// binding puts a policy in force.
type binding struct {
	name, policy string
	params       *admissionregistrationv1.ParamRef
	match        *match.Selection                           // nil: as the policy
	actions      []admissionregistrationv1.ValidationAction // of validating ones
}

// forPolicies are bindings by the names of their policies.
func forPolicies(bindings []match.Made[*binding]) map[string][]match.Made[*binding] {
	all := map[string][]match.Made[*binding]{}
	for _, b := range bindings {
		all[b.Value.policy] = append(all[b.Value.policy], b)
	}
	return all
}

// misconfigured is what keeps a policy from being evaluated, by itself or in
// one binding.
func misconfigured(binding string, err error) error {
	what := "policy"
	if binding != "" {
		what = "binding"
	}
	return fmt.Errorf("failed to configure %s: %w", what, err)
}

// selection compiles match resources; nil selects all that the rules of the
// other side do.
func selection(m *admissionregistrationv1.MatchResources) (*match.Selection, error) {
	if m == nil {
		return nil, nil
	}
	rules := func(named []admissionregistrationv1.NamedRuleWithOperations) []match.Rule {
		all := make([]match.Rule, len(named))
		for i, n := range named {
			all[i] = match.Rule{RuleWithOperations: n.RuleWithOperations, Names: n.ResourceNames}
		}
		return all
	}
	return match.NewSelection(rules(m.ResourceRules), rules(m.ExcludeResourceRules), m.NamespaceSelector, m.ObjectSelector, m.MatchPolicy)
}

// namespace is the one that s is in, nil if it is in none. A Namespace is in
// none, whatever its name.
func (c *Config) namespace(ctx context.Context, s *match.Subject) (*corev1.Namespace, error) {
	if s.Request.Namespace == "" || s.Request.Kind.Cluster {
		return nil, nil
	}
	ns, err := client.Get[*corev1.Namespace](ctx, c.Objects, "", s.Request.Namespace)
	if err != nil {
		return nil, err
	}
	return match.NamespaceFor(ns), nil
}

// bound says whether a binding is about s.
func (c *Config) bound(ctx context.Context, b *binding, s *match.Subject) (bool, error) {
	if b.match == nil {
		return true, nil
	}
	_, ok, err := b.match.Limits(ctx, c.Objects, s)
	return ok, err
}

// rights are what the variable "authorizer" answers with, each question asked
// once.
func (c *Config) rights() authorizer.UnconditionalAuthorizer {
	answers := map[string]authorizer.Decision{}
	return authorizer.AuthorizerFunc(func(ctx context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
		fields, _ := a.GetFieldSelector()
		labels, _ := a.GetLabelSelector()
		question := fmt.Sprint(a.GetUser(), a.GetVerb(), a.GetAPIGroup(), a.GetAPIVersion(), a.GetResource(), a.GetSubresource(),
			a.GetNamespace(), a.GetName(), a.GetPath(), fields, labels)
		if d, ok := answers[question]; ok {
			return d, "", nil
		}
		d, why, err := c.May.Authorize(ctx, a)
		if err == nil {
			answers[question] = d
		}
		return d, why, err
	})
}

// declared are the variables of expressions.
func declared(params *admissionregistrationv1.ParamKind, rights, patches bool) cel.OptionalVariableDeclarations {
	return cel.OptionalVariableDeclarations{HasParams: params != nil, HasAuthorizer: rights, HasPatchTypes: patches}
}

// forbidden is a refusal, which others give reason and code. (Upstream:
// admission.NewForbidden.)
func forbidden(s *match.Subject, text string) *apierrors.StatusError {
	name := s.Request.Name
	if name == "" {
		name = "Unknown"
		if s.Object != nil && s.Object.GetGenerateName() != "" {
			name = s.Object.GetGenerateName()
		}
	}
	return apierrors.NewForbidden(s.Resource.GroupResource(), name, errors.New(text))
}
