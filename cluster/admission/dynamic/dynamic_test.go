package dynamic_test

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/utils/ptr"

	"sampan/cluster/admission"
	"sampan/cluster/admission/dynamic"
	"sampan/cluster/client/clienttest"
	"sampan/cluster/kind"
	"sampan/cluster/kind/core"
	"sampan/cluster/kind/kindtest"
	"sampan/cluster/request"
	"sampan/cluster/webhook"
)

// configurations are the two kinds as far as the plugins read them.
func configurations() []*kind.Kind {
	return []*kind.Kind{
		kind.Declare(kind.Of[admissionregistrationv1.MutatingWebhookConfiguration]{Cluster: true, Plural: "mutatingwebhookconfigurations",
			GVK: admissionregistrationv1.SchemeGroupVersion.WithKind("MutatingWebhookConfiguration")}),
		kind.Declare(kind.Of[admissionregistrationv1.ValidatingWebhookConfiguration]{Cluster: true, Plural: "validatingwebhookconfigurations",
			GVK: admissionregistrationv1.SchemeGroupVersion.WithKind("ValidatingWebhookConfiguration")}),
	}
}

// world is a chain with both plugins, and the objects they read.
type world struct {
	*clienttest.Fake
	*admission.Chain
	maps *kind.Kind
}

func newWorld(t *testing.T, objects ...kind.Object) *world {
	t.Helper()
	table := kind.NewTable(core.Kinds(), configurations())
	w := &world{Fake: clienttest.New(t, table, objects...), maps: core.ConfigMap()}
	calls, err := webhook.New(webhook.Config{Objects: w.Fake})
	if err != nil {
		t.Fatal(err)
	}
	nobody := authorizer.AuthorizerFunc(func(context.Context, authorizer.Attributes) (authorizer.Decision, string, error) {
		return authorizer.DecisionNoOpinion, "", nil
	})
	cfg := dynamic.Config{Objects: w.Fake, Calls: calls, May: nobody, Log: slog.New(slog.DiscardHandler)}
	mutating, err := dynamic.NewMutating(cfg)
	if err != nil {
		t.Fatal(err)
	}
	validating, err := dynamic.NewValidating(cfg)
	if err != nil {
		t.Fatal(err)
	}
	w.Chain = admission.NewChain(mutating, validating)
	return w
}

// create is what the verb does with a new object.
func (w *world) create(t *testing.T, text string, change ...func(*request.Request)) (*corev1.ConfigMap, error) {
	t.Helper()
	obj := kindtest.Read(t, w.maps, text)
	obj.GetObjectKind().SetGroupVersionKind(w.maps.GVK)
	r := request.Request{Verb: "create", Kind: w.maps, GVK: w.maps.GVK, Namespace: obj.GetNamespace(), Name: obj.GetName(), User: request.User{Name: "jo"}}
	for _, c := range change {
		c(&r)
	}
	a := &admission.Attempt{Request: r, Operation: admission.Create, Object: obj}
	err := w.Mutate(t.Context(), a)
	if err == nil {
		err = w.Review(t.Context(), a)
	}
	return obj.(*corev1.ConfigMap), err
}

// server answers with what the function makes of the request.
func server(t *testing.T, answer func(q *admissionv1.AdmissionRequest, data map[string]string) *admissionv1.AdmissionResponse) admissionregistrationv1.WebhookClientConfig {
	t.Helper()
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var review admissionv1.AdmissionReview
		if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		var obj corev1.ConfigMap
		if err := json.Unmarshal(review.Request.Object.Raw, &obj); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		review.Response = answer(review.Request, obj.Data)
		if review.Response != nil && review.Response.UID == "" {
			review.Response.UID = review.Request.UID
		}
		review.Request = nil
		json.NewEncoder(w).Encode(&review)
	}))
	t.Cleanup(s.Close)
	return admissionregistrationv1.WebhookClientConfig{URL: &s.URL, CABundle: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})}
}

var creations = []admissionregistrationv1.RuleWithOperations{{Operations: []admissionregistrationv1.OperationType{"CREATE"},
	Rule: admissionregistrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"configmaps"}}}}

func validating(name string, hooks ...admissionregistrationv1.ValidatingWebhook) *admissionregistrationv1.ValidatingWebhookConfiguration {
	for i := range hooks {
		h := &hooks[i]
		h.Name, h.AdmissionReviewVersions = name, []string{"v2", "v1"}
		if h.Rules == nil {
			h.Rules = creations
		}
	}
	return &admissionregistrationv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: name}, Webhooks: hooks}
}

func mutating(name string, c admissionregistrationv1.WebhookClientConfig, again bool) *admissionregistrationv1.MutatingWebhookConfiguration {
	h := admissionregistrationv1.MutatingWebhook{Name: name, ClientConfig: c, Rules: creations, AdmissionReviewVersions: []string{"v1"}}
	if again {
		h.ReinvocationPolicy = ptr.To(admissionregistrationv1.IfNeededReinvocationPolicy)
	}
	return &admissionregistrationv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: name}, Webhooks: []admissionregistrationv1.MutatingWebhook{h}}
}

func namespace(name string, labels map[string]string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
}

const aMap = `{metadata: {namespace: ns, name: m, labels: {app: it}}, data: {a: "1"}}`

func TestARefusalIsTheAnswer(t *testing.T) {
	refuse := func(result *metav1.Status) func(*admissionv1.AdmissionRequest, map[string]string) *admissionv1.AdmissionResponse {
		return func(*admissionv1.AdmissionRequest, map[string]string) *admissionv1.AdmissionResponse {
			return &admissionv1.AdmissionResponse{Result: result}
		}
	}
	for _, tc := range []struct {
		it     string
		result *metav1.Status
		want   string
		code   int32
	}{
		{"without a word", nil, `admission webhook "no.x" denied the request without explanation`, 400},
		{"with a reason", &metav1.Status{Reason: "Because"}, `admission webhook "no.x" denied the request: Because`, 400},
		{"with all", &metav1.Status{Message: "never", Code: 418}, `admission webhook "no.x" denied the request: never`, 418},
	} {
		t.Run(tc.it, func(t *testing.T) {
			w := newWorld(t, namespace("ns", nil), validating("no.x", admissionregistrationv1.ValidatingWebhook{ClientConfig: server(t, refuse(tc.result))}))
			_, err := w.create(t, aMap)
			status, ok := err.(interface{ Status() metav1.Status })
			if !ok || err.Error() != tc.want || status.Status().Code != tc.code {
				t.Errorf("%v, want %s with code %d", err, tc.want, tc.code)
			}
		})
	}
}

func TestAWebhookIsAskedForWhatItSelects(t *testing.T) {
	no := server(t, func(q *admissionv1.AdmissionRequest, _ map[string]string) *admissionv1.AdmissionResponse {
		if q.UserInfo.Username != "jo" || q.Namespace != "ns" || q.Name != "m" || q.Operation != admissionv1.Create || q.Resource.Resource != "configmaps" ||
			q.Kind.Kind != "ConfigMap" || !strings.Contains(string(q.Options.Raw), `"kind":"CreateOptions"`) || !strings.Contains(string(q.Object.Raw), `"kind":"ConfigMap"`) {
			return nil
		}
		return &admissionv1.AdmissionResponse{}
	})
	selector := func(key, value string) *metav1.LabelSelector {
		return &metav1.LabelSelector{MatchLabels: map[string]string{key: value}}
	}
	rules := func(change func(*admissionregistrationv1.RuleWithOperations)) []admissionregistrationv1.RuleWithOperations {
		r := *creations[0].DeepCopy()
		change(&r)
		return []admissionregistrationv1.RuleWithOperations{r}
	}
	for _, tc := range []struct {
		it    string
		hook  admissionregistrationv1.ValidatingWebhook
		asked bool
	}{
		{"all", admissionregistrationv1.ValidatingWebhook{}, true},
		{"of a namespace", admissionregistrationv1.ValidatingWebhook{NamespaceSelector: selector("team", "a")}, true},
		{"of another namespace", admissionregistrationv1.ValidatingWebhook{NamespaceSelector: selector("team", "b")}, false},
		{"of an object", admissionregistrationv1.ValidatingWebhook{ObjectSelector: selector("app", "it")}, true},
		{"of another object", admissionregistrationv1.ValidatingWebhook{ObjectSelector: selector("app", "other")}, false},
		{"any resource", admissionregistrationv1.ValidatingWebhook{Rules: rules(func(r *admissionregistrationv1.RuleWithOperations) { r.Resources = []string{"*/*"} })}, true},
		{"subresources", admissionregistrationv1.ValidatingWebhook{Rules: rules(func(r *admissionregistrationv1.RuleWithOperations) { r.Resources = []string{"configmaps/status"} })}, false},
		{"another version", admissionregistrationv1.ValidatingWebhook{Rules: rules(func(r *admissionregistrationv1.RuleWithOperations) { r.APIVersions = []string{"v2"} })}, false},
		{"another operation", admissionregistrationv1.ValidatingWebhook{Rules: rules(func(r *admissionregistrationv1.RuleWithOperations) { r.Operations[0] = "DELETE" })}, false},
		{"cluster scope", admissionregistrationv1.ValidatingWebhook{Rules: rules(func(r *admissionregistrationv1.RuleWithOperations) {
			r.Scope = ptr.To(admissionregistrationv1.ClusterScope)
		})}, false},
		{"a condition", admissionregistrationv1.ValidatingWebhook{MatchConditions: []admissionregistrationv1.MatchCondition{{Name: "c", Expression: "object.data.a == '1'"}}}, true},
		{"another condition", admissionregistrationv1.ValidatingWebhook{MatchConditions: []admissionregistrationv1.MatchCondition{{Name: "c", Expression: "request.userInfo.username != 'jo'"}}}, false},
		{"what nobody may", admissionregistrationv1.ValidatingWebhook{MatchConditions: []admissionregistrationv1.MatchCondition{
			{Name: "c", Expression: "authorizer.group('').resource('pods').check('get').allowed()"}}}, false},
	} {
		t.Run(tc.it, func(t *testing.T) {
			tc.hook.ClientConfig = no
			w := newWorld(t, namespace("ns", map[string]string{"team": "a"}), validating("no.x", tc.hook))
			_, err := w.create(t, aMap)
			if asked := err != nil; asked != tc.asked || asked && !strings.Contains(err.Error(), "denied the request") {
				t.Errorf("asked: %t, want %t (%v)", asked, tc.asked, err)
			}
		})
	}
}

func TestAFailureCountsAsThePolicySays(t *testing.T) {
	ignore := admissionregistrationv1.Ignore
	for _, tc := range []struct {
		it     string
		answer *admissionv1.AdmissionResponse
		hook   admissionregistrationv1.ValidatingWebhook
		dry    bool
		want   string // empty: admitted
	}{
		{it: "no answer", want: `failed calling webhook "no.x": received invalid webhook response: webhook response was absent`},
		{it: "no answer, ignored", hook: admissionregistrationv1.ValidatingWebhook{FailurePolicy: &ignore}},
		{it: "of another question", answer: &admissionv1.AdmissionResponse{UID: "x", Allowed: true}, want: `expected response.uid=`},
		{it: "a patch", answer: &admissionv1.AdmissionResponse{Allowed: true, Patch: []byte("[]")}, want: "validating webhook may not return response.patch"},
		{it: "a condition that fails", want: "no such key", hook: admissionregistrationv1.ValidatingWebhook{
			MatchConditions: []admissionregistrationv1.MatchCondition{{Name: "c", Expression: "object.data.none == ''"}}}},
		{it: "a dry run with effects", dry: true, want: `admission webhook "no.x" does not support dry run`},
		{it: "a dry run without", dry: true, answer: &admissionv1.AdmissionResponse{Allowed: true},
			hook: admissionregistrationv1.ValidatingWebhook{SideEffects: ptr.To(admissionregistrationv1.SideEffectClassNone)}},
	} {
		t.Run(tc.it, func(t *testing.T) {
			tc.hook.ClientConfig = server(t, func(*admissionv1.AdmissionRequest, map[string]string) *admissionv1.AdmissionResponse {
				return tc.answer
			})
			w := newWorld(t, namespace("ns", nil), validating("no.x", tc.hook))
			_, err := w.create(t, aMap, func(r *request.Request) { r.DryRun = tc.dry })
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("%v, want %q", err, tc.want)
			}
		})
	}
}

// appends returns a webhook that adds its name to data.seen.
func appends(t *testing.T, name string) admissionregistrationv1.WebhookClientConfig {
	return server(t, func(_ *admissionv1.AdmissionRequest, data map[string]string) *admissionv1.AdmissionResponse {
		patch, _ := json.Marshal([]map[string]any{{"op": "add", "path": "/data/seen", "value": data["seen"] + name}})
		return &admissionv1.AdmissionResponse{Allowed: true, Patch: patch, PatchType: ptr.To(admissionv1.PatchTypeJSONPatch), Warnings: []string{"seen by " + name}}
	})
}

func TestWebhooksChangeWhatIsWrittenInTurn(t *testing.T) {
	for _, tc := range []struct {
		it           string
		first, other bool // asked again
		want         string
	}{
		{"once each", false, false, "ab"},
		{"again what others changed after it", true, false, "aba"},
		{"not again the last", false, true, "ab"},
	} {
		t.Run(tc.it, func(t *testing.T) {
			w := newWorld(t, namespace("ns", nil), mutating("b", appends(t, "b"), tc.other), mutating("a", appends(t, "a"), tc.first))
			var warnings []string
			obj, err := w.create(t, aMap, func(r *request.Request) { r.Warn = func(s string) { warnings = append(warnings, s) } })
			if err != nil {
				t.Fatal(err)
			}
			if obj.Data["seen"] != tc.want || obj.Data["a"] != "1" || obj.Kind != "ConfigMap" {
				t.Errorf("it is %+v, want seen by %s", obj, tc.want)
			}
			if len(warnings) != len(tc.want) || warnings[0] != "seen by a" {
				t.Errorf("warnings are %q", warnings)
			}
		})
	}
}

func TestWhatIsTheServersStays(t *testing.T) {
	patch := func(p string) admissionregistrationv1.WebhookClientConfig {
		return server(t, func(*admissionv1.AdmissionRequest, map[string]string) *admissionv1.AdmissionResponse {
			return &admissionv1.AdmissionResponse{Allowed: true, Patch: []byte(p), PatchType: ptr.To(admissionv1.PatchTypeJSONPatch)}
		})
	}
	w := newWorld(t, namespace("ns", nil), mutating("m", patch(`[{"op": "add", "path": "/metadata/uid", "value": "stolen"}, {"op": "add", "path": "/metadata/labels/x", "value": "y"}]`), false))
	obj, err := w.create(t, `{metadata: {namespace: ns, name: m, uid: mine, labels: {a: b}}}`)
	if err != nil || obj.UID != "mine" || obj.Labels["x"] != "y" {
		t.Errorf("it is %+v (%v)", obj, err)
	}
	for text, want := range map[string]string{
		`[{"op": "replace", "path": "/metadata/name", "value": "other"}]`: "metadata.name and metadata.namespace cannot be changed by others",
		`no patch`: `Internal error occurred: failed calling webhook "m": received undecodable patch in webhook response: invalid character 'o' in literal null (expecting 'u')`,
		`[{"op": "remove", "path": "/data/none"}]`:         "Internal error occurred: error in remove for path: '/data/none': Unable to remove nonexistent key: none: missing value",
		`[{"op": "replace", "path": "/data", "value": 7}]`: "Internal error occurred: json: cannot unmarshal number into Go struct field ConfigMap.data of type map[string]string",
	} {
		w := newWorld(t, namespace("ns", nil), mutating("m", patch(text), false))
		if _, err := w.create(t, aMap); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func TestOptionsOfAConnectionAreShown(t *testing.T) {
	var seen string
	no := server(t, func(q *admissionv1.AdmissionRequest, _ map[string]string) *admissionv1.AdmissionResponse {
		seen = string(q.Operation) + " " + q.Resource.Resource + "/" + q.SubResource + " " + q.Kind.Kind
		return &admissionv1.AdmissionResponse{}
	})
	hook := admissionregistrationv1.ValidatingWebhook{ClientConfig: no, Rules: []admissionregistrationv1.RuleWithOperations{{
		Operations: []admissionregistrationv1.OperationType{"CONNECT"},
		Rule:       admissionregistrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods/attach"}}}}}
	w := newWorld(t, namespace("ns", nil), validating("no.x", hook))
	pods := core.Pod()
	var options runtime.Object = &corev1.PodAttachOptions{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PodAttachOptions"}, Stdin: true}
	err := w.Review(t.Context(), &admission.Attempt{Operation: admission.Connect, Body: options,
		Request: request.Request{Verb: "create", Kind: pods, GVK: pods.GVK, Namespace: "ns", Name: "p", Subresource: "attach"}})
	if err == nil || seen != "CONNECT pods/attach PodAttachOptions" {
		t.Errorf("seen %q, error %v", seen, err)
	}
}

func TestTheAuditLogHearsOfWebhooks(t *testing.T) {
	patch := server(t, func(*admissionv1.AdmissionRequest, map[string]string) *admissionv1.AdmissionResponse {
		return &admissionv1.AdmissionResponse{Allowed: true, Patch: []byte(`[{"op":"add","path":"/data/b","value":"2"}]`),
			PatchType: ptr.To(admissionv1.PatchTypeJSONPatch), AuditAnnotations: map[string]string{"why": "so"}}
	})
	dead := httptest.NewTLSServer(http.NotFoundHandler())
	dead.Close()
	gone := admissionregistrationv1.WebhookClientConfig{URL: &dead.URL}
	said := server(t, func(*admissionv1.AdmissionRequest, map[string]string) *admissionv1.AdmissionResponse {
		return &admissionv1.AdmissionResponse{Allowed: true, AuditAnnotations: map[string]string{"seen": "yes"}}
	})
	w := newWorld(t, namespace("ns", nil), mutating("a.x", patch, false), validating("v.x", admissionregistrationv1.ValidatingWebhook{ClientConfig: said},
		admissionregistrationv1.ValidatingWebhook{ClientConfig: gone, FailurePolicy: ptr.To(admissionregistrationv1.Ignore)}))
	notes := map[string]string{}
	if _, err := w.create(t, aMap, func(r *request.Request) {
		r.Annotate = func(key, value string, detail bool) {
			if detail != strings.HasPrefix(key, "patch.") {
				t.Errorf("%s is a detail: %v", key, detail)
			}
			if _, ok := notes[key]; !ok { // the first counts
				notes[key] = value
			}
		}
	}); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{
		"a.x/why":  "so",
		"v.x/seen": "yes",
		"mutation.webhook.admission.k8s.io/round_0_index_0":               `{"configuration":"a.x","webhook":"a.x","mutated":true}`,
		"patch.webhook.admission.k8s.io/round_0_index_0":                  `{"configuration":"a.x","webhook":"a.x","patch":[{"op":"add","path":"/data/b","value":"2"}],"patchType":"JSONPatch"}`,
		"failed-open.validating.webhook.admission.k8s.io/round_0_index_1": "v.x",
	} {
		if notes[key] != want {
			t.Errorf("%s says %q, want %q", key, notes[key], want)
		}
		delete(notes, key)
	}
	if len(notes) > 0 {
		t.Errorf("there is more: %q", notes)
	}
}
