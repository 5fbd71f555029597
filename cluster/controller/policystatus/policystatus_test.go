package policystatus_test

import (
	"log/slog"
	"testing"
	"testing/synctest"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/controller/controllertest"
	"sampan/cluster/controller/policystatus"
	"sampan/cluster/kind"
	"sampan/cluster/kind/admissionregistration"
)

func TestEachGenerationOfAPolicyIsChecked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		policy := func(generation int64, expression string) *admissionregistrationv1.ValidatingAdmissionPolicy {
			return &admissionregistrationv1.ValidatingAdmissionPolicy{ObjectMeta: metav1.ObjectMeta{Name: "p", Generation: generation},
				Spec: admissionregistrationv1.ValidatingAdmissionPolicySpec{Validations: []admissionregistrationv1.Validation{{Expression: expression}}}}
		}
		w := controllertest.New(t, kind.NewTable(admissionregistration.Kinds()), policy(1, "bad"))
		w.Validate = false
		var checked int
		w.Start(policystatus.New(policystatus.Config{Client: w, Log: slog.New(slog.DiscardHandler),
			Check: func(p *admissionregistrationv1.ValidatingAdmissionPolicy) []admissionregistrationv1.ExpressionWarning {
				checked++
				all := []admissionregistrationv1.ExpressionWarning{{FieldRef: "here", Warning: "bad"}}
				if p.Spec.Validations[0].Expression == "worse" {
					all = append(all, all...)
				}
				return all
			}}))
		status := func(generation int64, warnings, checks int) {
			t.Helper()
			synctest.Wait()
			s := controllertest.Get[*admissionregistrationv1.ValidatingAdmissionPolicy](w, "", "p").Status
			if s.ObservedGeneration != generation || s.TypeChecking == nil || len(s.TypeChecking.ExpressionWarnings) != warnings || checked != checks {
				t.Errorf("status %+v after %d checks, want generation %d, %d warnings, %d checks", s, checked, generation, warnings, checks)
			}
		}
		status(1, 1, 1)
		next := controllertest.Get[*admissionregistrationv1.ValidatingAdmissionPolicy](w, "", "p").DeepCopy()
		next.Labels = map[string]string{"a": "b"}
		w.Put(next)
		status(1, 1, 1)
		next = controllertest.Get[*admissionregistrationv1.ValidatingAdmissionPolicy](w, "", "p").DeepCopy()
		next.Generation, next.Spec.Validations[0].Expression = 2, "worse"
		w.Put(next)
		status(2, 2, 2)
	})
}
