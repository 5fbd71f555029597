package setup

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	rbacv1 "k8s.io/api/rbac/v1"

	"sampan/cluster/auth"
	"sampan/cluster/client/clienttest"
	"sampan/cluster/kind"
	"sampan/cluster/kind/core"
	"sampan/cluster/request"
)

func base(t *testing.T) Base {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	objects := clienttest.New(t, kind.NewTable(core.Kinds()))
	tokens, err := auth.NewTokens(auth.TokenConfig{SigningKey: key, Objects: objects})
	if err != nil {
		t.Fatal(err)
	}
	return Base{Tokens: tokens, Issuers: tokens.Issuers(), Bootstrap: auth.BootstrapTokens{Objects: objects}, Log: slog.New(slog.DiscardHandler)}
}

// taken is a log that says on a channel that a configuration was taken up.
type taken chan bool

func (t taken) Enabled(context.Context, slog.Level) bool { return true }
func (t taken) WithAttrs([]slog.Attr) slog.Handler       { return t }
func (t taken) WithGroup(string) slog.Handler            { return t }
func (t taken) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "configuration taken" {
		t <- true
	}
	return nil
}

func file(t *testing.T, path, text string) string {
	t.Helper()
	if path == "" {
		path = filepath.Join(t.TempDir(), "config.yaml")
	}
	// Replaced at once, as whoever changes a file in use does.
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	return path
}

// issuer is an OpenID Connect provider; token makes tokens of it.
func issuer(t *testing.T) (url, ca string, token func(user string) string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var s *httptest.Server
	s = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/keys" {
			_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k"}}})
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]string{"issuer": s.URL, "jwks_uri": s.URL + "/keys"})
	}))
	t.Cleanup(s.Close)
	return s.URL, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})), func(user string) string {
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: "k"}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		sig, err := signer.Sign(fmt.Appendf(nil, `{"iss":%q,"aud":"me","sub":%q,"hd":"a","exp":%d}`, s.URL, user, time.Now().Add(24*time.Hour).Unix()))
		if err != nil {
			t.Fatal(err)
		}
		text, err := sig.CompactSerialize()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
}

func who(a *Authenticators, token, path string) string {
	r := httptest.NewRequest("GET", path, nil)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	u, err := a.Authenticate(r)
	if err != nil {
		return "nobody: " + err.Error()
	}
	return u.Name
}

func TestAnIssuerByFlags(t *testing.T) {
	url, ca, token := issuer(t)
	caFile := file(t, "", ca)
	for _, c := range []struct {
		it   string
		flag OIDC
		want string
	}{
		{"prefixes the name with itself", OIDC{}, url + "#ann"},
		{"prefixes it with nothing", OIDC{UsernamePrefix: "-"}, "ann"},
		{"prefixes it as told", OIDC{UsernamePrefix: "x:", RequiredClaims: map[string]string{"hd": "a"}}, "x:ann"},
		{"wants a claim", OIDC{RequiredClaims: map[string]string{"hd": "b"}}, "nobody: oidc: required claim hd value does not match. Got = a, want = b"},
	} {
		c.flag.IssuerURL, c.flag.ClientID, c.flag.CAFile, c.flag.Algorithms = url, "me", caFile, []string{"ES256"}
		a, err := Authentication{OIDC: c.flag}.Open(base(t))
		if err != nil {
			t.Fatal(err)
		}
		if got := who(a, token("ann"), "/"); got != c.want {
			t.Errorf("%s: %s, want %s", c.it, got, c.want)
		}
	}
	if _, err := (Authentication{OIDC: OIDC{IssuerURL: url}}).Open(base(t)); err == nil || !strings.Contains(err.Error(), "must be specified together") {
		t.Errorf("without an audience: %v", err)
	}
}

const configuration = `apiVersion: apiserver.config.k8s.io/%s
kind: AuthenticationConfiguration
jwt:
- issuer:
    url: %s
    audiences: [me, other]
    audienceMatchPolicy: MatchAny
    certificateAuthority: %q
  claimMappings:
    username: {expression: '"%s" + claims.sub'}
anonymous:
  enabled: true
  conditions: [{path: /livez}]
`

func TestAFileIsTakenUpWhenItChanges(t *testing.T) {
	url, ca, token := issuer(t)
	path := file(t, "", fmt.Sprintf(configuration, "v1", url, ca, "1:"))
	b, news := base(t), make(taken, 100)
	b.Log = slog.New(news)
	a, err := Authentication{ConfigFile: path}.Open(b)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ token, path, want string }{
		{token("ann"), "/api", "1:ann"}, {"", "/livez", auth.Anonymous}, {"", "/healthz", "nobody: invalid credentials"}, {"x", "/livez", "nobody: invalid bearer token"},
	} {
		if got := who(a, c.token, c.path); got != c.want {
			t.Errorf("%.5s %s: %s, want %s", c.token, c.path, got, c.want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan error, 1)
	go func() { over <- a.Run(ctx) }()
	// What is not good is not taken; the next one is.
	file(t, path, "nonsense")
	file(t, path, strings.Replace(fmt.Sprintf(configuration, "v1", url, ca, "x:"), "/livez", "/other", 1))
	file(t, path, fmt.Sprintf(configuration, "v1beta1", url, ca, "2:"))
	<-news
	if got := who(a, token("ann"), "/"); got != "2:ann" {
		t.Errorf("after the change: %s", got)
	}
	if got := who(a, "", "/livez"); got != auth.Anonymous {
		t.Errorf("who may come without a name has changed: %s", got)
	}
	cancel()
	if err := <-over; err != nil {
		t.Error(err)
	}
}

func TestWhatAConfigurationMayNotSay(t *testing.T) {
	url, ca, _ := issuer(t)
	good := fmt.Sprintf(configuration, "v1", url, ca, "")
	yes := true
	for _, c := range []struct {
		it   string
		text string
		with Authentication
		err  string
	}{
		{it: "nothing", text: "", err: "empty"},
		{it: "a field that does not exist", text: good + "further: 1\n", err: "further"},
		{it: "another kind", text: "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\n", err: "AuthorizationConfiguration"},
		{it: "an expression that does not compile", text: strings.Replace(good, "claims.sub'", "claims.'", 1), err: "claimMappings.username.expression"},
		{it: "a way out", text: strings.Replace(good, "    audiences:", "    egressSelectorType: cluster\n    audiences:", 1), err: "egressSelectorType"},
		{it: "what a flag says", text: good, with: Authentication{Anonymous: &yes}, err: "--anonymous-auth flag cannot be set"},
		{it: "issuers beside those of flags", text: good, with: Authentication{OIDC: OIDC{IssuerURL: url, ClientID: "x"}}, err: "mutually exclusive"},
		{it: "the API server's own issuer", text: strings.Replace(good, url, auth.DefaultIssuer, 1), err: "issuer.url"},
	} {
		c.with.ConfigFile = file(t, "", c.text)
		if _, err := c.with.Open(base(t)); err == nil || !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v, want %q", c.it, err, c.err)
		}
	}
}

func TestWhereAllMayDoEverythingNobodyIsNameless(t *testing.T) {
	b := base(t)
	b.NoAnonymous = true
	a, err := Authentication{}.Open(b)
	if err != nil {
		t.Fatal(err)
	}
	if got := who(a, "", "/"); got != "nobody: invalid credentials" {
		t.Error(got)
	}
}

// only allows one user.
type only string

func (o only) Decide(_ context.Context, a auth.Attributes) (auth.Decision, string, error) {
	if a.User.Name == string(o) {
		return auth.Allow, "", nil
	}
	return auth.NoOpinion, "", nil
}

func (only) Rules(context.Context, request.User, string) ([]rbacv1.PolicyRule, bool, error) {
	return nil, false, nil
}

func rules() Rules {
	return Rules{Node: only("node"), RBAC: only("rbac"), Log: slog.New(slog.DiscardHandler)}
}

func mayAll(z *Authorizers, users ...string) (may string) {
	for _, u := range users {
		if ok, _ := z.Allowed(context.Background(), auth.Attributes{User: request.User{Name: u}, Verb: "get", Path: "/"}); ok {
			may += u + " "
		}
	}
	return may
}

func webhookFile(t *testing.T, answer string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var ask map[string]any
		if err := json.NewDecoder(r.Body).Decode(&ask); err != nil {
			t.Error(err)
		}
		_, _ = fmt.Fprintf(w, `{"apiVersion":%q,"kind":"SubjectAccessReview","status":%s}`, ask["apiVersion"], answer)
	}))
	t.Cleanup(s.Close)
	return file(t, "", "apiVersion: v1\nkind: Config\ncurrent-context: x\nclusters: [{name: c, cluster: {server: '"+s.URL+"'}}]\ncontexts: [{name: x, context: {cluster: c}}]\n")
}

func TestModes(t *testing.T) {
	denies, allows := webhookFile(t, `{"denied":true}`), webhookFile(t, `{"allowed":true}`)
	for _, c := range []struct {
		it   string
		z    Authorization
		want string
	}{
		{"by themselves", Authorization{}, "node rbac "},
		{"Node", Authorization{Modes: []string{"Node"}}, "node "},
		{"AlwaysAllow", Authorization{Modes: []string{"AlwaysAllow"}}, "node rbac ann "},
		{"AlwaysDeny", Authorization{Modes: []string{"AlwaysDeny"}}, ""},
		{"a webhook after RBAC", Authorization{Modes: []string{"RBAC", "Webhook"}, Webhook: AuthorizationWebhook{ConfigFile: denies}}, "rbac "},
		{"a webhook before RBAC", Authorization{Modes: []string{"Webhook", "RBAC"}, Webhook: AuthorizationWebhook{ConfigFile: denies, Version: "v1"}}, ""},
		{"a webhook that allows", Authorization{Modes: []string{"RBAC", "Webhook"}, Webhook: AuthorizationWebhook{ConfigFile: allows}}, "node rbac ann "},
	} {
		z, err := c.z.Open(rules())
		if err != nil {
			t.Fatal(err)
		}
		if got := mayAll(z, "node", "rbac", "ann"); got != c.want {
			t.Errorf("%s: %q, want %q", c.it, got, c.want)
		}
		if _, why := z.Allowed(t.Context(), auth.Attributes{User: request.User{Name: "x"}, Verb: "get", Resource: "y"}); c.it == "AlwaysDeny" && why != "alwaysdeny: Everything is forbidden." {
			t.Errorf("%s: the reason %q does not say whose it is", c.it, why)
		}
		if ok, why := z.Allowed(t.Context(), auth.Attributes{User: auth.Server(), Verb: "create", Resource: "namespaces"}); !ok {
			t.Errorf("%s: the API server could not start: %s", c.it, why)
		}
	}
	for _, z := range []Authorization{
		{Modes: []string{"ABAC"}}, {Modes: []string{"RBAC", "RBAC"}}, {Modes: []string{"Webhook"}}, {Webhook: AuthorizationWebhook{ConfigFile: denies}},
		{Modes: []string{"Webhook"}, Webhook: AuthorizationWebhook{ConfigFile: denies, Version: "v2"}}, {ConfigFile: "/none"},
	} {
		if _, err := z.Open(rules()); err == nil {
			t.Errorf("%+v is accepted", z)
		}
	}
}

func TestAnAuthorizationFile(t *testing.T) {
	denies := webhookFile(t, `{"denied":true}`)
	const head = "apiVersion: apiserver.config.k8s.io/%s\nkind: AuthorizationConfiguration\nauthorizers:\n"
	const hook = `- type: Webhook
  name: mine
  webhook:
    timeout: 3s
    subjectAccessReviewVersion: v1
    matchConditionSubjectAccessReviewVersion: v1
    failurePolicy: Deny
    connectionInfo: {type: KubeConfigFile, kubeConfigFile: %s}
    matchConditions: [{expression: "request.user == 'rbac'"}]
`
	const rbac, node = "- {type: RBAC, name: rbac}\n", "- {type: Node, name: node}\n"
	all := fmt.Sprintf(head+hook, "v1", denies) + node + rbac
	path := file(t, "", all)
	logged, news := rules(), make(taken, 100)
	logged.Log = slog.New(news)
	z, err := Authorization{ConfigFile: path}.Open(logged)
	if err != nil {
		t.Fatal(err)
	}
	if got := mayAll(z, "node", "rbac"); got != "node " {
		t.Errorf("%q: the webhook is to deny one user and to be asked about that one alone", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan error, 1)
	go func() { over <- z.Run(ctx) }()
	file(t, path, fmt.Sprintf(head, "v1")+node) // RBAC has to stay
	file(t, path, fmt.Sprintf(head, "v1beta1")+rbac+node)
	<-news
	if got := mayAll(z, "node", "rbac"); got != "node rbac " {
		t.Errorf("after the change: %q", got)
	}
	cancel()
	if err := <-over; err != nil {
		t.Error(err)
	}
	for it, text := range map[string]string{
		"an unknown type":       fmt.Sprintf(head, "v1") + "- {type: ABAC, name: abac}\n",
		"another name":          fmt.Sprintf(head, "v1") + "- {type: RBAC, name: mine}\n",
		"none":                  fmt.Sprintf(head, "v1"),
		"a condition in no CEL": strings.Replace(all, "request.user ==", "request.", 1),
		"a file that is not":    fmt.Sprintf(head+hook, "v1", "/none"),
		"the cluster itself":    strings.Replace(all, "{type: KubeConfigFile, kubeConfigFile: "+denies+"}", "{type: InClusterConfig}", 1),
	} {
		if _, err := (Authorization{ConfigFile: file(t, "", text)}).Open(rules()); err == nil {
			t.Errorf("%s is accepted", it)
		}
	}
}
