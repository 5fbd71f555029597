package scheduler

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"sampan/cluster/client"
	"sampan/cluster/client/clienttest"
	"sampan/cluster/kind"
	"sampan/cluster/kind/core"
	"sampan/cluster/kind/storage"
)

func uses(claim string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: claim, VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim}}})
	}
}

func claim(name, class, volume string, with ...func(*corev1.PersistentVolumeClaim)) *corev1.PersistentVolumeClaim {
	c := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name)}}
	c.Spec.StorageClassName, c.Spec.VolumeName = &class, volume
	c.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	c.Spec.Resources.Requests = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}
	c.Status.Phase = corev1.ClaimPending
	if volume != "" {
		c.Status.Phase = corev1.ClaimBound
	}
	for _, f := range with {
		f(c)
	}
	return c
}

// volume is in a zone, and has the size given.
func volume(name, class, z, size string) *corev1.PersistentVolume {
	pv := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: name}}
	pv.Spec.StorageClassName = class
	pv.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	pv.Spec.Capacity = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(size)}
	pv.Status.Phase = corev1.VolumeAvailable
	pv.Spec.NodeAffinity = &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
		MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "zone", Operator: corev1.NodeSelectorOpIn, Values: []string{z}}}}}}}
	return pv
}

func class(name, provisioner string, mode storagev1.VolumeBindingMode, zones ...string) *storagev1.StorageClass {
	c := &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Provisioner: provisioner, VolumeBindingMode: &mode}
	if len(zones) > 0 {
		c.AllowedTopologies = []corev1.TopologySelectorTerm{{MatchLabelExpressions: []corev1.TopologySelectorLabelRequirement{{Key: "zone", Values: zones}}}}
	}
	return c
}

func TestPodsWithClaims(t *testing.T) {
	const wait, at = storagev1.VolumeBindingWaitForFirstConsumer, storagev1.VolumeBindingImmediate
	two := []kind.Object{node("n1", zone("a")), node("n2", zone("b"))}
	own := func(p *corev1.Pod) {
		p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{}}}}
	}
	alone := func(c *corev1.PersistentVolumeClaim) {
		c.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOncePod}
	}
	for _, c := range []struct {
		it   string
		objs []kind.Object
		pod  *corev1.Pod
		node string
		says string
	}{
		{it: "waits for its claim", pod: pod("a", uses("c")), says: `0/2 nodes are available: persistentvolumeclaim "c" not found. preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling.`},
		{it: "waits for its own claim", pod: pod("a", own), says: `waiting for ephemeral volume controller to create the persistentvolumeclaim "a-v"`},
		{it: "waits for the claim's volume", objs: []kind.Object{claim("c", "", "")}, pod: pod("a", uses("c")),
			says: "0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims."},
		{it: "goes where its volume is", objs: []kind.Object{claim("c", "", "pv"), volume("pv", "", "b", "1Gi")}, pod: pod("a", uses("c")), node: "n2"},
		{it: "says that it cannot get there", objs: []kind.Object{claim("c", "", "pv"), volume("pv", "", "z", "1Gi")}, pod: pod("a", uses("c")),
			says: "0/2 nodes are available: 2 node(s) didn't match PersistentVolume's node affinity."},
		{it: "finds no volume", objs: []kind.Object{claim("c", "local", ""), class("local", noProvisioner, wait), volume("pv", "local", "a", "1Mi")}, pod: pod("a", uses("c")),
			says: "0/2 nodes are available: 2 node(s) didn't find available persistent volumes to bind."},
		{it: "does not wait for what is immediate", objs: []kind.Object{claim("c", "fast", ""), class("fast", "p", at)}, pod: pod("a", uses("c")),
			says: "pod has unbound immediate PersistentVolumeClaims"},
		{it: "shares no claim that is for one", objs: []kind.Object{claim("c", "", "pv", alone), volume("pv", "", "b", "1Gi"), pod("x", uses("c"), on("n2"))}, pod: pod("a", uses("c")),
			says: "0/2 nodes are available: 2 node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod."},
	} {
		t.Run(c.it, func(t *testing.T) {
			withVolumes(t, append(append([]kind.Object{c.pod}, two...), c.objs...), func(v *cluster) {
				v.on("a", c.node)
				if c.says != "" {
					v.says("a", "FailedScheduling", c.says)
				}
			})
		})
	}
}

// withVolumes is schedule with the kinds of storage.
func withVolumes(t *testing.T, objs []kind.Object, then func(c *cluster)) {
	scheduleKinds(t, kind.NewTable(core.Kinds(), storage.Kinds()), nil, objs, then)
}

func TestALaterClaimGetsItsVolumeWhereThePodGoes(t *testing.T) {
	const wait = storagev1.VolumeBindingWaitForFirstConsumer
	bound := func(c *cluster, name string) {
		done, err := client.Get[*corev1.PersistentVolumeClaim](c.Context(), c.fake, "default", "c")
		if err != nil {
			c.Fatal(err)
		}
		done = done.DeepCopy()
		done.Spec.VolumeName, done.Status.Phase = name, corev1.ClaimBound
		c.fake.Put(done)
	}
	t.Run("one that is there", func(t *testing.T) {
		withVolumes(t, []kind.Object{node("n1", zone("a")), node("n2", zone("b")), class("local", noProvisioner, wait), claim("c", "local", ""),
			volume("small", "local", "a", "1Mi"), volume("large", "local", "b", "5Gi"), volume("right", "local", "b", "2Gi"), pod("p", uses("c"))}, func(c *cluster) {
			c.on("p", "") // not before the claim is bound
			pv, err := client.Get[*corev1.PersistentVolume](c.Context(), c.fake, "", "right")
			if err != nil || pv.Spec.ClaimRef == nil || pv.Spec.ClaimRef.Name != "c" || pv.Annotations["pv.kubernetes.io/bound-by-controller"] != "yes" {
				c.Fatalf("volume %+v (%v); want it kept for the claim", pv.Spec.ClaimRef, err)
			}
			bound(c, "right")
			c.on("p", "n2")
		})
	})
	t.Run("one that is made", func(t *testing.T) {
		withVolumes(t, []kind.Object{node("n1", zone("a")), node("n2", zone("b")), class("fast", "p", wait, "b"), claim("c", "fast", ""), pod("p", uses("c"))}, func(c *cluster) {
			c.on("p", "")
			made, err := client.Get[*corev1.PersistentVolumeClaim](c.Context(), c.fake, "default", "c")
			if err != nil || made.Annotations[selectedNode] != "n2" {
				c.Fatalf("claim says %v (%v), want node n2", made.Annotations, err)
			}
			// The room is kept meanwhile.
			c.fake.Put(pod("big", asks("cpu", "4"), selects("b")))
			c.on("big", "")
			c.fake.Put(volume("new", "fast", "b", "1Gi"))
			bound(c, "new")
			c.on("p", "n2")
		})
	})
}

func TestAVolumeThatCannotBeKeptIsTriedAgain(t *testing.T) {
	fails := 2
	scheduleKinds(t, kind.NewTable(core.Kinds(), storage.Kinds()), func(a clienttest.Action) error {
		if a.Verb == "patch" && a.Kind.Plural == "persistentvolumes" && fails > 0 {
			fails--
			return errNotNow
		}
		return nil
	}, []kind.Object{node("n1", zone("a")), class("local", noProvisioner, storagev1.VolumeBindingWaitForFirstConsumer), claim("c", "local", ""),
		volume("pv", "local", "a", "1Gi"), pod("p", uses("c"))}, func(c *cluster) {
		time.Sleep(time.Minute)
		c.on("p", "")
		pv, err := client.Get[*corev1.PersistentVolume](c.Context(), c.fake, "", "pv")
		if err != nil || pv.Spec.ClaimRef == nil || fails > 0 {
			c.Errorf("volume %+v (%v), %d failures to go", pv.Spec.ClaimRef, err, fails)
		}
	})
}
