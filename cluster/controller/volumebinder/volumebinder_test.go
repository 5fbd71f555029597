package volumebinder

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"sampan/cluster/client"
	"sampan/cluster/controller/controllertest"
	"sampan/cluster/kind"
	"sampan/cluster/kind/core"
	"sampan/cluster/kind/storage"
)

func volume(name, size string, change ...func(*corev1.PersistentVolume)) *corev1.PersistentVolume {
	pv := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PersistentVolumeSpec{
		Capacity:                      corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(size)},
		AccessModes:                   []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
		PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimRetain,
		PersistentVolumeSource:        corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/a"}},
	}}
	for _, f := range change {
		f(pv)
	}
	return pv
}

func claim(name, size string, change ...func(*corev1.PersistentVolumeClaim)) *corev1.PersistentVolumeClaim {
	pvc := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: name, UID: types.UID(name + "-uid")}, Spec: corev1.PersistentVolumeClaimSpec{
		AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
		Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(size)}},
	}}
	for _, f := range change {
		f(pvc)
	}
	return pvc
}

func of(claim, uid string) func(*corev1.PersistentVolume) {
	return func(pv *corev1.PersistentVolume) {
		pv.Spec.ClaimRef = &corev1.ObjectReference{Namespace: "a", Name: claim, UID: types.UID(uid)}
	}
}

func TestWhatAClaimGets(t *testing.T) {
	class := func(name string) func(*corev1.PersistentVolumeClaim) {
		return func(pvc *corev1.PersistentVolumeClaim) { pvc.Spec.StorageClassName = &name }
	}
	names := func(pv string) func(*corev1.PersistentVolumeClaim) {
		return func(pvc *corev1.PersistentVolumeClaim) { pvc.Spec.VolumeName = pv }
	}
	bound := func(pvc *corev1.PersistentVolumeClaim) {
		pvc.Annotations, pvc.Status.Phase = map[string]string{annBindCompleted: "yes"}, corev1.ClaimBound
	}
	later := storagev1.VolumeBindingWaitForFirstConsumer
	at := storagev1.VolumeBindingImmediate
	wait := &storagev1.StorageClass{Provisioner: "p", VolumeBindingMode: &later}
	made := &storagev1.StorageClass{Provisioner: "p", VolumeBindingMode: &at}
	many := func(pvc *corev1.PersistentVolumeClaim) {
		pvc.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteMany}
	}
	labelled := func(pvc *corev1.PersistentVolumeClaim) {
		pvc.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"x": "y"}}
	}
	sold := func(pv *corev1.PersistentVolume) { pv.Status.Phase = corev1.VolumeReleased }
	tagged := func(pv *corev1.PersistentVolume) { pv.Labels = map[string]string{"x": "y"} }
	classed := func(pv *corev1.PersistentVolume) { pv.Spec.StorageClassName = "s" }
	for _, tc := range []struct {
		it    string
		claim *corev1.PersistentVolumeClaim
		w     world
		bind  string
		phase corev1.PersistentVolumeClaimPhase
		note  string
	}{
		{it: "the smallest that is large enough", claim: claim("c", "2Gi"),
			w: world{volumes: []*corev1.PersistentVolume{volume("large", "9Gi"), volume("small", "1Gi"), volume("fits", "3Gi")}}, bind: "fits"},
		{it: "the one made for it, whatever its size", claim: claim("c", "2Gi"),
			w: world{volumes: []*corev1.PersistentVolume{volume("fits", "3Gi"), volume("mine", "9Gi", of("c", ""))}}, bind: "mine"},
		{it: "not one of somebody else, nor one that was used", claim: claim("c", "1Gi"),
			w: world{volumes: []*corev1.PersistentVolume{volume("a", "1Gi", of("d", "")), volume("b", "1Gi", sold)}}, phase: corev1.ClaimPending,
			note: "FailedBinding: no persistent volumes available for this claim and no storage class is set"},
		{it: "not one for another kind of use", claim: claim("c", "1Gi", many), w: world{volumes: []*corev1.PersistentVolume{volume("a", "1Gi")}}, phase: corev1.ClaimPending,
			note: "FailedBinding: no persistent volumes available for this claim and no storage class is set"},
		{it: "one with the labels it asks for", claim: claim("c", "1Gi", labelled),
			w: world{volumes: []*corev1.PersistentVolume{volume("a", "1Gi"), volume("b", "1Gi", tagged)}}, bind: "b"},
		{it: "one of its class", claim: claim("c", "1Gi", class("s")), w: world{class: made,
			volumes: []*corev1.PersistentVolume{volume("a", "1Gi"), volume("b", "1Gi", classed)}}, bind: "b"},
		{it: "nothing of a class that is not there", claim: claim("c", "1Gi", class("s")), phase: corev1.ClaimPending,
			note: `ProvisioningFailed: storageclass.storage.k8s.io "s" not found`},
		{it: "one that a driver will make", claim: claim("c", "1Gi", class("s")), w: world{class: made}, phase: corev1.ClaimPending,
			note: "ExternalProvisioning: Waiting for a volume to be created either by the external provisioner 'p' or manually by the system administrator. " +
				"If volume creation is delayed, please verify that the provisioner is running and correctly registered."},
		{it: "nothing before a pod wants it, if its class says so", claim: claim("c", "1Gi", class("s")), w: world{class: wait, volumes: []*corev1.PersistentVolume{volume("b", "1Gi", classed)}},
			phase: corev1.ClaimPending, note: "WaitForFirstConsumer: waiting for first consumer to be created before binding"},
		{it: "one when a pod wants it", claim: claim("c", "1Gi", class("s")), w: world{class: wait, wanted: true, volumes: []*corev1.PersistentVolume{volume("b", "1Gi", classed)}}, bind: "b"},
		{it: "the one it names", claim: claim("c", "1Gi", names("b")), w: world{volumes: []*corev1.PersistentVolume{volume("a", "1Gi"), volume("b", "1Gi")}}, bind: "b"},
		{it: "not the one it names if it is too small", claim: claim("c", "2Gi", names("b")), w: world{volumes: []*corev1.PersistentVolume{volume("b", "1Gi")}},
			phase: corev1.ClaimPending, note: `VolumeMismatch: Cannot bind to requested volume "b": requested PV is too small`},
		{it: "not the one it names if it is taken", claim: claim("c", "1Gi", names("b")), w: world{volumes: []*corev1.PersistentVolume{volume("b", "1Gi", of("d", "x"))}},
			phase: corev1.ClaimPending, note: `FailedBinding: volume "b" already bound to a different claim.`},
		{it: "the one it has", claim: claim("c", "1Gi", names("b"), bound), w: world{volumes: []*corev1.PersistentVolume{volume("b", "1Gi", of("c", "c-uid"))}}, bind: "b"},
		{it: "nothing for the one it had", claim: claim("c", "1Gi", names("b"), bound), phase: corev1.ClaimLost,
			note: "ClaimLost: Bound claim has lost its PersistentVolume. Data on the volume is lost!"},
		{it: "nothing if somebody else has the one it had", claim: claim("c", "1Gi", names("b"), bound), phase: corev1.ClaimLost,
			w:    world{volumes: []*corev1.PersistentVolume{volume("b", "1Gi", of("c", "other"))}},
			note: "ClaimMisbound: Two claims are bound to the same volume, this one is bound incorrectly"},
	} {
		d := decideClaim(tc.claim, &tc.w)
		bind, note := "", ""
		if d.bind != nil {
			bind = d.bind.Name
		}
		if d.note.reason != "" {
			note = d.note.String()
		}
		if bind != tc.bind || d.phase != tc.phase || note != tc.note {
			t.Errorf("%s: bind %q phase %q note %q; want %q, %q, %q", tc.it, bind, d.phase, note, tc.bind, tc.phase, tc.note)
		}
	}
}

func TestHowAVolumeIs(t *testing.T) {
	deletes := func(pv *corev1.PersistentVolume) {
		pv.Spec.PersistentVolumeReclaimPolicy = corev1.PersistentVolumeReclaimDelete
	}
	for _, tc := range []struct {
		it    string
		pv    *corev1.PersistentVolume
		claim *corev1.PersistentVolumeClaim
		want  corev1.PersistentVolumePhase
	}{
		{"free", volume("v", "1Gi"), nil, corev1.VolumeAvailable},
		{"meant for somebody", volume("v", "1Gi", of("c", "")), claim("c", "1Gi"), corev1.VolumeAvailable},
		{"taken", volume("v", "1Gi", of("c", "c-uid")), claim("c", "1Gi"), corev1.VolumeBound},
		{"left", volume("v", "1Gi", of("c", "c-uid")), nil, corev1.VolumeReleased},
		{"left by one whose name another has now", volume("v", "1Gi", of("c", "before")), claim("c", "1Gi"), corev1.VolumeReleased},
		{"left, and nobody can delete it", volume("v", "1Gi", of("c", "c-uid"), deletes), nil, corev1.VolumeFailed},
	} {
		if got := decideVolume(tc.pv, tc.claim).phase; got != tc.want {
			t.Errorf("%s: %s, want %s", tc.it, got, tc.want)
		}
	}
}

func TestAClaimIsBoundAndItsVolumeReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := controllertest.New(t, kind.NewTable(core.Kinds(), storage.Kinds()), claim("c", "1Gi"))
		w.Validate = false
		w.Start(New(Config{Client: w, Log: slog.New(slog.DiscardHandler)}))
		settle := func() {
			synctest.Wait()
			time.Sleep(time.Minute) // retries; no time passes outside
			synctest.Wait()
		}
		settle()
		w.Put(volume("v", "2Gi"))
		settle()
		pvc := controllertest.Get[*corev1.PersistentVolumeClaim](w, "a", "c")
		if has := pvc.Status.Capacity[corev1.ResourceStorage]; pvc.Spec.VolumeName != "v" || pvc.Status.Phase != corev1.ClaimBound || has.String() != "2Gi" ||
			pvc.Annotations[annBindCompleted] != "yes" || pvc.Annotations[annBoundByController] != "yes" {
			t.Errorf("claim %+v", pvc)
		}
		pv := controllertest.Get[*corev1.PersistentVolume](w, "", "v")
		if pv.Spec.ClaimRef == nil || pv.Spec.ClaimRef.UID != pvc.UID || pv.Status.Phase != corev1.VolumeBound {
			t.Errorf("volume %+v", pv)
		}
		w.Drop(client.KindOf[*corev1.PersistentVolumeClaim](w), "a", "c")
		settle()
		if pv = controllertest.Get[*corev1.PersistentVolume](w, "", "v"); pv.Status.Phase != corev1.VolumeReleased {
			t.Errorf("the claim is gone, and the volume is %v", pv.Status.Phase)
		}
	})
}
