package crd

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	internal "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structural "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel/model"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/objectmeta"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/cel/common"
	"k8s.io/apiserver/pkg/warning"

	"sampan/cluster/kind"
)

// form is one version of a definition: what its objects are like. What it
// needs for that is compiled when it is first asked for.
type form struct {
	of       *definition
	name     string
	status   bool
	scale    *apiextensionsv1.CustomResourceSubresourceScale
	selected []apiextensionsv1.SelectableField

	made atomic.Pointer[made] // nil: not made yet, or given back by the shelf

	// broken is true once an object was let through that breaks a rule where it
	// did before: until then nobody has to look for such rules again to warn of them.
	broken atomic.Bool
}

// made is what was compiled of a version, each part when it was first needed.
type made struct {
	shape  func() *structural.Structural // nil: it has no schema
	checks func() (*checks, error)
}

// checks are what validates a version's objects.
type checks struct {
	whole, status validation.SchemaValidator
	rules         *cel.Validator // nil: there are none
}

func newForm(d *definition, v *apiextensionsv1.CustomResourceDefinitionVersion) *form {
	f := &form{of: d, name: v.Name, selected: slices.Clone(v.SelectableFields)}
	if s := v.Subresources; s != nil {
		f.status, f.scale = s.Status != nil, s.Scale
	}
	return f
}

// compiled is what was made of the version, for who has an object of it.
func (f *form) compiled() *made {
	m := f.made.Load()
	if m == nil {
		m = &made{shape: sync.OnceValue(f.build)}
		m.checks = sync.OnceValues(func() (*checks, error) { return f.compile(m.shape()) })
		if f.made.CompareAndSwap(nil, m) {
			f.of.shelf.put(f.of)
		} else if other := f.made.Load(); other != nil {
			m = other
		}
	}
	if !f.of.used.Load() {
		f.of.used.Store(true)
	}
	return m
}

func (f *form) shape() *structural.Structural { return f.compiled().shape() }
func (f *form) checks() (*checks, error)      { return f.compiled().checks() }

// props is the schema as the libraries want it, nil if there is none. It is
// made anew by each call.
func (f *form) props() (*internal.JSONSchemaProps, error) {
	v := f.of.version(f.name)
	if v == nil || v.Schema == nil || v.Schema.OpenAPIV3Schema == nil {
		return nil, nil
	}
	out := &internal.JSONSchemaProps{}
	// The conversion takes over parts of what it converts.
	err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(v.Schema.OpenAPIV3Schema.DeepCopy(), out, nil)
	return out, err
}

// build makes the structural schema, nil if there is none.
func (f *form) build() *structural.Structural {
	props, err := f.props()
	if err != nil || props == nil {
		return nil
	}
	s, err := structural.NewStructural(props)
	if err != nil {
		return nil // only for definitions that preserve unknown fields: nothing is pruned
	}
	if !f.of.preserve {
		if err := defaulting.PruneDefaults(s); err != nil {
			return nil
		}
	}
	return s
}

// compile makes what validates objects of the shape s.
func (f *form) compile(s *structural.Structural) (*checks, error) {
	props, err := f.props()
	if err != nil {
		return nil, err
	}
	c := &checks{}
	if c.whole, _, err = validation.NewSchemaValidator(props); err != nil {
		return nil, err
	}
	if props != nil && f.status {
		if s, ok := props.Properties["status"]; ok {
			if c.status, _, err = validation.NewSchemaValidator(&s); err != nil {
				return nil, err
			}
		}
	}
	if s != nil {
		c.rules = cel.NewValidator(s, true, celconfig.PerCallLimit)
	}
	return c, nil
}

// settle implements kind.Custom. (Upstream: unstructuredSchemaCoercer.)
func (d *definition) settle(obj kind.Object, lax, tell bool) (unknown []string, err error) {
	u := obj.(*unstructured.Unstructured)
	kindName, apiVersion := u.GetKind(), u.GetAPIVersion()
	meta, found, unknown, err := objectmeta.GetObjectMetaWithOptions(u.Object, objectmeta.ObjectMetaOptions{
		DropMalformedFields: lax, ReturnUnknownFieldPaths: tell})
	if err != nil {
		return nil, err
	}
	var s *structural.Structural
	if f := d.form(obj); f != nil {
		s = f.shape()
	}
	if !d.preserve {
		unknown = append(unknown, pruning.PruneWithOptions(u.Object, s, true, structural.UnknownFieldPathOptions{TrackUnknownFieldPaths: tell})...)
		defaulting.PruneNonNullableNullsWithoutDefaults(u.Object, s)
	}
	faults, paths := objectmeta.CoerceWithOptions(nil, u.Object, s, false, objectmeta.CoerceOptions{
		DropInvalidFields: lax, ReturnUnknownFieldPaths: tell})
	if faults != nil {
		return nil, faults
	}
	unknown = append(unknown, paths...)
	if lax && meta.Generation == 0 {
		meta.Generation = 1 // very old objects have none
	}
	if kindName != "" {
		u.SetKind(kindName)
	}
	if apiVersion != "" {
		u.SetAPIVersion(apiVersion)
	}
	if found {
		err = objectmeta.SetObjectMeta(u.Object, meta)
	}
	return unknown, err
}

// setDefaults is Kind.Default: by the schema of the version that obj is of.
func (d *definition) setDefaults(obj kind.Object) {
	if f := d.form(obj); f != nil {
		if s := f.shape(); s != nil {
			defaulting.Default(obj.(*unstructured.Unstructured).Object, s)
		}
	}
}

// validate is Kind.Validate. (Upstream: registry/customresource/strategy.go.)
func (f *form) validate(obj, old kind.Object) field.ErrorList {
	now, before := content(obj), content(old)
	c, err := f.checks()
	if err != nil {
		return field.ErrorList{field.InternalError(nil, err)}
	}
	s := f.shape()
	var errs field.ErrorList
	var schemaOptions []validation.ValidationOption
	var ruleOptions []cel.Option
	if old == nil {
		errs = validation.ValidateCustomResource(nil, now, c.whole)
	} else {
		same := common.NewCorrelatedObject(now, before, &model.Structural{Structural: s})
		schemaOptions = append(schemaOptions, validation.WithRatcheting(same))
		ruleOptions = append(ruleOptions, cel.WithRatcheting(same))
		errs = validation.ValidateCustomResourceUpdate(nil, now, before, c.whole, schemaOptions...)
	}
	errs = append(errs, validateScale(obj, f.scale, true)...)
	errs = append(errs, objectmeta.Validate(context.Background(), nil, now, s, false)...)
	if old == nil || len(listtype.ValidateListSetsAndMaps(nil, s, before)) == 0 {
		errs = append(errs, listtype.ValidateListSetsAndMaps(nil, s, now)...)
	}
	return append(errs, f.rule(c, errs, now, before, ruleOptions...)...)
}

// validateStatus is what the part "status" has to obey.
func (f *form) validateStatus(obj, old kind.Object) field.ErrorList {
	now, before := content(obj), content(old)
	c, err := f.checks()
	if err != nil {
		return field.ErrorList{field.InternalError(nil, err)}
	}
	s := f.shape()
	same := common.NewCorrelatedObject(now, before, &model.Structural{Structural: s})
	var errs field.ErrorList
	if status, ok := now["status"]; ok && c.status != nil {
		var options []validation.ValidationOption
		if s != nil {
			options = append(options, validation.WithRatcheting(same.Key("status")))
		}
		errs = validation.ValidateCustomResourceUpdate(field.NewPath("status"), status, before["status"], c.status, options...)
	}
	errs = append(errs, validateScale(obj, f.scale, false)...)
	if more := listtype.ValidateListSetsAndMaps(nil, s, now); len(more) > 0 && len(listtype.ValidateListSetsAndMaps(nil, s, before)) == 0 {
		errs = append(errs, more...)
	}
	return append(errs, f.rule(c, errs, now, before, cel.WithRatcheting(same))...)
}

// rule runs the CEL rules, unless the object is too broken for them.
func (f *form) rule(c *checks, errs field.ErrorList, now, before map[string]any, options ...cel.Option) field.ErrorList {
	if c.rules == nil {
		return nil
	}
	if slices.ContainsFunc(errs, func(e *field.Error) bool {
		switch e.Type {
		case field.ErrorTypeNotSupported, field.ErrorTypeRequired, field.ErrorTypeTooLong, field.ErrorTypeTooMany, field.ErrorTypeTypeInvalid:
			return true
		}
		return false
	}) {
		return field.ErrorList{field.Invalid(nil, nil, "some validation rules were not checked because the object was invalid; "+
			"correct the existing errors to complete validation")}
	}
	var old any
	if before != nil {
		old = before
	}
	ctx := warning.WithWarningRecorder(context.Background(), listener(func(string) { f.broken.Store(true) }))
	return f.run(ctx, c, now, old, options...)
}

// run runs the CEL rules. A rule that runs for ever is stopped by its cost.
func (f *form) run(ctx context.Context, c *checks, now map[string]any, old any, options ...cel.Option) field.ErrorList {
	faults, _ := c.rules.Validate(ctx, nil, f.shape(), now, old, celconfig.RuntimeCELCostBudget, options...)
	return faults
}

// listener hears what upstream's validation of rules warns of.
type listener func(text string)

// AddWarning implements warning.Recorder.
func (l listener) AddWarning(_, text string) { l(text) }

// warn is Kind.Warn: rules that obj breaks, and that are no fault as it did so
// before and the value is the same; then finalizers. It is called after validate.
func (f *form) warn(obj, old kind.Object) (texts []string) {
	if old != nil && f.broken.Load() {
		c, err := f.checks()
		if err == nil && c.rules != nil {
			now, before := content(obj), content(old)
			same := common.NewCorrelatedObject(now, before, &model.Structural{Structural: f.shape()})
			ctx := warning.WithWarningRecorder(context.Background(), listener(func(text string) { texts = append(texts, text) }))
			f.run(ctx, c, now, before, cel.WithRatcheting(same))
		}
	}
	return append(texts, warnOfFinalizers(obj, old)...)
}

func content(obj kind.Object) map[string]any {
	if u, ok := obj.(*unstructured.Unstructured); ok && u != nil {
		return u.Object
	}
	return nil
}

// standardFinalizers need no domain.
var standardFinalizers = []string{metav1.FinalizerOrphanDependents, metav1.FinalizerDeleteDependents, "kubernetes"}

// warnOfFinalizers names finalizers that came in and might be somebody else's.
func warnOfFinalizers(obj, old kind.Object) (texts []string) {
	var had []string
	if old != nil {
		had = old.GetFinalizers()
	}
	for _, f := range slices.Sorted(slices.Values(obj.GetFinalizers())) {
		if slices.Contains(had, f) {
			continue
		}
		for _, msg := range utilvalidation.IsQualifiedName(f) {
			texts = append(texts, fmt.Sprintf("metadata.finalizers: %q: %s", f, msg))
		}
		if strings.Contains(f, "/") || slices.Contains(standardFinalizers, f) {
			continue
		}
		advice := "prefer a domain-qualified finalizer name to avoid accidental conflicts with other finalizer writers"
		if strings.Contains(f, ".") {
			advice = "prefer a domain-qualified finalizer name including a path (/) to avoid accidental conflicts with other finalizer writers"
		}
		texts = append(texts, fmt.Sprintf("metadata.finalizers: %q: %s", f, advice))
	}
	return texts
}
