package deployment

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"

	appsv1 "k8s.io/api/apps/v1"
)

func cause(text string) func(*appsv1.Deployment) {
	return func(d *appsv1.Deployment) {
		d.Annotations = with(d.Annotations, "kubernetes.io/change-cause", text)
	}
}

func backTo(revision string) func(*appsv1.Deployment) {
	return func(d *appsv1.Deployment) { d.Annotations = with(d.Annotations, rollbackAnnotation, revision) }
}

func paused(is bool) func(*appsv1.Deployment) {
	return func(d *appsv1.Deployment) { d.Spec.Paused = is }
}

// A deployment has had web:1, web:2 and web:3, as the first, second and third.
func TestAWishToGoBack(t *testing.T) {
	for _, test := range []struct {
		it       string
		to       string
		how      []func(*appsv1.Deployment)
		image    string
		cause    string
		revision string
		event    string
		kept     bool // the wish
	}{
		{it: "goes to the last but one", to: "0", image: "web:2", cause: "second", revision: "4",
			event: `DeploymentRollback Rolled back deployment "web" to revision 2`},
		{it: "goes to one that is named", to: "1", image: "web:1", cause: "first", revision: "4",
			event: `DeploymentRollback Rolled back deployment "web" to revision 1`},
		{it: "stays where it is", to: "3", image: "web:3", cause: "third", revision: "3",
			event: `DeploymentRollbackTemplateUnchanged The rollback revision contains the same template as current deployment "web"`},
		{it: "does not find a revision", to: "7", image: "web:3", cause: "third", revision: "3",
			event: "DeploymentRollbackRevisionNotFound Unable to find the revision to rollback to."},
		{it: "counts the template that comes with it", to: "0", how: []func(*appsv1.Deployment){image("web:4"), cause("fourth")},
			image: "web:3", cause: "third", revision: "5", event: `DeploymentRollback Rolled back deployment "web" to revision 3`},
		{it: "waits while it is paused", to: "1", how: []func(*appsv1.Deployment){paused(true)},
			image: "web:3", cause: "third", revision: "3", kept: true},
		{it: "is no wish if it is no number", to: "first", image: "web:3", cause: "third", revision: "3", kept: true},
	} {
		t.Run(test.it, func(t *testing.T) {
			run(t, func(w world) {
				w.Put(web(1))
				synctest.Wait()
				w.change(image("web:2"), cause("second"))
				w.change(image("web:3"), cause("third"))
				w.change(append(test.how, backTo(test.to))...)
				synctest.Wait()

				d := w.deployment()
				if got := d.Spec.Template.Spec.Containers[0].Image; got != test.image {
					t.Errorf("image %s, want %s", got, test.image)
				}
				if got := d.Annotations["kubernetes.io/change-cause"]; got != test.cause {
					t.Errorf("cause %q, want %q", got, test.cause)
				}
				if got := d.Annotations[revisionAnnotation]; got != test.revision {
					t.Errorf("revision %s, want %s", got, test.revision)
				}
				if _, kept := d.Annotations[rollbackAnnotation]; kept != test.kept {
					t.Errorf("annotations %v", d.Annotations)
				}
				if hash, ok := d.Spec.Template.Labels[appsv1.DefaultDeploymentUniqueLabelKey]; ok {
					t.Errorf("the template has the label of a set: %s", hash)
				}
				events := slices.DeleteFunc(w.events(), func(e string) bool { return e[:7] == "Scaling" })
				if want := (map[bool]string{true: "[]", false: "[" + test.event + "]"})[test.event == ""]; fmt.Sprint(events) != want {
					t.Errorf("events %q, want %s", events, want)
				}
			})
		})
	}
}

func TestThereIsNothingToGoBackTo(t *testing.T) {
	run(t, func(w world) {
		w.Put(web(1, backTo("0")))
		synctest.Wait()
		if d := w.deployment(); d.Annotations[rollbackAnnotation] != "" || d.Annotations[revisionAnnotation] != "1" {
			t.Errorf("annotations %v", d.Annotations)
		}
		if e := w.events(); !slices.Contains(e, "DeploymentRollbackRevisionNotFound Unable to find last revision.") {
			t.Errorf("events %q", e)
		}
		w.wantSets("web:1=0/1")
	})
}
