package match

import (
	"context"
	"slices"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"

	"sampan/cluster/admission"
	"sampan/cluster/client"
	"sampan/cluster/kind"
)

// Rule is a rule of a webhook or, with names, of a policy.
type Rule struct {
	admissionregistrationv1.RuleWithOperations
	Names []string // of objects; empty: all
}

// Selection says which writes something is about.
type Selection struct {
	Rules, Excluded     []Rule
	Namespaces, Objects labels.Selector
	Exact               bool // rules count for the version of the request only
}

// NewSelection compiles what webhooks and policies alike declare. A nil
// selector selects all.
func NewSelection(rules, excluded []Rule, namespaces, objects *metav1.LabelSelector, policy *admissionregistrationv1.MatchPolicyType) (*Selection, error) {
	s := &Selection{Rules: rules, Excluded: excluded, Exact: policy != nil && *policy == admissionregistrationv1.Exact}
	for _, of := range []struct {
		to   *labels.Selector
		from *metav1.LabelSelector
	}{{&s.Namespaces, namespaces}, {&s.Objects, objects}} {
		*of.to = labels.Everything()
		if of.from == nil {
			continue
		}
		selector, err := metav1.LabelSelectorAsSelector(of.from)
		if err != nil {
			return nil, err
		}
		*of.to = selector
	}
	return s, nil
}

// Match says whether s is selected, and as what. The objects are read through
// r; its error matters only if everything else matches. (Upstream:
// generic.Webhook.ShouldCallHook and policy/matching.)
func (sel *Selection) Match(ctx context.Context, r client.Reader, s *Subject) (as As, ok bool, err error) {
	if exempt(s) || !sel.objects(s) {
		return As{}, false, nil
	}
	if _, out := sel.first(sel.Excluded, s); out {
		return As{}, false, nil
	}
	if as, ok = sel.first(sel.Rules, s); !ok {
		return As{}, false, nil
	}
	ok, err = sel.namespaces(ctx, r, s)
	return as, ok, err
}

// Limits is Match for what narrows down another selection: without rules all
// is selected.
func (sel *Selection) Limits(ctx context.Context, r client.Reader, s *Subject) (as As, ok bool, err error) {
	if len(sel.Rules) > 0 {
		return sel.Match(ctx, r, s)
	}
	if _, out := sel.first(sel.Excluded, s); out || !sel.objects(s) {
		return As{}, false, nil
	}
	ok, err = sel.namespaces(ctx, r, s)
	return s.As, ok, err
}

// exempt are the objects that say what is admitted: else a webhook could keep
// its own configuration from being mended.
func exempt(s *Subject) bool {
	return s.Kind.Group == admissionregistrationv1.GroupName
}

// first returns as what a rule is about s: as itself, or as another of its
// versions.
func (sel *Selection) first(rules []Rule, s *Subject) (As, bool) {
	if slices.ContainsFunc(rules, func(r Rule) bool { return r.covers(s, s.As) }) {
		return s.As, true
	}
	if sel.Exact {
		return As{}, false
	}
	for _, r := range rules {
		for _, as := range s.others() {
			if r.covers(s, as) {
				return as, true
			}
		}
	}
	return As{}, false
}

func (r *Rule) covers(s *Subject, as As) bool {
	op := admissionregistrationv1.OperationType(s.Operation)
	return (slices.Contains(r.Operations, admissionregistrationv1.OperationAll) || slices.Contains(r.Operations, op)) &&
		oneOf(r.APIGroups, as.Resource.Group) && oneOf(r.APIVersions, as.Resource.Version) && r.scope(s) &&
		slices.ContainsFunc(r.Resources, func(resource string) bool {
			name, sub, _ := strings.Cut(resource, "/")
			return (name == "*" || name == as.Resource.Resource) && (sub == "*" || sub == s.Request.Subresource)
		}) &&
		(len(r.Names) == 0 || slices.Contains(r.Names, s.Request.Name))
}

func (r *Rule) scope(s *Subject) bool {
	cluster := s.namespace() || s.Request.Namespace == ""
	switch {
	case r.Scope == nil || *r.Scope == admissionregistrationv1.AllScopes:
		return true
	case *r.Scope == admissionregistrationv1.ClusterScope:
		return cluster
	}
	return !cluster
}

func oneOf(list []string, s string) bool {
	return slices.Contains(list, "*") || slices.Contains(list, s)
}

// objects says whether the labels of what is written, or of what was there,
// are selected.
func (sel *Selection) objects(s *Subject) bool {
	if sel.Objects.Empty() {
		return true
	}
	matches := func(obj runtime.Object) bool {
		m, ok := obj.(metav1.Object)
		return ok && sel.Objects.Matches(labels.Set(m.GetLabels()))
	}
	if s.Body != nil {
		return matches(s.Body)
	}
	has := func(obj kind.Object) bool { return obj != nil && matches(obj) }
	return has(s.Object) || has(s.Old)
}

// namespaces says whether the labels of the namespace are selected. What has
// no namespace always is.
func (sel *Selection) namespaces(ctx context.Context, r client.Reader, s *Subject) (bool, error) {
	if sel.Namespaces.Empty() || s.Namespace() == "" {
		return true, nil
	}
	if s.namespace() && s.Request.Subresource == "" && s.Object != nil && (s.Operation == admission.Create || s.Operation == admission.Update) {
		return sel.Namespaces.Matches(labels.Set(s.Object.GetLabels())), nil // as it is about to be
	}
	ns, err := client.Get[*corev1.Namespace](ctx, r, "", s.Namespace())
	if err != nil {
		return false, err
	}
	return sel.Namespaces.Matches(labels.Set(ns.Labels)), nil
}
