package webhook

import (
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/apis/apiserver/validation"
	authorizationcel "k8s.io/apiserver/pkg/authorization/cel"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"sampan/cluster/auth"
	"sampan/cluster/request"
)

// program is a webhook on loopback. It answers with what a test says.
type program struct {
	*Endpoint
	asked atomic.Int32
}

func newProgram(t *testing.T, answer func(ask map[string]any, w http.ResponseWriter)) *program {
	t.Helper()
	p := &program{}
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.asked.Add(1)
		if r.URL.Path != "/ask" || r.Header.Get("Authorization") != "Bearer me" {
			t.Errorf("%s, %q", r.URL.Path, r.Header.Get("Authorization"))
		}
		var ask map[string]any
		if err := json.NewDecoder(r.Body).Decode(&ask); err != nil {
			t.Error(err)
		}
		answer(ask, w)
	}))
	t.Cleanup(s.Close)
	path := filepath.Join(t.TempDir(), "webhook.kubeconfig")
	cfg := clientcmdapi.Config{CurrentContext: "x", Contexts: map[string]*clientcmdapi.Context{"x": {Cluster: "program", AuthInfo: "api"}},
		Clusters: map[string]*clientcmdapi.Cluster{"program": {Server: s.URL + "/ask",
			CertificateAuthorityData: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})}},
		AuthInfos: map[string]*clientcmdapi.AuthInfo{"api": {Token: "me"}}}
	if err := clientcmd.WriteToFile(cfg, path); err != nil {
		t.Fatal(err)
	}
	var err error
	if p.Endpoint, err = Open(path, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// reply is an answer of the kind that was asked, with this status.
func reply(ask map[string]any, w http.ResponseWriter, status map[string]any) {
	_ = json.NewEncoder(w).Encode(map[string]any{"apiVersion": ask["apiVersion"], "kind": ask["kind"], "status": status})
}

func TestTokens(t *testing.T) {
	for _, c := range []struct {
		it     string
		status map[string]any
		wanted []string
		want   *auth.Identity
		err    string
	}{
		{it: "knows the user", status: map[string]any{"authenticated": true, "user": map[string]any{"username": "ann", "uid": "1", "groups": []string{"a"}, "extra": map[string]any{"k": []string{"v"}}}},
			want: &auth.Identity{User: request.User{Name: "ann", UID: "1", Groups: []string{"a"}, Extra: map[string][]string{"k": {"v"}}}, Audiences: []string{"me"}}},
		{it: "does not", status: map[string]any{"authenticated": false}},
		{it: "says why not", status: map[string]any{"authenticated": false, "error": "too old"}, err: "too old"},
		{it: "knows the audiences", status: map[string]any{"authenticated": true, "audiences": []string{"y", "z"}}, wanted: []string{"x", "y"},
			want: &auth.Identity{Audiences: []string{"y"}}},
		{it: "is of others", status: map[string]any{"authenticated": true, "audiences": []string{"z"}}},
		{it: "says nothing of audiences, so not of others", status: map[string]any{"authenticated": true}, wanted: []string{"x"}},
	} {
		for _, version := range []string{"v1", "v1beta1"} {
			t.Run(c.it+" in "+version, func(t *testing.T) {
				p := newProgram(t, func(ask map[string]any, w http.ResponseWriter) {
					wanted := c.wanted
					if wanted == nil {
						wanted = []string{"me"}
					}
					spec := ask["spec"].(map[string]any)
					if got := spec["audiences"].([]any); ask["apiVersion"] != "authentication.k8s.io/"+version || ask["kind"] != "TokenReview" || spec["token"] != "t" || len(got) != len(wanted) {
						t.Errorf("asked %v", ask)
					}
					reply(ask, w, c.status)
				})
				tokens, err := NewTokens(p.Endpoint, version, []string{"me"})
				if err != nil {
					t.Fatal(err)
				}
				id, err := tokens.AuthenticateToken(t.Context(), "t", c.wanted)
				if (err != nil) != (c.err != "") || err != nil && err.Error() != c.err || !reflect.DeepEqual(id, c.want) {
					t.Errorf("%+v, %v; want %+v", id, err, c.want)
				}
			})
		}
	}
}

func TestARuleAsks(t *testing.T) {
	pods := auth.Attributes{User: request.User{Name: "ann", Groups: []string{"a"}, Extra: map[string][]string{"k": {"v"}}}, Verb: "get", Version: "v1", Resource: "pods", Namespace: "n"}
	path := auth.Attributes{User: request.User{Name: "ann"}, Verb: "get", Path: "/healthz"}
	for _, c := range []struct {
		it     string
		a      auth.Attributes
		status map[string]any
		want   auth.Decision
		why    string
		fails  bool
	}{
		{it: "allows", a: pods, status: map[string]any{"allowed": true, "reason": "ok"}, want: auth.Allow, why: "ok"},
		{it: "has no opinion", a: path, status: map[string]any{"allowed": false, "reason": "hm"}, want: auth.NoOpinion, why: "hm"},
		{it: "denies", a: pods, status: map[string]any{"denied": true, "reason": "no"}, want: auth.Deny, why: "no"},
		{it: "says both", a: pods, status: map[string]any{"denied": true, "allowed": true}, want: auth.Deny, fails: true},
	} {
		for _, version := range []string{"v1", "v1beta1"} {
			t.Run(c.it+" in "+version, func(t *testing.T) {
				p := newProgram(t, func(ask map[string]any, w http.ResponseWriter) {
					spec := ask["spec"].(map[string]any)
					groups := map[string]string{"v1": "groups", "v1beta1": "group"}[version]
					if ask["apiVersion"] != "authorization.k8s.io/"+version || spec["user"] != "ann" ||
						c.a.Path == "" && (spec[groups] == nil || spec["resourceAttributes"].(map[string]any)["resource"] != "pods") ||
						c.a.Path != "" && spec["nonResourceAttributes"].(map[string]any)["path"] != "/healthz" {
						t.Errorf("asked %v", ask)
					}
					reply(ask, w, c.status)
				})
				r, err := NewRule(RuleConfig{Endpoint: p.Endpoint, Version: version})
				if err != nil {
					t.Fatal(err)
				}
				d, why, err := r.Decide(t.Context(), c.a)
				if d != c.want || why != c.why || (err != nil) != c.fails {
					t.Errorf("%v, %q, %v", d, why, err)
				}
			})
		}
	}
}

func TestAnswersOfARuleAreRemembered(t *testing.T) {
	p := newProgram(t, func(ask map[string]any, w http.ResponseWriter) {
		reply(ask, w, map[string]any{"allowed": ask["spec"].(map[string]any)["user"] == "ann"})
	})
	now := time.Now()
	r, err := NewRule(RuleConfig{Endpoint: p.Endpoint, Version: "v1", Yes: time.Minute, No: time.Second, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		after time.Duration
		a     auth.Attributes
		asked int32 // in all so far
	}{
		{0, auth.Attributes{User: request.User{Name: "ann"}, Verb: "get", Path: "/x"}, 1},
		{59 * time.Second, auth.Attributes{User: request.User{Name: "ann"}, Verb: "get", Path: "/x"}, 1},
		{0, auth.Attributes{User: request.User{Name: "ann"}, Verb: "put", Path: "/x"}, 2},
		{0, auth.Attributes{User: request.User{Name: "bob"}, Verb: "get", Path: "/x"}, 3},
		{0, auth.Attributes{User: request.User{Name: "bob"}, Verb: "get", Path: "/x"}, 3},
		{time.Second, auth.Attributes{User: request.User{Name: "bob"}, Verb: "get", Path: "/x"}, 4},
		{0, auth.Attributes{User: request.User{Name: "ann"}, Verb: "get", Path: "/x"}, 5}, // a minute is over
		{0, auth.Attributes{User: request.User{Name: "ann"}, Verb: "get", Path: "/" + strings.Repeat("x", maxAsked)}, 6},
		{0, auth.Attributes{User: request.User{Name: "ann"}, Verb: "get", Path: "/" + strings.Repeat("x", maxAsked)}, 7},
	} {
		now = now.Add(c.after)
		if _, _, err := r.Decide(t.Context(), c.a); err != nil {
			t.Fatal(err)
		}
		if got := p.asked.Load(); got != c.asked {
			t.Errorf("%s %s %.5s: asked %d times, want %d", c.a.User.Name, c.a.Verb, c.a.Path, got, c.asked)
		}
	}
}

func TestAWebhookThatGivesNoAnswer(t *testing.T) {
	for _, c := range []struct {
		it     string
		answer func(ask map[string]any, w http.ResponseWriter)
		err    string
	}{
		{"refuses", func(_ map[string]any, w http.ResponseWriter) { http.Error(w, "no", http.StatusForbidden) }, "403 Forbidden"},
		{"says why it refuses", func(_ map[string]any, w http.ResponseWriter) {
			w.WriteHeader(http.StatusForbidden)
			_, _ = w.Write([]byte(`{"kind":"Status","message":"not you"}`))
		}, "not you"},
		{"talks nonsense", func(_ map[string]any, w http.ResponseWriter) { _, _ = w.Write([]byte("<html>")) }, "invalid character"},
		{"answers another question", func(_ map[string]any, w http.ResponseWriter) {
			_, _ = w.Write([]byte(`{"apiVersion":"authorization.k8s.io/v1","kind":"Status"}`))
		}, "expected webhook response of authorization.k8s.io/v1, Kind=SubjectAccessReview"},
		{"talks without end", func(_ map[string]any, w http.ResponseWriter) { _, _ = w.Write(make([]byte, maxAnswer+1)) }, "larger than"},
		{"sends elsewhere", func(_ map[string]any, w http.ResponseWriter) {
			w.Header().Set("Location", "https://example.com")
			w.WriteHeader(http.StatusTemporaryRedirect)
		}, "307"},
	} {
		for _, on := range []auth.Decision{auth.NoOpinion, auth.Deny} {
			p := newProgram(t, c.answer)
			r, err := NewRule(RuleConfig{Endpoint: p.Endpoint, Version: "v1", OnError: on, Yes: time.Hour, No: time.Hour})
			if err != nil {
				t.Fatal(err)
			}
			d, _, err := r.Decide(t.Context(), auth.Attributes{Verb: "get", Path: "/"})
			if d != on || err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: %v, %v", c.it, d, err)
			}
			if n := p.asked.Load(); n != 1 {
				t.Errorf("%s: asked %d times", c.it, n)
			}
		}
	}
}

func TestAWebhookThatCannotJustNowIsAskedAgain(t *testing.T) {
	var p *program
	p = newProgram(t, func(ask map[string]any, w http.ResponseWriter) {
		if p.asked.Load() == 1 {
			http.Error(w, "later", http.StatusInternalServerError)
			return
		}
		reply(ask, w, map[string]any{"allowed": true})
	})
	r, err := NewRule(RuleConfig{Endpoint: p.Endpoint, Version: "v1"})
	if err != nil {
		t.Fatal(err)
	}
	if d, _, err := r.Decide(t.Context(), auth.Attributes{Verb: "get", Path: "/"}); d != auth.Allow || err != nil || p.asked.Load() != 2 {
		t.Errorf("%v, %v, asked %d times", d, err, p.asked.Load())
	}
}

func TestConditionsSayWhatIsAskedAbout(t *testing.T) {
	conditions, errs := validation.ValidateAndCompileMatchConditions(authorizationcel.NewDefaultCompiler(), []apiserver.WebhookMatchCondition{
		{Expression: "has(request.resourceAttributes)"}, {Expression: "request.resourceAttributes.namespace == 'n'"}})
	if err := errs.ToAggregate(); err != nil {
		t.Fatal(err)
	}
	p := newProgram(t, func(ask map[string]any, w http.ResponseWriter) { reply(ask, w, map[string]any{"denied": true}) })
	r, err := NewRule(RuleConfig{Endpoint: p.Endpoint, Version: "v1", OnError: auth.Deny, Conditions: conditions})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		a    auth.Attributes
		want auth.Decision
	}{
		{auth.Attributes{Verb: "get", Path: "/"}, auth.NoOpinion},
		{auth.Attributes{Verb: "get", Resource: "pods", Namespace: "m"}, auth.NoOpinion},
		{auth.Attributes{Verb: "get", Resource: "pods", Namespace: "n"}, auth.Deny},
	} {
		if d, _, err := r.Decide(t.Context(), c.a); d != c.want || err != nil {
			t.Errorf("%+v: %v, %v", c.a, d, err)
		}
	}
	if n := p.asked.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

func TestOpenNamesTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none")
	if _, err := Open(path, 0); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), path) {
		t.Errorf("%v", err)
	}
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, 0); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("%v", err)
	}
}

// Judge is what a joined node uses, too.
func TestJudgeTakesNoAudiencesForThisServers(t *testing.T) {
	id, err := Judge(authenticationv1.TokenReviewStatus{Authenticated: true, User: authenticationv1.UserInfo{Username: "ann"}}, nil, nil)
	if err != nil || id == nil || id.User.Name != "ann" {
		t.Errorf("%v, %v", id, err)
	}
}
