package verb_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"sampan/cluster/kind"
	"sampan/cluster/request"
	"sampan/cluster/verb"
)

func (s *server) act(what, body string) (runtime.Object, error) {
	s.Helper()
	return s.api.Act(s.Context(), s.ask("create", what), asJSON(body))
}

func TestAct(t *testing.T) {
	s := serve(t)
	s.mustCreate("pods", `{"metadata":{"name":"p"},"spec":{"containers":[{"name":"c","image":"i"}]}}`)

	t.Run("binds a pod to a node, once", func(t *testing.T) {
		answer, err := s.act("pods/p/binding", `{"metadata":{"name":"p"},"target":{"kind":"Node","name":"n1"}}`)
		if status, ok := answer.(*metav1.Status); err != nil || !ok || status.Status != "Success" || status.Code != 201 {
			t.Errorf("answer %s, %v", text(answer), err)
		}
		p, _ := s.get("pods/p")
		if p.(*corev1.Pod).Spec.NodeName != "n1" {
			t.Errorf("got %s", text(p))
		}
		for _, m := range p.GetManagedFields() {
			if m.Subresource != "" {
				t.Errorf("the binding owns fields: %+v", m)
			}
		}
		_, err = s.act("pods/p/binding", `{"metadata":{"name":"p"},"target":{"kind":"Node","name":"n2"}}`)
		s.status(err, 409, "already assigned to node")
	})
	t.Run("checks the name and the body", func(t *testing.T) {
		_, err := s.act("pods/p/binding", `{"metadata":{"name":"q"},"target":{"name":"n"}}`)
		s.status(err, 400, "name in URL does not match name in Binding object")
		_, err = s.act("pods/p/binding", `{"target":{"node":"n"}}`)
		s.status(err, 400, `strict decoding error: unknown field "target.node"`)
		_, err = s.act("pods/q/binding", `{"target":{"name":"n"}}`)
		s.status(err, 404, `pods "q" not found`)
		_, err = s.act("pods/p/none", `{}`)
		s.status(err, 405, "")
	})
	t.Run("evicts a pod as a delete does", func(t *testing.T) {
		none := `{"metadata":{"name":"p"},"deleteOptions":{"preconditions":{"uid":"u"}}}`
		_, err := s.act("pods/p/eviction", none)
		s.status(err, 409, "the UID in the precondition (u) does not match")
		if _, err := s.act("pods/p/eviction", `{"metadata":{"name":"p"}}`); err != nil {
			t.Error(err)
		}
		if p, err := s.get("pods/p"); err != nil || p.GetDeletionTimestamp() == nil {
			t.Errorf("got %s, %v", text(p), err)
		}
	})
	t.Run("calls code from elsewhere with the object and the body", func(t *testing.T) {
		s.mustCreate("serviceaccounts", `{"metadata":{"name":"sa"}}`)
		_, err := s.act("serviceaccounts/sa/token", `{}`)
		s.status(err, 405, "")
		s.api.Actions = map[string]verb.Action{"serviceaccounts/token": func(_ context.Context, r request.Request, obj kind.Object, body runtime.Object) (runtime.Object, error) {
			answer := body.(*authenticationv1.TokenRequest)
			answer.Status.Token = obj.GetName() + " for " + r.User.Name
			return answer, nil
		}}
		answer, err := s.act("serviceaccounts/sa/token", `{"spec":{"audiences":["x"]}}`)
		if token, ok := answer.(*authenticationv1.TokenRequest); err != nil || !ok || token.Status.Token != "sa for ann" || token.Spec.Audiences[0] != "x" {
			t.Errorf("answer %s, %v", text(answer), err)
		}
	})
}

func TestPatchesAtTheSameTimeAllCount(t *testing.T) {
	s := serve(t)
	s.mustCreate("configmaps", `{"metadata":{"name":"c"},"data":{"k":"v"}}`)
	var wait sync.WaitGroup
	for w := range 8 {
		wait.Go(func() {
			for i := range 5 {
				body := fmt.Sprintf(`{"data":{"k-%d-%d":"v"}}`, w, i)
				if _, _, err := s.api.Patch(t.Context(), s.ask("patch", "configmaps/c"), types.MergePatchType, []byte(body)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wait.Wait()
	if c, _ := s.get("configmaps/c"); len(c.(*corev1.ConfigMap).Data) != 41 {
		t.Errorf("%d keys, want 41", len(c.(*corev1.ConfigMap).Data))
	}
}

func TestAFinalizerRemovedTwiceAtTheSameTimeEndsTheObjectOnce(t *testing.T) {
	s := serve(t)
	for i := range 10 {
		name := fmt.Sprintf("f%d", i)
		s.mustCreate("configmaps", `{"metadata":{"name":"`+name+`","finalizers":["x.io/a","x.io/b"]}}`)
		if _, _, err := s.delete("configmaps/"+name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		var wait sync.WaitGroup
		for _, f := range []string{"x.io/a", "x.io/b"} {
			wait.Go(func() {
				for {
					obj, err := s.get("configmaps/" + name)
					if err != nil {
						return
					}
					next := obj.DeepCopyObject().(kind.Object)
					var left []string
					for _, had := range next.GetFinalizers() {
						if had != f {
							left = append(left, had)
						}
					}
					next.SetFinalizers(left)
					c := s.api.As(request.User{Name: "ann"})
					if _, err := c.Update(t.Context(), s.ask("update", "configmaps").Kind, next, ""); err == nil {
						return
					}
				}
			})
		}
		wait.Wait()
		_, err := s.get("configmaps/" + name)
		s.status(err, 404, "not found")
	}
}
