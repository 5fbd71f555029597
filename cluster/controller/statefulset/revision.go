package statefulset

import (
	"context"
	"hash/fnv"
	"maps"
	"slices"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/utils/ptr"

	"sampan/cluster/controller/history"
)

// hashLabel is on revisions. That of their pods has the revision's whole name.
const hashLabel = "controller.kubernetes.io/hash"

// past is a stateful set's revisions.
type past struct {
	all        []*appsv1.ControllerRevision // the first first
	current    *appsv1.ControllerRevision   // that all pods had before the update began
	update     *appsv1.ControllerRevision   // of the present template
	collisions int32                        // names that were taken
}

// found is which of the revisions keeps the present template, and the number
// that it has to have. update is nil if none does.
func found(all []*appsv1.ControllerRevision, patch []byte, same func(*appsv1.ControllerRevision) bool) (update *appsv1.ControllerRevision, number int64) {
	if len(all) == 0 {
		return nil, 1
	}
	latest := all[len(all)-1]
	for _, r := range slices.Backward(all) {
		if !history.Keeps(r, patch) {
			continue
		}
		if r == latest {
			return r, r.Revision
		}
		return r, latest.Revision + 1 // the way back makes it the latest
	}
	if same(latest) {
		return latest, latest.Revision
	}
	return nil, latest.Revision + 1
}

// superfluous are the revisions beyond the limit that neither the set nor a pod
// is of, the oldest first. s is the status as it was just written.
func superfluous(set *appsv1.StatefulSet, s *appsv1.StatefulSetStatus, all []*appsv1.ControllerRevision, pods []*corev1.Pod) []*appsv1.ControllerRevision {
	limit := int(ptr.Deref(set.Spec.RevisionHistoryLimit, 10))
	live := map[string]bool{s.CurrentRevision: true, s.UpdateRevision: true}
	for _, pod := range pods {
		live[revisionOf(pod)] = true
	}
	unused := slices.DeleteFunc(slices.Clone(all), func(r *appsv1.ControllerRevision) bool { return live[r.Name] })
	if limit < 0 || len(unused) <= limit {
		return nil
	}
	return unused[:len(unused)-limit]
}

// past reads the revisions, and sees to it that the present template has one,
// and that it is the latest. For a set that is being deleted update may be nil.
func (c *Controller) past(ctx context.Context, set *appsv1.StatefulSet, selector labels.Selector) (past, error) {
	p := past{collisions: ptr.Deref(set.Status.CollisionCount, 0)}
	patch, err := history.Patch(&set.Spec.Template)
	if err != nil {
		return p, err
	}
	all, err := c.revisions.Of(ctx, set, selector)
	if err != nil {
		return p, err
	}
	p.all = history.Sort(all)
	update, number := found(p.all, patch, func(r *appsv1.ControllerRevision) bool { return c.means(set, r, patch) })
	switch {
	case update != nil:
		p.update, err = history.Renumber(ctx, c.cfg.Client, update, number)
	case set.DeletionTimestamp == nil:
		p.update, err = c.record(ctx, set, patch, number, &p.collisions)
	}
	if err != nil {
		return p, err
	}
	p.current = p.update
	if i := slices.IndexFunc(p.all, func(r *appsv1.ControllerRevision) bool { return r.Name == set.Status.CurrentRevision }); i >= 0 {
		p.current = p.all[i]
	}
	return p, nil
}

// means is true if r, with what is filled in nowadays, keeps what patch says:
// a new default is no new template.
func (c *Controller) means(set *appsv1.StatefulSet, r *appsv1.ControllerRevision, patch []byte) bool {
	template, err := history.Template(r)
	if err != nil {
		return false
	}
	then := set.DeepCopy()
	then.Spec.Template = *template
	c.owner.Default(then)
	old, err := history.Patch(&then.Spec.Template)
	return err == nil && string(old) == string(patch)
}

// record makes the revision of the present template.
func (c *Controller) record(ctx context.Context, set *appsv1.StatefulSet, patch []byte, number int64, collisions *int32) (*appsv1.ControllerRevision, error) {
	for {
		hash := patchHash(patch, *collisions)
		r := &appsv1.ControllerRevision{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: set.Namespace, Name: set.Name[:min(len(set.Name), 223)] + "-" + hash,
				Labels: maps.Clone(set.Spec.Template.Labels), Annotations: maps.Clone(set.Annotations),
				OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(set, c.owner.GVK)},
			},
			Data:     runtime.RawExtension{Raw: patch},
			Revision: number,
		}
		if r.Labels == nil {
			r.Labels = map[string]string{}
		}
		r.Labels[hashLabel] = hash
		name := r.Name
		made, err := history.Record(ctx, c.cfg.Client, r)
		if !apierrors.IsAlreadyExists(err) {
			return made, err
		}
		c.cfg.Log.Info("revision's name is taken, choosing another", "key", set.Namespace+"/"+set.Name, "taken", name)
		*collisions++
	}
}

// patchHash names a revision as upstream does (controller_history.go,
// HashControllerRevision), so that those of an existing cluster keep theirs.
func patchHash(patch []byte, collisions int32) string {
	h := fnv.New32()
	h.Write(patch)
	h.Write([]byte(strconv.FormatInt(int64(collisions), 10)))
	return rand.SafeEncodeString(strconv.FormatUint(uint64(h.Sum32()), 10))
}
