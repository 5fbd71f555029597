package policy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/google/cel-go/common/types"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/admission/plugin/cel"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	apiservercel "k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/cel/environment"

	"sampan/cluster/admission"
	"sampan/cluster/admission/match"
	"sampan/cluster/client"
	"sampan/cluster/kind/admissionregistration"
)

// Validating refuses what does not meet the ValidatingAdmissionPolicies.
type Validating struct {
	Config
	policies match.Compiled[*admissionregistrationv1.ValidatingAdmissionPolicy, *validatingPolicy]
	bindings match.Compiled[*admissionregistrationv1.ValidatingAdmissionPolicyBinding, *binding]
}

// NewValidating returns the plugin.
func NewValidating(cfg Config) (*Validating, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	return &Validating{Config: cfg}, nil
}

type validatingPolicy struct {
	spec
	validations           []admissionregistrationv1.Validation
	keys                  []string // of annotations
	holds, says, annotate cel.ConditionEvaluator
}

// compileValidating compiles a policy's expressions once. What does not compile
// fails in every evaluation: it was refused when it was written.
func compileValidating(p *admissionregistrationv1.ValidatingAdmissionPolicy) (*validatingPolicy, error) {
	s := &p.Spec
	selected, err := selection(s.MatchConstraints)
	if err != nil {
		return nil, err
	}
	compiler, err := admissionregistration.Compiler()
	if err != nil {
		return nil, err
	}
	c := &validatingPolicy{validations: s.Validations, spec: spec{name: p.Name, failure: s.FailurePolicy, params: s.ParamKind, match: selected}}
	rights, plain := declared(s.ParamKind, true, false), declared(s.ParamKind, false, false)
	for _, v := range s.Variables {
		compiler.CompileAndStoreVariable(admissionregistration.Variable(v), rights, environment.StoredExpressions)
	}
	c.conditions = match.NewConditions(s.MatchConditions, compiler, rights)
	var holds, says, annotate []cel.ExpressionAccessor
	for _, v := range s.Validations {
		holds = append(holds, admissionregistration.Condition(v.Expression))
		var message cel.ExpressionAccessor
		if v.MessageExpression != "" {
			message = admissionregistration.Message(v.MessageExpression)
		}
		says = append(says, message)
	}
	for _, a := range s.AuditAnnotations {
		c.keys = append(c.keys, a.Key)
		annotate = append(annotate, admissionregistration.Annotation(a.ValueExpression))
	}
	c.holds = compiler.CompileCondition(holds, rights, environment.StoredExpressions)
	c.says = compiler.CompileCondition(says, plain, environment.StoredExpressions)
	c.annotate = compiler.CompileCondition(annotate, rights, environment.StoredExpressions)
	return c, nil
}

func compileValidatingBinding(b *admissionregistrationv1.ValidatingAdmissionPolicyBinding) (*binding, error) {
	selected, err := selection(b.Spec.MatchResources)
	return &binding{name: b.Name, policy: b.Spec.PolicyName, params: b.Spec.ParamRef, match: selected, actions: b.Spec.ValidationActions}, err
}

// refusal is why a write may not be, by which policy and binding.
type refusal struct {
	policy, binding string
	reason          metav1.StatusReason
	text            string
}

// Waits implements admission.Waiter: expressions take their time.
func (v *Validating) Waits() {}

// Review implements admission.Reviewer.
func (v *Validating) Review(ctx context.Context, a *admission.Attempt) error {
	bindings, err := client.List[*admissionregistrationv1.ValidatingAdmissionPolicyBinding](ctx, v.Objects, client.Query{})
	if err != nil || len(bindings) == 0 {
		return err // policies without bindings are not in force
	}
	policies, err := client.List[*admissionregistrationv1.ValidatingAdmissionPolicy](ctx, v.Objects, client.Query{})
	if err != nil {
		return err
	}
	byPolicy := forPolicies(v.bindings.Of(bindings, compileValidatingBinding))
	s := match.NewSubject(a)
	e := evaluation{Validating: v, Subject: s}
	for i, p := range v.policies.Of(policies, compileValidating) {
		if err := e.policy(ctx, policies[i], p, byPolicy[policies[i].Name]); err != nil {
			return err
		}
	}
	e.publishFailures()
	if len(e.refusals) == 0 {
		return nil
	}
	return e.refusals[0].status(s)
}

// status is the answer that upstream gives.
func (r refusal) status(s *match.Subject) error {
	text := fmt.Sprintf("ValidatingAdmissionPolicy '%s' denied request: %s", r.policy, r.text)
	if r.binding != "" {
		text = fmt.Sprintf("ValidatingAdmissionPolicy '%s' with binding '%s' denied request: %s", r.policy, r.binding, r.text)
	}
	err := forbidden(s, text)
	err.ErrStatus.Reason, err.ErrStatus.Code = metav1.StatusReasonInvalid, http.StatusUnprocessableEntity
	if r.reason != "" {
		err.ErrStatus.Reason = r.reason
	}
	switch r.reason {
	case metav1.StatusReasonForbidden:
		err.ErrStatus.Code = http.StatusForbidden
	case metav1.StatusReasonUnauthorized:
		err.ErrStatus.Code = http.StatusUnauthorized
	case metav1.StatusReasonRequestEntityTooLarge:
		err.ErrStatus.Code = http.StatusRequestEntityTooLarge
	}
	err.ErrStatus.Details.Causes = append(err.ErrStatus.Details.Causes, metav1.StatusCause{Message: text})
	return err
}

// evaluation is one write, held to all policies.
type evaluation struct {
	*Validating
	*match.Subject
	refusals []refusal
	failures []failure // for the audit log
}

// misconfigured notes what keeps a policy from being evaluated.
func (e *evaluation) misconfigured(failure *admissionregistrationv1.FailurePolicyType, policy, binding string, err error) {
	if failure != nil && *failure == admissionregistrationv1.Ignore {
		return
	}
	e.refusals = append(e.refusals, refusal{policy: policy, binding: binding, text: misconfigured(binding, err).Error()})
}

func (e *evaluation) policy(ctx context.Context, declared *admissionregistrationv1.ValidatingAdmissionPolicy, p match.Made[*validatingPolicy], bindings []match.Made[*binding]) error {
	if len(bindings) == 0 {
		return nil
	}
	if p.Err != nil {
		e.misconfigured(declared.Spec.FailurePolicy, declared.Name, "", p.Err)
		return nil
	}
	policy := p.Value
	as, ok, err := policy.match.Match(ctx, e.Validating.Objects, e.Subject)
	if err != nil {
		e.misconfigured(policy.failure, policy.name, "", err)
		return nil
	}
	if !ok {
		return nil
	}
	said := annotations{}
	for _, b := range bindings {
		if b.Err != nil {
			e.misconfigured(policy.failure, policy.name, "", b.Err)
			continue
		}
		if err := e.bindingOf(ctx, policy, b.Value, as, said); err != nil {
			return err
		}
	}
	e.publish(policy.name, said)
	return nil
}

func (e *evaluation) bindingOf(ctx context.Context, p *validatingPolicy, b *binding, as match.As, said annotations) error {
	ok, err := e.bound(ctx, b, e.Subject)
	var params []runtime.Object
	if err == nil && ok {
		params, err = e.params(ctx, p.spec.params, b.params, e.Request.Namespace)
	}
	if err != nil {
		e.misconfigured(p.failure, p.name, b.name, err)
		return nil
	}
	if !ok {
		return nil
	}
	ns, err := e.namespace(ctx, e.Subject)
	if err != nil {
		return err
	}
	rights := e.rights()
	for _, param := range params {
		e.note(p, b, e.judge(ctx, p, b, as, param, ns, rights, said))
	}
	return nil
}

// verdict is what is wrong with a write by one validation, or why that is not
// known.
type verdict struct {
	reason metav1.StatusReason
	text   string
	forced bool // not a matter of the binding's actions: an annotation failed
	index  int  // of the validation
	took   time.Duration
}

// note does with the verdicts as the binding says.
func (e *evaluation) note(p *validatingPolicy, b *binding, verdicts []verdict) {
	for _, v := range verdicts {
		deny := refusal{policy: p.name, binding: b.name, reason: v.reason, text: v.text}
		if v.forced {
			e.Metrics.count(p.name, b.name, "deny", v.text, v.took)
			e.refusals = append(e.refusals, deny)
			continue
		}
		for _, action := range b.actions {
			e.Metrics.count(p.name, b.name, strings.ToLower(string(action)), v.text, v.took)
			switch action {
			case admissionregistrationv1.Deny:
				e.refusals = append(e.refusals, deny)
			case admissionregistrationv1.Warn:
				if e.Request.Warn != nil {
					e.Request.Warn(fmt.Sprintf("Validation failed for ValidatingAdmissionPolicy '%s' with binding '%s': %s", p.name, b.name, v.text))
				}
			case admissionregistrationv1.Audit:
				e.failures = append(e.failures, failure{v.text, b.policy, b.name, v.index, b.actions})
			}
		}
	}
}

// judge runs the expressions of a policy with one parameter. What its audit
// annotations say is added to said.
func (e *evaluation) judge(ctx context.Context, p *validatingPolicy, b *binding, as match.As, param runtime.Object, ns *corev1.Namespace, rights authorizer.UnconditionalAuthorizer, said annotations) []verdict {
	failed := func(err error) []verdict {
		if p.ignored() {
			e.Metrics.count(p.name, b.name, "allow", err.Error(), 0)
			return nil
		}
		return []verdict{{text: err.Error()}}
	}
	ok, err := p.conditions.Match(ctx, e.Subject, as, param, rights)
	if err != nil {
		return failed(err)
	}
	if !ok {
		return nil
	}
	ask, err := e.Ask(as)
	if err != nil {
		return failed(err)
	}
	seen := e.Attributes(as, ask.Object.Object, ask.OldObject.Object)
	with, without := cel.OptionalVariableBindings{VersionedParams: param, Authorizer: rights}, cel.OptionalVariableBindings{VersionedParams: param}
	results, left, err := p.holds.ForInput(ctx, seen, ask, with, ns, celconfig.RuntimeCELCostBudget)
	if err != nil {
		return failed(err)
	}
	messages, _, messageErr := p.says.ForInput(ctx, seen, ask, without, ns, left)
	var verdicts []verdict
	for i, r := range results {
		switch {
		case r.Error != nil:
			verdicts = append(verdicts, at(i, failed(r.Error))...)
		case errors.Is(messageErr, apiservercel.ErrInternal) || errors.Is(messageErr, apiservercel.ErrOutOfBudget):
			verdicts = append(verdicts, at(i, failed(fmt.Errorf("failed messageExpression: %w", messageErr)))...)
		case r.EvalResult != types.True:
			var message cel.EvaluationResult
			if i < len(messages) {
				message = messages[i]
			}
			v := verdict{reason: metav1.StatusReasonInvalid, text: text(p.validations[i], message), index: i, took: r.Elapsed}
			if reason := p.validations[i].Reason; reason != nil {
				v.reason = *reason
			}
			verdicts = append(verdicts, v)
		}
	}
	annotations, _, err := p.annotate.ForInput(ctx, seen, ask, with, ns, celconfig.RuntimeCELCostBudget)
	if err != nil {
		return failed(err)
	}
	for i, a := range annotations {
		if a.Error != nil && !p.ignored() {
			verdicts = append(verdicts, verdict{text: a.Error.Error(), forced: true, took: a.Elapsed})
		} else if a.Error == nil && a.EvalResult.Type() == types.StringType {
			if value := strings.TrimSpace(a.EvalResult.Value().(string)); value != "" {
				said.add(p.keys[i], value)
			}
		}
	}
	return verdicts
}

// at are verdicts about one validation.
func at(index int, verdicts []verdict) []verdict {
	for i := range verdicts {
		verdicts[i].index = index
	}
	return verdicts
}

// text is what a failed validation says: what its expression makes, or what is
// written there, or the expression itself.
func text(v admissionregistrationv1.Validation, made cel.EvaluationResult) string {
	if made.Error == nil && made.EvalResult != nil {
		if s, ok := made.EvalResult.Value().(string); ok {
			if s = strings.TrimSpace(s); s != "" && len(s) <= celconfig.MaxEvaluatedMessageExpressionSizeBytes && !strings.Contains(s, "\n") {
				return s
			}
		}
	}
	if v.Message != "" {
		return strings.TrimSpace(v.Message)
	}
	return "failed expression: " + strings.TrimSpace(v.Expression)
}
