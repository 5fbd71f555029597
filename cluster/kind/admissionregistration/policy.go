package admissionregistration

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	plugincel "k8s.io/apiserver/pkg/admission/plugin/cel"
	"k8s.io/apiserver/pkg/admission/plugin/policy/mutating/patch"
	"k8s.io/apiserver/pkg/cel/environment"
	"k8s.io/client-go/util/jsonpath"
	"k8s.io/utils/ptr"

	"sampan/cluster/kind"
)

// ValidatingAdmissionPolicy says what writes have to meet, as expressions in
// CEL. (KEP-3488.)
func ValidatingAdmissionPolicy() *kind.Kind {
	type policy = admissionregistrationv1.ValidatingAdmissionPolicy
	return kind.Declare(kind.Of[policy]{
		GVK:          admissionregistrationv1.SchemeGroupVersion.WithKind("ValidatingAdmissionPolicy"),
		Plural:       "validatingadmissionpolicies",
		Rechecked:    true,
		AnyFinalizer: true,
		Categories:   []string{"api-extensions"},
		Cluster:      true,
		Conditional:  true,
		Default:      func(p *policy) { defaultPolicy(&p.Spec.FailurePolicy, p.Spec.MatchConstraints) },
		Validate:     validateValidatingPolicy,
		Spec:         func(p *policy) any { return &p.Spec },
		Parts: map[string]kind.Part[policy]{
			"status": {
				Take: func(dst, src *policy) { dst.Status = src.Status },
				Validate: func(p, _ *policy) (errs field.ErrorList) {
					status := field.NewPath("status")
					if t := p.Status.TypeChecking; t != nil {
						for i, w := range t.ExpressionWarnings {
							errs = append(errs, validateWarning(w, status.Child("typeChecking", "expressionWarnings").Index(i))...)
						}
					}
					return append(errs, metav1validation.ValidateConditions(p.Status.Conditions, status.Child("conditions"))...)
				},
			},
		},
		Columns: policyColumns("Validations", "Validations indicates the number of validation rules defined in this configuration",
			func(p *policy) (int, *admissionregistrationv1.ParamKind) {
				return len(p.Spec.Validations), p.Spec.ParamKind
			}),
	})
}

// MutatingAdmissionPolicy says how writes are changed, as expressions in CEL.
// (KEP-3962.)
func MutatingAdmissionPolicy() *kind.Kind {
	type policy = admissionregistrationv1.MutatingAdmissionPolicy
	return kind.Declare(kind.Of[policy]{
		GVK:          admissionregistrationv1.SchemeGroupVersion.WithKind("MutatingAdmissionPolicy"),
		Plural:       "mutatingadmissionpolicies",
		Rechecked:    true,
		AnyFinalizer: true,
		Categories:   []string{"api-extensions"},
		Cluster:      true,
		Conditional:  true,
		Default:      func(p *policy) { defaultPolicy(&p.Spec.FailurePolicy, p.Spec.MatchConstraints) },
		Validate:     validateMutatingPolicy,
		Spec:         func(p *policy) any { return &p.Spec },
		Columns: policyColumns("Mutations", "Mutation indicates the number of mutations rules defined in this configuration",
			func(p *policy) (int, *admissionregistrationv1.ParamKind) {
				return len(p.Spec.Mutations), p.Spec.ParamKind
			}),
	})
}

func defaultPolicy(failure **admissionregistrationv1.FailurePolicyType, match *admissionregistrationv1.MatchResources) {
	defaultTo(failure, admissionregistrationv1.Fail)
	defaultMatch(match)
}

// policyColumns are those of a policy that has rules, in a column of this
// name, and some kind of parameters.
func policyColumns[T any, P pointer[T]](rules, description string, of func(*T) (count int, params *admissionregistrationv1.ParamKind)) []kind.Column[T] {
	return []kind.Column[T]{
		{Name: rules, Type: "integer", Description: description,
			Cell: func(p *T, _ time.Time) any { count, _ := of(p); return int64(count) }},
		{Name: "ParamKind", Description: "ParamKind specifies the kind of resources used to parameterize this policy",
			Cell: func(p *T, _ time.Time) any { _, params := of(p); return paramKindCell(params) }},
		kind.Age[T, P](),
	}
}

func paramKindCell(k *admissionregistrationv1.ParamKind) string {
	if k == nil {
		return "<unset>"
	}
	return k.APIVersion + "/" + k.Kind
}

// checker compiles the expressions of one policy. Those that were there before
// are compiled as stored ones: a server that knew more let them in.
type checker struct {
	compiler *plugincel.CompositedCompiler
	params   bool
	stored   map[string]bool
}

func newChecker(params *admissionregistrationv1.ParamKind, stored []string) (*checker, *field.Error) {
	compiler, err := Compiler()
	if err != nil {
		return nil, field.InternalError(field.NewPath("spec"), err)
	}
	c := &checker{compiler: compiler, params: params != nil, stored: map[string]bool{}}
	for _, e := range stored {
		c.stored[e] = true
	}
	return c, nil
}

func (c *checker) variables(rights, patches bool) plugincel.OptionalVariableDeclarations {
	return plugincel.OptionalVariableDeclarations{HasParams: c.params, HasAuthorizer: rights, HasPatchTypes: patches}
}

// declare compiles the variables, for those that come after each to use.
func (c *checker) declare(variables []admissionregistrationv1.Variable, path *field.Path) (errs field.ErrorList) {
	for i, v := range variables {
		path := path.Index(i)
		if strings.TrimSpace(v.Name) == "" {
			errs = append(errs, field.Required(path.Child("name"), "name is not specified"))
		} else if !identifier.MatchString(v.Name) || slices.Contains(reserved, v.Name) {
			errs = append(errs, field.Invalid(path.Child("name"), v.Name, "must be a valid CEL identifier"))
		}
		if strings.TrimSpace(v.Expression) == "" {
			errs = append(errs, field.Required(path.Child("expression"), "expression is not specified"))
			continue
		}
		env := environment.NewExpressions
		if c.stored[v.Expression] {
			env = environment.StoredExpressions
		}
		errs = append(errs, uncompiled(c.compiler.CompileAndStoreVariable(Variable(v), c.variables(true, false), env), Variable(v), path.Child("expression"))...)
	}
	return errs
}

// identifier and reserved are the lexis of CEL's identifiers.
var (
	identifier = regexp.MustCompile("^[_a-zA-Z][_a-zA-Z0-9]*$")
	reserved   = []string{"true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function", "if", "import", "let",
		"loop", "package", "namespace", "return", "var", "void", "while"}
)

func validateValidatingPolicy(p, old *admissionregistrationv1.ValidatingAdmissionPolicy) (errs field.ErrorList) {
	spec, path := &p.Spec, field.NewPath("spec")
	var stored []string
	if old != nil {
		stored = validatingExpressions(&old.Spec)
	}
	c, fault := newChecker(spec.ParamKind, stored)
	if fault != nil {
		return field.ErrorList{fault}
	}
	errs = append(errs, validatePolicy(c, spec.FailurePolicy, spec.ParamKind, spec.MatchConstraints, spec.MatchConditions, path)...)
	errs = append(errs, c.declare(spec.Variables, path.Child("variables"))...)
	validations, annotations := path.Child("validations"), path.Child("auditAnnotations")
	if len(spec.Validations) == 0 && len(spec.AuditAnnotations) == 0 {
		const some = "validations or auditAnnotations must contain at least one item"
		return append(errs, field.Required(validations, some), field.Required(annotations, some))
	}
	for i := range spec.Validations {
		errs = append(errs, c.validation(&spec.Validations[i], validations.Index(i))...)
	}
	if len(spec.AuditAnnotations) > maxAnnotations {
		errs = append(errs, field.Invalid(annotations, spec.AuditAnnotations, fmt.Sprintf("must not have more than %d auditAnnotations", maxAnnotations)))
	}
	keys := map[string]bool{}
	for i, a := range spec.AuditAnnotations {
		errs = append(errs, c.annotation(p.Name, a, annotations.Index(i))...)
		if keys[a.Key] {
			errs = append(errs, field.Duplicate(annotations.Index(i).Child("key"), a.Key))
		}
		keys[a.Key] = true
	}
	return errs
}

// Bounds of a policy's annotations in the audit log.
const (
	maxAnnotations          = 20
	maxAnnotationExpression = 5 * 1024 // bytes
)

func validatingExpressions(s *admissionregistrationv1.ValidatingAdmissionPolicySpec) (all []string) {
	for _, c := range s.MatchConditions {
		all = append(all, c.Expression)
	}
	for _, v := range s.Variables {
		all = append(all, v.Expression)
	}
	for _, v := range s.Validations {
		all = append(all, v.Expression, v.MessageExpression)
	}
	for _, a := range s.AuditAnnotations {
		all = append(all, a.ValueExpression)
	}
	return all
}

// reasons that a validation may answer with.
var reasons = []metav1.StatusReason{metav1.StatusReasonForbidden, metav1.StatusReasonInvalid, metav1.StatusReasonRequestEntityTooLarge}

func (c *checker) validation(v *admissionregistrationv1.Validation, path *field.Path) (errs field.ErrorList) {
	if strings.TrimSpace(v.Expression) == "" {
		errs = append(errs, field.Required(path.Child("expression"), "expression is not specified"))
	} else {
		errs = append(errs, compile(c.compiler, Condition(v.Expression), c.stored[v.Expression], c.variables(true, false), path.Child("expression"))...)
	}
	const blank = "must be non-empty if specified"
	if text := strings.TrimSpace(v.MessageExpression); v.MessageExpression != "" && text == "" {
		errs = append(errs, field.Invalid(path.Child("messageExpression"), v.MessageExpression, blank))
	} else if text != "" {
		errs = append(errs, compile(c.compiler, Message(v.MessageExpression), c.stored[v.MessageExpression], c.variables(false, false), path.Child("messageExpression"))...)
	}
	if text := strings.TrimSpace(v.Message); v.Message != "" && text == "" {
		errs = append(errs, field.Invalid(path.Child("message"), v.Message, blank))
	} else if strings.ContainsAny(text, "\n\r") {
		errs = append(errs, field.Invalid(path.Child("message"), v.Message, "must not contain line breaks"))
	}
	if v.Reason != nil {
		errs = append(errs, kind.OneOf(*v.Reason, path.Child("reason"), reasons...)...)
	}
	return errs
}

func (c *checker) annotation(policy string, a admissionregistrationv1.AuditAnnotation, path *field.Path) (errs field.ErrorList) {
	if policy == "" {
		errs = append(errs, field.Invalid(path.Child("key"), a.Key, "requires metadata.name be non-empty"))
	} else {
		errs = append(errs, kind.QualifiedName(policy+"/"+a.Key, path.Child("key"))...)
	}
	value := path.Child("valueExpression")
	switch text := strings.TrimSpace(a.ValueExpression); {
	case text == "":
		return append(errs, field.Required(value, "valueExpression is not specified"))
	case len(text) > maxAnnotationExpression:
		return append(errs, field.Required(value, fmt.Sprintf("must not exceed %d bytes in length", maxAnnotationExpression)))
	default:
		return append(errs, compile(c.compiler, Annotation(text), c.stored[a.ValueExpression], c.variables(true, false), value)...)
	}
}

func validateMutatingPolicy(p, old *admissionregistrationv1.MutatingAdmissionPolicy) (errs field.ErrorList) {
	spec, path := &p.Spec, field.NewPath("spec")
	var stored []string
	if old != nil {
		stored = mutatingExpressions(&old.Spec)
	}
	c, fault := newChecker(spec.ParamKind, stored)
	if fault != nil {
		return field.ErrorList{fault}
	}
	errs = append(errs, validatePolicy(c, spec.FailurePolicy, spec.ParamKind, spec.MatchConstraints, spec.MatchConditions, path)...)
	errs = append(errs, changing(spec.MatchConstraints, path.Child("matchConstraints"))...)
	errs = append(errs, c.declare(spec.Variables, path.Child("variables"))...)
	mutations := path.Child("mutations")
	if len(spec.Mutations) == 0 {
		errs = append(errs, field.Required(mutations, "mutations must contain at least one item"))
	}
	for i := range spec.Mutations {
		errs = append(errs, c.mutation(&spec.Mutations[i], mutations.Index(i))...)
	}
	if spec.ReinvocationPolicy == "" {
		return append(errs, field.Required(path.Child("reinvocationPolicy"), ""))
	}
	return append(errs, kind.OneOf(spec.ReinvocationPolicy, path.Child("reinvocationPolicy"),
		admissionregistrationv1.IfNeededReinvocationPolicy, admissionregistrationv1.NeverReinvocationPolicy)...)
}

func mutatingExpressions(s *admissionregistrationv1.MutatingAdmissionPolicySpec) (all []string) {
	for _, c := range s.MatchConditions {
		all = append(all, c.Expression)
	}
	for _, v := range s.Variables {
		all = append(all, v.Expression)
	}
	for _, m := range s.Mutations {
		all = append(all, ptr.Deref(m.ApplyConfiguration, admissionregistrationv1.ApplyConfiguration{}).Expression,
			ptr.Deref(m.JSONPatch, admissionregistrationv1.JSONPatch{}).Expression)
	}
	return all
}

// changing refuses operations that have nothing to change.
func changing(m *admissionregistrationv1.MatchResources, path *field.Path) (errs field.ErrorList) {
	if m == nil {
		return nil
	}
	for _, r := range m.ResourceRules {
		for _, o := range r.Operations {
			errs = append(errs, kind.OneOf(o, path.Child("resourceRules", "operations"), admissionregistrationv1.OperationAll,
				admissionregistrationv1.Connect, admissionregistrationv1.Create, admissionregistrationv1.Update)...)
		}
	}
	return errs
}

func (c *checker) mutation(m *admissionregistrationv1.Mutation, path *field.Path) (errs field.ErrorList) {
	apply, json := path.Child("applyConfiguration"), path.Child("jsonPatch")
	expression := func(text string, e func(string) plugincel.ExpressionAccessor, path *field.Path) field.ErrorList {
		trimmed := strings.TrimSpace(text)
		if trimmed == "" {
			return field.ErrorList{field.Required(path, "")}
		}
		return compile(c.compiler, e(trimmed), c.stored[text], c.variables(true, true), path)
	}
	switch m.PatchType {
	case "":
		return field.ErrorList{field.Required(path.Child("patchType"), "")}
	case admissionregistrationv1.PatchTypeJSONPatch:
		if m.JSONPatch == nil {
			errs = append(errs, field.Required(json, "must be specified when patchType is JSONPatch"))
		} else {
			errs = append(errs, expression(m.JSONPatch.Expression, func(s string) plugincel.ExpressionAccessor {
				return &patch.JSONPatchCondition{Expression: s}
			}, json.Child("expression"))...)
		}
		if m.ApplyConfiguration != nil {
			errs = append(errs, field.Invalid(apply, "{applyConfiguration}", "must not be specified when patchType is JSONPatch"))
		}
	case admissionregistrationv1.PatchTypeApplyConfiguration:
		if m.ApplyConfiguration == nil {
			errs = append(errs, field.Required(apply, "must be specified when patchType is ApplyConfiguration"))
		} else {
			errs = append(errs, expression(m.ApplyConfiguration.Expression, func(s string) plugincel.ExpressionAccessor {
				return &patch.ApplyConfigurationCondition{Expression: s}
			}, apply.Child("expression"))...)
		}
		if m.JSONPatch != nil {
			errs = append(errs, field.Invalid(json, "{jsonPatch}", "must not be specified when patchType is ApplyConfiguration"))
		}
	default:
		return kind.OneOf(m.PatchType, path.Child("patchType"), admissionregistrationv1.PatchTypeApplyConfiguration, admissionregistrationv1.PatchTypeJSONPatch)
	}
	return errs
}

// validatePolicy checks what both kinds of policies have in common.
func validatePolicy(c *checker, failure *admissionregistrationv1.FailurePolicyType, params *admissionregistrationv1.ParamKind,
	match *admissionregistrationv1.MatchResources, conditions []admissionregistrationv1.MatchCondition, path *field.Path) (errs field.ErrorList) {
	errs = append(errs, kind.OneOf(ptr.Deref(failure, ""), path.Child("failurePolicy"), admissionregistrationv1.Fail, admissionregistrationv1.Ignore)...)
	if params != nil {
		errs = append(errs, validateParamKind(*params, path.Child("paramKind"))...)
	}
	constraints := path.Child("matchConstraints")
	if match == nil {
		errs = append(errs, field.Required(constraints, ""))
	} else {
		errs = append(errs, validateMatch(match, constraints)...)
		if len(match.ResourceRules) == 0 {
			errs = append(errs, field.Required(constraints.Child("resourceRules"), ""))
		}
	}
	return append(errs, validateConditions(conditions, c.params, c.stored, path.Child("matchConditions"))...)
}

// validateWarning checks a finding of type checking.
func validateWarning(w admissionregistrationv1.ExpressionWarning, path *field.Path) (errs field.ErrorList) {
	if w.Warning == "" {
		errs = append(errs, field.Required(path.Child("warning"), ""))
	}
	ref := strings.TrimSpace(w.FieldRef)
	if ref == "" {
		return append(errs, field.Required(path.Child("fieldRef"), ""))
	}
	if err := jsonpath.New("spec").Parse("{" + ref + "}"); err != nil {
		errs = append(errs, field.Invalid(path.Child("fieldRef"), ref, fmt.Sprintf("invalid JSONPath: %v", err)))
	}
	return errs
}
