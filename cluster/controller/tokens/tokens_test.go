package tokens

import (
	"log/slog"
	"testing"
	"testing/synctest"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/client"
	"sampan/cluster/controller/controllertest"
	"sampan/cluster/kind"
	"sampan/cluster/kind/core"
)

func secret(name, account string) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, Annotations: map[string]string{corev1.ServiceAccountNameKey: account}},
		Type: corev1.SecretTypeServiceAccountToken}
}

func TestASecretIsFilledAndGoesWithItsAccount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := controllertest.New(t, kind.NewTable(core.Kinds()),
			&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", UID: "u1"}, Secrets: []corev1.ObjectReference{{Name: "a"}, {Name: "b"}}})
		w.Start(New(Config{Client: w, Log: slog.New(slog.DiscardHandler), CA: "trust me",
			Sign: func(sa *corev1.ServiceAccount, secret string) (string, error) {
				return "token of " + sa.Name + " in " + secret, nil
			}}))
		sa := controllertest.Get[*corev1.ServiceAccount](w, "shop", "web")
		w.Put(secret("a", "web"))
		w.Put(secret("b", "web"))
		w.Put(secret("nobodys", "none"))
		synctest.Wait()
		a := controllertest.Get[*corev1.Secret](w, "shop", "a")
		if string(a.Data["token"]) != "token of web in a" || string(a.Data["ca.crt"]) != "trust me" || string(a.Data["namespace"]) != "shop" ||
			a.Annotations[corev1.ServiceAccountUIDKey] != string(sa.UID) {
			t.Errorf("%v, %q", a.Annotations, a.Data)
		}
		if n := len(controllertest.All[*corev1.Secret](w)); n != 2 {
			t.Errorf("%d secrets; one has no account and should be gone", n)
		}
		if err := client.Delete[*corev1.Secret](t.Context(), w, "shop", "b", nil); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := controllertest.Get[*corev1.ServiceAccount](w, "shop", "web").Secrets; len(got) != 1 || got[0].Name != "a" {
			t.Errorf("the account names %v", got)
		}
		if err := client.Delete[*corev1.ServiceAccount](t.Context(), w, "shop", "web", nil); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if left := controllertest.All[*corev1.Secret](w); len(left) != 0 {
			t.Errorf("%v is left", left[0].Name)
		}
	})
}

func TestDecide(t *testing.T) {
	sa := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", UID: "u1"}}
	full := secret("a", "web")
	full.Annotations[corev1.ServiceAccountUIDKey] = "u1"
	full.Data = map[string][]byte{"token": []byte("t"), "ca.crt": []byte("ca"), "namespace": []byte("shop")}
	for _, c := range []struct {
		it                  string
		change              func(*corev1.Secret)
		sa                  *corev1.ServiceAccount
		remove, write, sign bool
	}{
		{it: "leaves a full one alone", sa: sa},
		{it: "removes one without an account", remove: true},
		{it: "removes one of another account of the same name", sa: sa, change: func(s *corev1.Secret) { s.Annotations[corev1.ServiceAccountUIDKey] = "u0" }, remove: true},
		{it: "leaves one that is going alone", change: func(s *corev1.Secret) { s.DeletionTimestamp = new(metav1.Now()) }},
		{it: "leaves one of another type alone", change: func(s *corev1.Secret) { s.Type = "Opaque" }},
		{it: "signs once", sa: sa, change: func(s *corev1.Secret) { delete(s.Data, "token") }, write: true, sign: true},
		{it: "brings trust up to date", sa: sa, change: func(s *corev1.Secret) { s.Data["ca.crt"] = []byte("old") }, write: true},
	} {
		t.Run(c.it, func(t *testing.T) {
			s := full.DeepCopy()
			if c.change != nil {
				c.change(s)
			}
			d := decide(s, c.sa, "ca")
			if d.remove != c.remove || (d.secret != nil) != c.write || d.sign != c.sign {
				t.Errorf("%+v", d)
			}
		})
	}
}
