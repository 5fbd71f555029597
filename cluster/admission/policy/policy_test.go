package policy_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"sampan/cluster/admission"
	"sampan/cluster/admission/policy"
	"sampan/cluster/client/clienttest"
	"sampan/cluster/kind"
	"sampan/cluster/kind/admissionregistration"
	"sampan/cluster/kind/apps"
	"sampan/cluster/kind/core"
	"sampan/cluster/kind/kindtest"
	"sampan/cluster/request"
	"sampan/cluster/schema"
)

// chain is both plugins over objects written as YAML.
func chain(t *testing.T, objects ...kind.Object) *admission.Chain {
	t.Helper()
	table := kind.NewTable(core.Kinds(), apps.Kinds(), admissionregistration.Kinds())
	objects = append(objects, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", Labels: map[string]string{"team": "a"}}})
	jo := authorizer.AuthorizerFunc(func(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
		if a.GetUser().GetName() == "boss" {
			return authorizer.DecisionAllow, "", nil
		}
		return authorizer.DecisionNoOpinion, "", nil
	})
	cfg := policy.Config{Objects: clienttest.New(t, table, objects...), May: jo, Types: schema.New(table).TypeConverter, Log: slog.New(slog.DiscardHandler)}
	mutating, err := policy.NewMutating(cfg)
	if err != nil {
		t.Fatal(err)
	}
	validating, err := policy.NewValidating(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return admission.NewChain(mutating, validating)
}

// write is what the verb does with a Deployment; old may be empty.
func write(t *testing.T, c *admission.Chain, user, text string, warn func(string)) (*appsv1.Deployment, error) {
	t.Helper()
	k := apps.Deployment()
	obj := kindtest.Create(t, k, text)
	obj.GetObjectKind().SetGroupVersionKind(k.GVK)
	obj.SetNamespace("shop")
	a := &admission.Attempt{Operation: admission.Create, Object: obj, Request: request.Request{Verb: "create", Kind: k, GVK: k.GVK,
		Namespace: "shop", Name: obj.GetName(), User: request.User{Name: user}, Warn: warn}}
	err := c.Mutate(t.Context(), a)
	if err == nil {
		err = c.Review(t.Context(), a)
	}
	return obj.(*appsv1.Deployment), err
}

const deployment = `{metadata: {name: web, labels: {tier: front}}, spec: {replicas: 3, selector: {matchLabels: {a: b}},
 template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}}}`

const constraints = `failurePolicy: Fail, matchConstraints: {resourceRules: [{operations: [CREATE], apiGroups: [apps], apiVersions: [v1], resources: [deployments]}]}`

func validating(t *testing.T, more string) kind.Object {
	return kindtest.Create(t, admissionregistration.ValidatingAdmissionPolicy(), `{metadata: {name: p}, spec: {`+constraints+`, `+more+`}}`)
}

func mutating(t *testing.T, name, more string) kind.Object {
	return kindtest.Create(t, admissionregistration.MutatingAdmissionPolicy(), `{metadata: {name: `+name+`}, spec: {`+constraints+`, `+more+`}}`)
}

func validatingBinding(t *testing.T, more string) kind.Object {
	return kindtest.Create(t, admissionregistration.ValidatingAdmissionPolicyBinding(), `{metadata: {name: b}, spec: {policyName: p, `+more+`}}`)
}

func mutatingBinding(t *testing.T, name, more string) kind.Object {
	return kindtest.Create(t, admissionregistration.MutatingAdmissionPolicyBinding(), `{metadata: {name: `+name+`}, spec: {policyName: `+name+more+`}}`)
}

func TestAWriteMeetsThePolicy(t *testing.T) {
	const deny = "validationActions: [Deny]"
	limit := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "limit", Labels: map[string]string{"of": "web"}}, Data: map[string]string{"max": "2"}}
	for _, tc := range []struct {
		it, policy, binding string
		user                string
		want                string // of the error; empty: admitted
		code                int32
	}{
		{it: "one that it meets", policy: `validations: [{expression: "object.spec.replicas <= 3"}]`, binding: deny},
		{it: "one that it does not", policy: `validations: [{expression: "object.spec.replicas > 3"}]`, binding: deny, code: 422,
			want: `ValidatingAdmissionPolicy 'p' with binding 'b' denied request: failed expression: object.spec.replicas > 3`},
		{it: "a message", policy: `validations: [{expression: "false", message: never}]`, binding: deny, code: 422, want: "denied request: never"},
		{it: "a message that is made, and a reason", policy: `validations: [{expression: "false", messageExpression: "'not ' + object.metadata.name", reason: Forbidden}]`,
			binding: deny, code: 403, want: "denied request: not web"},
		{it: "variables", policy: `variables: [{name: count, expression: object.spec.replicas}, {name: twice, expression: variables.count * 2}], validations: [{expression: variables.twice == 5}]`,
			binding: deny, code: 422, want: "failed expression: variables.twice == 5"},
		{it: "the namespace", policy: `validations: [{expression: "namespaceObject.metadata.labels['team'] == 'b'"}]`, binding: deny, code: 422, want: "failed expression"},
		{it: "a warning", policy: `validations: [{expression: "false", message: careful}]`, binding: "validationActions: [Warn]"},
		{it: "a condition that is not met", policy: `matchConditions: [{name: c, expression: "object.metadata.name != 'web'"}], validations: [{expression: "false"}]`, binding: deny},
		{it: "rights", policy: `validations: [{expression: "authorizer.group('apps').resource('deployments').check('scale').allowed()"}]`, binding: deny, code: 422, want: "failed expression"},
		{it: "rights that one has", user: "boss", policy: `validations: [{expression: "authorizer.group('apps').resource('deployments').check('scale').allowed()"}]`, binding: deny},
		{it: "a failure", policy: `validations: [{expression: "object.metadata.annotations['x'] == 'y'"}]`, binding: deny, code: 422, want: "no such key: annotations"},
		{it: "a binding for others", policy: `validations: [{expression: "false"}]`, binding: deny + ", matchResources: {objectSelector: {matchLabels: {tier: back}}}"},
		{it: "a binding for it", policy: `validations: [{expression: "false"}]`, binding: deny + ", matchResources: {objectSelector: {matchLabels: {tier: front}}}", code: 422, want: "failed expression"},
		{it: "a parameter", policy: `paramKind: {apiVersion: v1, kind: ConfigMap}, validations: [{expression: "object.spec.replicas <= int(params.data.max)"}]`,
			binding: deny + ", paramRef: {name: limit, parameterNotFoundAction: Deny}", code: 422, want: "failed expression"},
		{it: "parameters by label", policy: `paramKind: {apiVersion: v1, kind: ConfigMap}, validations: [{expression: "object.spec.replicas <= int(params.data.max)"}]`,
			binding: deny + ", paramRef: {selector: {matchLabels: {of: web}}, parameterNotFoundAction: Deny}", code: 422, want: "failed expression"},
		{it: "no parameter", policy: `paramKind: {apiVersion: v1, kind: ConfigMap}, validations: [{expression: "false"}]`,
			binding: deny + ", paramRef: {name: none, parameterNotFoundAction: Deny}", code: 422, want: "failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction"},
		{it: "no parameter is fine", policy: `paramKind: {apiVersion: v1, kind: ConfigMap}, validations: [{expression: "false"}]`,
			binding: deny + ", paramRef: {name: none, parameterNotFoundAction: Allow}"},
		{it: "no such kind", policy: `paramKind: {apiVersion: x.io/v1, kind: Limit}, validations: [{expression: "false"}]`,
			binding: deny + ", paramRef: {name: none, parameterNotFoundAction: Allow}", code: 422, want: "failed to configure binding: paramKind kind"},
	} {
		t.Run(tc.it, func(t *testing.T) {
			var warnings []string
			c := chain(t, limit.DeepCopy(), validating(t, tc.policy), validatingBinding(t, tc.binding))
			_, err := write(t, c, tc.user, deployment, func(s string) { warnings = append(warnings, s) })
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Fatalf("%v, want %q", err, tc.want)
			}
			if err != nil {
				if s := err.(interface{ Status() metav1.Status }).Status(); s.Code != tc.code || len(s.Details.Causes) != 1 {
					t.Errorf("status %+v, want code %d and a cause", s, tc.code)
				}
			}
			if warned := len(warnings) > 0; warned != strings.Contains(tc.binding, "Warn") {
				t.Errorf("warnings %q", warnings)
			}
		})
	}
}

func TestTheAuditLogHearsOfPolicies(t *testing.T) {
	c := chain(t, validating(t, `validations: [{expression: "true"}, {expression: "false", message: careful}],
 auditAnnotations: [{key: who, valueExpression: "'it is ' + object.metadata.name"}, {key: none, valueExpression: "null"}]`), validatingBinding(t, "validationActions: [Audit]"))
	k := apps.Deployment()
	obj := kindtest.Create(t, k, deployment)
	obj.GetObjectKind().SetGroupVersionKind(k.GVK)
	notes := map[string]string{}
	a := &admission.Attempt{Operation: admission.Create, Object: obj, Request: request.Request{Verb: "create", Kind: k, GVK: k.GVK, Namespace: "shop", Name: "web",
		Annotate: func(key, value string, _ bool) { notes[key] = value }}}
	if err := c.Review(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	const failed = `[{"message":"careful","policy":"p","binding":"b","expressionIndex":1,"validationActions":["Audit"]}]`
	if notes["validation.policy.admission.k8s.io/validation_failure"] != failed || notes["p/who"] != "it is web" || len(notes) != 2 {
		t.Errorf("the audit log has %q", notes)
	}
}

func TestAPolicyWithoutBindingIsNotInForce(t *testing.T) {
	if _, err := write(t, chain(t, validating(t, `validations: [{expression: "false"}]`)), "", deployment, nil); err != nil {
		t.Error(err)
	}
}

func TestPoliciesChangeWhatIsWritten(t *testing.T) {
	const apply = `reinvocationPolicy: Never, mutations: [{patchType: ApplyConfiguration, applyConfiguration: {expression: `
	for _, tc := range []struct {
		it, policy string
		check      func(*appsv1.Deployment) bool
		want       string // of the error
	}{
		{it: "by applying", policy: apply + `"Object{metadata: Object.metadata{annotations: {'my': 'foo'}}}"}}]`,
			check: func(d *appsv1.Deployment) bool {
				return d.Annotations["my"] == "foo" && d.Labels["tier"] == "front" && *d.Spec.Replicas == 3
			}},
		{it: "with variables", policy: `variables: [{name: more, expression: "object.spec.replicas + 1"}], ` + apply + `"Object{spec: Object.spec{replicas: variables.more}}"}}]`,
			check: func(d *appsv1.Deployment) bool { return *d.Spec.Replicas == 4 && d.Kind == "Deployment" }},
		{it: "by patching", policy: `reinvocationPolicy: Never, mutations: [{patchType: JSONPatch, jsonPatch: {expression: "[JSONPatch{op: 'replace', path: '/spec/replicas', value: 7}]"}}]`,
			check: func(d *appsv1.Deployment) bool { return *d.Spec.Replicas == 7 }},
		{it: "not what is atomic", policy: apply + `"Object{spec: Object.spec{selector: Object.spec.selector{matchLabels: {'x': 'y'}}}}"}}]`,
			want: "policy 'm' with binding 'm' denied request: error applying patch: invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: .spec.selector"},
		{it: "not if a condition is not met", policy: `matchConditions: [{name: c, expression: "false"}], ` + apply + `"Object{spec: Object.spec{replicas: 9}}"}}]`,
			check: func(d *appsv1.Deployment) bool { return *d.Spec.Replicas == 3 }},
	} {
		t.Run(tc.it, func(t *testing.T) {
			d, err := write(t, chain(t, mutating(t, "m", tc.policy), mutatingBinding(t, "m", "")), "", deployment, nil)
			if tc.want != "" {
				if err == nil || !strings.Contains(err.Error(), tc.want) {
					t.Errorf("%v, want %s", err, tc.want)
				}
				return
			}
			if err != nil || !tc.check(d) {
				t.Errorf("it is %+v (%v)", d, err)
			}
		})
	}
}

func TestAPolicyLooksAgainIfItWantsTo(t *testing.T) {
	// The first counts how often it ran, the second changes the object after it.
	const counts = `mutations: [{patchType: ApplyConfiguration, applyConfiguration: {expression: "Object{spec: Object.spec{replicas: object.spec.replicas + 10}}"}}]`
	const after = `reinvocationPolicy: Never, mutations: [{patchType: ApplyConfiguration, applyConfiguration: {expression: "Object{metadata: Object.metadata{annotations: {'x': 'y'}}}"}}]`
	for policy, want := range map[string]int32{"Never": 13, "IfNeeded": 23} {
		c := chain(t, mutating(t, "a", "reinvocationPolicy: "+policy+", "+counts), mutatingBinding(t, "a", ""), mutating(t, "b", after), mutatingBinding(t, "b", ""))
		d, err := write(t, c, "", deployment, nil)
		if err != nil || *d.Spec.Replicas != want || d.Annotations["x"] != "y" {
			t.Errorf("%s: %d replicas (%v), want %d", policy, *d.Spec.Replicas, err, want)
		}
	}
}
