package admission

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	nodev1 "k8s.io/api/node/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/client/clienttest"
	"sampan/cluster/kind"
	"sampan/cluster/kind/core"
	"sampan/cluster/kind/networking"
	"sampan/cluster/kind/node"
	"sampan/cluster/kind/storage"
	"sampan/cluster/request"
)

// create is the attempt to create obj.
func create(k *kind.Kind, obj kind.Object) *Attempt {
	return &Attempt{Request: request.Request{Kind: k, GVK: k.GVK}, Operation: Create, Object: obj}
}

func TestTheNewestDefaultClassIsTaken(t *testing.T) {
	class := func(name string, age time.Duration, annotation string) *storagev1.StorageClass {
		return &storagev1.StorageClass{Provisioner: "p", ObjectMeta: metav1.ObjectMeta{Name: name,
			CreationTimestamp: metav1.NewTime(time.Unix(1e9, 0).Add(-age)), Annotations: map[string]string{annotation: "true"}}}
	}
	reader := clienttest.New(t, kind.NewTable(core.Kinds(), storage.Kinds(), networking.Kinds()),
		class("old", time.Hour, defaultStorageClass), class("b", 0, defaultStorageClass), class("a", 0, betaDefaultStorageClass), class("no", 0, "x"))
	d := NewChain(DefaultStorageClass{reader}, DefaultIngressClass{reader})
	given, none := "given", ""
	for want, pvc := range map[string]*corev1.PersistentVolumeClaim{
		"a":     {},
		"given": {Spec: corev1.PersistentVolumeClaimSpec{StorageClassName: &given}},
		"":      {Spec: corev1.PersistentVolumeClaimSpec{StorageClassName: &none}},
	} {
		if err := d.Mutate(t.Context(), create(core.PersistentVolumeClaim(), pvc)); err != nil || *pvc.Spec.StorageClassName != want {
			t.Errorf("class %q, %v; want %q", *pvc.Spec.StorageClassName, err, want)
		}
	}
	i := &networkingv1.Ingress{}
	if err := d.Mutate(t.Context(), create(networking.Ingress(), i)); err != nil || i.Spec.IngressClassName != nil {
		t.Errorf("an ingress where no class is the default: %v, %v", i.Spec.IngressClassName, err)
	}
}

func TestWhatIsUsedIsProtected(t *testing.T) {
	pv := &corev1.PersistentVolume{}
	a := create(core.PersistentVolume(), pv)
	for range 2 {
		if err := (InUse{}).Mutate(t.Context(), a); err != nil {
			t.Fatal(err)
		}
	}
	if len(pv.Finalizers) != 1 || pv.Finalizers[0] != "kubernetes.io/pv-protection" {
		t.Errorf("finalizers %q", pv.Finalizers)
	}
	a.Operation, pv.Finalizers = Update, nil
	if (InUse{}).Mutate(t.Context(), a); len(pv.Finalizers) != 0 {
		t.Error("an update puts the finalizer back")
	}
}

func TestAChangeIsDated(t *testing.T) {
	before := metav1.NewTime(time.Unix(1e9, 0))
	old := &corev1.PersistentVolume{Status: corev1.PersistentVolumeStatus{Phase: corev1.VolumeAvailable, LastPhaseTransitionTime: &before}}
	for _, tc := range []struct {
		it      string
		phase   corev1.PersistentVolumePhase
		changed bool
	}{{"another phase", corev1.VolumeBound, true}, {"the same phase", corev1.VolumeAvailable, false}} {
		pv := old.DeepCopy()
		pv.Status.Phase = tc.phase
		a := create(core.PersistentVolume(), pv)
		a.Operation, a.Old, a.Request.Subresource = Update, old, "status"
		if err := (ChangeTimes{}).Mutate(t.Context(), a); err != nil {
			t.Fatal(err)
		}
		if got := !pv.Status.LastPhaseTransitionTime.Equal(&before); got != tc.changed {
			t.Errorf("%s: dated anew %v, want %v", tc.it, got, tc.changed)
		}
	}
}

func TestClaimsGrowWhereTheirClassLetsThem(t *testing.T) {
	yes := true
	r := ClaimResize{Reader: clienttest.New(t, kind.NewTable(core.Kinds(), storage.Kinds()),
		&storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "grows"}, AllowVolumeExpansion: &yes},
		&storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "stays"}})}
	claim := func(class, size string, phase corev1.PersistentVolumeClaimPhase) *corev1.PersistentVolumeClaim {
		return &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: "c"},
			Spec: corev1.PersistentVolumeClaimSpec{StorageClassName: &class, Resources: corev1.VolumeResourceRequirements{
				Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(size)}}},
			Status: corev1.PersistentVolumeClaimStatus{Phase: phase}}
	}
	const only = `persistentvolumeclaims "c" is forbidden: only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize`
	for _, tc := range []struct {
		it, class, size string
		phase           corev1.PersistentVolumeClaimPhase
		want            string
	}{
		{"the same size is no growth", "stays", "1Gi", corev1.ClaimPending, ""},
		{"a class that allows it", "grows", "2Gi", corev1.ClaimBound, ""},
		{"a class that does not", "stays", "2Gi", corev1.ClaimBound, only},
		{"no class", "", "2Gi", corev1.ClaimBound, only},
		{"not bound", "grows", "2Gi", corev1.ClaimPending, `persistentvolumeclaims "c" is forbidden: Only bound persistent volume claims can be expanded`},
	} {
		a := create(core.PersistentVolumeClaim(), claim(tc.class, tc.size, tc.phase))
		a.Operation, a.Old = Update, claim(tc.class, "1Gi", tc.phase)
		got := ""
		if err := r.Review(t.Context(), a); err != nil {
			got = err.Error()
		}
		if got != tc.want {
			t.Errorf("%s: %q, want %q", tc.it, got, tc.want)
		}
	}
}

func TestRuntimeClasses(t *testing.T) {
	cost := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m")}
	r := RuntimeClasses{Reader: clienttest.New(t, kind.NewTable(core.Kinds(), node.Kinds()),
		&nodev1.RuntimeClass{ObjectMeta: metav1.ObjectMeta{Name: "plain"}, Handler: "h"},
		&nodev1.RuntimeClass{ObjectMeta: metav1.ObjectMeta{Name: "kata"}, Handler: "kata", Overhead: &nodev1.Overhead{PodFixed: cost},
			Scheduling: &nodev1.Scheduling{NodeSelector: map[string]string{"vm": "yes"}, Tolerations: []corev1.Toleration{{Key: "vm", Operator: corev1.TolerationOpExists}}}})}
	pod := func(class string, change func(*corev1.PodSpec)) *corev1.Pod {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}}
		if class != "" {
			p.Spec.RuntimeClassName = &class
		}
		if change != nil {
			change(&p.Spec)
		}
		return p
	}
	admit := func(p *corev1.Pod) string {
		a := create(core.Pod(), p)
		err := r.Mutate(t.Context(), a)
		if err == nil {
			err = r.Review(t.Context(), a)
		}
		if err != nil {
			return err.Error()
		}
		return ""
	}
	for _, tc := range []struct {
		it, want string
		pod      *corev1.Pod
	}{
		{"none", "", pod("", nil)},
		{"one that is not there", `pods "p" is forbidden: pod rejected: RuntimeClass "x" not found`, pod("x", nil)},
		{"a cost that differs", `pods "p" is forbidden: pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead`,
			pod("kata", func(s *corev1.PodSpec) { s.Overhead = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1")} })},
		{"a cost without a class", `pods "p" is forbidden: pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead`,
			pod("plain", func(s *corev1.PodSpec) { s.Overhead = cost })},
		{"another node", `pods "p" is forbidden: conflict: runtimeClass.scheduling.nodeSelector[vm] = yes; pod.spec.nodeSelector[vm] = no`,
			pod("kata", func(s *corev1.PodSpec) { s.NodeSelector = map[string]string{"vm": "no"} })},
	} {
		if got := admit(tc.pod); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.it, got, tc.want)
		}
	}
	p := pod("kata", func(s *corev1.PodSpec) {
		s.Tolerations = []corev1.Toleration{{Key: "vm", Operator: corev1.TolerationOpEqual, Value: "a"}, {Key: "b", Operator: corev1.TolerationOpExists}}
	})
	if got := admit(p); got != "" || p.Spec.NodeSelector["vm"] != "yes" || p.Spec.Overhead.Cpu().String() != "100m" ||
		len(p.Spec.Tolerations) != 2 || p.Spec.Tolerations[0].Key != "b" || p.Spec.Tolerations[1].Operator != corev1.TolerationOpExists {
		t.Errorf("%q: %+v", got, p.Spec)
	}
}
