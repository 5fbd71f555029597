package verb_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/client"
	"sampan/cluster/request"
)

// running makes a pod of the application that runs, and is ready or not.
func (s *server) running(name string, ready corev1.ConditionStatus) {
	s.Helper()
	s.mustCreate("pods", `{"metadata":{"name":"`+name+`","labels":{"app":"web"}},"spec":{"nodeName":"n","containers":[{"name":"c","image":"i"}]}}`)
	c := s.api.As(request.User{Name: "ann"})
	p, err := client.Get[*corev1.Pod](s.Context(), c, "default", name)
	if err != nil {
		s.Fatal(err)
	}
	p = p.DeepCopy()
	p.Status.Phase = corev1.PodRunning
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: ready}}
	if _, err := client.UpdateStatus(s.Context(), c, p); err != nil {
		s.Fatal(err)
	}
}

// budget makes or replaces the budget "b" with a status, as its controller
// would write it.
func (s *server) budget(status policyv1.PodDisruptionBudgetStatus, spec policyv1.PodDisruptionBudgetSpec) {
	s.Helper()
	c := s.api.As(request.User{Name: "ann"})
	b, err := client.Get[*policyv1.PodDisruptionBudget](s.Context(), c, "default", "b")
	if apierrors.IsNotFound(err) {
		spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}
		b, err = client.Create(s.Context(), c, &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "b"}, Spec: spec})
	}
	if err != nil {
		s.Fatal(err)
	}
	b = b.DeepCopy()
	b.Status = status
	if _, err := client.UpdateStatus(s.Context(), c, b); err != nil {
		s.Fatal(err)
	}
}

func (s *server) evict(name string) error {
	_, err := s.act("pods/"+name+"/eviction", `{"metadata":{"name":"`+name+`"}}`)
	return err
}

// cause is what a refused eviction says about the budget.
func cause(err error) string {
	var status apierrors.APIStatus
	if errors.As(err, &status) && status.Status().Details != nil {
		for _, c := range status.Status().Details.Causes {
			if c.Type == policyv1.DisruptionBudgetCause {
				return fmt.Sprint(status.Status().Code, " ", c.Message)
			}
		}
	}
	return fmt.Sprint(err)
}

func TestAnEvictionAsksTheBudget(t *testing.T) {
	s := serve(t)
	none := policyv1.PodDisruptionBudgetSpec{}
	s.running("a", corev1.ConditionTrue)
	for _, c := range []struct {
		it     string
		status policyv1.PodDisruptionBudgetStatus
		want   string
	}{
		{"no one has looked at it yet", policyv1.PodDisruptionBudgetStatus{DisruptionsAllowed: 1}, "429 The disruption budget b is still being processed by the server."},
		{"nobody may go", policyv1.PodDisruptionBudgetStatus{ObservedGeneration: 1, DesiredHealthy: 2, CurrentHealthy: 2}, "429 The disruption budget b needs 2 healthy pods and has 2 currently"},
		{"it could not be worked out", policyv1.PodDisruptionBudgetStatus{ObservedGeneration: 1, Conditions: []metav1.Condition{{Type: policyv1.DisruptionAllowedCondition,
			Status: metav1.ConditionFalse, Reason: policyv1.SyncFailedReason, Message: "because", LastTransitionTime: metav1.Now()}}},
			"429 The disruption budget b does not allow evicting pods currently because it failed sync: because"},
	} {
		t.Run(c.it, func(t *testing.T) {
			s.budget(c.status, none)
			if got := cause(s.evict("a")); got != c.want {
				t.Errorf("%s\nwant %s", got, c.want)
			}
		})
	}
	t.Run("one may go, and is written down", func(t *testing.T) {
		s.budget(policyv1.PodDisruptionBudgetStatus{ObservedGeneration: 1, DisruptionsAllowed: 1, DesiredHealthy: 1, CurrentHealthy: 2}, none)
		s.running("b", corev1.ConditionTrue)
		if err := s.evict("a"); err != nil {
			t.Fatal(err)
		}
		p, _ := s.get("pods/a")
		conditions := p.(*corev1.Pod).Status.Conditions
		if last := conditions[len(conditions)-1]; p.GetDeletionTimestamp() == nil || last.Type != corev1.DisruptionTarget || last.Reason != "EvictionByEvictionAPI" {
			t.Errorf("evicted %s", text(p))
		}
		b, _ := s.get("poddisruptionbudgets/b")
		st := b.(*policyv1.PodDisruptionBudget).Status
		if _, ok := st.DisruptedPods["a"]; st.DisruptionsAllowed != 0 || !ok || st.Conditions[0].Reason != policyv1.InsufficientPodsReason {
			t.Errorf("budget %s", text(b))
		}
		if got := cause(s.evict("b")); got != "429 The disruption budget b does not allow evicting pods currently (InsufficientPods): " &&
			got != "429 The disruption budget b does not allow evicting pods currently" {
			t.Errorf("the next: %s", got)
		}
	})
	t.Run("a pod that is not ready may go if there are enough", func(t *testing.T) {
		s.budget(policyv1.PodDisruptionBudgetStatus{ObservedGeneration: 1, DesiredHealthy: 1, CurrentHealthy: 1}, none)
		s.running("sick", corev1.ConditionFalse)
		if err := s.evict("sick"); err != nil {
			t.Error(err)
		}
	})
	t.Run("and not if there are too few", func(t *testing.T) {
		s.budget(policyv1.PodDisruptionBudgetStatus{ObservedGeneration: 1, DesiredHealthy: 2, CurrentHealthy: 1}, none)
		s.running("sicker", corev1.ConditionFalse)
		if got := cause(s.evict("sicker")); got != "429 The disruption budget b needs 2 healthy pods and has 1 currently" {
			t.Errorf("%s", got)
		}
	})
	t.Run("a pod that has not started disrupts nothing", func(t *testing.T) {
		s.mustCreate("pods", `{"metadata":{"name":"new","labels":{"app":"web"}},"spec":{"containers":[{"name":"c","image":"i"}]}}`)
		if err := s.evict("new"); err != nil {
			t.Error(err)
		}
	})
	t.Run("a dry run takes nothing", func(t *testing.T) {
		s.budget(policyv1.PodDisruptionBudgetStatus{ObservedGeneration: 1, DisruptionsAllowed: 1, DesiredHealthy: 1, CurrentHealthy: 2}, none)
		if _, err := s.act("pods/b/eviction", `{"metadata":{"name":"b"},"deleteOptions":{"dryRun":["All"]}}`); err != nil {
			t.Error(err)
		}
		p, _ := s.get("pods/b")
		b, _ := s.get("poddisruptionbudgets/b")
		if p.GetDeletionTimestamp() != nil || b.(*policyv1.PodDisruptionBudget).Status.DisruptionsAllowed != 1 {
			t.Errorf("%s\n%s", text(p), text(b))
		}
	})
	t.Run("two budgets are one too many", func(t *testing.T) {
		s.mustCreate("poddisruptionbudgets", `{"metadata":{"name":"c"},"spec":{"selector":{}}}`)
		s.status(s.evict("b"), 500, "This pod has more than one PodDisruptionBudget")
	})
}

func TestOneDisruptionIsNotTakenTwice(t *testing.T) {
	s := serve(t)
	const n = 8
	for i := range n {
		s.running(fmt.Sprint("p", i), corev1.ConditionTrue)
	}
	s.budget(policyv1.PodDisruptionBudgetStatus{ObservedGeneration: 1, DisruptionsAllowed: 3, DesiredHealthy: n - 3, CurrentHealthy: n}, policyv1.PodDisruptionBudgetSpec{})
	var gone atomic.Int32
	var wait sync.WaitGroup
	for i := range n {
		wait.Go(func() {
			if s.evict(fmt.Sprint("p", i)) == nil {
				gone.Add(1)
			}
		})
	}
	wait.Wait()
	if gone.Load() != 3 {
		t.Errorf("%d pods went, 3 were allowed to", gone.Load())
	}
}

func TestAnEvictionMayBeOfTheVersionBefore(t *testing.T) {
	s := serve(t)
	s.running("a", corev1.ConditionTrue)
	if _, err := s.act("pods/a/eviction", `{"apiVersion":"policy/v1alpha1","kind":"Eviction","metadata":{"name":"a"}}`); !apierrors.IsBadRequest(err) {
		t.Errorf("a version that never was: %v", err)
	}
	if _, err := s.act("pods/a/eviction", `{"apiVersion":"policy/v1beta1","kind":"Eviction","metadata":{"name":"a"}}`); err != nil {
		t.Errorf("policy/v1beta1: %v", err)
	}
}
