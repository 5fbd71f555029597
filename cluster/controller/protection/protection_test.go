package protection

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/client"
	"sampan/cluster/client/clienttest"
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

// run starts a controller for the length of a test.
func run(t *testing.T, c interface{ Run(context.Context) error }) {
	ctx, stop := context.WithCancel(t.Context())
	over := make(chan error, 1)
	go func() { over <- c.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-over; err != nil {
			t.Error(err)
		}
	})
	settle()
}

func settle() {
	synctest.Wait()
	time.Sleep(time.Minute) // retries; no time passes outside
	synctest.Wait()
}

func there[T client.Typed](t *testing.T, f *clienttest.Fake, namespace, name string) bool {
	_, err := client.Get[T](t.Context(), f, namespace, name)
	return err == nil
}

func fake(t *testing.T, objects ...kind.Object) (*clienttest.Fake, Config) {
	f := clienttest.New(t, kind.NewTable(core.Kinds(), storage.Kinds()), objects...)
	return f, Config{Client: f, Log: slog.New(slog.DiscardHandler)}
}

func TestAClaimGoesWithItsLastPod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const finalizer = "kubernetes.io/pvc-protection"
		f, cfg := fake(t, &corev1.PersistentVolumeClaim{ObjectMeta: leaving("a", "used", finalizer)}, &corev1.PersistentVolumeClaim{ObjectMeta: leaving("a", "free", finalizer)},
			&corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "old"}}, pod("p", "n", "used", corev1.PodRunning))
		run(t, Claims(cfg))
		if there[*corev1.PersistentVolumeClaim](t, f, "a", "free") {
			t.Error("a claim that nobody uses stays")
		}
		if !there[*corev1.PersistentVolumeClaim](t, f, "a", "used") {
			t.Error("a claim went away under a pod")
		}
		if old, err := client.Get[*corev1.PersistentVolumeClaim](t.Context(), f, "a", "old"); err != nil || len(old.Finalizers) != 1 {
			t.Errorf("a claim without the finalizer does not get it: %v %v", old, err)
		}
		f.Drop(client.KindOf[*corev1.Pod](f), "a", "p")
		settle()
		if there[*corev1.PersistentVolumeClaim](t, f, "a", "used") {
			t.Error("the pod is gone, and the claim stays")
		}
	})
}

func TestAVolumeGoesWhenItIsFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pv := &corev1.PersistentVolume{ObjectMeta: leaving("", "v", "kubernetes.io/pv-protection"), Status: corev1.PersistentVolumeStatus{Phase: corev1.VolumeBound}}
		f, cfg := fake(t, pv.DeepCopy())
		run(t, Volumes(cfg))
		if !there[*corev1.PersistentVolume](t, f, "", "v") {
			t.Fatal("a bound volume went away")
		}
		pv.Status.Phase = corev1.VolumeReleased
		f.Put(pv)
		settle()
		if there[*corev1.PersistentVolume](t, f, "", "v") {
			t.Error("a free volume stays")
		}
	})
}

func TestAClassGoesWithItsLastClaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		name := "c"
		f, cfg := fake(t, &storagev1.VolumeAttributesClass{ObjectMeta: leaving("", name, "kubernetes.io/vac-protection")},
			&corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "p"}, Spec: corev1.PersistentVolumeClaimSpec{VolumeAttributesClassName: &name}})
		run(t, Attributes(cfg))
		if !there[*storagev1.VolumeAttributesClass](t, f, "", name) {
			t.Fatal("a class that a claim names went away")
		}
		f.Drop(client.KindOf[*corev1.PersistentVolumeClaim](f), "a", "p")
		settle()
		if there[*storagev1.VolumeAttributesClass](t, f, "", name) {
			t.Error("a class that nobody names stays")
		}
	})
}
