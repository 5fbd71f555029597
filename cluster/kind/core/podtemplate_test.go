package core_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"

	"sampan/cluster/kind/core"
)

func TestPodTemplates(t *testing.T) {
	k := core.PodTemplate()
	p := &corev1.PodTemplate{}
	p.Name, p.Namespace = "a", "default"
	p.Template.Spec.Containers = []corev1.Container{{Name: "c", Image: "i:1"}}
	k.Default(p)
	if got := p.Template.Spec.Containers[0].ImagePullPolicy; got != corev1.PullIfNotPresent {
		t.Errorf("the template has pull policy %q; want the default of pods", got)
	}
	if errs := k.Validate(p, nil); len(errs) > 0 {
		t.Errorf("a template of a valid pod is refused: %v", errs)
	}
	bad := p.DeepCopy()
	bad.Template.Spec.Containers[0].Image = ""
	if errs := k.Validate(bad, nil); len(errs) != 1 || errs[0].Field != "template.spec.containers[0].image" {
		t.Errorf("a template without an image: %v", errs)
	}
}
