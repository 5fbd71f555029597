package admission

import (
	"context"
	"errors"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/client"
)

// InUse puts a finalizer on what must not go while it is used: volumes,
// claims and classes of attributes. A controller takes it off again:
// upstream's StorageObjectInUseProtection.
type InUse struct{}

// Mutate implements Mutator.
func (InUse) Mutate(_ context.Context, a *Attempt) error {
	if a.Operation != Create || a.Request.Subresource != "" {
		return nil
	}
	finalizer := ""
	switch a.Object.(type) {
	case *corev1.PersistentVolume:
		finalizer = "kubernetes.io/pv-protection"
	case *corev1.PersistentVolumeClaim:
		finalizer = "kubernetes.io/pvc-protection"
	case *storagev1.VolumeAttributesClass:
		finalizer = "kubernetes.io/vac-protection"
	default:
		return nil
	}
	if has := a.Object.GetFinalizers(); !slices.Contains(has, finalizer) {
		a.Object.SetFinalizers(append(slices.Clip(has), finalizer))
	}
	return nil
}

// ChangeTimes says since when something is so, where the writer of the change
// does not: the phase of a volume, the effect of a device's taint. Upstream
// does it as it prepares these kinds; kinds here know no clock.
type ChangeTimes struct{}

// Mutate implements Mutator.
func (ChangeTimes) Mutate(_ context.Context, a *Attempt) error {
	if a.Operation != Update {
		return nil
	}
	now := metav1.NewTime(time.Now().Truncate(time.Second))
	switch obj := a.Object.(type) {
	case *corev1.PersistentVolume:
		was := a.Old.(*corev1.PersistentVolume).Status
		if s := &obj.Status; a.Request.Subresource == "status" && s.Phase != was.Phase &&
			(s.LastPhaseTransitionTime == nil || s.LastPhaseTransitionTime.Equal(was.LastPhaseTransitionTime)) {
			s.LastPhaseTransitionTime = &now
		}
	case *resourcev1.DeviceTaintRule:
		was := a.Old.(*resourcev1.DeviceTaintRule).Spec.Taint
		if t := &obj.Spec.Taint; a.Request.Subresource == "" && t.Effect != was.Effect && (t.TimeAdded == nil || t.TimeAdded.Equal(was.TimeAdded)) {
			t.TimeAdded = &now
		}
	}
	return nil
}

// ClaimResize lets a claim grow only where its class allows it: upstream's
// PersistentVolumeClaimResize.
type ClaimResize struct{ Reader client.Reader }

// Review implements Reviewer.
func (r ClaimResize) Review(ctx context.Context, a *Attempt) error {
	pvc, ok := a.Object.(*corev1.PersistentVolumeClaim)
	if !ok || a.Operation != Update || a.Request.Subresource != "" {
		return nil
	}
	old := a.Old.(*corev1.PersistentVolumeClaim)
	now, was := pvc.Spec.Resources.Requests[corev1.ResourceStorage], old.Spec.Resources.Requests[corev1.ResourceStorage]
	if now.Cmp(was) <= 0 {
		return nil
	}
	if old.Status.Phase != corev1.ClaimBound {
		return forbidden(a, errors.New("Only bound persistent volume claims can be expanded"))
	}
	if name := classOf(pvc); name != "" && name == classOf(old) {
		class, err := client.Get[*storagev1.StorageClass](ctx, r.Reader, "", name)
		if err == nil && class.AllowVolumeExpansion != nil && *class.AllowVolumeExpansion {
			return nil
		}
	}
	return forbidden(a, errors.New("only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize"))
}

func classOf(pvc *corev1.PersistentVolumeClaim) string {
	if class, ok := pvc.Annotations[corev1.BetaStorageClassAnnotation]; ok {
		return class
	}
	if pvc.Spec.StorageClassName != nil {
		return *pvc.Spec.StorageClassName
	}
	return ""
}

// forbidden refuses a write with a reason, as upstream's plugins do.
func forbidden(a *Attempt, err error) error {
	name := a.Request.Name
	if a.Object != nil && a.Object.GetName() != "" {
		name = a.Object.GetName()
	}
	return apierrors.NewForbidden(a.Request.Kind.GroupResource(), name, err)
}
