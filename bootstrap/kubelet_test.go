package bootstrap

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"

	"sampan/cluster/auth"
	"sampan/cluster/client/remote"
	"sampan/cluster/kind"
	"sampan/cluster/request"
	"sampan/internal/fault"
)

func TestAJoinedNodeAsksWhoMayReachIt(t *testing.T) {
	var asked atomic.Int32
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		var review authorizationv1.SubjectAccessReview
		if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
			t.Error(err)
		}
		a := review.Spec.ResourceAttributes
		review.Status.Allowed = review.Spec.User == "monitor" && a.Verb == "get" && a.Resource == "nodes" && a.Subresource == "proxy" && a.Name == "two"
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		_ = json.NewEncoder(w).Encode(review)
	}))
	defer server.Close()
	pool := x509.NewCertPool()
	pool.AddCert(server.Certificate())
	c, err := remote.New(remote.Config{Server: server.URL, TLS: &tls.Config{RootCAs: pool}, Kinds: &kind.Table{}})
	if err != nil {
		t.Fatal(err)
	}
	r := &reviews{client: c}
	check := func(user, verb string) error {
		return r.Check(t.Context(), auth.Attributes{User: request.User{Name: user}, Verb: verb, Version: "v1",
			Resource: "nodes", Subresource: "proxy", Name: "two"})
	}
	for _, c := range []struct {
		it, user, verb string
		may            bool
		asks           int32 // in all so far
	}{
		{"the API server may, it has asked itself", KubeletClient, "create", true, 0},
		{"who may is let in", "monitor", "get", true, 1},
		{"and not asked about again", "monitor", "get", true, 1},
		{"what else they may is another question", "monitor", "create", false, 2},
		{"who may not is refused", "system:anonymous", "get", false, 3},
		{"and remembered", "system:anonymous", "get", false, 3},
	} {
		t.Run(c.it, func(t *testing.T) {
			err := check(c.user, c.verb)
			if (err == nil) != c.may || err != nil && fault.ClassOf(err) != fault.Forbidden {
				t.Errorf("got %v, want allowed %v", err, c.may)
			}
			if got := asked.Load(); got != c.asks {
				t.Errorf("the server was asked %d times, want %d", got, c.asks)
			}
		})
	}
	server.Close()
	if err := check("somebody", "get"); err == nil {
		t.Error("somebody was let in though nobody could be asked")
	}
}

func TestAJoinedNodeAsksWhoseATokenIs(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		if r.URL.Path == "/apis/authentication.k8s.io/v1/tokenreviews" {
			var review authenticationv1.TokenReview
			if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
				t.Error(err)
			}
			if review.Spec.Token == "good" {
				review.Status = authenticationv1.TokenReviewStatus{Authenticated: true,
					User: authenticationv1.UserInfo{Username: "monitor", Extra: map[string]authenticationv1.ExtraValue{"k": {"v"}}}}
			}
			_ = json.NewEncoder(w).Encode(review)
			return
		}
		var review authorizationv1.SubjectAccessReview
		if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
			t.Error(err)
		}
		review.Status.Allowed = review.Spec.User == "monitor" && review.Spec.Extra["k"][0] == "v"
		_ = json.NewEncoder(w).Encode(review)
	}))
	defer server.Close()
	pool := x509.NewCertPool()
	pool.AddCert(server.Certificate())
	c, err := remote.New(remote.Config{Server: server.URL, TLS: &tls.Config{RootCAs: pool}, Kinds: &kind.Table{}})
	if err != nil {
		t.Fatal(err)
	}
	h := guarded(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {}), "two", &auth.Authenticator{Tokens: tokenReviews{c}}, &reviews{client: c})
	for token, want := range map[string]int{"good": http.StatusOK, "bad": http.StatusUnauthorized} {
		r := httptest.NewRequest("GET", "/pods", nil)
		r.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("%s: %d %s, want %d", token, w.Code, w.Body, want)
		}
	}
}
