package volumebinder

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"sampan/cluster/kind/volumespec"
)

// The annotations by which upstream's controller remembers what it did, so
// that either can go on where the other stopped.
const (
	annBindCompleted     = "pv.kubernetes.io/bind-completed"
	annBoundByController = "pv.kubernetes.io/bound-by-controller"
	annProvisionedBy     = "pv.kubernetes.io/provisioned-by"
	annProvisioner       = "volume.kubernetes.io/storage-provisioner"
	annBetaProvisioner   = "volume.beta.kubernetes.io/storage-provisioner"
	annSelectedNode      = "volume.kubernetes.io/selected-node"
)

// note is something for an event.
type note struct{ kind, reason, message string }

func (n note) String() string { return n.reason + ": " + n.message }

// forClaim is what a claim needs. bind, status and note are independent;
// what is nil or empty is as it should be.
type forClaim struct {
	bind        *corev1.PersistentVolume // to bind to, shared
	provisioner string                   // to be written into the claim's annotations
	phase       corev1.PersistentVolumeClaimPhase
	note        note
}

// world is what there is, beside the claim.
type world struct {
	volumes []*corev1.PersistentVolume
	class   *storagev1.StorageClass // the claim's; nil if there is none
	wanted  bool                    // a pod that has a node names the claim
}

func (w *world) volume(name string) *corev1.PersistentVolume {
	for _, pv := range w.volumes {
		if pv.Name == name {
			return pv
		}
	}
	return nil
}

// decideClaim says what a claim needs. It is a pure function.
func decideClaim(pvc *corev1.PersistentVolumeClaim, w *world) forClaim {
	if _, done := pvc.Annotations[annBindCompleted]; done {
		return keep(pvc, w)
	}
	if pvc.DeletionTimestamp != nil {
		return forClaim{} // it gets nothing any more
	}
	if name := pvc.Spec.VolumeName; name != "" {
		return named(pvc, w.volume(name))
	}
	if w.class != nil && w.class.VolumeBindingMode != nil && *w.class.VolumeBindingMode == storagev1.VolumeBindingWaitForFirstConsumer &&
		pvc.Annotations[annSelectedNode] == "" && !w.wanted && volumespec.PreBound(pvc, w.volumes) == nil {
		return forClaim{phase: corev1.ClaimPending, note: note{corev1.EventTypeNormal, "WaitForFirstConsumer",
			"waiting for first consumer to be created before binding"}}
	}
	if pv := volumespec.Match(pvc, w.volumes, nil); pv != nil {
		return forClaim{bind: pv}
	}
	pending := forClaim{phase: corev1.ClaimPending}
	switch class := volumespec.ClaimClass(pvc); {
	case class == "":
		pending.note = note{corev1.EventTypeNormal, "FailedBinding", "no persistent volumes available for this claim and no storage class is set"}
	case w.class == nil:
		pending.note = note{corev1.EventTypeWarning, "ProvisioningFailed", fmt.Sprintf("storageclass.storage.k8s.io %q not found", class)}
	case w.class.Provisioner == "kubernetes.io/no-provisioner":
		pending.note = note{corev1.EventTypeWarning, "ProvisioningFailed", "no volume plugin matched name: kubernetes.io/no-provisioner"}
	default:
		pending.provisioner = w.class.Provisioner
		pending.note = note{corev1.EventTypeNormal, "ExternalProvisioning", fmt.Sprintf("Waiting for a volume to be created either by the external provisioner '%s' "+
			"or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered.",
			w.class.Provisioner)}
	}
	return pending
}

// keep looks after a claim that is bound.
func keep(pvc *corev1.PersistentVolumeClaim, w *world) forClaim {
	lost := func(reason, message string) forClaim {
		if pvc.Status.Phase == corev1.ClaimLost {
			return forClaim{}
		}
		return forClaim{phase: corev1.ClaimLost, note: note{corev1.EventTypeWarning, reason, message}}
	}
	if pvc.Spec.VolumeName == "" {
		return lost("ClaimLost", "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!")
	}
	pv := w.volume(pvc.Spec.VolumeName)
	switch {
	case pv == nil:
		return lost("ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!")
	case pv.Spec.ClaimRef == nil || pv.Spec.ClaimRef.UID == pvc.UID:
		return forClaim{bind: pv}
	}
	return lost("ClaimMisbound", "Two claims are bound to the same volume, this one is bound incorrectly")
}

// named looks after a claim whose user has named the volume.
func named(pvc *corev1.PersistentVolumeClaim, pv *corev1.PersistentVolume) forClaim {
	pending := forClaim{phase: corev1.ClaimPending}
	switch {
	case pv == nil: // it may come
	case pv.Spec.ClaimRef == nil:
		if why := volumespec.Unfit(pvc, pv); why != "" {
			pending.note = note{corev1.EventTypeWarning, "VolumeMismatch", fmt.Sprintf("Cannot bind to requested volume %q: %s", pv.Name, why)}
			return pending
		}
		return forClaim{bind: pv}
	case volumespec.RefersTo(pv, pvc):
		return forClaim{bind: pv}
	default:
		pending.note = note{corev1.EventTypeWarning, "FailedBinding", fmt.Sprintf("volume %q already bound to a different claim.", pv.Name)}
	}
	return pending
}

// forVolume is what a volume's status should say.
type forVolume struct {
	phase           corev1.PersistentVolumePhase
	reason, message string
	note            note
}

// decideVolume says what a volume's status should be. claim is the one that
// the volume refers to, nil if it is not there. It is a pure function.
func decideVolume(pv *corev1.PersistentVolume, claim *corev1.PersistentVolumeClaim) forVolume {
	r := pv.Spec.ClaimRef
	switch {
	case r == nil, r.UID == "":
		return forVolume{phase: corev1.VolumeAvailable} // at most meant for a claim
	case claim != nil && claim.UID == r.UID:
		if claim.Spec.VolumeName == pv.Name || claim.Spec.VolumeName == "" {
			return forVolume{phase: corev1.VolumeBound}
		}
	}
	// The claim is gone, or has another volume.
	switch pv.Spec.PersistentVolumeReclaimPolicy {
	case corev1.PersistentVolumeReclaimDelete:
		if pv.Annotations[annProvisionedBy] != "" {
			break // its provisioner deletes it
		}
		message := fmt.Sprintf("error getting deleter volume plugin for volume %q: no volume plugin matched", pv.Name)
		return forVolume{corev1.VolumeFailed, "", message, note{corev1.EventTypeWarning, "VolumeFailedDelete", message}}
	case corev1.PersistentVolumeReclaimRecycle:
		message := "No recycler plugin found for the volume!"
		return forVolume{corev1.VolumeFailed, "", message, note{corev1.EventTypeWarning, "VolumeFailedRecycle", message}}
	}
	return forVolume{phase: corev1.VolumeReleased}
}

// boundStatus is the status of a claim that has pv.
func boundStatus(pvc *corev1.PersistentVolumeClaim, pv *corev1.PersistentVolume) corev1.PersistentVolumeClaimStatus {
	s := *pvc.Status.DeepCopy()
	fresh := s.Phase != corev1.ClaimBound
	s.Phase = corev1.ClaimBound
	if !slices.Equal(s.AccessModes, pv.Spec.AccessModes) {
		s.AccessModes = slices.Clone(pv.Spec.AccessModes)
	}
	// Upstream's takes the volume's size only when it binds: later the driver
	// that has grown the file system says how large it is.
	if _, ok := s.Capacity[corev1.ResourceStorage]; fresh || !ok {
		if s.Capacity == nil {
			s.Capacity = corev1.ResourceList{}
		}
		s.Capacity[corev1.ResourceStorage] = pv.Spec.Capacity.Storage().DeepCopy()
	}
	if fresh && pv.Spec.VolumeAttributesClassName != nil {
		name := *pv.Spec.VolumeAttributesClassName
		s.CurrentVolumeAttributesClassName = &name
	}
	return s
}
