package protection

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/client"
	"sampan/cluster/controller/controllertest"
	"sampan/cluster/kind"
	"sampan/cluster/kind/core"
	"sampan/cluster/kind/storage"
)

// leaving is the metadata of an object that is being deleted.
func leaving(namespace, name, finalizer string) metav1.ObjectMeta {
	now := metav1.Now()
	return metav1.ObjectMeta{Namespace: namespace, Name: name, UID: "u", DeletionTimestamp: &now, Finalizers: []string{finalizer}}
}

func pod(name, node, claim string, phase corev1.PodPhase) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: name}, Status: corev1.PodStatus{Phase: phase},
		Spec: corev1.PodSpec{NodeName: node, Volumes: []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim}}}}}}
}

func TestWhoUsesAClaim(t *testing.T) {
	pvc := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "c"}}
	other := pod("p", "n", "c", corev1.PodRunning)
	other.Namespace = "b"
	own := pod("p", "n", "x", corev1.PodRunning)
	own.UID = "p-uid"
	own.Spec.Volumes[0].VolumeSource = corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{}}
	yes := true
	made := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "p-v",
		OwnerReferences: []metav1.OwnerReference{{UID: "p-uid", Controller: &yes}}}}
	for _, tc := range []struct {
		it   string
		pod  *corev1.Pod
		pvc  *corev1.PersistentVolumeClaim
		want bool
	}{
		{"a pod on a node", pod("p", "n", "c", corev1.PodRunning), pvc, true},
		{"one that has ended: its volumes may still be mounted", pod("p", "n", "c", corev1.PodSucceeded), pvc, true},
		{"not one without a node", pod("p", "", "c", corev1.PodPending), pvc, false},
		{"not one with another claim", pod("p", "n", "d", corev1.PodRunning), pvc, false},
		{"not one in another namespace", other, pvc, false},
		{"the pod for which it was made", own, made, true},
	} {
		if got := podUses(tc.pod, tc.pvc); got != tc.want {
			t.Errorf("%s: %v", tc.it, got)
		}
	}
}

func settle() {
	synctest.Wait()
	time.Sleep(time.Minute) // retries; no time passes outside
	synctest.Wait()
}

func there[T client.Typed](w controllertest.World, namespace, name string) bool {
	_, err := client.Get[T](w.Context(), w, namespace, name)
	return err == nil
}

// run starts a controller on a world of objects.
func run[T client.Typed](t *testing.T, start func(Config) *Controller[T], objects ...kind.Object) controllertest.World {
	w := controllertest.New(t, kind.NewTable(core.Kinds(), storage.Kinds()), objects...)
	w.Validate = false
	w.Start(start(Config{Client: w, Log: slog.New(slog.DiscardHandler)}))
	settle()
	return w
}

func TestAClaimGoesWithItsLastPod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const finalizer = "kubernetes.io/pvc-protection"
		w := run(t, Claims, &corev1.PersistentVolumeClaim{ObjectMeta: leaving("a", "used", finalizer)}, &corev1.PersistentVolumeClaim{ObjectMeta: leaving("a", "free", finalizer)},
			&corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "old"}}, pod("p", "n", "used", corev1.PodRunning))
		if there[*corev1.PersistentVolumeClaim](w, "a", "free") {
			t.Error("a claim that nobody uses stays")
		}
		if !there[*corev1.PersistentVolumeClaim](w, "a", "used") {
			t.Error("a claim went away under a pod")
		}
		if old, err := client.Get[*corev1.PersistentVolumeClaim](t.Context(), w, "a", "old"); err != nil || len(old.Finalizers) != 1 {
			t.Errorf("a claim without the finalizer does not get it: %v %v", old, err)
		}
		w.Drop(client.KindOf[*corev1.Pod](w), "a", "p")
		settle()
		if there[*corev1.PersistentVolumeClaim](w, "a", "used") {
			t.Error("the pod is gone, and the claim stays")
		}
	})
}

func TestAVolumeGoesWhenItIsFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pv := &corev1.PersistentVolume{ObjectMeta: leaving("", "v", "kubernetes.io/pv-protection"), Status: corev1.PersistentVolumeStatus{Phase: corev1.VolumeBound}}
		w := run(t, Volumes, pv.DeepCopy())
		if !there[*corev1.PersistentVolume](w, "", "v") {
			t.Fatal("a bound volume went away")
		}
		pv.Status.Phase = corev1.VolumeReleased
		w.Put(pv)
		settle()
		if there[*corev1.PersistentVolume](w, "", "v") {
			t.Error("a free volume stays")
		}
	})
}

func TestAClassGoesWithItsLastClaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		name := "c"
		w := run(t, Attributes, &storagev1.VolumeAttributesClass{ObjectMeta: leaving("", name, "kubernetes.io/vac-protection")},
			&corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "p"}, Spec: corev1.PersistentVolumeClaimSpec{VolumeAttributesClassName: &name}})
		if !there[*storagev1.VolumeAttributesClass](w, "", name) {
			t.Fatal("a class that a claim names went away")
		}
		w.Drop(client.KindOf[*corev1.PersistentVolumeClaim](w), "a", "p")
		settle()
		if there[*storagev1.VolumeAttributesClass](w, "", name) {
			t.Error("a class that nobody names stays")
		}
	})
}
