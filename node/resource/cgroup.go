package resource

import (
	"path"
	"strings"

	corev1 "k8s.io/api/core/v1"
	helper "k8s.io/component-helpers/resource"
)

// Limits are the kernel's numbers for a container or a pod; 0 is "none".
type Limits struct {
	CPUShares   int64
	CPUQuota    int64 // µs per period
	CPUPeriod   int64 // µs
	MemoryBytes int64
}

const (
	period    = 100_000 // µs, the kernel's default
	minQuota  = 1_000   // µs, the kernel's least
	minShares = 2
	maxShares = 262_144
)

// Container turns requests and limits into kernel numbers. Without a cpu
// request the limit counts as the request.
func Container(r corev1.ResourceRequirements) Limits {
	cpu, hasCPU := r.Requests[corev1.ResourceCPU]
	limit := r.Limits.Cpu().MilliValue()
	if !hasCPU && limit > 0 {
		cpu = *r.Limits.Cpu()
	}
	quota := Quota(limit)
	l := Limits{CPUShares: Shares(cpu.MilliValue()), CPUQuota: quota, MemoryBytes: r.Limits.Memory().Value()}
	if quota > 0 {
		l.CPUPeriod = period
	}
	return l
}

// Pod sums up what all containers of a pod may use together. A limit counts
// only if every container has one.
func Pod(pod *corev1.Pod) Limits {
	requests := helper.PodRequests(pod, helper.PodResourcesOptions{})
	limits := helper.PodLimits(pod, helper.PodResourcesOptions{})
	l := Limits{CPUShares: Shares(requests.Cpu().MilliValue())}
	if everyLimit(pod, corev1.ResourceCPU) {
		if l.CPUQuota = Quota(limits.Cpu().MilliValue()); l.CPUQuota > 0 {
			l.CPUPeriod = period
		}
	}
	if everyLimit(pod, corev1.ResourceMemory) {
		l.MemoryBytes = limits.Memory().Value()
	}
	return l
}

func everyLimit(pod *corev1.Pod, name corev1.ResourceName) bool {
	if r := pod.Spec.Resources; r != nil {
		if q, ok := r.Limits[name]; ok && !q.IsZero() {
			return true
		}
	}
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			if q, ok := list[i].Resources.Limits[name]; !ok || q.IsZero() {
				return false
			}
		}
	}
	return true
}

// Shares are cpu.shares for milli-CPUs: 1024 for one CPU, 2 to 262144.
func Shares(milli int64) int64 {
	return min(max(milli*1024/1000, minShares), maxShares)
}

// Quota is the microseconds of each period for milli-CPUs; 0 for none.
func Quota(milli int64) int64 {
	if milli == 0 {
		return 0
	}
	return max(milli*period/1000, minQuota)
}

// CgroupParent is where the containers' cgroups of a pod go, in upstream's
// cgroupfs names: Guaranteed pods directly below kubepods.
func CgroupParent(root string, pod *corev1.Pod) string {
	dir := path.Join("/", root, "kubepods")
	if class := QOS(pod); class != corev1.PodQOSGuaranteed {
		dir = path.Join(dir, strings.ToLower(string(class)))
	}
	return path.Join(dir, "pod"+string(pod.UID))
}

// CgroupParents are all places where the cgroup of a pod may be, for a pod of
// which only the UID is known.
func CgroupParents(root string, uid string) []string {
	dir := path.Join("/", root, "kubepods")
	return []string{path.Join(dir, "pod"+uid), path.Join(dir, "burstable", "pod"+uid), path.Join(dir, "besteffort", "pod"+uid)}
}
