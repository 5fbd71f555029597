package bootstrapsigner

import (
	"log/slog"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/client"
	"sampan/cluster/controller/controllertest"
	"sampan/cluster/kind"
	"sampan/cluster/kind/bootstraptoken"
	"sampan/cluster/kind/core"
)

func token(id string, end time.Duration) *corev1.Secret {
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: bootstraptoken.NamePrefix + id}, Type: bootstraptoken.Type,
		Data: map[string][]byte{bootstraptoken.KeyID: []byte(id), bootstraptoken.KeySecret: []byte("0123456789abcdef"), bootstraptoken.KeySigning: []byte("true")}}
	if end != 0 {
		s.Data[bootstraptoken.KeyExpiration] = []byte(time.Now().Add(end).Format(time.RFC3339))
	}
	return s
}

func TestTheClustersInformationIsSigned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := controllertest.New(t, kind.NewTable(core.Kinds()), token("aaaaaa", 0), token("bbbbbb", time.Hour))
		w.Start(New(Config{Client: w, Log: slog.New(slog.DiscardHandler)}))
		w.Put(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-public", Name: "other"}, Data: map[string]string{"kubeconfig": "x"}})
		w.Put(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-public", Name: infoName},
			Data: map[string]string{"kubeconfig": "who: am I", "jws-kubeconfig-zzzzzz": "old", "more": "stays"}})
		keys := func() []string {
			synctest.Wait()
			return slices.Sorted(maps.Keys(controllertest.Get[*corev1.ConfigMap](w, "kube-public", infoName).Data))
		}
		if got, want := keys(), []string{"jws-kubeconfig-aaaaaa", "jws-kubeconfig-bbbbbb", "kubeconfig", "more"}; !slices.Equal(got, want) {
			t.Fatalf("%v, want %v", got, want)
		}
		data := controllertest.Get[*corev1.ConfigMap](w, "kube-public", infoName).Data
		// HMAC-SHA256 of head and content, computed by other means.
		const want = "eyJhbGciOiJIUzI1NiIsImtpZCI6ImFhYWFhYSJ9..tiUYQdL2lIy2sK-uYRMh7mxmjayj8SP2XNXrRSyGCNk"
		if got := data["jws-kubeconfig-aaaaaa"]; got != want {
			t.Errorf("%s, want %s", got, want)
		}
		time.Sleep(time.Hour + time.Second)
		if got, want := keys(), []string{"jws-kubeconfig-aaaaaa", "kubeconfig", "more"}; !slices.Equal(got, want) {
			t.Errorf("after the time of one is over: %v, want %v", got, want)
		}
		if err := client.Delete[*corev1.Secret](t.Context(), w, "kube-system", bootstraptoken.NamePrefix+"aaaaaa", nil); err != nil {
			t.Fatal(err)
		}
		if got, want := keys(), []string{"kubeconfig", "more"}; !slices.Equal(got, want) {
			t.Errorf("after the other has gone: %v, want %v", got, want)
		}
		if other := controllertest.Get[*corev1.ConfigMap](w, "kube-public", "other"); len(other.Data) != 1 {
			t.Errorf("another ConfigMap was signed: %v", other.Data)
		}
	})
}

func TestWhatIsSignedIsLeftAlone(t *testing.T) {
	info := &corev1.ConfigMap{Data: map[string]string{"kubeconfig": "a"}}
	first := decide(info, []*corev1.Secret{token("aaaaaa", 0)}, time.Now())
	if first.data == nil {
		t.Fatal("not signed")
	}
	if second := decide(&corev1.ConfigMap{Data: first.data}, []*corev1.Secret{token("aaaaaa", 0)}, time.Now()); second.data != nil {
		t.Errorf("signed again: %v", second.data)
	}
	if d := decide(&corev1.ConfigMap{Data: map[string]string{"x": "y"}}, []*corev1.Secret{token("aaaaaa", 0)}, time.Now()); d.data != nil {
		t.Errorf("without a kubeconfig: %v", d.data)
	}
}
