package history

import (
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestWhatIsKeptIsATemplateInTheOrderOfItsKeys(t *testing.T) {
	big := int64(1) << 60
	template := &corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"b": "2", "a": "<&>"}},
		Spec: corev1.PodSpec{TerminationGracePeriodSeconds: &big, Containers: []corev1.Container{{Name: "c", Image: "i"}}}}
	patch, err := Patch(template)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"spec":{"template":{"$patch":"replace","metadata":{"labels":{"a":"\u003c\u0026\u003e","b":"2"}},` +
		`"spec":{"containers":[{"image":"i","name":"c","resources":{}}],"terminationGracePeriodSeconds":1152921504606846976}}}}`
	if string(patch) != want {
		t.Errorf("kept\n%s\nwant\n%s", patch, want)
	}
	r := &appsv1.ControllerRevision{}
	r.Data.Raw = patch
	back, err := Template(r)
	if err != nil || !equality.Semantic.DeepEqual(back, template) || !Keeps(r, patch) {
		t.Errorf("read back %+v, %v", back, err)
	}
}

func TestARevisionThatKeepsNoTemplateIsAnError(t *testing.T) {
	for _, data := range []string{``, `{}`, `{"spec":{}}`, `nonsense`} {
		r := &appsv1.ControllerRevision{}
		r.Data.Raw = []byte(data)
		if got, err := Template(r); err == nil {
			t.Errorf("%q is template %+v", data, got)
		}
	}
}

func TestRevisionsComeInTheOrderOfTheirNumbers(t *testing.T) {
	rev := func(name string, number int64, age time.Duration) *appsv1.ControllerRevision {
		return &appsv1.ControllerRevision{ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.NewTime(time.Unix(1e9, 0).Add(-age))}, Revision: number}
	}
	given := []*appsv1.ControllerRevision{rev("d", 3, 0), rev("c", 2, 0), rev("b", 2, 0), rev("a", 2, time.Hour)}
	order := ""
	for _, r := range Sort(given) {
		order += r.Name
	}
	if order != "abcd" || given[0].Name != "d" {
		t.Errorf("order %s, given is now %v", order, given)
	}
}
