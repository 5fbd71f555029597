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

// The types below are expressions for the compiler of the CEL library, by what
// they may evaluate to.

// Condition is true or false.
type Condition string

// GetExpression implements cel.ExpressionAccessor.
func (c Condition) GetExpression() string { return string(c) }

// ReturnTypes implements cel.ExpressionAccessor.
func (Condition) ReturnTypes() []*celgo.Type { return []*celgo.Type{celgo.BoolType} }

// Message is a text.
type Message string

// GetExpression implements cel.ExpressionAccessor.
func (m Message) GetExpression() string { return string(m) }

// ReturnTypes implements cel.ExpressionAccessor.
func (Message) ReturnTypes() []*celgo.Type { return []*celgo.Type{celgo.StringType} }

// Annotation is a text or nothing.
type Annotation string

// GetExpression implements cel.ExpressionAccessor.
func (a Annotation) GetExpression() string { return string(a) }

// ReturnTypes implements cel.ExpressionAccessor.
func (Annotation) ReturnTypes() []*celgo.Type {
	return []*celgo.Type{celgo.StringType, celgo.NullType}
}

// Variable is anything, by a name that other expressions use.
type Variable admissionregistrationv1.Variable

// GetExpression implements cel.ExpressionAccessor.
func (v Variable) GetExpression() string { return v.Expression }

// GetName implements cel.NamedExpressionAccessor.
func (v Variable) GetName() string { return v.Name }

// ReturnTypes implements cel.ExpressionAccessor.
func (Variable) ReturnTypes() []*celgo.Type { return []*celgo.Type{celgo.AnyType, celgo.DynType} }

// Compiler returns a compiler of expressions that use variables.
func Compiler() (*plugincel.CompositedCompiler, error) {
	return plugincel.NewCompositedCompiler(environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion()))
}

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
			errs = append(errs, compile(compiler, Condition(text), stored[c.Expression],
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
	return uncompiled(compiler.CompileCELExpression(e, variables, env), e, path)
}

// uncompiled is the error of a compilation, if there is one.
func uncompiled(result plugincel.CompilationResult, e plugincel.ExpressionAccessor, path *field.Path) field.ErrorList {
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
