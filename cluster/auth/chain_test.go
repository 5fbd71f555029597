package auth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/client/clienttest"
	"sampan/cluster/kind"
	"sampan/cluster/kind/core"
	"sampan/cluster/kind/legacytoken"
	"sampan/cluster/request"
)

// told says of tokens what a test wants, and counts how often it is asked.
type told struct {
	asked atomic.Int32
	say   func(token string) (*Identity, error)
}

func (t *told) AuthenticateToken(_ context.Context, token string, wanted []string) (*Identity, error) {
	t.asked.Add(1)
	id, err := t.say(token)
	if id != nil {
		id.Audiences = wanted
	}
	return id, err
}

func knows(user, token string) *told {
	return &told{say: func(got string) (*Identity, error) {
		switch got {
		case token:
			return &Identity{User: request.User{Name: user}}, nil
		case "broken":
			return nil, errors.New(user + " cannot tell")
		}
		return nil, nil
	}}
}

func TestTheFirstWhoKnowsCounts(t *testing.T) {
	chain := TokenChain{knows("ann", "a"), knows("bob", "b"), &told{say: func(token string) (*Identity, error) {
		if token == "b" || token == "c" {
			return nil, errors.New("bad")
		}
		return nil, nil
	}}}
	a := &Authenticator{Tokens: chain}
	for _, c := range []struct{ token, user, err string }{
		{"a", "ann", ""}, {"b", "bob", ""}, {"c", "", "bad"}, {"d", "", "invalid bearer token"}, {"broken", "", "[ann cannot tell, bob cannot tell]"},
	} {
		r := &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: c.token, Audiences: []string{"x"}}}
		if err := a.ReviewToken(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		if r.Status.User.Username != c.user || r.Status.Error != c.err || r.Status.Authenticated != (c.user != "") {
			t.Errorf("%s: %+v", c.token, r.Status)
		}
		if c.user != "" && (!slices.Equal(r.Status.User.Groups, []string{Authenticated}) || !slices.Equal(r.Status.Audiences, []string{"x"})) {
			t.Errorf("%s: groups %v, audiences %v", c.token, r.Status.User.Groups, r.Status.Audiences)
		}
	}
}

func TestATokenThatSaysNothingOfAudiencesIsForThisServer(t *testing.T) {
	f := ForAudiences{Audiences: []string{"me", "also"}, Of: knows("ann", "a")}
	for _, c := range []struct{ wanted, good []string }{{nil, []string{"me", "also"}}, {[]string{"x", "also"}, []string{"also"}}, {[]string{"x"}, nil}} {
		id, err := f.AuthenticateToken(t.Context(), "a", c.wanted)
		if err != nil || (id == nil) != (c.good == nil) || id != nil && !slices.Equal(id.Audiences, c.good) {
			t.Errorf("%v: %v, %v", c.wanted, id, err)
		}
	}
}

func TestAnswersAreRememberedForAWhile(t *testing.T) {
	var now atomic.Int64
	of := knows("ann", "a")
	c := &Cached{Of: of, Success: 10 * time.Second, Failure: 5 * time.Second, Now: func() time.Time { return time.Unix(now.Load(), 0) }}
	for _, step := range []struct {
		at    int64
		token string
		for_  []string
		asked int32 // in all so far
	}{
		{0, "a", nil, 1}, {9, "a", nil, 1}, {9, "a", []string{"x"}, 2}, {10, "a", nil, 3},
		{10, "no", nil, 4}, {14, "no", nil, 4}, {15, "no", nil, 5},
		{15, "broken", nil, 6}, {15, "broken", nil, 7}, // that nobody could say is no answer
	} {
		now.Store(step.at)
		id, err := c.AuthenticateToken(t.Context(), step.token, step.for_)
		if got := of.asked.Load(); got != step.asked || (id != nil) != (step.token == "a") || (err != nil) != (step.token == "broken") {
			t.Errorf("%+v: %v, %v, asked %d times", step, id, err, got)
		}
	}
	for i := range 3 * answersLimit {
		if _, err := c.AuthenticateToken(t.Context(), fmt.Sprint("made up ", i), nil); err != nil {
			t.Fatal(err)
		}
	}
	if len(c.not) > answersLimit || len(c.good) == 0 {
		t.Errorf("%d bad tokens remembered, %d good ones", len(c.not), len(c.good))
	}
}

func TestAPanicIsAnError(t *testing.T) {
	c := &Cached{Of: &told{say: func(string) (*Identity, error) { panic("no") }}, Success: time.Second}
	if id, err := c.AuthenticateToken(t.Context(), "a", nil); err == nil {
		t.Errorf("%v", id)
	}
}

func TestWhoAsksAtTheSameTimeWaitsForOneAnswer(t *testing.T) {
	begun, go_ := make(chan bool, 1), make(chan bool)
	of := &told{say: func(string) (*Identity, error) {
		begun <- true
		<-go_
		return &Identity{User: request.User{Name: "ann"}}, nil
	}}
	c := &Cached{Of: of, Success: time.Hour}
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() {
		_, err := c.AuthenticateToken(ctx, "a", nil)
		first <- err
	}()
	<-begun
	cancel() // the first goes away
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			if id, err := c.AuthenticateToken(t.Context(), "a", nil); err != nil || id.User.Name != "ann" {
				t.Errorf("%v, %v", id, err)
			}
		})
	}
	close(go_)
	all.Wait()
	if n := of.asked.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

func bootstrapSecret(change func(*corev1.Secret)) *corev1.Secret {
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "bootstrap-token-abcdef"}, Type: "bootstrap.kubernetes.io/token",
		Data: map[string][]byte{"token-id": []byte("abcdef"), "token-secret": []byte("0123456789abcdef"), "usage-bootstrap-authentication": []byte("true"),
			"auth-extra-groups": []byte("system:bootstrappers:nodes")}}
	if change != nil {
		change(s)
	}
	return s
}

func TestAMachineThatJoins(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		it     string
		token  string
		change func(*corev1.Secret)
		known  bool
	}{
		{it: "is known by its token", known: true},
		{it: "is known until the token's time is over", change: func(s *corev1.Secret) { s.Data["expiration"] = []byte("2026-11-21T12:00:01Z") }, known: true},
		{it: "is not known later", change: func(s *corev1.Secret) { s.Data["expiration"] = []byte("2026-11-21T12:00:00Z") }},
		{it: "is not known by another secret", token: "abcdef.0123456789abcdee"},
		{it: "is not known by half a token", token: "abcdef"},
		{it: "is not known by a secret of another type", change: func(s *corev1.Secret) { s.Type = "Opaque" }},
		{it: "is not known by a token that is for other things", change: func(s *corev1.Secret) { delete(s.Data, "usage-bootstrap-authentication") }},
		{it: "is not known if it would be in other groups", change: func(s *corev1.Secret) { s.Data["auth-extra-groups"] = []byte("system:masters") }},
		{it: "is not known by a token of another name", change: func(s *corev1.Secret) { s.Data["token-id"] = []byte("fedcba") }},
		{it: "is not known by an empty secret", token: "abcdef.", change: func(s *corev1.Secret) { s.Data["token-secret"] = nil }},
	} {
		t.Run(c.it, func(t *testing.T) {
			b := BootstrapTokens{Objects: clienttest.New(t, kind.NewTable(core.Kinds()), bootstrapSecret(c.change)), Now: func() time.Time { return now }}
			if c.token == "" {
				c.token = "abcdef.0123456789abcdef"
			}
			id, err := b.AuthenticateToken(t.Context(), c.token, nil)
			if err != nil || (id != nil) != c.known {
				t.Fatalf("%v, %v", id, err)
			}
			if id != nil && (id.User.Name != "system:bootstrap:abcdef" || !slices.Equal(id.User.Groups, []string{"system:bootstrappers", "system:bootstrappers:nodes"})) {
				t.Errorf("%+v", id.User)
			}
		})
	}
}

func TestATokenOutOfASecret(t *testing.T) {
	w := newWorld(t, ec(t))
	var used []string
	w.Tokens.cfg.Used = func(_ context.Context, s *corev1.Secret, day string) { used = append(used, s.Name+" "+day) }
	token, err := w.ForSecret(w.web, "web-token")
	if err != nil {
		t.Fatal(err)
	}
	check := func(it string, want string) {
		t.Helper()
		id, err := w.AuthenticateToken(t.Context(), token, nil)
		if got := fmt.Sprint(err); want != "" && got != want || (err == nil) != (want == "") {
			t.Errorf("%s: %v, want %s", it, err, want)
		}
		if err == nil && (id.User.Name != "system:serviceaccount:shop:web" || id.User.UID != string(w.web.UID) || len(id.User.Extra) > 0) {
			t.Errorf("%s: %+v", it, id.User)
		}
	}
	secret := func(label, data string) *corev1.Secret {
		s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web-token", Labels: map[string]string{}},
			Type: corev1.SecretTypeServiceAccountToken, Data: map[string][]byte{"token": []byte(data)}}
		s.Annotations = map[string]string{corev1.ServiceAccountNameKey: "web"}
		if label != "" {
			s.Labels[label] = w.now.UTC().Format("2006-01-02")
		}
		return s
	}
	check("without the secret", "Token has been invalidated")
	s := put(t, w.objects, secret("", token))
	check("with it", "")
	if want := "web-token " + w.now.UTC().Format("2006-01-02"); len(used) != 1 || used[0] != want {
		t.Errorf("told that it was used: %v, want %s", used, want)
	}
	w.drop(t, s)
	s = put(t, w.objects, secret(legacytoken.LastUsed, token))
	check("used before on that day", "")
	if len(used) != 1 {
		t.Errorf("told again: %v", used)
	}
	if _, err := w.AuthenticateToken(t.Context(), token, []string{"others"}); err == nil {
		t.Error("it is good for other audiences")
	}
	w.drop(t, s)
	s = put(t, w.objects, secret("", token+"x"))
	check("the secret holds another one", "Token does not match server's copy")
	w.drop(t, s)
	s = put(t, w.objects, secret(legacytoken.InvalidSince, token))
	if _, err := w.AuthenticateToken(t.Context(), token, nil); err == nil {
		t.Error("one that nobody used for a year is taken")
	}
	w.drop(t, s)
	put(t, w.objects, secret("", token))
	w.drop(t, w.web)
	put(t, w.objects, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"}})
	if _, err := w.AuthenticateToken(t.Context(), token, nil); err == nil {
		t.Error("it is good for another account of the same name")
	}
}

func TestUsesOfTokensAreCounted(t *testing.T) {
	w := newWorld(t, ec(t))
	in := prometheus.NewRegistry()
	w.Tokens.cfg.Metrics = NewTokenMetrics(in)
	uses := func() string {
		t.Helper()
		families, err := in.Gather()
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, f := range families {
			if n := f.Metric[0].Counter.GetValue(); n > 0 {
				all = append(all, fmt.Sprint(strings.TrimPrefix(f.GetName(), "serviceaccount_"), " ", n))
			}
		}
		return strings.Join(all, ", ")
	}
	token, err := w.ForSecret(w.web, "web-token")
	if err != nil {
		t.Fatal(err)
	}
	use := func(it, token, want string) {
		t.Helper()
		_, _ = w.AuthenticateToken(t.Context(), token, nil) // whether it is good, others test
		if got := uses(); got != want {
			t.Errorf("%s: %s, want %s", it, got, want)
		}
	}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web-token"},
		Type: corev1.SecretTypeServiceAccountToken, Data: map[string][]byte{"token": []byte(token)}}
	use("without its secret", token, "legacy_tokens_total 1")
	w.objects.Put(secret.DeepCopy())
	use("asked for", token, "legacy_manual_token_uses_total 1, legacy_tokens_total 2")
	marked := secret.DeepCopy()
	marked.Labels = map[string]string{legacytoken.InvalidSince: "2026-01-01"}
	w.objects.Put(marked)
	use("marked", token, "invalid_legacy_auto_token_uses_total 1, legacy_manual_token_uses_total 1, legacy_tokens_total 3")
	w.objects.Put(secret.DeepCopy())
	named := w.web.DeepCopy()
	named.Secrets = []corev1.ObjectReference{{Name: "web-token"}}
	w.objects.Put(named)
	const secrets = "invalid_legacy_auto_token_uses_total 1, legacy_auto_token_uses_total 1, legacy_manual_token_uses_total 1, legacy_tokens_total 4"
	use("made unasked", token, secrets)
	pods := w.request(t, toPod(w.pod, extendableExpiration)).Status.Token
	use("a pod's", pods, secrets+", valid_tokens_total 1")
	w.now = w.now.Add(2 * time.Hour)
	use("a pod's that it should have read again", pods, secrets+", stale_tokens_total 1, valid_tokens_total 1")
}

func FuzzAuthenticateToken(f *testing.F) {
	f.Add("a.b.c")
	f.Add("abcdef.0123456789abcdef")
	f.Add("eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJrdWJlcm5ldGVzL3NlcnZpY2VhY2NvdW50In0.AAAA")
	f.Add("eyJhbGciOiJub25lIn0.eyJpc3MiOiJodHRwczovL2t1YmVybmV0ZXMuZGVmYXVsdC5zdmMuY2x1c3Rlci5sb2NhbCJ9.")
	f.Fuzz(func(t *testing.T, token string) {
		w := newWorld(t, ec(t))
		id, err := TokenChain{w.Tokens, BootstrapTokens{Objects: w.objects}}.AuthenticateToken(t.Context(), token, nil)
		if err == nil && id != nil {
			t.Errorf("%q is taken for %v", token, id)
		}
	})
}
