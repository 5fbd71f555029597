package unusedtokens

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/client"
	"sampan/cluster/controller/controllertest"
	"sampan/cluster/kind"
	"sampan/cluster/kind/core"
	"sampan/cluster/kind/legacytoken"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

const period = 30 * 24 * time.Hour

func days(n int) string { return legacytoken.Day(noon.AddDate(0, 0, -n)) }

// token is a Secret of the account web that was made so many days ago.
func token(name string, age int, labels ...string) *corev1.Secret {
	s := &corev1.Secret{Type: corev1.SecretTypeServiceAccountToken,
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: "s", CreationTimestamp: metav1.NewTime(noon.AddDate(0, 0, -age)),
			Labels: map[string]string{}, Annotations: map[string]string{corev1.ServiceAccountNameKey: "web", corev1.ServiceAccountUIDKey: "u"}}}
	for i := 0; i < len(labels); i += 2 {
		s.Labels[labels[i]] = labels[i+1]
	}
	return s
}

func account(secrets ...string) *corev1.ServiceAccount {
	sa := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", UID: "u"}}
	for _, name := range secrets {
		sa.Secrets = append(sa.Secrets, corev1.ObjectReference{Name: name})
	}
	return sa
}

func TestDecide(t *testing.T) {
	const used, invalid = legacytoken.LastUsed, legacytoken.InvalidSince
	web := account("t")
	for _, c := range []struct {
		it      string
		secret  *corev1.Secret
		account *corev1.ServiceAccount
		mounted bool
		want    string
	}{
		{it: "marks one that nobody ever used", secret: token("t", 31), account: web, want: "mark " + days(0)},
		{it: "marks one that nobody used for long", secret: token("t", 99, used, days(31)), account: web, want: "mark " + days(0)},
		{it: "leaves one that was used since", secret: token("t", 99, used, days(30)), account: web},
		{it: "leaves a young one", secret: token("t", 29), account: web},
		{it: "leaves one exactly as old", secret: token("t", 30), account: web},
		{it: "leaves one that a pod has", secret: token("t", 99), account: web, mounted: true},
		{it: "leaves one that somebody asked for", secret: token("other", 99), account: web},
		{it: "leaves one without an account", secret: token("t", 99)},
		{it: "leaves one of another account of the name", secret: token("t", 99), account: func() *corev1.ServiceAccount {
			sa := account("t")
			sa.UID = "v"
			return sa
		}()},
		{it: "leaves one that is going", secret: func() *corev1.Secret {
			s := token("t", 99)
			s.DeletionTimestamp = &metav1.Time{Time: noon}
			return s
		}(), account: web},
		{it: "leaves another type", secret: func() *corev1.Secret {
			s := token("t", 99)
			s.Type = corev1.SecretTypeOpaque
			return s
		}(), account: web},
		{it: "cannot say when a strange one was used", secret: token("t", 99, used, "lately"), account: web, want: "error"},
		{it: "waits for who misses it", secret: token("t", 99, invalid, days(30)), account: web},
		{it: "deletes one that nobody missed", secret: token("t", 99, invalid, days(31)), account: web, want: "remove"},
		{it: "keeps one that was tried", secret: token("t", 99, invalid, days(31), used, days(1)), account: web},
		{it: "marks one with a strange mark", secret: token("t", 99, invalid, "true"), account: web, want: "mark " + days(0)},
	} {
		t.Run(c.it, func(t *testing.T) {
			d := decide(c.secret, c.account, func() bool { return c.mounted }, noon, period)
			got := ""
			switch {
			case d.err != nil:
				got = "error"
			case d.mark != "":
				got = "mark " + d.mark
			case d.remove:
				got = "remove"
			}
			if got != c.want {
				t.Errorf("got %q (%v), want %q", got, d.err, c.want)
			}
		})
	}
}

func TestATokenThatNobodyUsesIsMarkedAndThenDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// The bubble's clock begins in 2000.
		made := metav1.NewTime(time.Now().AddDate(-1, 0, 0))
		aged := func(name string) *corev1.Secret {
			s := token(name, 0)
			s.CreationTimestamp = made
			return s
		}
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "p"}, Spec: corev1.PodSpec{
			Volumes: []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "mounted"}}}}}}
		w := controllertest.New(t, kind.NewTable(core.Kinds()), aged("t"), aged("mounted"), aged("asked-for"), account("t", "mounted"), pod)
		w.Validate = false
		log := slog.New(slog.DiscardHandler)
		w.Start(NewTracker(w, log), New(Config{Client: w, Log: log, Period: period}))
		secrets := func(after time.Duration) string {
			t.Helper()
			time.Sleep(after)
			synctest.Wait()
			var all []string
			for _, s := range controllertest.All[*corev1.Secret](w) {
				all = append(all, strings.TrimSpace(fmt.Sprint(s.Name, " ", s.Labels[legacytoken.InvalidSince])))
			}
			slices.Sort(all)
			return strings.Join(all, ", ")
		}
		const day = 24 * time.Hour
		if got, want := secrets(30*day), "asked-for, mounted, t"; got != want {
			t.Errorf("uses are not written down for long enough: %s, want %s", got, want)
		}
		if got, want := secrets(2*day), "asked-for, mounted, t 2000-02-01"; got != want {
			t.Errorf("when nobody used it: %s, want %s", got, want)
		}
		if got, want := secrets(29*day), "asked-for, mounted, t 2000-02-01"; got != want {
			t.Errorf("while somebody may miss it: %s, want %s", got, want)
		}
		if got, want := secrets(3*day), "asked-for, mounted"; got != want {
			t.Errorf("when nobody has missed it: %s, want %s", got, want)
		}
	})
}

func TestTheDaySinceWhenUsesAreKnownIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := controllertest.New(t, kind.NewTable(core.Kinds()))
		w.Start(NewTracker(w, slog.New(slog.DiscardHandler)))
		since := func() string {
			synctest.Wait()
			m, err := client.Get[*corev1.ConfigMap](t.Context(), w, metav1.NamespaceSystem, legacytoken.TrackingName)
			if err != nil {
				return ""
			}
			return m.Data["since"]
		}
		if got := since(); got != "2000-01-01" {
			t.Errorf("at first: %q", got)
		}
		time.Sleep(48 * time.Hour)
		if got := since(); got != "2000-01-01" {
			t.Errorf("two days later: %q", got)
		}
		m := controllertest.Get[*corev1.ConfigMap](w, metav1.NamespaceSystem, legacytoken.TrackingName)
		controllertest.Edit(w, m, func(m *corev1.ConfigMap) { m.Data = map[string]string{"since": "long ago"} })
		if got := since(); got != "2000-01-03" {
			t.Errorf("made unreadable: %q", got)
		}
		drop := func() { w.Drop(client.KindOf[*corev1.ConfigMap](w), metav1.NamespaceSystem, legacytoken.TrackingName) }
		drop()
		if got := since(); got != "2000-01-03" {
			t.Errorf("deleted: %q", got)
		}
		drop()
		if got := since(); got != "" {
			t.Errorf("deleted again at once, it was made at once: %q", got)
		}
		time.Sleep(pause)
		if got := since(); got != "2000-01-03" {
			t.Errorf("half an hour later: %q", got)
		}
	})
}
