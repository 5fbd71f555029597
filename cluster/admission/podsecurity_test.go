package admission

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"sampan/cluster/client/clienttest"
	"sampan/cluster/kind"
	"sampan/cluster/kind/apps"
	"sampan/cluster/kind/core"
	"sampan/cluster/kind/kindtest"
	"sampan/cluster/request"
)

const (
	plainPod = `{metadata: {name: p, namespace: shop}, spec: {containers: [{name: c, image: i}]}}`
	rootPod  = `{metadata: {name: p, namespace: shop}, spec: {containers: [{name: c, image: i, securityContext: {privileged: true}}]}}`
	kataPod  = `{metadata: {name: p, namespace: shop}, spec: {runtimeClassName: kata, containers: [{name: c, image: i, securityContext: {privileged: true}}]}}`
	rootSet  = `{metadata: {name: d, namespace: shop}, spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}},
 spec: {containers: [{name: c, image: i, securityContext: {privileged: true}}]}}}}`
)

func TestPodsMeetTheStandardOfTheirNamespace(t *testing.T) {
	pods, sets, namespaces := core.Pod(), apps.Deployment(), core.Namespace()
	table := kind.NewTable(core.Kinds(), apps.Kinds())
	shop := func(labels string) kind.Object {
		return kindtest.Read(t, namespaces, `{metadata: {name: shop, labels: {`+labels+`}}}`)
	}
	for _, c := range []struct {
		it       string
		told     string // a PodSecurityConfiguration
		labels   string
		kind     *kind.Kind
		now, old string
		sub      string
		user     string
		want     string // of the error
		warns    string // of the warning
		notes    string // of the audit annotations
	}{
		{it: "none where there are no labels", kind: pods, now: rootPod, notes: "pod-security.kubernetes.io/enforce-policy=privileged:latest"},
		{it: "one that it meets", labels: "pod-security.kubernetes.io/enforce: baseline", kind: pods, now: plainPod, notes: "enforce-policy=baseline:latest"},
		{it: "one that it does not", labels: "pod-security.kubernetes.io/enforce: baseline", kind: pods, now: rootPod,
			want: `pods "p" is forbidden: violates PodSecurity "baseline:latest": privileged (container "c" must not set securityContext.privileged=true)`},
		{it: "of a version", labels: "pod-security.kubernetes.io/enforce: restricted, pod-security.kubernetes.io/enforce-version: v1.24", kind: pods, now: plainPod,
			want: `pods "p" is forbidden: violates PodSecurity "restricted:v1.24": allowPrivilegeEscalation != false (container "c" must set securityContext.allowPrivilegeEscalation=false)`},
		{it: "as a warning", labels: "pod-security.kubernetes.io/warn: baseline", kind: pods, now: rootPod, warns: `would violate PodSecurity "baseline:latest": privileged`},
		{it: "as an audit annotation", labels: "pod-security.kubernetes.io/audit: baseline", kind: pods, now: rootPod,
			notes: `pod-security.kubernetes.io/audit-violations=would violate PodSecurity "baseline:latest": privileged`},
		{it: "what makes pods is only warned of", labels: "pod-security.kubernetes.io/enforce: baseline, pod-security.kubernetes.io/warn: baseline", kind: sets, now: rootSet,
			warns: `would violate PodSecurity "baseline:latest": privileged`},
		{it: "not when only labels change", labels: "pod-security.kubernetes.io/enforce: restricted", kind: pods, old: plainPod,
			now: strings.Replace(plainPod, "name: p,", "name: p, labels: {a: b},", 1)},
		{it: "when an image does", labels: "pod-security.kubernetes.io/enforce: restricted", kind: pods, old: plainPod, now: strings.Replace(plainPod, "image: i", "image: j", 1),
			want: `violates PodSecurity "restricted:latest"`},
		{it: "not its status", labels: "pod-security.kubernetes.io/enforce: restricted", kind: pods, old: plainPod, now: strings.Replace(plainPod, "image: i", "image: j", 1), sub: "status"},
		{it: "the administrator's default", told: "defaults: {enforce: baseline}", kind: pods, now: rootPod, want: `violates PodSecurity "baseline:latest"`},
		{it: "labels before defaults", told: "defaults: {enforce: baseline}", labels: "pod-security.kubernetes.io/enforce: privileged", kind: pods, now: rootPod},
		{it: "but not who is exempt", told: "defaults: {enforce: baseline}\nexemptions: {usernames: [ann]}", user: "ann", kind: pods, now: rootPod, notes: "exempt=user"},
		{it: "but not in a namespace that is", told: "defaults: {enforce: baseline}\nexemptions: {namespaces: [shop]}", kind: pods, now: rootPod, notes: "exempt=namespace"},
		{it: "but not in a runtime that is", told: "defaults: {enforce: baseline}\nexemptions: {runtimeClasses: [kata]}", kind: pods, now: kataPod, notes: "exempt=runtimeClass"},
		{it: "a level that there is", kind: namespaces, now: `{metadata: {name: new, labels: {pod-security.kubernetes.io/enforce: none}}}`,
			want: `metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: "none": must be one of privileged, baseline, restricted`},
		{it: "and says which pods there will not", kind: namespaces, old: `{metadata: {name: shop}}`, now: `{metadata: {name: shop, labels: {pod-security.kubernetes.io/enforce: restricted}}}`,
			warns: `existing pods in namespace "shop" violate the new PodSecurity enforce level "restricted:latest"`},
	} {
		t.Run(c.it, func(t *testing.T) {
			objects := []kind.Object{shop(c.labels)}
			if c.kind == namespaces {
				objects = append(objects, kindtest.Create(t, pods, plainPod))
			}
			told := c.told
			if told != "" {
				told = "apiVersion: pod-security.admission.config.k8s.io/v1\nkind: PodSecurityConfiguration\n" + told
			}
			p, err := NewPodSecurity(clienttest.New(t, table, objects...), []byte(told))
			if err != nil {
				t.Fatal(err)
			}
			var warnings, notes []string
			a := &Attempt{Operation: Create, Object: kindtest.Create(t, c.kind, c.now)}
			a.Request = request.Request{Verb: "create", Kind: c.kind, GVK: c.kind.GVK, Namespace: "shop", Name: a.Object.GetName(), Subresource: c.sub,
				User: request.User{Name: c.user}, Warn: func(s string) { warnings = append(warnings, s) },
				Annotate: func(key, value string, _ bool) { notes = append(notes, key+"="+value) }}
			if c.kind == namespaces {
				a.Request.Namespace = ""
			}
			if c.old != "" {
				a.Operation, a.Old = Update, kindtest.Create(t, c.kind, c.old)
			}
			err = p.Review(t.Context(), a)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%v, want %q", err, c.want)
			}
			if err != nil && c.kind == pods && !apierrors.IsForbidden(err) {
				t.Errorf("not forbidden: %#v", err)
			}
			for what, has := range map[string]struct {
				got  []string
				want string
			}{"warnings": {warnings, c.warns}, "notes": {notes, c.notes}} {
				if has.want != "" && !slices.ContainsFunc(has.got, func(s string) bool { return strings.Contains(s, has.want) }) {
					t.Errorf("%s %q, want %q", what, has.got, has.want)
				}
			}
			if c.warns == "" && len(warnings) > 0 {
				t.Errorf("warnings %q, want none", warnings)
			}
		})
	}
}

func TestPodSecurityIsCounted(t *testing.T) {
	table := kind.NewTable(core.Kinds())
	p, err := NewPodSecurity(clienttest.New(t, table, kindtest.Read(t, core.Namespace(), `{metadata: {name: shop, labels: {pod-security.kubernetes.io/enforce: baseline}}}`)), nil)
	if err != nil {
		t.Fatal(err)
	}
	a := create(core.Pod(), kindtest.Create(t, core.Pod(), rootPod))
	a.Request.Namespace = "shop"
	if err := p.Review(t.Context(), a); err == nil {
		t.Fatal("admitted")
	}
	var b bytes.Buffer
	p.WriteMetrics(&b)
	const want = `pod_security_evaluations_total{decision="deny",mode="enforce",policy_level="baseline",policy_version="latest",request_operation="create",resource="pod",subresource=""} 1`
	if !strings.Contains(b.String(), want) {
		t.Errorf("%s\nwant %s", b.String(), want)
	}
}

func TestWhatPodSecurityIsToldHasToBeRight(t *testing.T) {
	for text, want := range map[string]string{
		"apiVersion: pod-security.admission.config.k8s.io/v1\nkind: PodSecurityConfiguration\ndefaults: {enforce: none}": "enforce",
		"apiVersion: pod-security.admission.config.k8s.io/v1\nkind: PodSecurityConfiguration\nmore: 1":                   "more",
		"kind: Pod": "configure admission PodSecurity",
	} {
		if _, err := NewPodSecurity(nil, []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
