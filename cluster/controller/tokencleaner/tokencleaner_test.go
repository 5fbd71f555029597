package tokencleaner

import (
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/controller/controllertest"
	"sampan/cluster/kind"
	"sampan/cluster/kind/bootstraptoken"
	"sampan/cluster/kind/core"
)

func TestATokenGoesWhenItsTimeIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		secret := func(namespace, name string, of corev1.SecretType, end string) *corev1.Secret {
			s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Type: of, Data: map[string][]byte{}}
			if end != "" {
				s.Data[bootstraptoken.KeyExpiration] = []byte(end)
			}
			return s
		}
		hour, past := time.Now().Add(time.Hour).Format(time.RFC3339), time.Now().Add(-time.Hour).Format(time.RFC3339)
		w := controllertest.New(t, kind.NewTable(core.Kinds()),
			secret("kube-system", "an-hour", bootstraptoken.Type, hour), secret("kube-system", "over", bootstraptoken.Type, past),
			secret("kube-system", "unreadable", bootstraptoken.Type, "soon"), secret("kube-system", "endless", bootstraptoken.Type, ""),
			secret("kube-system", "other-type", "Opaque", past), secret("default", "elsewhere", bootstraptoken.Type, past))
		w.Start(New(Config{Client: w, Log: slog.New(slog.DiscardHandler)}))
		left := func() (names []string) {
			synctest.Wait()
			for _, s := range controllertest.All[*corev1.Secret](w) {
				names = append(names, s.Name)
			}
			slices.Sort(names)
			return names
		}
		if got, want := left(), []string{"an-hour", "elsewhere", "endless", "other-type"}; !slices.Equal(got, want) {
			t.Errorf("at first: %v, want %v", got, want)
		}
		time.Sleep(59 * time.Minute)
		if got := left(); !slices.Contains(got, "an-hour") {
			t.Errorf("before its time: %v", got)
		}
		time.Sleep(2 * time.Minute)
		if got, want := left(), []string{"elsewhere", "endless", "other-type"}; !slices.Equal(got, want) {
			t.Errorf("after its time: %v, want %v", got, want)
		}
	})
}
