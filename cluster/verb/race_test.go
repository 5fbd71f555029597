package verb_test

import (
	"context"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/admission"
	"sampan/cluster/client"
	"sampan/cluster/request"
)

// overtaking is an admission plugin in whose time another writer is faster,
// once.
type overtaking struct{ write func() }

// Review implements admission.Reviewer.
func (o *overtaking) Review(_ context.Context, a *admission.Attempt) error {
	if write := o.write; write != nil && a.Operation == admission.Update {
		o.write = nil
		write()
	}
	return nil
}

func TestAnUpdateThatIsOvertakenIsAConflict(t *testing.T) {
	other := &overtaking{}
	s := serve(t, other)
	c := s.api.As(request.User{Name: "ann"})
	m, err := client.Create(t.Context(), c, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "a"}})
	if err != nil {
		t.Fatal(err)
	}
	set := func(version, value string) error {
		next := m.DeepCopy()
		next.ResourceVersion, next.Data = version, map[string]string{"k": value}
		_, err := client.Update(t.Context(), c, next)
		return err
	}
	faster := func() {
		if err := set("", "theirs"); err != nil {
			t.Error(err)
		}
	}
	holds := func(want string) {
		t.Helper()
		now, err := client.Get[*corev1.ConfigMap](t.Context(), c, "default", "a")
		if err != nil || now.Data["k"] != want {
			t.Errorf("it holds %v, %v, want %q", now, err, want)
		}
	}
	other.write = faster
	if err := set(m.ResourceVersion, "mine"); !apierrors.IsConflict(err) {
		t.Errorf("an update of a certain state: %v, want a conflict", err)
	}
	holds("theirs")

	other.write = faster
	if err := set("", "mine"); err != nil {
		t.Errorf("an update of any state: %v", err)
	}
	holds("mine")
}
