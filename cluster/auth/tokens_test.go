package auth

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apitypes "k8s.io/apimachinery/pkg/types"

	"sampan/cluster/client"
	"sampan/cluster/client/clienttest"
	"sampan/cluster/kind"
	"sampan/cluster/kind/core"
)

// world is a namespace "shop" with a service account "web", a pod of it on a
// node, and tokens.
type world struct {
	*Tokens
	objects *clienttest.Fake
	now     time.Time
	web     *corev1.ServiceAccount
	pod     *corev1.Pod
	node    *corev1.Node
}

func newWorld(t *testing.T, key crypto.Signer, old ...crypto.PublicKey) *world {
	t.Helper()
	w := &world{objects: clienttest.New(t, kind.NewTable(core.Kinds())), now: time.Now().Truncate(time.Second)}
	w.web = put(t, w.objects, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"}})
	w.node = put(t, w.objects, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "box"}})
	w.pod = put(t, w.objects, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web-1"},
		Spec: corev1.PodSpec{ServiceAccountName: "web", NodeName: "box", Containers: []corev1.Container{{Name: "c", Image: "i"}}}})
	var err error
	w.Tokens, err = NewTokens(TokenConfig{SigningKey: key, OldKeys: old, Objects: w.objects, Now: func() time.Time { return w.now }})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) drop(t *testing.T, obj kind.Object) {
	t.Helper()
	k := w.objects.Kinds().ByType(reflect.TypeOf(obj))
	if !w.objects.Drop(k, obj.GetNamespace(), obj.GetName()) {
		t.Fatalf("%s is not there", obj.GetName())
	}
}

func put[T client.Typed](t *testing.T, c client.Client, obj T) T {
	t.Helper()
	out, err := client.Create(t.Context(), c, obj)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func ec(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func (w *world) request(t *testing.T, req *authenticationv1.TokenRequest) *authenticationv1.TokenRequest {
	t.Helper()
	out, err := w.Request(t.Context(), "shop", "web", req, nil)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func toPod(p *corev1.Pod, seconds int64) *authenticationv1.TokenRequest {
	return &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds,
		BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: p.Name, UID: p.UID}}}
}

func TestTokenSaysWhoAndWhere(t *testing.T) {
	w := newWorld(t, ec(t))
	out := w.request(t, toPod(w.pod, 600))
	u, _, err := w.Verify(t.Context(), out.Status.Token, nil)
	if err != nil {
		t.Fatal(err)
	}
	if u.Name != "system:serviceaccount:shop:web" || u.UID != string(w.web.UID) ||
		strings.Join(u.Groups, " ") != "system:serviceaccounts system:serviceaccounts:shop system:authenticated" {
		t.Errorf("user = %+v", u)
	}
	for key, want := range map[string]string{"pod-name": "web-1", "pod-uid": string(w.pod.UID), "node-name": "box", "node-uid": string(w.node.UID)} {
		if got := u.Extra["authentication.kubernetes.io/"+key]; len(got) != 1 || got[0] != want {
			t.Errorf("extra %s = %v, want %s", key, got, want)
		}
	}
	if id := u.Extra["authentication.kubernetes.io/credential-id"]; len(id) != 1 || !strings.HasPrefix(id[0], "JTI=") {
		t.Errorf("credential-id = %v", id)
	}
	if !out.Status.ExpirationTimestamp.Time.Equal(w.now.Add(10 * time.Minute)) {
		t.Errorf("expires %v, want in 10 minutes", out.Status.ExpirationTimestamp)
	}
}

func TestTokenEndsWith(t *testing.T) {
	for _, tc := range []struct {
		it  string
		end func(t *testing.T, w *world)
		ok  bool
	}{
		{"nothing", func(*testing.T, *world) {}, true},
		{"its time", func(_ *testing.T, w *world) { w.now = w.now.Add(10 * time.Minute) }, false},
		{"not before its time", func(_ *testing.T, w *world) { w.now = w.now.Add(10*time.Minute - time.Second) }, true},
		{"its service account", func(t *testing.T, w *world) { w.drop(t, w.web) }, false},
		{"its pod", func(t *testing.T, w *world) { w.drop(t, w.pod) }, false},
		{"not its pod's node", func(t *testing.T, w *world) { w.drop(t, w.node) }, true},
		{"its pod, though another has the name", func(t *testing.T, w *world) {
			w.drop(t, w.pod)
			p := w.pod.DeepCopy()
			p.UID, p.ResourceVersion = "", ""
			put(t, w.objects, p)
		}, false},
	} {
		t.Run(tc.it, func(t *testing.T) {
			w := newWorld(t, ec(t))
			token := w.request(t, toPod(w.pod, 600)).Status.Token
			tc.end(t, w)
			if _, _, err := w.Verify(t.Context(), token, nil); (err == nil) != tc.ok {
				t.Errorf("err = %v, want valid = %v", err, tc.ok)
			}
		})
	}
}

func TestTokenAudiences(t *testing.T) {
	w := newWorld(t, ec(t))
	req := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{Audiences: []string{"vault", "db"}}}
	token := w.request(t, req).Status.Token
	if _, _, err := w.Verify(t.Context(), token, nil); err == nil {
		t.Error("a token for others is good for this server")
	}
	_, good, err := w.Verify(t.Context(), token, []string{"x", "db"})
	if err != nil || len(good) != 1 || good[0] != "db" {
		t.Errorf("audiences %v, %v; want db", good, err)
	}
}

func TestForgedTokens(t *testing.T) {
	w, other := newWorld(t, ec(t)), newWorld(t, ec(t))
	token := w.request(t, &authenticationv1.TokenRequest{}).Status.Token
	part := strings.Split(token, ".")
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`))
	for it, forged := range map[string]string{
		"another key":         other.request(t, &authenticationv1.TokenRequest{}).Status.Token,
		"no signature":        none + "." + part[1] + ".",
		"another's signature": part[0] + "." + part[1] + "." + strings.Split(other.request(t, &authenticationv1.TokenRequest{}).Status.Token, ".")[2],
		"rubbish":             "rubbish",
		"empty":               "",
		"half":                part[0] + "." + part[1],
	} {
		if u, _, err := w.Verify(t.Context(), forged, nil); err == nil {
			t.Errorf("%s: accepted as %v", it, u)
		}
	}
}

func TestKeysBeforeAreAccepted(t *testing.T) {
	first, second := ec(t), ec(t)
	w := newWorld(t, first)
	token := w.request(t, &authenticationv1.TokenRequest{}).Status.Token
	for it, tc := range map[string]struct {
		old []crypto.PublicKey
		ok  bool
	}{"kept": {[]crypto.PublicKey{first.Public()}, true}, "forgotten": {nil, false}} {
		next, err := NewTokens(TokenConfig{SigningKey: second, OldKeys: tc.old, Objects: w.objects})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := next.Verify(t.Context(), token, nil); (err == nil) != tc.ok {
			t.Errorf("%s: err = %v", it, err)
		}
	}
}

func TestRSATokens(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, key)
	if _, _, err := w.Verify(t.Context(), w.request(t, &authenticationv1.TokenRequest{}).Status.Token, nil); err != nil {
		t.Error(err)
	}
}

func TestDefaultPodTokenOutlivesItsHour(t *testing.T) {
	w := newWorld(t, ec(t))
	out := w.request(t, toPod(w.pod, extendableExpiration))
	if !out.Status.ExpirationTimestamp.Time.Equal(w.now.Add(extendableExpiration * time.Second)) {
		t.Errorf("says it expires %v", out.Status.ExpirationTimestamp)
	}
	w.now = w.now.Add(300 * 24 * time.Hour)
	if _, _, err := w.Verify(t.Context(), out.Status.Token, nil); err != nil {
		t.Error(err)
	}
}

func TestTokenRequestIsRefused(t *testing.T) {
	w := newWorld(t, ec(t))
	put(t, w.objects, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "other"}})
	seconds := func(n int64) *authenticationv1.TokenRequest {
		return &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &n}}
	}
	bound := func(kind, name, uid string) *authenticationv1.TokenRequest {
		return &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
			BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: kind, Name: name, UID: apitypes.UID(uid)}}}
	}
	for _, tc := range []struct {
		it, account string
		req         *authenticationv1.TokenRequest
		want        string
	}{
		{"for less than 10 minutes", "web", seconds(599), `TokenRequest.authentication.k8s.io "" is invalid: spec.expirationSeconds: Invalid value: 599: may not specify a duration less than 10 minutes`},
		{"for more than 2^32 seconds", "web", seconds(1<<32 + 1), "may not specify a duration larger than 2^32 seconds"},
		{"for an account that is not there", "nobody", &authenticationv1.TokenRequest{}, `serviceaccounts "nobody" not found`},
		{"for a pod that is not there", "web", bound("Pod", "gone", ""), `pods "gone" not found`},
		{"for a pod of another account", "other", bound("Pod", "web-1", ""), `cannot bind token for serviceaccount "other" to pod running with different serviceaccount name.`},
		{"for another pod of the name", "web", bound("Pod", "web-1", "old"), "does not match the UID in record"},
		{"for a group that has none of these", "web", &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
			BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "apps/v1", Kind: "Pod", Name: "web-1"}}}, "cannot bind token to object of type apps/v1, Kind=Pod"},
		{"for a kind that tokens cannot be bound to", "web", bound("ConfigMap", "x", ""), "cannot bind token to object of type /v1, Kind=ConfigMap"},
		{"under another name", "web", &authenticationv1.TokenRequest{ObjectMeta: metav1.ObjectMeta{Name: "x"}}, "must match the service account name if specified"},
	} {
		t.Run(tc.it, func(t *testing.T) {
			_, err := w.Request(context.Background(), "shop", tc.account, tc.req, nil)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("err = %v\nwant %s", err, tc.want)
			}
		})
	}
}

func TestOpenIDDocuments(t *testing.T) {
	w := newWorld(t, ec(t), ec(t).Public())
	data, err := w.KeySet()
	if err != nil {
		t.Fatal(err)
	}
	var set struct {
		Keys []struct{ Kid, Alg, Use, D string }
	}
	if err := json.Unmarshal(data, &set); err != nil || len(set.Keys) != 2 || set.Keys[0].Alg != "ES256" || set.Keys[0].Kid == "" {
		t.Errorf("keys %s, %v", data, err)
	}
	for _, k := range set.Keys {
		if k.D != "" {
			t.Error("a private key is shown")
		}
	}
	data, err = w.Discovery()
	if err != nil || !strings.Contains(string(data), `"jwks_uri":"https://kubernetes.default.svc.cluster.local/openid/v1/jwks"`) {
		t.Errorf("discovery %s, %v", data, err)
	}
}

func FuzzVerify(f *testing.F) {
	f.Add("a.b.c")
	f.Add("")
	f.Add("eyJhbGciOiJFUzI1NiJ9.e30.AAAA")
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	tokens, err := NewTokens(TokenConfig{SigningKey: key, Objects: clienttest.New(f, kind.NewTable(core.Kinds()))})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, token string) {
		if _, _, err := tokens.Verify(t.Context(), token, nil); err == nil {
			t.Errorf("accepted %q", token)
		}
	})
}
