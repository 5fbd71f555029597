package scheduler

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"sampan/cluster/client"
	"sampan/cluster/kind/volumespec"
)

// claimsOf are the names of the claims that p uses; own says which are its
// own, made for it (KEP-1698).
func claimsOf(p *corev1.Pod) (names []string, own []bool) {
	for i := range p.Spec.Volumes {
		switch v := &p.Spec.Volumes[i]; {
		case v.PersistentVolumeClaim != nil:
			names, own = append(names, v.PersistentVolumeClaim.ClaimName), append(own, false)
		case v.Ephemeral != nil:
			names, own = append(names, p.Name+"-"+v.Name), append(own, true)
		}
	}
	return names, own
}

// ReadVolumes reads what the claims of p say, nil if it has none.
func ReadVolumes(ctx context.Context, r client.Reader, p *corev1.Pod) (*Volumes, error) {
	names, own := claimsOf(p)
	if len(names) == 0 || r.Kinds().ByGVK(corev1.SchemeGroupVersion.WithKind("PersistentVolumeClaim")) == nil {
		return nil, nil
	}
	v := &Volumes{}
	unbound := false
	for i, name := range names {
		claim, err := client.Get[*corev1.PersistentVolumeClaim](ctx, r, p.Namespace, name)
		switch {
		case apierrors.IsNotFound(err) && own[i]:
			v.Missing = fmt.Sprintf("waiting for ephemeral volume controller to create the persistentvolumeclaim %q", name)
		case apierrors.IsNotFound(err):
			v.Missing = fmt.Sprintf("persistentvolumeclaim %q not found", name)
		case err != nil:
			return nil, err
		case claim.Status.Phase == corev1.ClaimLost:
			v.Missing = fmt.Sprintf("persistentvolumeclaim %q bound to non-existent persistentvolume %q", name, claim.Spec.VolumeName)
		case claim.DeletionTimestamp != nil:
			v.Missing = fmt.Sprintf("persistentvolumeclaim %q is being deleted", name)
		case own[i] && !metav1.IsControlledBy(claim, p):
			v.Missing = fmt.Sprintf("PVC %s/%s was not created for pod %s/%s (pod is not owner)", p.Namespace, name, p.Namespace, p.Name)
		}
		if v.Missing != "" {
			return v, nil
		}
		now, err := v.add(ctx, r, claim)
		if err != nil {
			return nil, err
		}
		unbound = unbound || now
	}
	if unbound {
		v.Missing = "pod has unbound immediate PersistentVolumeClaims"
	}
	return v, nil
}

// add notes what one claim says. unbound is true if it ought to have a volume
// by now and has none.
func (v *Volumes) add(ctx context.Context, r client.Reader, claim *corev1.PersistentVolumeClaim) (unbound bool, err error) {
	if slices.Contains(claim.Spec.AccessModes, corev1.ReadWriteOncePod) {
		v.Alone = append(v.Alone, claim.Namespace+"/"+claim.Name)
	}
	if claim.Spec.VolumeName != "" {
		if claim.Status.Phase != corev1.ClaimBound {
			return true, nil
		}
		pv, err := client.Get[*corev1.PersistentVolume](ctx, r, "", claim.Spec.VolumeName)
		if apierrors.IsNotFound(err) {
			v.Missing = fmt.Sprintf("persistentvolumeclaim %q bound to non-existent persistentvolume %q", claim.Name, claim.Spec.VolumeName)
			return false, nil
		}
		v.Bound = append(v.Bound, pv)
		return false, err
	}
	later := LaterClaim{Claim: claim}
	name := volumespec.ClaimClass(claim)
	if k := r.Kinds().ByGVK(storagev1.SchemeGroupVersion.WithKind("StorageClass")); k != nil && name != "" {
		obj, err := r.Get(ctx, k, "", name)
		if err != nil && !apierrors.IsNotFound(err) {
			return false, err
		}
		if err == nil {
			later.Class = obj.(*storagev1.StorageClass)
		}
	}
	if c := later.Class; c == nil || c.VolumeBindingMode == nil || *c.VolumeBindingMode != storagev1.VolumeBindingWaitForFirstConsumer {
		return true, nil
	}
	all, err := client.List[*corev1.PersistentVolume](ctx, r, client.Query{})
	for _, pv := range all {
		if volumespec.VolumeClass(pv) == name {
			later.Volumes = append(later.Volumes, pv)
		}
	}
	v.Later = append(v.Later, later)
	return false, err
}

// claim has the later claims of a pod get what was chosen for them: a volume
// is kept for a claim, or a claim says where its volume is to be made. The
// volume binder and the provisioner do the rest.
func (s *Scheduler) claim(ctx context.Context, all []choice, node string) error {
	for _, c := range all {
		var err error
		switch {
		case c.volume == nil && c.claim.Annotations[selectedNode] == node, c.volume != nil && c.volume.Spec.ClaimRef != nil:
			continue // it is said already
		case c.volume == nil:
			err = patch[*corev1.PersistentVolumeClaim](ctx, s.cfg.Client, c.claim, map[string]any{
				"metadata": map[string]any{"uid": c.claim.UID, "annotations": map[string]string{selectedNode: node}}})
		default:
			// With the revision that was looked at: of two pods only one gets it.
			err = patch[*corev1.PersistentVolume](ctx, s.cfg.Client, c.volume, map[string]any{
				"metadata": map[string]any{"uid": c.volume.UID, "resourceVersion": c.volume.ResourceVersion,
					"annotations": map[string]string{"pv.kubernetes.io/bound-by-controller": "yes"}},
				"spec": map[string]any{"claimRef": corev1.ObjectReference{APIVersion: "v1", Kind: "PersistentVolumeClaim",
					Namespace: c.claim.Namespace, Name: c.claim.Name, UID: c.claim.UID, ResourceVersion: c.claim.ResourceVersion}}})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func patch[T client.Typed](ctx context.Context, c client.Client, obj T, change map[string]any) error {
	data, err := json.Marshal(change)
	if err != nil {
		return err
	}
	_, err = c.Patch(ctx, client.KindOf[T](c), client.Patch{
		Namespace: obj.GetNamespace(), Name: obj.GetName(), Type: types.MergePatchType, Data: data})
	return err
}
