package ttlafterfinished

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/controller/controllertest"
	"sampan/cluster/kind"
	"sampan/cluster/kind/batch"
	"sampan/cluster/kind/core"
)

func TestAFinishedJobLivesAsLongAsItMay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		job := func(name string, ttl *int32, done bool) *batchv1.Job {
			j := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: batchv1.JobSpec{TTLSecondsAfterFinished: ttl}}
			if done {
				j.Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobFailed, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()}}
			}
			return j
		}
		w := controllertest.New(t, kind.NewTable(core.Kinds(), batch.Kinds()), job("goes", new(int32(60)), true), job("runs", new(int32(0)), false), job("stays", nil, true))
		w.Validate = false
		w.Start(New(Config{Client: w, Log: slog.New(slog.DiscardHandler)}))
		leaving := func() (names []string) {
			for _, j := range controllertest.All[*batchv1.Job](w) {
				if j.DeletionTimestamp != nil && j.Finalizers[0] == metav1.FinalizerDeleteDependents {
					names = append(names, j.Name)
				}
			}
			return names
		}
		time.Sleep(59 * time.Second)
		synctest.Wait()
		if got := leaving(); len(got) > 0 {
			t.Errorf("before the time: %v", got)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if got := leaving(); len(got) != 1 || got[0] != "goes" {
			t.Errorf("after the time: %v", got)
		}
	})
}
