package auth

import (
	"context"
	"fmt"
	"strings"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"

	"sampan/cluster/kind"
	"sampan/cluster/request"
)

// seen is a rule that keeps what it is asked.
type seen struct{ Attributes }

func (s *seen) Decide(_ context.Context, a Attributes) (Decision, string, error) {
	s.Attributes = a
	return Allow, "", nil
}

func (s *seen) Rules(context.Context, request.User, string) ([]rbacv1.PolicyRule, bool, error) {
	return nil, false, nil
}

func TestSelectorsReachTheRules(t *testing.T) {
	s := &seen{}
	z := &Authorizer{Rules: []Rule{s}}
	pods := &kind.Kind{Plural: "pods"}
	r := request.Request{Verb: "list", Kind: pods, Fields: fields.OneTermEqualSelector("spec.nodeName", "box"), Labels: labels.Set{"a": "b"}.AsSelector()}
	if err := z.Authorize(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	got := s.Review().ResourceAttributes
	if f := got.FieldSelector; f == nil || len(f.Requirements) != 1 || f.Requirements[0].Key != "spec.nodeName" || f.Requirements[0].Operator != metav1.FieldSelectorOpIn {
		t.Errorf("fields %+v", f)
	}
	if l := got.LabelSelector; l == nil || len(l.Requirements) != 1 || l.Requirements[0].Key != "a" || l.Requirements[0].Values[0] != "b" {
		t.Errorf("labels %+v", l)
	}
}

func TestReviewsSaySelectors(t *testing.T) {
	type (
		fieldSelector = authorizationv1.FieldSelectorAttributes
		labelSelector = authorizationv1.LabelSelectorAttributes
	)
	in := func(key string, values ...string) metav1.FieldSelectorRequirement {
		return metav1.FieldSelectorRequirement{Key: key, Operator: metav1.FieldSelectorOpIn, Values: values}
	}
	for _, tc := range []struct {
		it     string
		fields *fieldSelector
		labels *labelSelector
		want   string // requirements that the rules see
		error  string // of the request, or of the evaluation
	}{
		{it: "in raw form", fields: &fieldSelector{RawSelector: "a=b"}, labels: &labelSelector{RawSelector: "c in (d,e)"}, want: "{= a b} c in (d,e)"},
		{it: "as requirements", fields: &fieldSelector{Requirements: []metav1.FieldSelectorRequirement{in("a", "b")}},
			labels: &labelSelector{Requirements: []metav1.LabelSelectorRequirement{{Key: "c", Operator: metav1.LabelSelectorOpExists}}}, want: "{= a b} c"},
		{it: "that do not read", fields: &fieldSelector{RawSelector: "a"}, labels: &labelSelector{RawSelector: "=="}, want: "",
			error: "spec.resourceAttributes.fieldSelector ignored due to parse error; spec.resourceAttributes.labelSelector ignored due to parse error"},
		{it: "that read in part", fields: &fieldSelector{Requirements: []metav1.FieldSelectorRequirement{in("a", "b"), in("c", "d", "e")}}, want: "{= a b}",
			error: "spec.resourceAttributes.fieldSelector partially ignored due to parse error"},
		{it: "of a newer API", labels: &labelSelector{Requirements: []metav1.LabelSelectorRequirement{{Key: "c", Operator: "Near"}}}, want: "",
			error: "spec.resourceAttributes.labelSelector ignored due to parse error"},
		{it: "in both forms", fields: &fieldSelector{RawSelector: "a=b", Requirements: []metav1.FieldSelectorRequirement{in("a", "b")}},
			error: `spec.resourceAttributes.fieldSelector.rawSelector: Invalid value: "a=b": may not specified at the same time as requirements`},
		{it: "in none", labels: &labelSelector{},
			error: "spec.resourceAttributes.labelSelector.requirements: Required value: when spec.resourceAttributes.labelSelector is specified, requirements or rawSelector is required"},
		{it: "that say nothing", fields: &fieldSelector{Requirements: []metav1.FieldSelectorRequirement{in("a")}},
			error: "spec.resourceAttributes.fieldSelector.requirements[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'"},
	} {
		t.Run(tc.it, func(t *testing.T) {
			s := &seen{}
			z := &Authorizer{Rules: []Rule{s}}
			r := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
				ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: "list", Resource: "pods", FieldSelector: tc.fields, LabelSelector: tc.labels}}}
			err := z.ReviewSelfAccess(t.Context(), request.User{Name: "jo"}, r)
			if err != nil {
				if tc.error == "" || !strings.Contains(err.Error(), tc.error) {
					t.Errorf("refused: %v", err)
				}
				return
			}
			var got []string
			for _, q := range s.Fields {
				got = append(got, fmt.Sprint(q))
			}
			for _, q := range s.Labels {
				got = append(got, q.String())
			}
			if g := strings.Join(got, " "); g != tc.want || r.Status.EvaluationError != tc.error || s.Version != "*" {
				t.Errorf("got %q, %q, version %q", g, r.Status.EvaluationError, s.Version)
			}
		})
	}
	r := &authorizationv1.SubjectAccessReview{ObjectMeta: metav1.ObjectMeta{Name: "x"}, Spec: authorizationv1.SubjectAccessReviewSpec{User: "jo",
		NonResourceAttributes: &authorizationv1.NonResourceAttributes{Path: "/"}}}
	if err := (&Authorizer{}).ReviewAccess(t.Context(), r); err == nil || !strings.Contains(err.Error(), "metadata: Invalid value") {
		t.Errorf("a review with a name: %v", err)
	}
}
