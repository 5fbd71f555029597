package audit

import (
	"strings"
	"testing"

	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
)

const head = "apiVersion: audit.k8s.io/v1\nkind: Policy\n"

func policyOf(t *testing.T, rules string) *policy {
	t.Helper()
	p, strict, err := parsePolicy([]byte(head + rules))
	if err != nil || len(strict) > 0 {
		t.Fatalf("error %v, mistakes %v", err, strict)
	}
	return p
}

func TestTheFirstRuleThatMatchesCounts(t *testing.T) {
	jo := User{Name: "jo", Groups: []string{"dev", "all"}}
	pod := Attributes{User: jo, Verb: "get", Version: "v1", Namespace: "a", Resource: "pods", Name: "web"}
	with := func(change func(*Attributes)) Attributes {
		a := pod
		change(&a)
		return a
	}
	log := with(func(a *Attributes) { a.Subresource = "log" })
	health := Attributes{User: jo, Verb: "get", Path: "/healthz/etcd"}
	for _, tc := range []struct {
		it   string
		rule string // of level Request; what it does not match is Metadata
		a    Attributes
		want bool
	}{
		{"everything", "{level: Request}", pod, true},
		{"a user", "{level: Request, users: [jo]}", pod, true},
		{"another user", "{level: Request, users: [mo]}", pod, false},
		{"a group", "{level: Request, userGroups: [x, all]}", pod, true},
		{"another group", "{level: Request, userGroups: [x]}", pod, false},
		{"a verb", "{level: Request, verbs: [list, get]}", pod, true},
		{"another verb", "{level: Request, verbs: [list]}", pod, false},
		{"a namespace", "{level: Request, namespaces: [a]}", pod, true},
		{"another namespace", "{level: Request, namespaces: [b]}", pod, false},
		{"no namespace", "{level: Request, namespaces: ['']}", pod, false},
		{"namespaces are of resources", "{level: Request, namespaces: ['']}", health, false},
		{"a group of resources", "{level: Request, resources: [{group: ''}]}", pod, true},
		{"another group of resources", "{level: Request, resources: [{group: apps}]}", pod, false},
		{"any group", "{level: Request, resources: [{group: '*', resources: [pods]}]}", pod, true},
		{"a resource", "{level: Request, resources: [{resources: [pods]}]}", pod, true},
		{"a resource is not its parts", "{level: Request, resources: [{resources: [pods]}]}", log, false},
		{"a part", "{level: Request, resources: [{resources: [pods/log]}]}", log, true},
		{"all parts", "{level: Request, resources: [{resources: [pods/*]}]}", log, true},
		{"a resource with all parts", "{level: Request, resources: [{resources: [pods/*]}]}", pod, true},
		{"a part of all", "{level: Request, resources: [{resources: ['*/log']}]}", log, true},
		{"another part of all", "{level: Request, resources: [{resources: ['*/scale']}]}", log, false},
		{"all resources", "{level: Request, resources: [{resources: ['*']}]}", log, true},
		{"a name", "{level: Request, resources: [{resources: [pods], resourceNames: [web]}]}", pod, true},
		{"another name", "{level: Request, resources: [{resources: [pods], resourceNames: [db]}]}", pod, false},
		{"a path", "{level: Request, nonResourceURLs: [/healthz/etcd]}", health, true},
		{"paths below", "{level: Request, nonResourceURLs: ['/healthz*']}", health, true},
		{"another path", "{level: Request, nonResourceURLs: [/healthz]}", health, false},
		{"all paths are no resources", "{level: Request, nonResourceURLs: ['*']}", pod, false},
	} {
		t.Run(tc.it, func(t *testing.T) {
			want := auditv1.LevelMetadata
			if tc.want {
				want = auditv1.LevelRequest
			}
			if got := policyOf(t, "rules: ["+tc.rule+", {level: Metadata}]").decide(tc.a).level; got != want {
				t.Errorf("level %s, want %s", got, want)
			}
		})
	}
}

func TestWhatNoRuleMatchesIsNotRecorded(t *testing.T) {
	if got := policyOf(t, "rules: [{level: Metadata, users: [mo]}]").decide(Attributes{User: User{Name: "jo"}}); got.level != auditv1.LevelNone {
		t.Errorf("level %s", got.level)
	}
}

func TestARuleAddsToWhatThePolicyOmits(t *testing.T) {
	p := policyOf(t, "omitStages: [RequestReceived]\nomitManagedFields: true\nrules: [{level: Request, users: [jo], omitStages: [Panic], omitManagedFields: false}, {level: Request}]")
	if r := p.decide(Attributes{User: User{Name: "jo"}}); len(r.omit) != 2 || r.omitManaged {
		t.Errorf("jo's rule is %+v", r)
	}
	if r := p.decide(Attributes{}); len(r.omit) != 1 || !r.omitManaged {
		t.Errorf("the other rule is %+v", r)
	}
}

func TestAWrongPolicyIsRefused(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{"rules: []", "loaded illegal policy with 0 rules"},
		{"rules: [{}]", "rules[0].level: Required value"},
		{"rules: [{level: All}]", "rules[0].level: Unsupported value"},
		{"rules: [{level: None, omitStages: [Some]}]", "allowed stages are RequestReceived,ResponseStarted,ResponseComplete,Panic"},
		{"rules: [{level: None, nonResourceURLs: [healthz]}]", "must begin with a '/' character"},
		{"rules: [{level: None, nonResourceURLs: ['/a*b']}]", "must be the final character of the rule"},
		{"rules: [{level: None, nonResourceURLs: [/a], namespaces: [b]}]", "rules cannot apply to both regular resources and non-resource URLs"},
		{"rules: [{level: None, resources: [{group: apps/v1}]}]", "rules[0].resources.group: Invalid value"},
		{"rules: [{level: None, resources: [{resourceNames: [a]}]}]", "using resourceNames requires at least one resource"},
		{"rules: {", "yaml"},
	} {
		if _, _, err := parsePolicy([]byte(head + tc.text)); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v, want %q", tc.text, err, tc.want)
		}
	}
	if _, _, err := parsePolicy([]byte("apiVersion: audit.k8s.io/v1beta1\nkind: Policy\nrules: [{level: None}]")); err == nil {
		t.Error("a version that is gone is read")
	}
	if _, strict, err := parsePolicy([]byte(head + "rule: 1\nrules: [{level: None}]")); err != nil || len(strict) != 1 {
		t.Errorf("an unknown field: error %v, said %v", err, strict)
	}
}

func FuzzPolicy(f *testing.F) {
	f.Add([]byte(head+"rules: [{level: Request, users: [jo], resources: [{group: '*', resources: [pods/*]}]}, {level: None, nonResourceURLs: ['/a*']}]"), "pods", "log", "/a")
	f.Fuzz(func(t *testing.T, text []byte, resource, sub, path string) {
		if p, _, err := parsePolicy(text); err == nil {
			p.decide(Attributes{Resource: resource, Subresource: sub, Path: path})
		}
	})
}
