package auth

import (
	"cmp"
	"context"
	"maps"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/request"
)

// The functions below answer the kinds that ask about authentication and
// authorization. They are created and never stored; the answer is the object
// with its status. Each changes the object given.

// ReviewSelf answers who is asking (`kubectl auth whoami`).
func ReviewSelf(u request.User, r *authenticationv1.SelfSubjectReview) {
	r.Status.UserInfo = userInfo(u)
}

// ReviewSelfAccess answers whether u may (`kubectl auth can-i`).
func (z *Authorizer) ReviewSelfAccess(ctx context.Context, u request.User, r *authorizationv1.SelfSubjectAccessReview) error {
	errs := append(oneOf(r.Spec.ResourceAttributes, r.Spec.NonResourceAttributes), validateSelectors(r.Spec.ResourceAttributes)...)
	if errs = append(errs, noMetadata(r.ObjectMeta, "must be empty")...); len(errs) > 0 {
		return apierrors.NewInvalid(schema.GroupKind{Group: authorizationv1.GroupName, Kind: "SelfSubjectAccessReview"}, "", errs)
	}
	r.Status = z.status(ctx, u, r.Spec.ResourceAttributes, r.Spec.NonResourceAttributes)
	return nil
}

// ReviewAccess answers whether the user named in r may.
func (z *Authorizer) ReviewAccess(ctx context.Context, r *authorizationv1.SubjectAccessReview) error {
	if errs := append(validateSubject(r.Spec), noMetadata(r.ObjectMeta, "must be empty")...); len(errs) > 0 {
		return apierrors.NewInvalid(schema.GroupKind{Group: authorizationv1.GroupName, Kind: "SubjectAccessReview"}, "", errs)
	}
	r.Status = z.status(ctx, subject(r.Spec), r.Spec.ResourceAttributes, r.Spec.NonResourceAttributes)
	return nil
}

// ReviewLocalAccess is ReviewAccess within one namespace, that of the URL.
func (z *Authorizer) ReviewLocalAccess(ctx context.Context, namespace string, r *authorizationv1.LocalSubjectAccessReview) error {
	spec := field.NewPath("spec")
	errs := validateSubject(r.Spec)
	meta := r.ObjectMeta
	meta.Namespace = ""
	errs = append(errs, noMetadata(meta, "must be empty except for namespace")...)
	if a := r.Spec.ResourceAttributes; a != nil && a.Namespace != r.Namespace {
		errs = append(errs, field.Invalid(spec.Child("resourceAttributes", "namespace"), a.Namespace, "must match metadata.namespace"))
	}
	if r.Spec.NonResourceAttributes != nil {
		errs = append(errs, field.Invalid(spec.Child("nonResourceAttributes"), r.Spec.NonResourceAttributes, "disallowed on this kind of request"))
	}
	if len(errs) > 0 {
		return apierrors.NewInvalid(schema.GroupKind{Group: authorizationv1.GroupName, Kind: "LocalSubjectAccessReview"}, "", errs)
	}
	if r.Spec.ResourceAttributes == nil || r.Spec.ResourceAttributes.Namespace != namespace {
		return apierrors.NewBadRequest("spec.resourceAttributes.namespace must match namespace: " + namespace)
	}
	r.Status = z.status(ctx, subject(r.Spec), r.Spec.ResourceAttributes, nil)
	return nil
}

// ReviewSelfRules lists what u may in a namespace (`kubectl auth can-i --list`).
func (z *Authorizer) ReviewSelfRules(ctx context.Context, u request.User, r *authorizationv1.SelfSubjectRulesReview) error {
	if r.Spec.Namespace == "" {
		return apierrors.NewBadRequest("no namespace on request")
	}
	namespace := r.Spec.Namespace
	r.Spec = authorizationv1.SelfSubjectRulesReviewSpec{} // upstream's answer has the status alone
	r.Status = authorizationv1.SubjectRulesReviewStatus{
		ResourceRules: []authorizationv1.ResourceRule{}, NonResourceRules: []authorizationv1.NonResourceRule{}}
	var failed []error
	for _, rule := range z.Rules {
		rules, incomplete, err := rule.Rules(ctx, u, namespace)
		if err != nil {
			failed = append(failed, err)
		}
		r.Status.Incomplete = r.Status.Incomplete || incomplete
		for _, p := range rules {
			if len(p.Resources) > 0 {
				r.Status.ResourceRules = append(r.Status.ResourceRules, authorizationv1.ResourceRule{
					Verbs: p.Verbs, APIGroups: p.APIGroups, Resources: p.Resources, ResourceNames: p.ResourceNames})
			}
			if len(p.NonResourceURLs) > 0 {
				r.Status.NonResourceRules = append(r.Status.NonResourceRules,
					authorizationv1.NonResourceRule{Verbs: p.Verbs, NonResourceURLs: p.NonResourceURLs})
			}
		}
	}
	if len(failed) > 0 {
		r.Status.EvaluationError = utilerrors.NewAggregate(failed).Error()
	}
	return nil
}

func (z *Authorizer) status(ctx context.Context, u request.User, r *authorizationv1.ResourceAttributes, n *authorizationv1.NonResourceAttributes) authorizationv1.SubjectAccessReviewStatus {
	a, ignored := attributes(u, r, n)
	d, why, err := z.Decide(ctx, a)
	s := authorizationv1.SubjectAccessReviewStatus{Allowed: d == Allow, Denied: d == Deny, Reason: why}
	if err != nil {
		ignored = append([]string{err.Error()}, ignored...)
	}
	s.EvaluationError = strings.Join(ignored, "; ")
	return s
}

// attributes are what a review asks about, and which of it could not be read.
func attributes(u request.User, r *authorizationv1.ResourceAttributes, n *authorizationv1.NonResourceAttributes) (a Attributes, ignored []string) {
	if n != nil {
		return Attributes{User: u, Verb: n.Verb, Path: n.Path}, nil
	}
	a = Attributes{User: u, Verb: r.Verb, Group: r.Group, Version: cmp.Or(r.Version, "*"), Resource: r.Resource,
		Subresource: r.Subresource, Namespace: r.Namespace, Name: r.Name}
	var fieldsErr, labelsErr error
	a.Fields, fieldsErr = required(r.FieldSelector)
	a.Labels, labelsErr = requiredLabels(r.LabelSelector)
	for _, s := range []struct {
		name string
		read int
		err  error
	}{{"fieldSelector", len(a.Fields), fieldsErr}, {"labelSelector", len(a.Labels), labelsErr}} {
		switch {
		case s.err == nil:
		case s.read > 0:
			ignored = append(ignored, "spec.resourceAttributes."+s.name+" partially ignored due to parse error")
		default:
			ignored = append(ignored, "spec.resourceAttributes."+s.name+" ignored due to parse error")
		}
	}
	return a, ignored
}

func subject(s authorizationv1.SubjectAccessReviewSpec) request.User {
	u := request.User{Name: s.User, UID: s.UID, Groups: s.Groups}
	if len(s.Extra) > 0 {
		u.Extra = map[string][]string{}
		for k, v := range s.Extra {
			u.Extra[k] = v
		}
	}
	return u
}

func validateSubject(s authorizationv1.SubjectAccessReviewSpec) field.ErrorList {
	errs := oneOf(s.ResourceAttributes, s.NonResourceAttributes)
	if s.User == "" && len(s.Groups) == 0 {
		errs = append(errs, field.Invalid(field.NewPath("spec", "user"), s.User, "at least one of user or group must be specified"))
	}
	return append(errs, validateSelectors(s.ResourceAttributes)...)
}

// noMetadata: a review is never stored.
func noMetadata(m metav1.ObjectMeta, why string) field.ErrorList {
	m.ManagedFields = nil
	if equality.Semantic.DeepEqual(m, metav1.ObjectMeta{}) {
		return nil
	}
	return field.ErrorList{field.Invalid(field.NewPath("metadata"), m, why)}
}

func oneOf(r *authorizationv1.ResourceAttributes, n *authorizationv1.NonResourceAttributes) field.ErrorList {
	spec := field.NewPath("spec")
	switch {
	case r != nil && n != nil:
		return field.ErrorList{field.Invalid(spec.Child("nonResourceAttributes"), n, "cannot be specified in combination with resourceAttributes")}
	case r == nil && n == nil:
		return field.ErrorList{field.Invalid(spec.Child("resourceAttributes"), r, "exactly one of nonResourceAttributes or resourceAttributes must be specified")}
	}
	return nil
}

func userInfo(u request.User) authenticationv1.UserInfo {
	info := authenticationv1.UserInfo{Username: u.Name, UID: u.UID, Groups: u.Groups}
	if len(u.Extra) > 0 {
		info.Extra = map[string]authenticationv1.ExtraValue{}
		for k, v := range maps.All(u.Extra) {
			info.Extra[k] = v
		}
	}
	return info
}

// Unauthorized is the answer to bad credentials, which says nothing about why.
// (Upstream: 401 with this message alone.)
func Unauthorized() error { return apierrors.NewUnauthorized(string(metav1.StatusReasonUnauthorized)) }

// Review is the question about a as a SubjectAccessReview asks it.
func (a Attributes) Review() authorizationv1.SubjectAccessReviewSpec {
	s := authorizationv1.SubjectAccessReviewSpec{User: a.User.Name, UID: a.User.UID, Groups: a.User.Groups}
	if a.User.Extra != nil {
		s.Extra = map[string]authorizationv1.ExtraValue{}
		for k, v := range a.User.Extra {
			s.Extra[k] = v
		}
	}
	if a.Path != "" {
		s.NonResourceAttributes = &authorizationv1.NonResourceAttributes{Path: a.Path, Verb: a.Verb}
		return s
	}
	r := &authorizationv1.ResourceAttributes{Namespace: a.Namespace, Verb: a.Verb, Group: a.Group, Version: a.Version,
		Resource: a.Resource, Subresource: a.Subresource, Name: a.Name}
	s.ResourceAttributes = r
	if all := fieldRequirements(a.Fields); len(all) > 0 {
		r.FieldSelector = &authorizationv1.FieldSelectorAttributes{Requirements: all}
	}
	if all := labelRequirements(a.Labels); len(all) > 0 {
		r.LabelSelector = &authorizationv1.LabelSelectorAttributes{Requirements: all}
	}
	return s
}
