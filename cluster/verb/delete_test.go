package verb_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
)

func (s *server) delete(what string, o metav1.DeleteOptions) (runtime.Object, bool, error) {
	s.Helper()
	return s.api.Delete(s.Context(), s.ask("delete", what), &o)
}

func TestDelete(t *testing.T) {
	s := serve(t)

	t.Run("removes and answers with a status", func(t *testing.T) {
		made := s.mustCreate("configmaps", `{"metadata":{"name":"a"}}`)
		answer, done, err := s.delete("configmaps/a", metav1.DeleteOptions{})
		status, ok := answer.(*metav1.Status)
		if err != nil || !done || !ok || status.Status != "Success" || status.Details.UID != made.GetUID() || status.Details.Kind != "configmaps" {
			t.Errorf("answer %s, done %v, %v", text(answer), done, err)
		}
		_, err = s.get("configmaps/a")
		s.status(err, 404, `configmaps "a" not found`)
		_, _, err = s.delete("configmaps/a", metav1.DeleteOptions{})
		s.status(err, 404, `configmaps "a" not found`)
	})
	t.Run("waits for finalizers, and ends with the last", func(t *testing.T) {
		s.mustCreate("configmaps", `{"metadata":{"name":"f","finalizers":["x.io/y"]}}`)
		answer, done, err := s.delete("configmaps/f", metav1.DeleteOptions{})
		if err != nil || done || answer.(*corev1.ConfigMap).DeletionTimestamp == nil || *answer.(*corev1.ConfigMap).DeletionGracePeriodSeconds != 0 {
			t.Fatalf("answer %s, done %v, %v", text(answer), done, err)
		}
		_, err = s.patch("configmaps/f", types.MergePatchType, `{"metadata":{"finalizers":["x.io/y","x.io/z"]}}`)
		s.status(err, 422, "no new finalizers can be added if the object is being deleted")
		if _, err := s.patch("configmaps/f", types.MergePatchType, `{"metadata":{"finalizers":null}}`); err != nil {
			t.Fatal(err)
		}
		_, err = s.get("configmaps/f")
		s.status(err, 404, "not found")
	})
	t.Run("keeps to the preconditions", func(t *testing.T) {
		s.mustCreate("configmaps", `{"metadata":{"name":"p"}}`)
		uid, rv := types.UID("u"), "1"
		_, _, err := s.delete("configmaps/p", metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
		s.status(err, 409, "the UID in the precondition (u) does not match the UID in record")
		_, _, err = s.delete("configmaps/p", metav1.DeleteOptions{Preconditions: &metav1.Preconditions{ResourceVersion: &rv}})
		s.status(err, 409, "the ResourceVersion in the precondition (1) does not match")
	})
	t.Run("leaves the finalizer that the policy asks for", func(t *testing.T) {
		for policy, want := range map[metav1.DeletionPropagation]string{
			metav1.DeletePropagationForeground: metav1.FinalizerDeleteDependents, metav1.DeletePropagationOrphan: metav1.FinalizerOrphanDependents} {
			name := strings.ToLower(string(policy))
			s.mustCreate("configmaps", `{"metadata":{"name":"`+name+`"}}`)
			answer, done, err := s.delete("configmaps/"+name, metav1.DeleteOptions{PropagationPolicy: &policy})
			if err != nil || done || !slices.Equal(answer.(*corev1.ConfigMap).Finalizers, []string{want}) {
				t.Errorf("%s: answer %s, done %v, %v", policy, text(answer), done, err)
			}
		}
		bad := metav1.DeletionPropagation("Never")
		_, _, err := s.delete("configmaps/p", metav1.DeleteOptions{PropagationPolicy: &bad})
		s.status(err, 422, "propagationPolicy")
	})
	t.Run("stores nothing on a dry run", func(t *testing.T) {
		if _, done, err := s.delete("configmaps/p", metav1.DeleteOptions{DryRun: []string{"All"}}); err != nil || !done {
			t.Errorf("done %v, %v", done, err)
		}
		if _, err := s.get("configmaps/p"); err != nil {
			t.Error(err)
		}
	})
	t.Run("gives pods on a node their grace, which only gets shorter", func(t *testing.T) {
		s.mustCreate("pods", `{"metadata":{"name":"w"},"spec":{"nodeName":"n","containers":[{"name":"c","image":"i"}]}}`)
		grace := func(answer runtime.Object, done bool, err error) int64 {
			t.Helper()
			if err != nil || done {
				t.Fatalf("done %v, %v", done, err)
			}
			return *answer.(*corev1.Pod).DeletionGracePeriodSeconds
		}
		longer, shorter, none := int64(60), int64(5), int64(0)
		if got := grace(s.delete("pods/w", metav1.DeleteOptions{})); got != 30 {
			t.Errorf("%d seconds, want the pod's 30", got)
		}
		if got := grace(s.delete("pods/w", metav1.DeleteOptions{GracePeriodSeconds: &longer})); got != 30 {
			t.Errorf("%d seconds, want 30 still", got)
		}
		if got := grace(s.delete("pods/w", metav1.DeleteOptions{GracePeriodSeconds: &shorter})); got != 5 {
			t.Errorf("%d seconds, want 5", got)
		}
		answer, done, err := s.delete("pods/w", metav1.DeleteOptions{GracePeriodSeconds: &none})
		if _, isPod := answer.(*corev1.Pod); err != nil || !done || !isPod {
			t.Errorf("with 0 seconds: answer %s, done %v, %v", text(answer), done, err)
		}
		s.mustCreate("pods", `{"metadata":{"name":"w"},"spec":{"containers":[{"name":"c","image":"i"}]}}`)
		if _, done, err := s.delete("pods/w", metav1.DeleteOptions{}); err != nil || !done {
			t.Errorf("a pod on no node: done %v, %v", done, err)
		}
	})
	t.Run("says the grace period of what was marked without one when it is deleted again, unless it is held", func(t *testing.T) {
		s.mustCreate("customresourcedefinitions", `{"metadata":{"name":"things.x.io"},"spec":{"group":"x.io","scope":"Cluster","names":{"plural":"things","kind":"Thing"},
			"versions":[{"name":"v1","served":true,"storage":true,"schema":{"openAPIV3Schema":{"type":"object"}}}]}}`)
		s.mustCreate("namespaces", `{"metadata":{"name":"ends"}}`)
		none := int64(0)
		for what, want := range map[string]*int64{"customresourcedefinitions/things.x.io": &none, "namespaces/ends": nil} {
			for i, want := range []*int64{nil, want, want} {
				answer, done, err := s.delete(what, metav1.DeleteOptions{})
				if err != nil || done {
					t.Fatalf("%s: done %v, %v", what, done, err)
				}
				obj := answer.(metav1.Object)
				if got := obj.GetDeletionGracePeriodSeconds(); !reflect.DeepEqual(got, want) || obj.GetDeletionTimestamp() == nil {
					t.Errorf("%s, delete %d: %s", what, i+1, text(answer))
				}
			}
		}
	})
	t.Run("holds a namespace until it is finalized", func(t *testing.T) {
		s.mustCreate("namespaces", `{"metadata":{"name":"shop"}}`)
		answer, done, err := s.delete("namespaces/shop", metav1.DeleteOptions{})
		if err != nil || done || answer.(*corev1.Namespace).Status.Phase != corev1.NamespaceTerminating {
			t.Fatalf("answer %s, done %v, %v", text(answer), done, err)
		}
		if _, err := s.update("namespaces/shop/finalize", `{"metadata":{"name":"shop"},"spec":{"finalizers":[]}}`); err != nil {
			t.Fatal(err)
		}
		_, err = s.get("namespaces/shop")
		s.status(err, 404, "not found")
	})
	t.Run("of a collection deletes what is selected", func(t *testing.T) {
		for _, name := range []string{"c1", "c2"} {
			s.mustCreate("configmaps", `{"metadata":{"name":"`+name+`","labels":{"sweep":"yes"}}}`)
		}
		list, err := s.api.DeleteCollection(t.Context(), s.ask("deletecollection", "configmaps"), nil, metav1.ListOptions{LabelSelector: "sweep=yes"})
		if err != nil || len(list.Objects) != 2 {
			t.Errorf("deleted %v, %v", list, err)
		}
		if _, err := s.get("configmaps/p"); err != nil {
			t.Error(err)
		}
		_, err = s.get("configmaps/c1")
		s.status(err, 404, "")
	})
}
