package quota

import (
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"sampan/cluster/client/clienttest"
	"sampan/cluster/controller/controllertest"
	"sampan/cluster/kind"
	"sampan/cluster/kind/coordination"
	"sampan/cluster/kind/core"
	"sampan/cluster/kind/quota"
)

func quotaOf(name string, hard map[corev1.ResourceName]string) *corev1.ResourceQuota {
	q := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}}
	q.Spec.Hard = corev1.ResourceList{}
	for name, text := range hard {
		q.Spec.Hard[name] = resource.MustParse(text)
	}
	return q
}

func pod(name string, with ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(name)}}
	p.Spec.Containers = []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{
		Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("500m")}}}}
	for _, f := range with {
		f(p)
	}
	return p
}

func ended(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }

func leaving(since time.Time, grace int64) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Finalizers = []string{"example.com/stay"}
		p.DeletionTimestamp = &metav1.Time{Time: since}
		p.DeletionGracePeriodSeconds = &grace
	}
}

func TestStatusFollowsWhatIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := controllertest.New(t, kind.NewTable(core.Kinds()), pod("a"),
			quotaOf("q", map[corev1.ResourceName]string{"pods": "3", "cpu": "2", "count/pods": "9", "secrets": "1", "count/widgets.example.com": "1"}))
		w.Validate = false
		w.Start(New(Config{Client: w, Log: slog.New(slog.DiscardHandler)}))
		check := func(what, want string) {
			t.Helper()
			synctest.Wait()
			q := controllertest.Get[*corev1.ResourceQuota](w, "ns", "q")
			if got := quota.Format(q.Status.Used, quota.Names(q.Status.Used)); got != want {
				t.Errorf("%s: used %s\nwant %s", what, got, want)
			}
			if len(q.Status.Hard) != len(q.Spec.Hard) {
				t.Errorf("%s: the status knows limits %v, want %v", what, q.Status.Hard, q.Spec.Hard)
			}
		}
		check("at first", "count/pods=1,cpu=500m,pods=1,secrets=0")
		w.Put(pod("b"))
		check("one more", "count/pods=2,cpu=1,pods=2,secrets=0")
		w.Put(pod("b", ended))
		check("one has ended", "count/pods=2,cpu=500m,pods=1,secrets=0")
		w.Put(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "s"}})
		check("another kind", "count/pods=2,cpu=500m,pods=1,secrets=1")
		w.Put(pod("a", leaving(time.Now(), 30)))
		check("one is leaving", "count/pods=2,cpu=500m,pods=1,secrets=1")
		time.Sleep(31 * time.Second)
		check("one is overdue", "count/pods=2,cpu=0,pods=0,secrets=1")
		w.Drop(core.Pod(), "ns", "a")
		check("and gone", "count/pods=1,cpu=0,pods=0,secrets=1")
		w.Put(quotaOf("q", map[corev1.ResourceName]string{"configmaps": "3"}))
		check("the quota has changed", "configmaps=0")
		w.Put(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "c"}})
		check("what it counts is followed now", "configmaps=1")
		before := len(w.Actions())
		w.Put(pod("c"))
		w.Put(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "other", Name: "c"}})
		synctest.Wait()
		if after := w.Actions(); slices.ContainsFunc(after[before:], func(a clienttest.Action) bool { return a.Verb == "update" }) {
			t.Errorf("writes for what does not count: %v", after[before:])
		}
		w.Put(quotaOf("q", map[corev1.ResourceName]string{"count/leases.coordination.k8s.io": "3"}))
		check("a kind that is not served", "")
		w.Kinds().Add(coordination.Lease())
		check("a kind that is served now", "count/leases.coordination.k8s.io=0")
		w.Put(&coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "l"}})
		check("and counted", "count/leases.coordination.k8s.io=1")
	})
}
