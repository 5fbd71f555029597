package verb_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"sampan/cluster/audit"
	"sampan/cluster/client"
	"sampan/cluster/request"
	"sampan/cluster/verb"
)

// trailTo records by rules; the function returns the next event.
func trailTo(t *testing.T, rules string) (*audit.Trail, func() auditv1.Event) {
	t.Helper()
	events := make(chan auditv1.Event, 100)
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var list auditv1.EventList
		if err := json.NewDecoder(r.Body).Decode(&list); err != nil {
			t.Error(err)
		}
		for _, e := range list.Items {
			events <- e
		}
	}))
	t.Cleanup(hook.Close)
	dir := t.TempDir()
	policy, config := filepath.Join(dir, "policy"), filepath.Join(dir, "kubeconfig")
	for path, text := range map[string]string{
		policy: "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [" + rules + "]",
		config: `{"apiVersion":"v1","kind":"Config","current-context":"c","clusters":[{"name":"c","cluster":{"server":"` + hook.URL +
			`"}}],"contexts":[{"name":"c","context":{"cluster":"c","user":"u"}}],"users":[{"name":"u","user":{}}]}`,
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cfg := audit.Defaults()
	cfg.PolicyFile, cfg.Webhook.File, cfg.Webhook.Mode = policy, config, audit.Blocking
	trail, err := audit.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return trail, func() auditv1.Event {
		t.Helper()
		select {
		case e := <-events:
			return e
		case <-t.Context().Done():
			t.Fatal("there is no event")
			return auditv1.Event{}
		}
	}
}

// noting lets in as everyone does, and says so to the audit trail.
type noting struct{ everyone }

func (n noting) Authorize(ctx context.Context, r request.Request) error {
	err := n.everyone.Authorize(ctx, r)
	r.Note("authorization.k8s.io/decision", map[bool]string{true: "allow", false: "forbid"}[err == nil])
	return err
}

func TestWhatPartsOfTheProgramDoIsRecorded(t *testing.T) {
	trail, next := trailTo(t, `{level: None, users: [quiet]}, {level: None, users: ["system:kube-proxy"], verbs: [watch]},
		{level: RequestResponse, resources: [{resources: [configmaps]}]}, {level: Metadata}`)
	s := serve(t)
	config := s.api.Config
	config.Audit, config.Authorizer, config.Actions = trail, noting{}, nil
	api, err := verb.New(config)
	if err != nil {
		t.Fatal(err)
	}
	of := func(plural string) request.Request { return s.ask("get", plural) }
	maps, pods, accounts := of("configmaps").Kind, of("pods").Kind, of("serviceaccounts").Kind
	sa := request.User{Name: "system:serviceaccount:kube-system:x", Groups: []string{"system:serviceaccounts"}}
	c, ctx := api.As(sa), t.Context()
	cached := api.WithCache(sa, request.User{Name: "system:kube-controller-manager"})
	const usual, lasting = "RequestReceived ResponseComplete", "RequestReceived ResponseStarted ResponseComplete"
	named := func(name string) *corev1.ConfigMap {
		return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"}, Data: map[string]string{"a": "1"}}
	}
	for _, tc := range []struct {
		it     string
		do     func() error
		stages string // none: nothing is recorded
		want   string // the last event, in short
		part   string // of the last event as JSON
	}{
		{"create", func() error { _, err := c.Create(ctx, maps, named("a")); return err }, usual,
			"201 " + sa.Name + " create configmaps default/a /api/v1/namespaces/default/configmaps allow", `"requestObject":{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a"`},
		{"create again", func() error { _, err := c.Create(ctx, maps, named("a")); return ignore(err, apierrors.IsAlreadyExists) }, usual,
			"409 " + sa.Name + " create configmaps default/a /api/v1/namespaces/default/configmaps allow", `"reason":"AlreadyExists"`},
		{"update", func() error { _, err := c.Update(ctx, maps, named("a"), ""); return err }, usual,
			"200 " + sa.Name + " update configmaps default/a /api/v1/namespaces/default/configmaps/a allow", `"responseObject":{"kind":"ConfigMap"`},
		{"apply", func() error {
			_, err := c.Patch(ctx, maps, client.Patch{Namespace: "default", Name: "b", Type: types.ApplyYAMLPatchType, FieldManager: "m", Force: true,
				Data: []byte("{apiVersion: v1, kind: ConfigMap, metadata: {name: b}}")})
			return err
		}, usual, "201 " + sa.Name + " patch configmaps default/b /api/v1/namespaces/default/configmaps/b?fieldManager=m&force=true allow", `"requestObject":{"apiVersion":"v1","kind":"ConfigMap"`},
		{"delete", func() error { return c.Delete(ctx, maps, "default", "b", nil) }, usual,
			"200 " + sa.Name + " delete configmaps default/b /api/v1/namespaces/default/configmaps/b allow", `"requestObject":{"kind":"DeleteOptions"`},
		{"get", func() error { _, err := c.Get(ctx, maps, "default", "a"); return err }, usual,
			"200 " + sa.Name + " get configmaps default/a /api/v1/namespaces/default/configmaps/a allow", `"responseObject"`},
		{"get of nothing", func() error { _, err := c.Get(ctx, pods, "default", "a"); return ignore(err, apierrors.IsNotFound) }, usual,
			"404 " + sa.Name + " get pods default/a /api/v1/namespaces/default/pods/a allow", `"reason":"NotFound"`},
		{"list", func() error {
			_, err := c.List(ctx, maps, client.Query{Namespace: "default", Labels: labels.Set{"x": "y"}.AsSelector()})
			return err
		}, usual, "200 " + sa.Name + " list configmaps default/ /api/v1/namespaces/default/configmaps?labelSelector=x%3Dy allow", `"kind":"ConfigMapList"`},
		{"act", func() error {
			if _, err := cached.Create(ctx, accounts, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "s", Namespace: "default"}}); err != nil {
				return err
			}
			next()
			next()
			_, err := c.Act(ctx, accounts, "default", "s", "token", &authenticationv1.TokenRequest{})
			return ignore(err, apierrors.IsMethodNotSupported)
		}, usual, "405 " + sa.Name + " create serviceaccounts default/s /api/v1/namespaces/default/serviceaccounts/s/token allow", `"level":"Metadata"`},
		{"a refusal", func() error {
			_, err := api.As(request.User{Name: "mallory"}).Get(ctx, pods, "default", "p")
			return ignore(err, apierrors.IsForbidden)
		}, usual, "403 mallory get pods default/p /api/v1/namespaces/default/pods/p forbid", `"status":"Failure"`},
		{"a read from a cache", func() error { _, err := cached.Get(ctx, maps, "default", "a"); return err }, "", "", ""},
		{"who is not to be told of", func() error {
			_, err := api.As(request.User{Name: "quiet"}).Create(ctx, maps, named("q"))
			return err
		}, "", "", ""},
		{"a watch", func() error {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			_, err := cached.Watch(ctx, pods, client.Query{})
			return err
		}, lasting, "200 system:kube-controller-manager watch pods / /api/v1/pods?allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan&sendInitialEvents=true&watch=true allow", ""},
		{"a watch that the policy leaves out", func() error {
			proxy := request.User{Name: "system:kube-proxy"}
			_, err := api.WithCache(proxy, proxy).Watch(ctx, pods, client.Query{})
			return err
		}, "", "", ""},
		{"what follows", func() error { return c.Delete(ctx, maps, "default", "a", nil) }, usual,
			"200 " + sa.Name + " delete configmaps default/a /api/v1/namespaces/default/configmaps/a allow", ""},
	} {
		if err := tc.do(); err != nil {
			t.Fatalf("%s: %v", tc.it, err)
		}
		if tc.stages == "" {
			continue // an event would be that of the next
		}
		var stages []string
		var last auditv1.Event
		for range strings.Fields(tc.stages) {
			last = next()
			stages = append(stages, string(last.Stage))
		}
		if got := strings.Join(stages, " "); got != tc.stages {
			t.Fatalf("%s: recorded %q, want %q", tc.it, got, tc.stages)
		}
		got := fmt.Sprintf("%d %s %s %s %s/%s %s %s", last.ResponseStatus.Code, last.User.Username, last.Verb, last.ObjectRef.Resource,
			last.ObjectRef.Namespace, last.ObjectRef.Name, last.RequestURI, last.Annotations["authorization.k8s.io/decision"])
		if got != tc.want {
			t.Errorf("%s:\ngot  %s\nwant %s", tc.it, got, tc.want)
		}
		if !strings.Contains(text(last), tc.part) || last.Level == auditv1.LevelMetadata && (last.RequestObject != nil || last.ResponseObject != nil) {
			t.Errorf("%s: %s\nis without %s", tc.it, text(last), tc.part)
		}
		if !strings.HasPrefix(last.UserAgent, "kube-controller-manager/") && strings.Contains(last.User.Username, "serviceaccount") || len(last.SourceIPs) != 1 {
			t.Errorf("%s: from %q at %v", tc.it, last.UserAgent, last.SourceIPs)
		}
	}
}

func ignore(err error, is func(error) bool) error {
	if err == nil {
		return fmt.Errorf("it should not have been done")
	}
	if is(err) {
		return nil
	}
	return err
}
