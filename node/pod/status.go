package pod

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"sampan/node/resource"
)

// Reasons that users know.
const (
	reasonCreating    = "ContainerCreating"
	reasonPending     = "PodInitializing"
	reasonCrashLoop   = "CrashLoopBackOff"
	reasonPull        = "ErrImagePull"
	reasonPullBackoff = "ImagePullBackOff"
	reasonUnknown     = "ContainerStatusUnknown"
	reasonDeadline    = "DeadlineExceeded"
)

// pullNotice is how long a failed pull is told before the back-off is.
const pullNotice = 2 * time.Second

// statusOf is what to report of a pod. It starts from what the API has, so that
// what others wrote stays, and what the runtime forgot is not lost.
func statusOf(in *Input) corev1.PodStatus {
	pod := in.Pod
	s := *pod.Status.DeepCopy()
	s.ObservedGeneration = in.observed()
	s.QOSClass = resource.QOS(pod)
	if s.StartTime == nil {
		now := metav1.NewTime(in.Now.Truncate(time.Second))
		s.StartTime = &now
	}
	s.HostIPs = nil
	for _, ip := range in.HostIPs {
		s.HostIPs = append(s.HostIPs, corev1.HostIP{IP: ip})
	}
	if len(in.HostIPs) > 0 {
		s.HostIP = in.HostIPs[0]
	}
	if v := in.Known.Rejected; v != nil {
		s.Phase, s.Reason, s.Message = corev1.PodFailed, v.Reason, v.Message
		conditions(in, &s)
		return s
	}

	s.InitContainerStatuses = containerStatuses(in, pod.Spec.InitContainers, pod.Status.InitContainerStatuses, true)
	s.ContainerStatuses = containerStatuses(in, pod.Spec.Containers, pod.Status.ContainerStatuses, false)
	if n := len(pod.Spec.EphemeralContainers); n > 0 {
		list := make([]corev1.Container, n)
		for i := range list {
			list[i] = corev1.Container(pod.Spec.EphemeralContainers[i].EphemeralContainerCommon)
		}
		s.EphemeralContainerStatuses = containerStatuses(in, list, pod.Status.EphemeralContainerStatuses, false)
		for i := range s.EphemeralContainerStatuses { // no probe ever says that one is
			s.EphemeralContainerStatuses[i].Ready, s.EphemeralContainerStatuses[i].Started = false, nil
		}
	}
	settlePhase(in, &s)
	settleIPs(in, &s)
	conditions(in, &s)
	return s
}

func settlePhase(in *Input, s *corev1.PodStatus) {
	pod := in.Pod
	ending := in.Gone || pod.DeletionTimestamp != nil
	idle := len(in.Seen.Running("")) == 0 && len(in.Known.Busy) == 0
	if terminal(pod.Status.Phase) {
		if idle {
			closeContainers(pod, s)
		}
		return // never taken back
	}
	if at, ok := deadline(pod); ok && !at.After(in.Now) {
		s.Phase, s.Reason = corev1.PodFailed, reasonDeadline
		s.Message = "Pod was active on the node longer than the specified deadline"
		return
	}
	if ending && idle {
		closeContainers(pod, s)
		s.Phase = phase(pod, s, true)
		if !terminal(s.Phase) {
			s.Phase = corev1.PodFailed // it ended before it could do anything
		}
		return
	}
	s.Phase = phase(pod, s, false)
	if terminal(s.Phase) && len(in.Seen.Running("")) > 0 && s.Phase == corev1.PodSucceeded && ending {
		s.Phase = corev1.PodRunning
	}
}

// phase follows the containers. An init container or a regular one that was
// never seen leaves the pod Pending.
func phase(pod *corev1.Pod, s *corev1.PodStatus, ending bool) corev1.PodPhase {
	pendingInit, failedInit := 0, 0
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		st := find(s.InitContainerStatuses, c.Name)
		if sidecar(c) {
			if !begun(s) && (st == nil || st.State.Running == nil || st.Started == nil || !*st.Started) {
				pendingInit++
			}
			continue
		}
		switch {
		case begun(s) && (st == nil || st.State.Terminated == nil):
			// Its container was cleaned up after it had done its work.
		case st == nil:
			pendingInit++
		case st.State.Terminated != nil:
			if st.State.Terminated.ExitCode != 0 {
				if restarts(pod, c, true, st.State.Terminated.ExitCode) {
					pendingInit++
				} else {
					failedInit++
				}
			}
		case st.State.Waiting != nil && st.LastTerminationState.Terminated != nil && st.LastTerminationState.Terminated.ExitCode == 0:
		default:
			pendingInit++
		}
	}
	running, waiting, stopped, succeeded, again := 0, 0, 0, 0, 0
	for i := range pod.Spec.Containers {
		c := &pod.Spec.Containers[i]
		st := find(s.ContainerStatuses, c.Name)
		var last *corev1.ContainerStateTerminated
		switch {
		case st == nil:
			waiting++
			continue
		case st.State.Running != nil:
			running++
			continue
		case st.State.Terminated != nil:
			last = st.State.Terminated
		case st.LastTerminationState.Terminated != nil:
			last = st.LastTerminationState.Terminated
		default:
			waiting++
			continue
		}
		stopped++
		if last.ExitCode == 0 {
			succeeded++
		}
		if st.State.Waiting != nil || restarts(pod, c, false, last.ExitCode) {
			again++
		}
	}
	if failedInit > 0 && running == 0 {
		return corev1.PodFailed
	}
	switch {
	case pendingInit > 0 && !ending:
		return corev1.PodPending
	case waiting > 0:
		return corev1.PodPending
	case running > 0:
		return corev1.PodRunning
	case stopped > 0:
		switch {
		case !ending && again > 0:
			return corev1.PodRunning
		case succeeded == stopped:
			return corev1.PodSucceeded
		}
		return corev1.PodFailed
	}
	return corev1.PodPending
}

// begun says whether a regular container has ever run.
func begun(s *corev1.PodStatus) bool {
	return slices.ContainsFunc(s.ContainerStatuses, func(c corev1.ContainerStatus) bool {
		return c.State.Waiting == nil || c.LastTerminationState.Terminated != nil
	})
}

// closeContainers gives those an end that have none although the pod has.
func closeContainers(pod *corev1.Pod, s *corev1.PodStatus) {
	initialized := true
	for i := range pod.Spec.InitContainers {
		if st := find(s.InitContainerStatuses, pod.Spec.InitContainers[i].Name); !sidecar(&pod.Spec.InitContainers[i]) &&
			(st == nil || st.State.Terminated == nil || st.State.Terminated.ExitCode != 0) {
			initialized = false
		}
	}
	closeAll := func(list []corev1.ContainerStatus) {
		for i := range list {
			c := &list[i]
			c.Ready = false
			if c.Started != nil && *c.Started {
				c.Started = new(bool)
			}
			if c.State.Terminated != nil {
				continue
			}
			if last := c.LastTerminationState.Terminated; c.State.Running == nil && last != nil {
				c.State = corev1.ContainerState{Terminated: last.DeepCopy()}
				continue
			}
			c.State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
				Reason: reasonUnknown, ExitCode: 137, ContainerID: c.ContainerID,
				Message: "The container could not be located when the pod was terminated",
			}}
		}
	}
	if initialized || begun(s) {
		closeAll(s.InitContainerStatuses)
		closeAll(s.ContainerStatuses)
		closeAll(s.EphemeralContainerStatuses)
	}
}

// settleIPs takes the addresses of the sandbox. A pod whose sandbox is gone
// keeps the last ones it had until it gets new ones.
func settleIPs(in *Input, s *corev1.PodStatus) {
	var ips []string
	if in.Pod.Spec.HostNetwork {
		ips = in.HostIPs
		if in.Seen.Sandbox() == nil && s.PodIP == "" {
			return
		}
	} else if box := in.Seen.Sandbox(); box != nil && box.State == runtimeapi.PodSandboxState_SANDBOX_READY && box.GetNetwork().GetIp() != "" {
		ips = append(ips, box.Network.Ip)
		for _, more := range box.Network.AdditionalIps {
			ips = append(ips, more.Ip)
		}
	}
	if len(ips) == 0 {
		return
	}
	s.PodIP, s.PodIPs = ips[0], nil
	for _, ip := range ips {
		s.PodIPs = append(s.PodIPs, corev1.PodIP{IP: ip})
	}
}

func find(list []corev1.ContainerStatus, name string) *corev1.ContainerStatus {
	for i := range list {
		if list[i].Name == name {
			return &list[i]
		}
	}
	return nil
}

func containerStatuses(in *Input, specs []corev1.Container, old []corev1.ContainerStatus, init bool) []corev1.ContainerStatus {
	var all []corev1.ContainerStatus
	for i := range specs {
		all = append(all, containerStatus(in, &specs[i], find(old, specs[i].Name), init))
	}
	return all
}

// containerStatus reports one container of the spec.
func containerStatus(in *Input, c *corev1.Container, old *corev1.ContainerStatus, init bool) corev1.ContainerStatus {
	known := in.container(c.Name)
	now := in.Seen.Newest(c.Name)
	st := corev1.ContainerStatus{Name: c.Name, Image: c.Image, Started: new(bool)}
	if now == nil {
		if old != nil && (old.State.Terminated != nil || old.State.Running != nil || old.LastTerminationState.Terminated != nil) {
			return forgotten(in, c, old, known, init)
		}
		st.State = waiting(in, known)
		return st
	}

	st.RestartCount = int32(restartCount(now))
	st.ContainerID = in.Runtime + "://" + now.Id
	st.Image = imageName(now, c)
	st.ImageID = now.ImageId
	if now.ImageRef != "" {
		st.ImageID = now.ImageRef
	}
	st.Resources = resourcesOf(c)
	if len(c.Resources.Requests) > 0 {
		st.AllocatedResources = c.Resources.Requests.DeepCopy()
	}
	if old != nil && old.ContainerID == st.ContainerID && old.Resources != nil && len(difference(c, now)) > 0 {
		// What it has, until it has what it shall have.
		st.Resources = old.Resources.DeepCopy()
		if !in.Known.Resize.Admitted || in.Known.Resize.Generation != in.Pod.Generation {
			st.AllocatedResources = old.AllocatedResources.DeepCopy()
		}
	}
	st.VolumeMounts = mountsOf(c)
	st.User = userOf(now)
	if before := in.Seen.Before(now); before != nil {
		st.LastTerminationState.Terminated = in.terminated(c, before)
	} else if old != nil && old.ContainerID != st.ContainerID && old.State.Terminated != nil {
		st.LastTerminationState.Terminated = old.State.Terminated.DeepCopy() // removed meanwhile
	} else if old != nil {
		st.LastTerminationState = *old.LastTerminationState.DeepCopy()
		if t := st.LastTerminationState.Terminated; t != nil && t.ContainerID == st.ContainerID {
			st.LastTerminationState = corev1.ContainerState{} // it was waiting to restart; it shows below
		}
	}

	switch now.State {
	case runtimeapi.ContainerState_CONTAINER_RUNNING:
		st.State.Running = &corev1.ContainerStateRunning{StartedAt: clock(now.StartedAt)}
		running(in, c, now, known, &st, init)
	case runtimeapi.ContainerState_CONTAINER_EXITED:
		ended := in.terminated(c, now)
		st.State.Terminated = ended
		st.Ready = init && !sidecar(c) && now.ExitCode == 0
		if ending(in) || !restarts(in.Pod, c, init, now.ExitCode) {
			break
		}
		if w := backingOff(in, c, known, now); w != nil {
			st.State = corev1.ContainerState{Waiting: w}
			st.LastTerminationState.Terminated = ended
		}
	case runtimeapi.ContainerState_CONTAINER_CREATED:
		st.State = waiting(in, known)
	default:
		st.State.Terminated = &corev1.ContainerStateTerminated{
			Reason: reasonUnknown, Message: "The container could not be located when the pod was terminated",
			ExitCode: 137, ContainerID: st.ContainerID}
	}
	return st
}

// forgotten reports a container that the API knows and the runtime does not.
func forgotten(in *Input, c *corev1.Container, old *corev1.ContainerStatus, known *ContainerKnown, init bool) corev1.ContainerStatus {
	st := *old.DeepCopy()
	st.Started = new(bool)
	switch {
	case st.State.Terminated != nil && (ending(in) || terminal(in.Pod.Status.Phase) || !restarts(in.Pod, c, init, st.State.Terminated.ExitCode)):
		return st
	case st.State.Running != nil:
		st.State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
			Reason: reasonUnknown, ExitCode: 137, ContainerID: old.ContainerID, StartedAt: old.State.Running.StartedAt,
			Message: "The container could not be located when the pod was deleted.  The container used to be Running"}}
		if terminal(in.Pod.Status.Phase) || ending(in) {
			return st
		}
	}
	if st.State.Terminated != nil {
		st.LastTerminationState = st.State
	}
	st.Ready = false
	st.State = waiting(in, known)
	return st
}

func ending(in *Input) bool {
	if in.Gone || in.Pod.DeletionTimestamp != nil || terminal(in.Pod.Status.Phase) {
		return true
	}
	at, ok := deadline(in.Pod)
	return ok && !at.After(in.Now)
}

// running fills what the probes and the postStart hook say.
func running(in *Input, c *corev1.Container, now *Container, known *ContainerKnown, st *corev1.ContainerStatus, init bool) {
	probes := known.Probes
	if probes.ID != now.Id {
		probes = Probes{ID: now.Id}
		if old := find(in.Pod.Status.ContainerStatuses, c.Name); old != nil && old.ContainerID == st.ContainerID {
			probes = before(old, now.Id) // taken over: what was true is so until probed
		}
	}
	b, busy := in.Known.Busy[c.Name]
	hook := busy && b.Do == Start
	started := !hook && (c.StartupProbe == nil || probes.Started == Success)
	if init && !sidecar(c) {
		started = false
	}
	st.Started = &started
	st.Ready = started && (c.ReadinessProbe == nil || probes.Ready == Success)
}

// before is what a status says that the probes found before this program
// started.
func before(old *corev1.ContainerStatus, id string) Probes {
	p := Probes{ID: id}
	if old.Ready {
		p.Ready = Success
	}
	if old.Started != nil && *old.Started {
		p.Started = Success
	}
	return p
}

// waiting is the state of a container that was not started.
func waiting(in *Input, known *ContainerKnown) corev1.ContainerState {
	w := &corev1.ContainerStateWaiting{Reason: reasonCreating}
	if len(in.Pod.Spec.InitContainers) > 0 {
		w.Reason = reasonPending
	}
	if t := known.Trouble; t != nil {
		w = t.waiting(in.Now)
	}
	return corev1.ContainerState{Waiting: w}
}

// waiting tells a trouble; that of a pull turns from what happened to what is
// waited for.
func (t *Trouble) waiting(now time.Time) *corev1.ContainerStateWaiting {
	if t.Reason == reasonPull && !t.At.Add(pullNotice).After(now) {
		return &corev1.ContainerStateWaiting{Reason: reasonPullBackoff, Message: "Back-off pulling image: " + reasonPull + ": " + t.Message}
	}
	return &corev1.ContainerStateWaiting{Reason: t.Reason, Message: t.Message}
}

// backingOff is why a container that should restart has not, nil while it is
// about to.
func backingOff(in *Input, c *corev1.Container, known *ContainerKnown, now *Container) *corev1.ContainerStateWaiting {
	if t := known.Trouble; t != nil {
		return t.waiting(in.Now)
	}
	if until := known.Crash.Until(now.finished()); until.After(now.finished()) {
		return &corev1.ContainerStateWaiting{Reason: reasonCrashLoop,
			Message: fmt.Sprintf("back-off %s restarting failed container=%s pod=%s", until.Sub(now.finished()), c.Name, Format(in.Pod))}
	}
	return nil
}

// Format is how upstream's messages name a pod.
func Format(pod *corev1.Pod) string {
	return fmt.Sprintf("%s_%s(%s)", pod.Name, pod.Namespace, pod.UID)
}

func (in *Input) terminated(c *corev1.Container, s *Container) *corev1.ContainerStateTerminated {
	t := &corev1.ContainerStateTerminated{
		ExitCode: s.ExitCode, Reason: s.Reason, Message: s.Message,
		StartedAt: clock(s.StartedAt), FinishedAt: clock(s.FinishedAt),
		ContainerID: in.Runtime + "://" + s.Id,
	}
	if t.Reason == "" {
		t.Reason = "Completed"
		if s.ExitCode != 0 {
			t.Reason = "Error"
		}
	}
	if in.Message != nil {
		if m := in.Message(c, s); m != "" {
			if t.Message != "" {
				m = t.Message + ": " + m
			}
			t.Message = m
		}
	}
	return t
}

// clock is a CRI time in the API's precision; 0 is the epoch, as upstream shows
// a container that never started.
func clock(ns int64) metav1.Time { return metav1.NewTime(time.Unix(0, ns).Truncate(time.Second)) }

func imageName(now *Container, c *corev1.Container) string {
	if u := now.GetImage().GetUserSpecifiedImage(); u != "" {
		return u
	}
	if i := now.GetImage().GetImage(); i != "" && !strings.HasPrefix(i, "sha256:") {
		return i
	}
	return c.Image
}

func resourcesOf(c *corev1.Container) *corev1.ResourceRequirements {
	r := c.Resources.DeepCopy()
	r.Claims = nil
	return r
}

func mountsOf(c *corev1.Container) []corev1.VolumeMountStatus {
	var all []corev1.VolumeMountStatus
	for _, m := range c.VolumeMounts {
		s := corev1.VolumeMountStatus{Name: m.Name, MountPath: m.MountPath, ReadOnly: m.ReadOnly}
		if m.ReadOnly {
			mode := corev1.RecursiveReadOnlyDisabled
			if m.RecursiveReadOnly != nil {
				mode = *m.RecursiveReadOnly
			}
			if mode == corev1.RecursiveReadOnlyIfPossible {
				mode = corev1.RecursiveReadOnlyEnabled
			}
			s.RecursiveReadOnly = &mode
		}
		all = append(all, s)
	}
	return all
}

func userOf(now *Container) *corev1.ContainerUser {
	u := now.GetUser().GetLinux()
	if u == nil {
		return nil
	}
	return &corev1.ContainerUser{Linux: &corev1.LinuxContainerUser{UID: u.Uid, GID: u.Gid, SupplementalGroups: slices.Clone(u.SupplementalGroups)}}
}
