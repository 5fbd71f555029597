package daemonset

import (
	"context"
	"encoding/json"
	"maps"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"sampan/cluster/client"
	"sampan/cluster/controller/history"
	"sampan/cluster/controller/pods"
)

// past is a daemon set's revisions.
type past struct {
	current *appsv1.ControllerRevision // of the present template; nil: none yet
	doubles []*appsv1.ControllerRevision
	old     []*appsv1.ControllerRevision
	number  int64 // that the present template's revision has to have
}

func (p past) hash() string { return p.current.Labels[appsv1.DefaultDaemonSetUniqueLabelKey] }

// sort sorts a daemon set's revisions by what they keep. patch is what the one
// of the present template does.
func sort(all []*appsv1.ControllerRevision, patch []byte) (p past) {
	for _, r := range history.Sort(all) {
		if !history.Keeps(r, patch) {
			p.old = append(p.old, r)
			p.number = max(p.number, r.Revision)
			continue
		}
		if p.current != nil {
			p.doubles = append(p.doubles, p.current)
		}
		p.current = r
	}
	p.number++
	return p
}

// superfluous are the revisions beyond the limit, without those that pods are
// of, the oldest first.
func superfluous(ds *appsv1.DaemonSet, old []*appsv1.ControllerRevision, all []*corev1.Pod) (remove []*appsv1.ControllerRevision) {
	n := len(old) - int(ptr.Deref(ds.Spec.RevisionHistoryLimit, 10))
	live := map[string]bool{}
	for _, p := range all {
		live[p.Labels[appsv1.DefaultDaemonSetUniqueLabelKey]] = true
	}
	for _, r := range old {
		if n > len(remove) && !live[r.Labels[appsv1.DefaultDaemonSetUniqueLabelKey]] {
			remove = append(remove, r)
		}
	}
	return remove
}

// past reads the revisions, and sees to it that the present template has one,
// and that it is the latest.
func (c *Controller) past(ctx context.Context, ds *appsv1.DaemonSet, selector labels.Selector) (past, error) {
	patch, err := history.Patch(&ds.Spec.Template)
	if err != nil {
		return past{}, err
	}
	all, err := c.revisions.Of(ctx, ds, selector)
	if err != nil {
		return past{}, err
	}
	for i, r := range all {
		if _, ok := r.Labels[appsv1.DefaultDaemonSetUniqueLabelKey]; ok {
			continue
		}
		r = r.DeepCopy()
		r.Labels = with(r.Labels, appsv1.DefaultDaemonSetUniqueLabelKey, r.Name)
		if all[i], err = client.Update(ctx, c.cfg.Client, r); err != nil {
			return past{}, err
		}
	}
	p := sort(all, patch)
	if p.current == nil {
		p.current, err = c.record(ctx, ds, patch, p.number)
		return p, err
	}
	if len(p.doubles) > 0 {
		if err := c.settle(ctx, ds, selector, p); err != nil {
			return p, err
		}
	}
	if p.current.Revision < p.number {
		p.current, err = history.Renumber(ctx, c.cfg.Client, p.current, p.number)
	}
	return p, err
}

// record makes the revision of the present template. A name that is taken by
// another template is a collision of hashes, which the next try avoids.
func (c *Controller) record(ctx context.Context, ds *appsv1.DaemonSet, patch []byte, number int64) (*appsv1.ControllerRevision, error) {
	hash := pods.TemplateHash(&ds.Spec.Template, ds.Status.CollisionCount)
	name := ds.Name + "-" + hash
	made, err := history.Record(ctx, c.cfg.Client, &appsv1.ControllerRevision{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: ds.Namespace, Name: name,
			Labels:          with(ds.Spec.Template.Labels, appsv1.DefaultDaemonSetUniqueLabelKey, hash),
			Annotations:     maps.Clone(ds.Annotations),
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(ds, c.owner.GVK)},
		},
		Data:     runtime.RawExtension{Raw: patch},
		Revision: number,
	})
	if !apierrors.IsAlreadyExists(err) {
		return made, err
	}
	next := ds.DeepCopy()
	next.Status.CollisionCount = new(ptr.Deref(ds.Status.CollisionCount, 0) + 1)
	if _, updateErr := client.UpdateStatus(ctx, c.cfg.Client, next); updateErr != nil {
		return nil, updateErr
	}
	c.cfg.Log.Info("revision's name is taken, choosing another", "key", ds.Namespace+"/"+ds.Name, "taken", name)
	return nil, err
}

// settle removes what keeps the present template a second time. Pods of it are
// of the one that stays from now on.
func (c *Controller) settle(ctx context.Context, ds *appsv1.DaemonSet, selector labels.Selector, p past) error {
	owned, err := c.pods.Of(ctx, ds, selector)
	if err != nil {
		return err
	}
	data, err := json.Marshal(map[string]any{"metadata": map[string]any{"labels": map[string]string{
		appsv1.DefaultDaemonSetUniqueLabelKey: p.hash()}}})
	if err != nil {
		return err
	}
	doubled := map[string]bool{}
	for _, r := range p.doubles {
		doubled[r.Labels[appsv1.DefaultDaemonSetUniqueLabelKey]] = true
	}
	for _, pod := range owned {
		if !doubled[pod.Labels[appsv1.DefaultDaemonSetUniqueLabelKey]] {
			continue
		}
		_, err := c.cfg.Client.Patch(ctx, client.KindOf[*corev1.Pod](c.cfg.Client), client.Patch{
			Namespace: pod.Namespace, Name: pod.Name, Type: types.MergePatchType, Data: data})
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	return history.Remove(ctx, c.cfg.Client, p.doubles)
}

// forget removes revisions beyond the limit.
func (c *Controller) forget(ctx context.Context, v *view, p past) error {
	return history.Remove(ctx, c.cfg.Client, superfluous(v.ds, p.old, v.all))
}

// with is m with one more entry; m itself may be shared.
func with(m map[string]string, key, value string) map[string]string {
	m = maps.Clone(m)
	if m == nil {
		m = map[string]string{}
	}
	m[key] = value
	return m
}
