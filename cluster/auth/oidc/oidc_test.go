package oidc

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"encoding/pem"
	"maps"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"k8s.io/apiserver/pkg/apis/apiserver"

	"sampan/cluster/auth"
	"sampan/cluster/request"
)

// issuer is an OpenID Connect provider on loopback, and an Issuer that believes
// it. Its clock is the test's.
type issuer struct {
	*httptest.Server
	t *testing.T

	mu    sync.Mutex // guards all below
	now   time.Time
	keys  map[string]crypto.Signer // by id
	asked map[string]int           // by path
	down  bool
	more  http.HandlerFunc // for other paths
}

func newIssuer(t *testing.T, keys map[string]crypto.Signer) *issuer {
	i := &issuer{t: t, now: time.Now(), keys: keys, asked: map[string]int{}}
	i.Server = httptest.NewTLSServer(http.HandlerFunc(i.serve))
	t.Cleanup(i.Close)
	return i
}

func (i *issuer) serve(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.asked[r.URL.Path]++
	switch {
	case i.down:
		http.Error(w, "later", http.StatusServiceUnavailable)
	case r.URL.Path == "/.well-known/openid-configuration":
		_ = json.NewEncoder(w).Encode(map[string]string{"issuer": i.URL, "jwks_uri": i.URL + "/keys"})
	case r.URL.Path == "/keys":
		set := jose.JSONWebKeySet{}
		for id, k := range i.keys {
			set.Keys = append(set.Keys, jose.JSONWebKey{Key: k.Public(), KeyID: id, Use: "sig"})
		}
		_ = json.NewEncoder(w).Encode(set)
	default:
		i.more(w, r)
	}
}

func (i *issuer) clock() time.Time {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.now
}

func (i *issuer) pass(d time.Duration) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.now = i.now.Add(d)
}

func (i *issuer) set(change func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	change()
}

// token makes one with these claims in place of the usual ones; nil: without.
func (i *issuer) token(key string, alg jose.SignatureAlgorithm, say map[string]any) string {
	i.t.Helper()
	all := map[string]any{"iss": i.URL, "aud": "me", "sub": "ann", "exp": i.clock().Add(time.Hour).Unix()}
	maps.Copy(all, say)
	for k, v := range all {
		if v == nil {
			delete(all, k)
		}
	}
	i.mu.Lock()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: jose.JSONWebKey{Key: i.keys[key], KeyID: key}}, nil)
	i.mu.Unlock()
	if err != nil {
		i.t.Fatal(err)
	}
	data, err := json.Marshal(all)
	if err != nil {
		i.t.Fatal(err)
	}
	sig, err := signer.Sign(data)
	if err != nil {
		i.t.Fatal(err)
	}
	text, err := sig.CompactSerialize()
	if err != nil {
		i.t.Fatal(err)
	}
	return text
}

func (i *issuer) believed(change func(*apiserver.JWTAuthenticator), algorithms ...string) *Issuer {
	i.t.Helper()
	jwt := apiserver.JWTAuthenticator{
		Issuer: apiserver.Issuer{URL: i.URL, Audiences: []string{"me"},
			CertificateAuthority: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.Certificate().Raw}))},
		ClaimMappings: apiserver.ClaimMappings{Username: apiserver.PrefixedClaimOrExpression{Claim: "sub", Prefix: new("")}},
	}
	if change != nil {
		change(&jwt)
	}
	out, err := New(Config{JWT: jwt, Algorithms: algorithms, Now: i.clock})
	if err != nil {
		i.t.Fatal(err)
	}
	return out
}

func curve(t *testing.T, c elliptic.Curve) crypto.Signer {
	t.Helper()
	k, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func ask(t *testing.T, i *Issuer, token string) (*auth.Identity, error) {
	t.Helper()
	return i.AuthenticateToken(t.Context(), token, nil)
}

func TestATokenNamesAUser(t *testing.T) {
	i := newIssuer(t, map[string]crypto.Signer{"a": curve(t, elliptic.P256())})
	for _, c := range []struct {
		it     string
		config func(*apiserver.JWTAuthenticator)
		say    map[string]any
		want   request.User
		err    string // a part of it
	}{
		{it: "takes a claim for the name", want: request.User{Name: "ann"}},
		{it: "keeps users of issuers apart by a prefix", want: request.User{Name: "corp:ann"},
			config: func(j *apiserver.JWTAuthenticator) { j.ClaimMappings.Username.Prefix = new("corp:") }},
		{it: "names the credential", say: map[string]any{"jti": "7"},
			want: request.User{Name: "ann", Extra: map[string][]string{"authentication.kubernetes.io/credential-id": {"JTI=7"}}}},
		{it: "takes a claim for groups", say: map[string]any{"roles": []string{"a", "b"}}, want: request.User{Name: "ann", Groups: []string{"g:a", "g:b"}},
			config: func(j *apiserver.JWTAuthenticator) {
				j.ClaimMappings.Groups = apiserver.PrefixedClaimOrExpression{Claim: "roles", Prefix: new("g:")}
			}},
		{it: "takes one group alone", say: map[string]any{"roles": "a"}, want: request.User{Name: "ann", Groups: []string{"a"}},
			config: func(j *apiserver.JWTAuthenticator) {
				j.ClaimMappings.Groups = apiserver.PrefixedClaimOrExpression{Claim: "roles", Prefix: new("")}
			}},
		{it: "evaluates expressions", say: map[string]any{"org": map[string]any{"teams": []string{"x", "", "y"}, "a.b": "dot"}, "n": 3},
			want: request.User{Name: "ann@dot", UID: "3", Groups: []string{"x", "y"}, Extra: map[string][]string{"example.com/teams": {"x", "y"}}},
			config: func(j *apiserver.JWTAuthenticator) {
				j.ClaimMappings = apiserver.ClaimMappings{
					Username: apiserver.PrefixedClaimOrExpression{Expression: `claims.sub + "@" + claims.org.a__dot__b`},
					Groups:   apiserver.PrefixedClaimOrExpression{Expression: "claims.org.teams"},
					UID:      apiserver.ClaimOrExpression{Expression: "string(int(claims.n))"},
					Extra:    []apiserver.ExtraMapping{{Key: "example.com/teams", ValueExpression: "claims.org.teams"}, {Key: "example.com/none", ValueExpression: `""`}}}
			}},
		{it: "takes one of several audiences", say: map[string]any{"aud": []string{"x", "other"}}, want: request.User{Name: "ann"},
			config: func(j *apiserver.JWTAuthenticator) {
				j.Issuer.Audiences, j.Issuer.AudienceMatchPolicy = []string{"me", "other"}, apiserver.AudienceMatchPolicyMatchAny
			}},
		{it: "refuses a token for others", say: map[string]any{"aud": "you"}, err: `expected audience in ["me"] got ["you"]`},
		{it: "refuses a token that has ended", say: map[string]any{"exp": time.Now().Add(-time.Hour).Unix()}, err: "token is expired"},
		{it: "refuses a token without an end", say: map[string]any{"exp": nil}, err: "token is expired"},
		{it: "refuses a token of later", say: map[string]any{"nbf": time.Now().Add(time.Hour).Unix()}, err: "before the nbf"},
		{it: "takes a token of a clock that is ahead", say: map[string]any{"nbf": time.Now().Add(time.Minute).Unix()}, want: request.User{Name: "ann"}},
		{it: "refuses a time that is none", say: map[string]any{"exp": 1e300}, err: "is not a time"},
		{it: "refuses one without the claim", say: map[string]any{"sub": nil}, err: `parse username claims "sub"`},
		{it: "refuses an email that nobody has checked", say: map[string]any{"email": "a@b.c", "email_verified": false}, err: "email not verified",
			config: func(j *apiserver.JWTAuthenticator) { j.ClaimMappings.Username.Claim = "email" }},
		{it: "wants a claim to have a value", say: map[string]any{"hd": "b"}, err: "required claim hd value does not match. Got = b, want = a",
			config: func(j *apiserver.JWTAuthenticator) {
				j.ClaimValidationRules = []apiserver.ClaimValidationRule{{Claim: "hd", RequiredValue: "a"}}
			}},
		{it: "wants a claim to be there", err: "required claim hd not present",
			config: func(j *apiserver.JWTAuthenticator) {
				j.ClaimValidationRules = []apiserver.ClaimValidationRule{{Claim: "hd", RequiredValue: "a"}}
			}},
		{it: "holds claims to rules", say: map[string]any{"n": 3}, err: "validation expression 'claims.n < 3' failed: too many",
			config: func(j *apiserver.JWTAuthenticator) {
				j.ClaimValidationRules = []apiserver.ClaimValidationRule{{Expression: "claims.n < 3", Message: "too many"}}
			}},
		{it: "holds the user to rules", err: "failed: no such", config: func(j *apiserver.JWTAuthenticator) {
			j.ClaimMappings.Username.Prefix = new("system:")
			j.UserValidationRules = []apiserver.UserValidationRule{{Expression: "!user.username.startsWith('system:')", Message: "no such"}}
		}},
		{it: "has no user without a name", err: "empty username", say: map[string]any{"sub": ""}, config: func(j *apiserver.JWTAuthenticator) {
			j.ClaimMappings.Username = apiserver.PrefixedClaimOrExpression{Expression: "claims.sub"}
		}},
	} {
		t.Run(c.it, func(t *testing.T) {
			id, err := ask(t, i.believed(c.config, "ES256"), i.token("a", jose.ES256, c.say))
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("%v, %v; want the error %q", id, err, c.err)
				}
				return
			}
			if err != nil || !reflect.DeepEqual(id.User, c.want) {
				t.Errorf("%+v, %v; want %+v", id, err, c.want)
			}
		})
	}
}

func TestSignatures(t *testing.T) {
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	i := newIssuer(t, map[string]crypto.Signer{"r": r, "e": curve(t, elliptic.P256()), "e3": curve(t, elliptic.P384()), "e5": curve(t, elliptic.P521())})
	for alg, key := range map[jose.SignatureAlgorithm]string{jose.RS256: "r", jose.RS384: "r", jose.RS512: "r", jose.PS256: "r", jose.PS384: "r", jose.PS512: "r",
		jose.ES256: "e", jose.ES384: "e3", jose.ES512: "e5"} {
		token := i.token(key, alg, nil)
		if id, err := ask(t, i.believed(nil, Algorithms()...), token); err != nil || id == nil {
			t.Errorf("%s: %v", alg, err)
		}
		if id, err := ask(t, i.believed(nil), token); (err == nil) != (alg == jose.RS256) {
			t.Errorf("%s where RS256 alone is allowed: %v, %v", alg, id, err)
		}
		head, rest, _ := strings.Cut(token, ".")
		body, _, _ := strings.Cut(rest, ".")
		if id, err := ask(t, i.believed(nil, Algorithms()...), head+"."+body+".AAAA"); err == nil {
			t.Errorf("%s: a token of nobody's is taken for %v", alg, id)
		}
	}
	if _, err := New(Config{JWT: i.believed(nil).jwt, Algorithms: []string{"HS256"}}); err == nil {
		t.Error("a symmetric algorithm is accepted")
	}
	other := newIssuer(t, map[string]crypto.Signer{"r": r})
	if id, err := ask(t, i.believed(nil), other.token("r", jose.RS256, nil)); err != nil || id != nil {
		t.Errorf("the token of another issuer: %v, %v", id, err)
	}
}

func TestKeysAreFetchedWhenNeeded(t *testing.T) {
	i := newIssuer(t, map[string]crypto.Signer{"a": curve(t, elliptic.P256())})
	b := i.believed(nil, "ES256")
	asked := func(path string) int {
		i.mu.Lock()
		defer i.mu.Unlock()
		return i.asked[path]
	}
	if asked("/keys") != 0 {
		t.Error("keys were fetched before there was a token")
	}
	for range 3 {
		if _, err := ask(t, b, i.token("a", jose.ES256, nil)); err != nil {
			t.Fatal(err)
		}
	}
	if d, k := asked("/.well-known/openid-configuration"), asked("/keys"); d != 1 || k != 1 {
		t.Errorf("asked for its description %d times and for keys %d times, want once each", d, k)
	}
	// A new key: known a moment later, and the old one no more.
	old := i.token("a", jose.ES256, nil)
	next := curve(t, elliptic.P256())
	i.set(func() { i.keys = map[string]crypto.Signer{"b": next} })
	if id, err := ask(t, b, i.token("b", jose.ES256, nil)); err == nil {
		t.Errorf("the issuer is asked again at once: %v", id)
	}
	i.pass(keysAfter)
	if _, err := ask(t, b, i.token("b", jose.ES256, nil)); err != nil {
		t.Error(err)
	}
	if id, err := ask(t, b, old); err == nil {
		t.Errorf("an old key is still believed: %v", id)
	}
	// The issuer is away: what is known stays, and it is not asked all the time.
	i.set(func() { i.down = true })
	i.pass(keysAfter)
	if _, err := ask(t, b, i.token("b", jose.ES256, nil)); err != nil {
		t.Error(err)
	}
	away := i.believed(nil, "ES256")
	before := asked("/.well-known/openid-configuration")
	for range 5 {
		if _, err := ask(t, away, i.token("b", jose.ES256, nil)); err == nil || !strings.Contains(err.Error(), "authenticator not initialized") {
			t.Errorf("of an issuer that is away: %v", err)
		}
	}
	if n := asked("/.well-known/openid-configuration") - before; n != 1 {
		t.Errorf("an issuer that is away was asked %d times", n)
	}
	i.set(func() { i.down = false })
	i.pass(againAfter)
	if err := away.Ready(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestManyAskAtOnce(t *testing.T) {
	i := newIssuer(t, map[string]crypto.Signer{"a": curve(t, elliptic.P256())})
	b, token := i.believed(nil, "ES256"), i.token("a", jose.ES256, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.AuthenticateToken(ctx, token, nil); err == nil {
		t.Error("asked although nobody waits")
	}
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			if _, err := ask(t, b, token); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	i.set(func() {
		if n := i.asked["/keys"]; n != 1 {
			t.Errorf("keys were fetched %d times", n)
		}
	})
}

func TestAClaimFromElsewhere(t *testing.T) {
	i := newIssuer(t, map[string]crypto.Signer{"a": curve(t, elliptic.P256())})
	b := i.believed(func(j *apiserver.JWTAuthenticator) {
		j.ClaimMappings.Groups = apiserver.PrefixedClaimOrExpression{Claim: "groups", Prefix: new("")}
	}, "ES256")
	there := i.token("a", jose.ES256, map[string]any{"groups": []string{"far"}})
	i.set(func() {
		i.more = func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/groups" || r.Header.Get("Authorization") != "Bearer let-me" {
				http.Error(w, "no", http.StatusForbidden)
				return
			}
			_, _ = w.Write([]byte(there))
		}
	})
	say := func(source map[string]any) map[string]any {
		return map[string]any{"_claim_names": map[string]any{"groups": "s"}, "_claim_sources": map[string]any{"s": source}}
	}
	id, err := ask(t, b, i.token("a", jose.ES256, say(map[string]any{"endpoint": i.URL + "/groups", "access_token": "let-me"})))
	if err != nil || !reflect.DeepEqual(id.User.Groups, []string{"far"}) {
		t.Errorf("%+v, %v", id, err)
	}
	if id, err := ask(t, b, i.token("a", jose.ES256, say(map[string]any{"endpoint": i.URL + "/groups"}))); err == nil {
		t.Errorf("without the groups that the token sends to: %+v", id)
	}
}

func TestConfigurationIsChecked(t *testing.T) {
	good := apiserver.JWTAuthenticator{Issuer: apiserver.Issuer{URL: "https://a.example", Audiences: []string{"me"}},
		ClaimMappings: apiserver.ClaimMappings{Username: apiserver.PrefixedClaimOrExpression{Claim: "sub", Prefix: new("")}}}
	if _, err := New(Config{JWT: good}); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Config){
		"an issuer that is not https": func(c *Config) { c.JWT.Issuer.URL = "http://a.example" },
		"the API server's own issuer": func(c *Config) { c.Own = []string{"https://a.example"} },
		"no audience":                 func(c *Config) { c.JWT.Issuer.Audiences = nil },
		"an expression that does not compile": func(c *Config) {
			c.JWT.ClaimMappings.Username = apiserver.PrefixedClaimOrExpression{Expression: "claims."}
		},
		"a way out that there is not": func(c *Config) { c.JWT.Issuer.EgressSelectorType = apiserver.EgressSelectorCluster },
	} {
		c := Config{JWT: *good.DeepCopy()}
		change(&c)
		if _, err := New(c); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

func FuzzToken(f *testing.F) {
	f.Add("a.b.c")
	f.Add("eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJodHRwczovL2EuZXhhbXBsZSJ9.AAAA")
	f.Add("eyJhbGciOiJub25lIn0.eyJpc3MiOiJodHRwczovL2EuZXhhbXBsZSJ9.")
	i, err := New(Config{JWT: apiserver.JWTAuthenticator{Issuer: apiserver.Issuer{URL: "https://a.example", Audiences: []string{"me"}},
		ClaimMappings: apiserver.ClaimMappings{Username: apiserver.PrefixedClaimOrExpression{Claim: "sub", Prefix: new("")}}}, Algorithms: Algorithms()})
	if err != nil {
		f.Fatal(err)
	}
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	i.provider.keys = []jose.JSONWebKey{{Key: k.Public()}}
	i.provider.fetched = time.Now().Add(time.Hour) // nobody is asked
	f.Fuzz(func(t *testing.T, token string) {
		if id, err := i.AuthenticateToken(t.Context(), token, nil); err == nil && id != nil {
			t.Errorf("%q is taken for %v", token, id)
		}
	})
}
