package auth

import (
	"errors"
	"fmt"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Selectors of reviews (KEP-4601). What does not read, or cannot be said on the
// other side, narrows nothing: it is then asked about more, which is the safe
// side, since all requirements of a selector must hold. (Upstream:
// registry/authorization/util.)

func required(s *authorizationv1.FieldSelectorAttributes) (all fields.Requirements, err error) {
	if s == nil {
		return nil, nil
	}
	if len(s.Requirements) == 0 {
		f, err := fields.ParseSelector(s.RawSelector)
		if err != nil {
			return nil, err
		}
		return f.Requirements(), nil
	}
	var errs []error
	for _, q := range s.Requirements {
		op, ok := fieldOperators[q.Operator]
		switch {
		case !ok:
			errs = append(errs, fmt.Errorf("field selectors do not support operator %q", q.Operator))
		case len(q.Values) != 1:
			errs = append(errs, errors.New("field selectors have one value"))
		default:
			all = append(all, fields.Requirement{Field: q.Key, Operator: op, Value: q.Values[0]})
		}
	}
	return all, utilerrors.NewAggregate(errs)
}

func requiredLabels(s *authorizationv1.LabelSelectorAttributes) (all labels.Requirements, err error) {
	if s == nil {
		return nil, nil
	}
	if len(s.Requirements) == 0 {
		l, err := labels.Parse(s.RawSelector)
		if err != nil {
			return nil, err
		}
		all, _ = l.Requirements()
		return all, nil
	}
	var errs []error
	for _, q := range s.Requirements {
		op, ok := labelOperators[q.Operator]
		if !ok {
			errs = append(errs, fmt.Errorf("label selectors do not support operator %q", q.Operator))
			continue
		}
		r, err := labels.NewRequirement(q.Key, op, q.Values)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		all = append(all, *r)
	}
	return all, utilerrors.NewAggregate(errs)
}

var (
	fieldOperators = map[metav1.FieldSelectorOperator]selection.Operator{
		metav1.FieldSelectorOpIn: selection.Equals, metav1.FieldSelectorOpNotIn: selection.NotEquals,
	}
	labelOperators = map[metav1.LabelSelectorOperator]selection.Operator{
		metav1.LabelSelectorOpIn: selection.In, metav1.LabelSelectorOpNotIn: selection.NotIn,
		metav1.LabelSelectorOpExists: selection.Exists, metav1.LabelSelectorOpDoesNotExist: selection.DoesNotExist,
	}
)

// validateSelectors says what upstream says. Operators of a newer API are let
// through. (pkg/apis/authorization/validation.)
func validateSelectors(r *authorizationv1.ResourceAttributes) (errs field.ErrorList) {
	if r == nil {
		return nil
	}
	either := func(path *field.Path, raw string, requirements int) {
		switch {
		case raw != "" && requirements > 0:
			errs = append(errs, field.Invalid(path.Child("rawSelector"), raw, "may not specified at the same time as requirements"))
		case raw == "" && requirements == 0:
			errs = append(errs, field.Required(path.Child("requirements"), fmt.Sprintf("when %s is specified, requirements or rawSelector is required", path)))
		}
	}
	attributes := field.NewPath("spec", "resourceAttributes")
	if s := r.FieldSelector; s != nil {
		path := attributes.Child("fieldSelector")
		either(path, s.RawSelector, len(s.Requirements))
		for i, q := range s.Requirements {
			errs = append(errs, metav1validation.ValidateFieldSelectorRequirement(q,
				metav1validation.FieldSelectorValidationOptions{AllowUnknownOperatorInRequirement: true}, path.Child("requirements").Index(i))...)
		}
	}
	if s := r.LabelSelector; s != nil {
		path := attributes.Child("labelSelector")
		either(path, s.RawSelector, len(s.Requirements))
		for i, q := range s.Requirements {
			errs = append(errs, metav1validation.ValidateLabelSelectorRequirement(q,
				metav1validation.LabelSelectorValidationOptions{AllowUnknownOperatorInRequirement: true}, path.Child("requirements").Index(i))...)
		}
	}
	return errs
}

func fieldRequirements(of fields.Requirements) (all []metav1.FieldSelectorRequirement) {
	for _, q := range of {
		switch q.Operator {
		case selection.Equals, selection.DoubleEquals, selection.In:
			all = append(all, metav1.FieldSelectorRequirement{Key: q.Field, Operator: metav1.FieldSelectorOpIn, Values: []string{q.Value}})
		case selection.NotEquals, selection.NotIn:
			all = append(all, metav1.FieldSelectorRequirement{Key: q.Field, Operator: metav1.FieldSelectorOpNotIn, Values: []string{q.Value}})
		}
	}
	return all
}

func labelRequirements(of labels.Requirements) (all []metav1.LabelSelectorRequirement) {
	for _, q := range of {
		r := metav1.LabelSelectorRequirement{Key: q.Key(), Values: q.ValuesUnsorted()}
		switch q.Operator() {
		case selection.Equals, selection.DoubleEquals, selection.In:
			r.Operator = metav1.LabelSelectorOpIn
		case selection.NotEquals, selection.NotIn:
			r.Operator = metav1.LabelSelectorOpNotIn
		case selection.Exists:
			r.Operator = metav1.LabelSelectorOpExists
		case selection.DoesNotExist:
			r.Operator = metav1.LabelSelectorOpDoesNotExist
		default:
			continue
		}
		all = append(all, r)
	}
	return all
}
