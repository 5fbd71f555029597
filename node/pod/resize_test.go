package pod

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	numbers "sampan/node/resource"
)

func limitsOf(c *corev1.Container) *runtimeapi.ContainerResources {
	l := numbers.Container(c.Resources)
	return &runtimeapi.ContainerResources{Linux: &runtimeapi.LinuxContainerResources{CpuShares: l.CPUShares, CpuQuota: l.CPUQuota, MemoryLimitInBytes: l.MemoryBytes}}
}

func cpu(request, limit string) corev1.ResourceRequirements {
	return corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(request)},
		Limits: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(limit)}}
}

// grown is a running pod whose spec was changed a moment ago.
func grown(t *testing.T, policy corev1.ResourceResizeRestartPolicy) *model {
	pod := podOf(corev1.RestartPolicyAlways, nil, "a")
	c := &pod.Spec.Containers[0]
	c.Resources = cpu("100m", "200m")
	c.ResizePolicy = []corev1.ContainerResizePolicy{{ResourceName: corev1.ResourceCPU, RestartPolicy: policy}}
	m := newModel(pod)
	m.settle(t, 0)
	m.in.Seen.Newest("a").Resources = limitsOf(c)
	m.settle(t, 0)
	m.trace = nil
	m.in.Pod.Spec.Containers[0].Resources = cpu("300m", "400m")
	m.in.Pod.Generation++
	return m
}

func TestAResizeIsReportedWhenItIsDone(t *testing.T) {
	m := grown(t, corev1.NotRequired)
	if got := Decide(m.in).Status.ContainerStatuses[0]; got.Resources.Limits.Cpu().String() != "200m" || got.AllocatedResources.Cpu().String() != "100m" {
		t.Errorf("before it is done the status says %v, allocated %v; want 200m, 100m", got.Resources.Limits, got.AllocatedResources)
	}
	if s := Decide(m.in).Status; s.ObservedGeneration != m.in.Pod.Generation-1 {
		t.Errorf("generation %d is said to be seen before it is judged: %d", m.in.Pod.Generation, s.ObservedGeneration)
	}
	m.in.Known.Resize = Resize{Generation: m.in.Pod.Generation, Trouble: &Trouble{Reason: corev1.PodReasonDeferred, Message: "full", Until: m.in.Now.Add(deferredAgain)}}
	p := Decide(m.in)
	if c := lookup(&p.Status, corev1.PodResizePending); c == nil || c.Reason != corev1.PodReasonDeferred || c.Message != "full" || len(p.Steps) > 0 || p.Wake.IsZero() {
		t.Errorf("without room: condition %v, steps %v, wake %v", c, p.Steps, p.Wake)
	}
	m.in.Pod.Status, m.in.Known.Resize = p.Status, Resize{Generation: m.in.Pod.Generation, Admitted: true, Trouble: &Trouble{Reason: corev1.PodReasonError, Message: "no", Until: m.in.Now}}
	p = Decide(m.in)
	if c := lookup(&p.Status, corev1.PodResizeInProgress); c == nil || c.Message != "no" || lookup(&p.Status, corev1.PodResizePending) != nil {
		t.Errorf("under way: conditions %v", p.Status.Conditions)
	}
	m.in.Pod.Status = p.Status
	p = m.settle(t, 0)
	if want := []string{"change resources of containers"}; !slices.Equal(m.trace, want) {
		t.Errorf("steps are %q, want %q", m.trace, want)
	}
	got := p.Status.ContainerStatuses[0]
	if got.Resources.Limits.Cpu().String() != "400m" || got.AllocatedResources.Cpu().String() != "300m" || got.RestartCount != 0 {
		t.Errorf("in the end the status says %v, allocated %v, %d restarts", got.Resources.Limits, got.AllocatedResources, got.RestartCount)
	}
	if lookup(&p.Status, corev1.PodResizeInProgress) != nil || lookup(&p.Status, corev1.PodResizePending) != nil {
		t.Errorf("conditions are left: %v", p.Status.Conditions)
	}
	if p.Status.ObservedGeneration != m.in.Pod.Generation {
		t.Errorf("observed generation is %d, want %d", p.Status.ObservedGeneration, m.in.Pod.Generation)
	}
}

func TestAResizeThatWantsARestart(t *testing.T) {
	m := grown(t, corev1.RestartContainer)
	m.settle(t, 0)
	want := []string{"change resources of containers", "stop container a", "find or pull image a", "create and start container a"}
	if !slices.Equal(m.trace, want) {
		t.Errorf("steps are %q, want %q", m.trace, want)
	}
}

func TestRoomForAResize(t *testing.T) {
	node := &corev1.Node{Status: corev1.NodeStatus{Allocatable: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("2")}}}
	pod := func(request string) *corev1.Pod {
		p := podOf(corev1.RestartPolicyAlways, nil, "a")
		p.Spec.Containers[0].Resources = cpu(request, request)
		return p
	}
	for _, c := range []struct{ it, asks, reason, message string }{
		{it: "is given what is free", asks: "1500m"},
		{it: "waits for what others have", asks: "1600m", reason: "Deferred", message: "Node didn't have enough resource: cpu, requested: 1600, used: 500, capacity: 2000"},
		{it: "never gets more than there is", asks: "3", reason: "Infeasible", message: "Node didn't have enough capacity: cpu, requested: 3000, capacity: 2000"},
	} {
		v := AdmitResize(pod(c.asks), node, []*corev1.Pod{pod("500m")})
		if v == nil {
			v = &Verdict{}
		}
		if v.Reason != c.reason || v.Message != c.message {
			t.Errorf("it %s: got %q %q", c.it, v.Reason, v.Message)
		}
	}
}
