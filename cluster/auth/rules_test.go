package auth

import (
	"context"
	"errors"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"sampan/cluster/request"
)

// ruled is a rule that says one thing.
type ruled struct {
	d   Decision
	why string
	err error
}

func (r ruled) Decide(context.Context, Attributes) (Decision, string, error) {
	return r.d, r.why, r.err
}

func (r ruled) Rules(context.Context, request.User, string) ([]rbacv1.PolicyRule, bool, error) {
	return nil, r.err != nil, r.err
}

func TestTheFirstRuleWithAnOpinionCounts(t *testing.T) {
	away := errors.New("away")
	for _, c := range []struct {
		it    string
		rules []Rule
		want  Decision
		why   string
		fails bool
		is    func(error) bool // of Check's error; nil: none
	}{
		{it: "nobody says anything", want: NoOpinion, is: apierrors.IsForbidden},
		{it: "one allows", rules: []Rule{ruled{why: "a"}, ruled{d: Allow, why: "b"}, ruled{d: Deny}}, want: Allow, why: "b"},
		{it: "one denies before", rules: []Rule{ruled{d: Deny, why: "never"}, ruled{d: Allow}}, want: Deny, why: "never", is: apierrors.IsForbidden},
		{it: "reasons are told", rules: []Rule{ruled{why: "a"}, ruled{why: "b"}}, want: NoOpinion, why: "a\nb", is: apierrors.IsForbidden},
		{it: "one cannot tell and another allows", rules: []Rule{ruled{err: away}, ruled{d: Allow}}, want: Allow},
		{it: "one cannot tell and none allows", rules: []Rule{ruled{err: away}, ruled{}}, want: NoOpinion, fails: true, is: apierrors.IsInternalError},
		{it: "one that cannot tell denies", rules: []Rule{ruled{d: Deny, err: away}, ruled{d: Allow}}, want: Deny, fails: true, is: apierrors.IsInternalError},
		{it: "everything is allowed", rules: []Rule{Always(Allow)}, want: Allow},
		{it: "nothing is", rules: []Rule{Always(NoOpinion)}, want: NoOpinion, why: "Everything is forbidden.", is: apierrors.IsForbidden},
	} {
		t.Run(c.it, func(t *testing.T) {
			var in Replaceable
			in.Replace(c.rules...)
			z := NewAuthorizer(&in)
			d, why, err := z.Decide(t.Context(), Attributes{User: user("ann"), Verb: "get", Resource: "pods"})
			if d != c.want || why != c.why || (err != nil) != c.fails {
				t.Errorf("%v, %q, %v", d, why, err)
			}
			err = z.Check(t.Context(), Attributes{User: user("ann"), Verb: "get", Resource: "pods"})
			if (err == nil) != (c.is == nil) || c.is != nil && !c.is(err) {
				t.Errorf("Check: %v", err)
			}
		})
	}
}

func TestTheAPIServerMayWhatItKeepsAndNoMore(t *testing.T) {
	z := NewAuthorizer(Always(NoOpinion))
	for _, c := range []struct {
		verb, group, resource string
		want                  bool
	}{
		{"create", "", "namespaces", true}, {"escalate", rbacv1.GroupName, "clusterroles", true}, {"update", "flowcontrol.apiserver.k8s.io", "flowschemas", true},
		{"get", "", "secrets", false}, {"delete", "", "pods", false}, {"impersonate", "", "users", false},
	} {
		if ok, why := z.Allowed(t.Context(), Attributes{User: Server(), Verb: c.verb, Group: c.group, Resource: c.resource}); ok != c.want {
			t.Errorf("%s %s: %v, %s", c.verb, c.resource, ok, why)
		}
	}
}
