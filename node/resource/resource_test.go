package resource

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func list(cpu, memory string) corev1.ResourceList {
	l := corev1.ResourceList{}
	if cpu != "" {
		l[corev1.ResourceCPU] = resource.MustParse(cpu)
	}
	if memory != "" {
		l[corev1.ResourceMemory] = resource.MustParse(memory)
	}
	return l
}

func TestClassesAndCgroups(t *testing.T) {
	for _, c := range []struct {
		it               string
		requests, limits corev1.ResourceList
		class            corev1.PodQOSClass
		cgroup           string
	}{
		{"is best effort without anything", nil, nil, corev1.PodQOSBestEffort, "/r/kubepods/besteffort/podu"},
		{"is guaranteed with equal limits", list("1", "1Gi"), list("1", "1Gi"), corev1.PodQOSGuaranteed, "/r/kubepods/podu"},
		{"is guaranteed with limits alone", nil, list("1", "1Gi"), corev1.PodQOSGuaranteed, "/r/kubepods/podu"},
		{"is burstable with a cpu limit only", nil, list("1", ""), corev1.PodQOSBurstable, "/r/kubepods/burstable/podu"},
		{"is burstable with lower requests", list("500m", "1Gi"), list("1", "1Gi"), corev1.PodQOSBurstable, "/r/kubepods/burstable/podu"},
	} {
		p := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Resources: corev1.ResourceRequirements{Requests: c.requests, Limits: c.limits}}}}}
		p.UID = "u"
		if got := QOS(p); got != c.class {
			t.Errorf("%s: class %s", c.it, got)
		}
		if got := CgroupParent("/r", p); got != c.cgroup {
			t.Errorf("%s: cgroup %s", c.it, got)
		}
	}
}

func TestKernelNumbers(t *testing.T) {
	for _, c := range []struct {
		requests, limits corev1.ResourceList
		want             Limits
	}{
		{nil, nil, Limits{CPUShares: 2}},
		{list("1", ""), nil, Limits{CPUShares: 1024}},
		{list("1m", ""), list("1m", "64Mi"), Limits{CPUShares: 2, CPUQuota: 1000, CPUPeriod: 100000, MemoryBytes: 64 << 20}},
		{nil, list("2", ""), Limits{CPUShares: 2048, CPUQuota: 200000, CPUPeriod: 100000}},
		{list("1000", ""), nil, Limits{CPUShares: 262144}},
	} {
		if got := Container(corev1.ResourceRequirements{Requests: c.requests, Limits: c.limits}); got != c.want {
			t.Errorf("%v/%v: %+v, want %+v", c.requests, c.limits, got, c.want)
		}
	}
}

func TestReservedIsTakenOffAllocatable(t *testing.T) {
	got := Allocatable(list("2", "1Gi"), list("500m", "2Gi"))
	if got.Cpu().MilliValue() != 1500 || got.Memory().Value() != 0 {
		t.Errorf("allocatable is %v", got)
	}
}

func TestTheMachineIsRead(t *testing.T) {
	m, err := ReadMachine(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if m.CPUs < 1 || m.MemoryBytes < 1<<20 || m.DiskBytes < 1<<20 || m.Kernel == "" || m.BootID == "" || m.OSImage == "" {
		t.Errorf("machine is %+v", m)
	}
}
