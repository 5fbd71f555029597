package policy

import (
	"context"
	"errors"
	"fmt"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/admission/plugin/cel"
	"k8s.io/apiserver/pkg/admission/plugin/policy/mutating/patch"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/cel/environment"

	"sampan/cluster/admission"
	"sampan/cluster/admission/match"
	"sampan/cluster/client"
	"sampan/cluster/kind/admissionregistration"
)

// Mutating changes what is written as the MutatingAdmissionPolicies say.
type Mutating struct {
	Config
	policies match.Compiled[*admissionregistrationv1.MutatingAdmissionPolicy, *mutatingPolicy]
	bindings match.Compiled[*admissionregistrationv1.MutatingAdmissionPolicyBinding, *binding]
}

// NewMutating returns the plugin.
func NewMutating(cfg Config) (*Mutating, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if cfg.Types == nil {
		return nil, errors.New("policy: Config.Types is required")
	}
	return &Mutating{Config: cfg}, nil
}

type mutatingPolicy struct {
	spec
	again    bool // reinvocationPolicy is IfNeeded
	compiler *cel.CompositedCompiler
	patchers []patch.Patcher
}

func compileMutating(p *admissionregistrationv1.MutatingAdmissionPolicy) (*mutatingPolicy, error) {
	s := &p.Spec
	selected, err := selection(s.MatchConstraints)
	if err != nil {
		return nil, err
	}
	compiler, err := admissionregistration.Compiler()
	if err != nil {
		return nil, err
	}
	c := &mutatingPolicy{compiler: compiler, again: s.ReinvocationPolicy == admissionregistrationv1.IfNeededReinvocationPolicy,
		spec: spec{name: p.Name, failure: s.FailurePolicy, params: s.ParamKind, match: selected}}
	rights, patches := declared(s.ParamKind, true, false), declared(s.ParamKind, true, true)
	for _, v := range s.Variables {
		compiler.CompileAndStoreVariable(admissionregistration.Variable(v), rights, environment.StoredExpressions)
	}
	c.conditions = match.NewConditions(s.MatchConditions, compiler, rights)
	for _, m := range s.Mutations {
		switch {
		case m.JSONPatch != nil:
			c.patchers = append(c.patchers, patch.NewJSONPatcher(compiler.CompileMutatingEvaluator(
				&patch.JSONPatchCondition{Expression: m.JSONPatch.Expression}, patches, environment.StoredExpressions)))
		case m.ApplyConfiguration != nil:
			c.patchers = append(c.patchers, patch.NewApplyConfigurationPatcher(compiler.CompileMutatingEvaluator(
				&patch.ApplyConfigurationCondition{Expression: m.ApplyConfiguration.Expression}, patches, environment.StoredExpressions)))
		}
	}
	return c, nil
}

func compileMutatingBinding(b *admissionregistrationv1.MutatingAdmissionPolicyBinding) (*binding, error) {
	selected, err := selection(b.Spec.MatchResources)
	return &binding{name: b.Name, policy: b.Spec.PolicyName, params: b.Spec.ParamRef, match: selected}, err
}

// invocation is a policy with a binding and a parameter, and a name to tell it
// from others.
type invocation struct {
	policy  *mutatingPolicy
	binding string
	as      match.As
	param   runtime.Object
}

type invocationKey struct{ policy, binding, param string }

func (i *invocation) key() invocationKey {
	k := invocationKey{policy: i.policy.name, binding: i.binding}
	if m, ok := i.param.(metav1.Object); ok {
		k.param = m.GetNamespace() + "/" + m.GetName()
	}
	return k
}

// fault is why a policy could not do its work.
type fault struct {
	policy, binding string
	reason          metav1.StatusReason
	err             error
}

// Waits implements admission.Waiter: expressions take their time.
func (m *Mutating) Waits() {}

// Mutate implements admission.Mutator.
func (m *Mutating) Mutate(ctx context.Context, a *admission.Attempt) error {
	bindings, err := client.List[*admissionregistrationv1.MutatingAdmissionPolicyBinding](ctx, m.Objects, client.Query{})
	if err != nil || len(bindings) == 0 || a.Object == nil {
		return err
	}
	policies, err := client.List[*admissionregistrationv1.MutatingAdmissionPolicy](ctx, m.Objects, client.Query{})
	if err != nil {
		return err
	}
	s := match.NewSubject(a)
	byPolicy := forPolicies(m.bindings.Of(bindings, compileMutatingBinding))
	var faults []fault
	var all []invocation
	for i, p := range m.policies.Of(policies, compileMutating) {
		note := func(binding string, err error) {
			if f := policies[i].Spec.FailurePolicy; f == nil || *f != admissionregistrationv1.Ignore {
				faults = append(faults, fault{policy: policies[i].Name, binding: binding, err: misconfigured(binding, err)})
			}
		}
		all = append(all, m.invocations(ctx, s, p, byPolicy[policies[i].Name], note)...)
	}
	if len(all) > 0 {
		more, err := m.run(ctx, a, s, all)
		if err != nil {
			return err
		}
		faults = append(faults, more...)
	}
	return refused(s, faults)
}

// refused is the answer if a policy failed. (Upstream:
// generic.policyDispatcher.)
func refused(s *match.Subject, faults []fault) error {
	if len(faults) == 0 {
		return nil
	}
	err := forbidden(s, "admission request denied by policy")
	for i, f := range faults {
		text := fmt.Sprintf("policy %q denied request: %s", f.policy, f.err)
		if f.binding != "" {
			text = fmt.Sprintf("policy '%s' with binding '%s' denied request: %s", f.policy, f.binding, f.err)
		}
		if i == 0 {
			err.ErrStatus.Message = text
			if f.reason != "" {
				err.ErrStatus.Reason = f.reason
			}
		}
		err.ErrStatus.Details.Causes = append(err.ErrStatus.Details.Causes, metav1.StatusCause{Message: text})
	}
	return err
}

// invocations returns the invocations of one policy.
func (m *Mutating) invocations(ctx context.Context, s *match.Subject, p match.Made[*mutatingPolicy], bindings []match.Made[*binding], note func(binding string, err error)) (all []invocation) {
	if len(bindings) == 0 {
		return nil
	}
	if p.Err != nil {
		note("", p.Err)
		return nil
	}
	as, ok, err := p.Value.match.Match(ctx, m.Objects, s)
	if err != nil {
		note("", err)
		return nil
	}
	if !ok {
		return nil
	}
	for _, b := range bindings {
		if b.Err != nil {
			note("", b.Err)
			continue
		}
		ok, err := m.bound(ctx, b.Value, s)
		var params []runtime.Object
		if err == nil && ok {
			params, err = m.params(ctx, p.Value.spec.params, b.Value.params, s.Request.Namespace)
		}
		if err != nil {
			note(b.Value.name, err)
		}
		for _, param := range params {
			all = append(all, invocation{p.Value, b.Value.name, as, param})
		}
	}
	return all
}

// run lets each invocation change the object, one after the other.
func (m *Mutating) run(ctx context.Context, a *admission.Attempt, s *match.Subject, invocations []invocation) (faults []fault, err error) {
	round := match.BeginRound[invocationKey](a, m)
	ns, err := m.namespace(ctx, s)
	if err != nil {
		return nil, err
	}
	rights := m.rights()
	for _, i := range invocations {
		p := i.policy
		ok, err := p.conditions.Match(ctx, s, i.as, i.param, rights)
		if err != nil && !p.ignored() {
			faults = append(faults, fault{p.name, i.binding, metav1.StatusReasonInvalid, err})
		}
		if err != nil || !ok || !round.Due(i.key()) {
			continue
		}
		before := a.Object.DeepCopyObject()
		for _, patcher := range p.patchers {
			err := m.patch(ctx, s, i, patcher, ns, cel.OptionalVariableBindings{VersionedParams: i.param, Authorizer: rights})
			var status apierrors.APIStatus
			if errors.As(err, &status) {
				return nil, err
			}
			if err != nil && !p.ignored() {
				faults = append(faults, fault{p.name, i.binding, metav1.StatusReasonInvalid, err})
			}
		}
		round.Asked(i.key(), !equality.Semantic.DeepEqual(before, runtime.Object(a.Object)), p.again)
	}
	round.End()
	return faults, nil
}

// patch lets one mutation change the object.
func (m *Mutating) patch(ctx context.Context, s *match.Subject, i invocation, p patch.Patcher, ns *corev1.Namespace, variables cel.OptionalVariableBindings) error {
	obj, old, err := s.Objects(i.as)
	if err != nil {
		return err
	}
	converter, err := m.Types(i.as.Kind)
	if err != nil {
		return err
	}
	if converter == nil {
		return apierrors.NewServiceUnavailable(fmt.Sprintf("Resource kind %s not found. There can be a delay between when CustomResourceDefinitions are created and when they are available.", i.as.Kind))
	}
	next, err := p.Patch(i.policy.compiler.CreateContext(ctx), patch.Request{
		MatchedResource: i.as.Resource, VersionedAttributes: s.Attributes(i.as, obj, old), ObjectInterfaces: interfaces{obj},
		OptionalVariables: variables, Namespace: ns, TypeConverter: converter,
	}, celconfig.RuntimeCELCostBudget)
	if err != nil {
		return err
	}
	if u, ok := next.(*unstructured.Unstructured); ok {
		if _, custom := obj.(*unstructured.Unstructured); !custom {
			typed := fresh(obj)
			if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, typed); err != nil {
				return err
			}
			next = typed
		}
	}
	if equality.Semantic.DeepEqual(obj, next) {
		return nil
	}
	return s.Replace(i.as, next)
}
