package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	celgo "github.com/google/cel-go/cel"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/apiserver/pkg/admission/plugin/cel"
	apiservercel "k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/cel/common"
	"k8s.io/apiserver/pkg/cel/environment"
	"k8s.io/apiserver/pkg/cel/library"
	"k8s.io/apiserver/pkg/cel/openapi"
	openapispec "k8s.io/kube-openapi/pkg/validation/spec"

	"sampan/cluster/kind"
	"sampan/cluster/kind/admissionregistration"
)

// Checker finds out whether the expressions of policies fit the kinds that
// they are about. What does not fit is said in the policy's status and changes
// nothing else. (Upstream: validating.TypeChecker.)
type Checker struct {
	Kinds *kind.Table
	// Schema is that of a kind in a version, without references.
	Schema func(schema.GroupVersionKind) (*openapispec.Schema, error)
}

// mostKinds of one policy are looked at.
const mostKinds = 10

// Check returns what does not fit, nil if all does.
func (c Checker) Check(p *admissionregistrationv1.ValidatingAdmissionPolicy) (warnings []admissionregistrationv1.ExpressionWarning) {
	var kinds []typed
	for _, gvk := range c.kindsOf(p.Spec.MatchConstraints) {
		if t, ok := c.typeOf(gvk, len(kinds)); ok {
			kinds = append(kinds, typed{gvk, t})
		}
	}
	var params typed
	if k := p.Spec.ParamKind; k != nil {
		params.gvk = schema.FromAPIVersionAndKind(k.APIVersion, k.Kind)
		params.is, _ = c.typeOf(params.gvk, len(kinds))
	}
	check := func(expression string, at *field.Path) {
		var text []string
		for _, k := range kinds {
			if err := misfit(expression, k.is, params, p.Spec.Variables); err != nil {
				text = append(text, fmt.Sprintf("%v: %s\n", k.gvk, err))
			}
		}
		if len(text) > 0 {
			warnings = append(warnings, admissionregistrationv1.ExpressionWarning{FieldRef: at.String(), Warning: strings.Join(text, "\n")})
		}
	}
	for i, v := range p.Spec.Validations {
		at := field.NewPath("spec", "validations").Index(i)
		check(v.Expression, at.Child("expression"))
		if v.MessageExpression != "" {
			check(v.MessageExpression, at.Child("messageExpression"))
		}
	}
	return warnings
}

// typed is a kind with what expressions may know of it; nil: nothing.
type typed struct {
	gvk schema.GroupVersionKind
	is  *apiservercel.DeclType
}

// typeOf is what expressions may know of a kind. n makes the name of the type
// one that no other has.
func (c Checker) typeOf(gvk schema.GroupVersionKind, n int) (t *apiservercel.DeclType, known bool) {
	s, err := c.Schema(gvk)
	if err != nil {
		return nil, false // who is not known is not held to anything
	}
	if t = common.SchemaDeclType(&openapi.Schema{Schema: s}, true); t != nil {
		t = t.MaybeAssignTypeName(fmt.Sprintf("%s%d", gvk.Kind, n))
	}
	return t, true
}

// kindsOf are the kinds that rules name. Rules with wildcards name none.
func (c Checker) kindsOf(m *admissionregistrationv1.MatchResources) (all []schema.GroupVersionKind) {
	if m == nil {
		return nil
	}
	found := map[schema.GroupVersionKind]bool{}
	for _, r := range m.ResourceRules {
		if wild(r.APIGroups) || wild(r.APIVersions) {
			continue
		}
		count := 0
		for _, group := range sorted(r.APIGroups) {
			for _, v := range sorted(r.APIVersions) {
				for _, resource := range sorted(r.Resources) {
					if strings.ContainsAny(resource, "*/") {
						continue // nor do subresources
					}
					for _, gvk := range c.named(schema.GroupVersionResource{Group: group, Version: v, Resource: resource}) {
						if found[gvk] = true; count == mostKinds-1 {
							return inOrder(found)
						}
						count++
					}
				}
			}
		}
	}
	return inOrder(found)
}

// named are the kinds that a resource may mean. Without a group it is one of
// any group, as for upstream's RESTMapper.
func (c Checker) named(r schema.GroupVersionResource) (all []schema.GroupVersionKind) {
	for _, k := range c.Kinds.All() {
		if k.Plural != r.Resource && k.Singular != r.Resource {
			continue
		}
		for _, f := range k.Faces() {
			if f.GVK.Version == r.Version && (f.GVK.Group == r.Group || r.Group == "") {
				all = append(all, f.GVK)
			}
		}
	}
	return all
}

func wild(names []string) bool {
	return slices.ContainsFunc(names, func(s string) bool { return strings.Contains(s, "*") })
}

func sorted(names []string) []string { return slices.Sorted(slices.Values(names)) }

func inOrder(found map[schema.GroupVersionKind]bool) (all []schema.GroupVersionKind) {
	for gvk := range found {
		all = append(all, gvk)
	}
	slices.SortFunc(all, func(a, b schema.GroupVersionKind) int {
		return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.Version, b.Version), cmp.Compare(a.Kind, b.Kind))
	})
	return all
}

// misfit is why an expression does not fit objects of a type.
func misfit(expression string, object *apiservercel.DeclType, params typed, variables []admissionregistrationv1.Variable) error {
	types := []*apiservercel.DeclType{cel.BuildNamespaceType(), cel.BuildRequestType()}
	options := []celgo.EnvOption{
		celgo.Variable(cel.NamespaceVarName, types[0].CelType()), celgo.Variable(cel.RequestVarName, types[1].CelType()),
		celgo.Variable("authorizer", library.AuthorizerType),
	}
	declare := func(is *apiservercel.DeclType, names ...string) {
		t := celgo.DynType
		if is != nil {
			types, t = append(types, is), is.CelType()
		}
		for _, name := range names {
			options = append(options, celgo.Variable(name, t))
		}
	}
	declare(object, cel.ObjectVarName, cel.OldObjectVarName)
	if !params.gvk.Empty() {
		declare(params.is, cel.ParamsVarName)
	}
	base := environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion())
	set, err := base.Extend(environment.VersionedOptions{IntroducedVersion: version.MajorMinor(1, 0), EnvOptions: options, DeclTypes: types})
	if err != nil {
		return fmt.Errorf("type checking error: %w", err)
	}
	compiler, err := cel.NewCompositedCompilerForTypeChecking(set)
	if err != nil {
		return fmt.Errorf("type checking error: %w", err)
	}
	compiler.Compiler = typeCompiler{compiler}
	declared := cel.OptionalVariableDeclarations{HasParams: !params.gvk.Empty(), HasAuthorizer: true}
	for _, v := range variables {
		compiler.CompileAndStoreVariable(admissionregistration.Variable(v), declared, environment.StoredExpressions)
	}
	found := compiler.CompileCELExpression(admissionregistration.Variable{Expression: expression}, declared, environment.StoredExpressions).Error
	switch {
	case found == nil:
		return nil
	case found.Type != apiservercel.ErrorTypeInvalid:
		return fmt.Errorf("type checking error: %w", found)
	}
	return found
}

// typeCompiler finds the type of an expression and makes no program of it. It
// does not mind which type that is.
type typeCompiler struct{ types *cel.CompositedCompiler }

// CompileCELExpression implements cel.Compiler.
func (c typeCompiler) CompileCELExpression(e cel.ExpressionAccessor, _ cel.OptionalVariableDeclarations, mode environment.Type) cel.CompilationResult {
	failed := func(kind apiservercel.ErrorType, text string) cel.CompilationResult {
		return cel.CompilationResult{ExpressionAccessor: e, Error: &apiservercel.Error{Type: kind, Detail: text}}
	}
	env, err := c.types.Env(mode)
	if err != nil {
		return failed(apiservercel.ErrorTypeInternal, fmt.Sprintf("fail to build env: %v", err))
	}
	ast, issues := env.Compile(e.GetExpression())
	if issues != nil {
		return failed(apiservercel.ErrorTypeInvalid, issues.String())
	}
	return cel.CompilationResult{OutputType: ast.OutputType()}
}
