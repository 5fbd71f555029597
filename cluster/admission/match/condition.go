package match

import (
	"context"

	"github.com/google/cel-go/common/types"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	upstream "k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/plugin/cel"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/cel/environment"

	"sampan/cluster/kind/admissionregistration"
)

// Conditions are match conditions, compiled: expressions in CEL of which all
// have to be true. (KEP-3716.)
type Conditions struct{ evaluator cel.ConditionEvaluator }

// NewConditions compiles declared, with compiler if they may use variables.
// Nil if there are none. What does not compile counts as an error in every
// evaluation, as upstream has it: it was refused when it was written.
func NewConditions(declared []admissionregistrationv1.MatchCondition, compiler cel.ConditionCompiler, variables cel.OptionalVariableDeclarations) *Conditions {
	if len(declared) == 0 {
		return nil
	}
	var all []cel.ExpressionAccessor
	for _, d := range declared {
		all = append(all, admissionregistration.Condition(d.Expression))
	}
	if compiler == nil {
		compiler = cel.NewConditionCompiler(environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion()))
	}
	return &Conditions{compiler.CompileCondition(all, variables, environment.StoredExpressions)}
}

// Match says whether all conditions are true of s. One that is false decides;
// otherwise one that fails is an error.
func (c *Conditions) Match(ctx context.Context, s *Subject, as As, params runtime.Object, may authorizer.UnconditionalAuthorizer) (bool, error) {
	if c == nil {
		return true, nil
	}
	ask, err := s.Ask(as)
	if err != nil {
		return false, err
	}
	results, _, err := c.evaluator.ForInput(ctx, s.Attributes(as, ask.Object.Object, ask.OldObject.Object), ask,
		cel.OptionalVariableBindings{VersionedParams: params, Authorizer: may}, nil, celconfig.RuntimeCELCostBudgetMatchConditions)
	if err != nil {
		return false, err
	}
	var failed []error
	for _, r := range results {
		switch {
		case r.Error != nil:
			failed = append(failed, r.Error)
		case r.EvalResult == types.False:
			return false, nil
		}
	}
	return len(failed) == 0, utilerrors.NewAggregate(failed)
}

// Attributes is s as the CEL library wants it, with its objects in a version.
func (s *Subject) Attributes(as As, obj, old runtime.Object) *upstream.VersionedAttributes {
	r := s.Request
	record := upstream.NewAttributesRecord(obj, old, s.Kind, s.Namespace(), r.Name, s.Resource, r.Subresource,
		upstream.Operation(s.Operation), s.options(), r.DryRun, s.User())
	return &upstream.VersionedAttributes{Attributes: record, VersionedKind: as.Kind,
		VersionedObject: upstream.NewLazyObject(obj), VersionedOldObject: upstream.NewLazyObject(old)}
}

// User is who asks, as the CEL library wants it.
func (s *Subject) User() user.Info {
	u := s.Request.User
	return &user.DefaultInfo{Name: u.Name, UID: u.UID, Groups: u.Groups, Extra: u.Extra}
}

// NamespaceFor is what expressions may know of a namespace. (KEP-3488.)
func NamespaceFor(ns *corev1.Namespace) *corev1.Namespace {
	return cel.CreateNamespaceObject(ns)
}
