package admissionregistration

import (
	"errors"
	"fmt"
	"strings"

	celgo "github.com/google/cel-go/cel"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	plugincel "k8s.io/apiserver/pkg/admission/plugin/cel"
	"k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/cel/environment"

	"sampan/cluster/kind"
)

// maxConditions of one webhook or policy.
const maxConditions = 64

// condition is an expression that is true or false, for the compiler.
type condition string

func (c condition) GetExpression() string      { return string(c) }
func (c condition) ReturnTypes() []*celgo.Type { return []*celgo.Type{celgo.BoolType} }

// validateConditions compiles match conditions. Those in stored were accepted
// before, by a server that may have known more.
func validateConditions(conditions []admissionregistrationv1.MatchCondition, params bool, stored map[string]bool, path *field.Path) (errs field.ErrorList) {
	if len(conditions) == 0 {
		return nil
	}
	if len(conditions) > maxConditions {
		errs = append(errs, field.TooMany(path, len(conditions), maxConditions))
	}
	compiler := plugincel.NewCompiler(environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion()))
	names := map[string]bool{}
	for i, c := range conditions {
		path := path.Index(i)
		if text := strings.TrimSpace(c.Expression); text == "" {
			errs = append(errs, field.Required(path.Child("expression"), ""))
		} else {
			errs = append(errs, compile(compiler, condition(text), stored[c.Expression],
				plugincel.OptionalVariableDeclarations{HasParams: params, HasAuthorizer: true}, path.Child("expression"))...)
		}
		if c.Name == "" {
			errs = append(errs, field.Required(path.Child("name"), ""))
			continue
		}
		errs = append(errs, kind.QualifiedName(c.Name, path.Child("name"))...)
		if names[c.Name] {
			errs = append(errs, field.Duplicate(path.Child("name"), c.Name))
		}
		names[c.Name] = true
	}
	return errs
}

// compile says what is wrong with an expression.
func compile(compiler plugincel.Compiler, e plugincel.ExpressionAccessor, stored bool, variables plugincel.OptionalVariableDeclarations, path *field.Path) field.ErrorList {
	env := environment.NewExpressions
	if stored {
		env = environment.StoredExpressions
	}
	result := compiler.CompileCELExpression(e, variables, env)
	if result.Error == nil {
		return nil
	}
	var fault *cel.Error
	if errors.As(result.Error, &fault) {
		switch fault.Type {
		case cel.ErrorTypeRequired:
			return field.ErrorList{field.Required(path, fault.Detail)}
		case cel.ErrorTypeInvalid:
			return field.ErrorList{field.Invalid(path, e.GetExpression(), fault.Detail)}
		}
		return field.ErrorList{field.InternalError(path, fault)}
	}
	return field.ErrorList{field.InternalError(path, fmt.Errorf("unsupported error type: %w", result.Error))}
}
