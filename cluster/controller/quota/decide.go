package quota

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"

	"sampan/cluster/kind"
	"sampan/cluster/kind/quota"
)

// decide is q's status, counted from the objects of its namespace. again is
// when time alone will change it, 0 for never.
//
// A name that nothing is counted by has no entry in used, as upstream.
func decide(q *corev1.ResourceQuota, table *kind.Table, stored map[*kind.Kind][]kind.Object, now time.Time) (s corev1.ResourceQuotaStatus, again time.Duration) {
	s.Hard, s.Used = q.Spec.Hard.DeepCopy(), corev1.ResourceList{}
	for name, hard := range q.Spec.Hard {
		if _, ok := quota.Counted(table, name); ok {
			s.Used[name] = resource.Quantity{Format: hard.Format}
		}
	}
	for k, all := range stored {
		names := quota.Concerned(k, q.Spec.Hard)
		for _, obj := range all {
			if !quota.Matches(q, obj) {
				continue
			}
			quota.Add(s.Used, quota.Usage(k, obj, now), names)
			if p, ok := obj.(*corev1.Pod); ok {
				if at, leaving := quota.Overdue(p); leaving && !now.After(at) {
					if left := at.Sub(now) + time.Millisecond; again == 0 || left < again {
						again = left
					}
				}
			}
		}
	}
	return s, again
}

// counts says whether a change of an object may change what it counts for.
func counts(old, now kind.Object) bool {
	switch now := now.(type) {
	case *corev1.Pod:
		old := old.(*corev1.Pod)
		return old.Status.Phase != now.Status.Phase || !old.DeletionTimestamp.Equal(now.DeletionTimestamp) ||
			old.Generation != now.Generation ||
			!equality.Semantic.DeepEqual(amounts(old), amounts(now))
	case *corev1.Service:
		return !equality.Semantic.DeepEqual(old.(*corev1.Service).Spec, now.Spec)
	case *corev1.PersistentVolumeClaim:
		old := old.(*corev1.PersistentVolumeClaim)
		return !equality.Semantic.DeepEqual(old.Spec, now.Spec) || !equality.Semantic.DeepEqual(old.Status, now.Status)
	}
	return false
}

// amounts are what p's status says that its containers have.
func amounts(p *corev1.Pod) (all []any) {
	for _, list := range [][]corev1.ContainerStatus{p.Status.InitContainerStatuses, p.Status.ContainerStatuses} {
		for _, c := range list {
			all = append(all, c.Name, c.Resources, c.AllocatedResources)
		}
	}
	return all
}
