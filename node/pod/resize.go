package pod

import (
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	helper "k8s.io/component-helpers/resource"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"sampan/node/resource"
)

// A running container takes on new requests and limits without a restart, or
// with one if its resizePolicy says so (KEP-1287).

// resizeTarget is shared by all containers of a pod: the pod's own limit must
// grow before theirs, and shrink after.
const resizeTarget = "/resize"

// deferredAgain is when a resize that found no room looks for it again.
const deferredAgain = 10 * time.Second

// AdmitResize says why a node cannot give a pod that it runs what it asks for
// now: Infeasible if it never can, Deferred if others have it; nil if it can.
func AdmitResize(pod *corev1.Pod, node *corev1.Node, others []*corev1.Pod) *Verdict {
	wants := helper.PodRequests(pod, helper.PodResourcesOptions{})
	for _, name := range order(wants) {
		want := wants[name]
		have, ok := node.Status.Allocatable[name]
		asked, capacity := value(name, want.MilliValue(), want.Value()), value(name, have.MilliValue(), have.Value())
		if ok && asked > capacity {
			return &Verdict{corev1.PodReasonInfeasible, fmt.Sprintf("Node didn't have enough capacity: %s, requested: %d, capacity: %d", name, asked, capacity)}
		}
	}
	if v := fits(pod, node, others); v != nil {
		return &Verdict{corev1.PodReasonDeferred, v.Message}
	}
	return nil
}

// difference names what of a running container's limits is not as the spec
// has it. A runtime that does not tell is believed.
func difference(c *corev1.Container, now *Container) (all []corev1.ResourceName) {
	is := now.GetResources().GetLinux()
	if is == nil || !now.running() {
		return nil
	}
	want := resource.Container(c.Resources)
	// None is 0 here, and 0 or -1 there.
	if is.CpuShares != want.CPUShares || max(is.CpuQuota, 0) != want.CPUQuota {
		all = append(all, corev1.ResourceCPU)
	}
	if max(is.MemoryLimitInBytes, 0) != want.MemoryBytes {
		all = append(all, corev1.ResourceMemory)
	}
	return all
}

// restartToResize says whether the container wants to be restarted for one of
// the resources that changed.
func restartToResize(c *corev1.Container, changed []corev1.ResourceName) bool {
	return slices.ContainsFunc(c.ResizePolicy, func(p corev1.ContainerResizePolicy) bool {
		return p.RestartPolicy == corev1.RestartContainer && slices.Contains(changed, p.ResourceName)
	})
}

// sized are the containers that may be resized, with what runs of each.
func (in *Input) sized(each func(c *corev1.Container, now *Container)) {
	spec := &in.Pod.Spec
	for i := range spec.InitContainers {
		if now := in.Seen.Current(spec.InitContainers[i].Name); now != nil && sidecar(&spec.InitContainers[i]) {
			each(&spec.InitContainers[i], now)
		}
	}
	for i := range spec.Containers {
		if now := in.Seen.Current(spec.Containers[i].Name); now != nil {
			each(&spec.Containers[i], now)
		}
	}
}

// resizing says whether a running container has not what the spec says.
func (in *Input) resizing() (is bool) {
	in.sized(func(c *corev1.Container, now *Container) { is = is || len(difference(c, now)) > 0 })
	return is
}

// observed is the generation that a status is about. A wish for other resources
// counts as seen when it has been judged: a status between the two would say
// that it is carried out.
func (in *Input) observed() int64 {
	if in.Pod.DeletionTimestamp == nil && in.resizing() && in.Known.Resize.Generation != in.Pod.Generation {
		return in.Pod.Status.ObservedGeneration
	}
	return in.Pod.Generation
}

// resize gives running containers what the spec says now.
func (p *planner) resize() {
	if !p.resizing() {
		return
	}
	known := p.Known.Resize
	switch {
	case known.Generation != p.Input.Pod.Generation:
		known = Resize{} // another wish
	case known.Trouble != nil && known.Trouble.Until.After(p.Now):
		p.why("resize: %s", known.Trouble.Message)
		p.wakeAt(known.Trouble.Until)
		return
	}
	if p.busy(resizeTarget) {
		return
	}
	restart := false
	p.sized(func(c *corev1.Container, now *Container) {
		if known.Admitted && restartToResize(c, difference(c, now)) {
			restart = true
			p.kill(now, fmt.Sprintf("Container %s resize requires restart", c.Name), p.Now.Add(grace(p.Input.Pod)))
		}
	})
	// Once is enough: a runtime that rounds would be asked for ever.
	if !restart && !(known.Admitted && known.Trouble == nil) {
		p.step(Step{Do: Alter, Target: resizeTarget})
	}
}

// resizeConditions tells how far a resize is; without one it takes the
// conditions away.
func resizeConditions(in *Input, s *corev1.PodStatus) {
	s.Conditions = slices.DeleteFunc(slices.Clone(s.Conditions), func(c corev1.PodCondition) bool {
		pending := c.Type == corev1.PodResizePending
		return (pending || c.Type == corev1.PodResizeInProgress) && (!in.resizing() || pending == in.Known.Resize.Admitted)
	})
	if !in.resizing() || in.Known.Resize.Generation != in.Pod.Generation {
		return
	}
	t := in.Known.Resize.Trouble
	switch {
	case in.Known.Resize.Admitted && t != nil:
		put(in, s, condition(corev1.PodResizeInProgress, true, corev1.PodReasonError, t.Message))
	case in.Known.Resize.Admitted:
		put(in, s, condition(corev1.PodResizeInProgress, true, "", ""))
	case t != nil:
		put(in, s, condition(corev1.PodResizePending, true, t.Reason, t.Message))
	}
}

// Resize is what a worker remembers of the change of resources under way.
type Resize struct {
	Generation int64    // of the pod that asked for it
	Admitted   bool     // the node has the room
	Trouble    *Trouble // why it is not done, and when to look again
}

// alter carries a resize out.
func (t *task) alter() func() {
	result := Resize{Generation: t.pod.Generation}
	note := func(reason, message string, after time.Duration) func() {
		now := time.Now()
		result.Trouble = &Trouble{Reason: reason, Message: message, At: now, Until: now.Add(after)}
		return func() { t.Worker.known.Resize = result }
	}
	if t.c.AdmitResize != nil {
		if v := t.c.AdmitResize(t.pod); v != nil {
			again := deferredAgain
			if v.Reason == corev1.PodReasonInfeasible {
				again = 24 * time.Hour // only another wish helps
			}
			return note(v.Reason, v.Message, again)
		}
	}
	result.Admitted = true
	in := Input{Pod: t.pod, Seen: t.seen}
	err := t.limits(in)
	if err != nil {
		// The pod's limit bounds its containers': what grows waits for the
		// pod, and the pod for what shrinks.
		err = t.limits(in)
	}
	if err != nil && t.ctx.Err() == nil {
		t.event(t.pod, "", corev1.EventTypeWarning, "ResizeError", "%s", text(err))
		return note(corev1.PodReasonError, text(err), deferredAgain)
	}
	return func() { t.Worker.known.Resize = result }
}

func (t *task) limits(in Input) (all error) {
	if t.c.Cgroups != nil {
		all = t.c.Cgroups.Make(resource.CgroupParent(t.c.Host().CgroupRoot, t.pod), resource.Pod(t.pod))
	}
	in.sized(func(c *corev1.Container, now *Container) {
		changed := difference(c, now)
		if len(changed) == 0 || restartToResize(c, changed) {
			return
		}
		want := resource.Container(c.Resources)
		r := &runtimeapi.LinuxContainerResources{CpuShares: want.CPUShares, CpuQuota: want.CPUQuota, CpuPeriod: want.CPUPeriod, MemoryLimitInBytes: want.MemoryBytes}
		if r.CpuQuota == 0 {
			r.CpuQuota = -1 // 0 would leave it as it is
		}
		if r.MemoryLimitInBytes == 0 {
			r.MemoryLimitInBytes = -1
		}
		_, err := t.c.Runtime.UpdateContainerResources(t.ctx, &runtimeapi.UpdateContainerResourcesRequest{ContainerId: now.Id, Linux: r})
		all = errors.Join(all, err)
	})
	return all
}
