package pod

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Do is what a step does.
type Do string

const (
	Mount       Do = "mount volumes"
	MakeSandbox Do = "create sandbox"
	Pull        Do = "find or pull image"
	Start       Do = "create and start container"
	Kill        Do = "stop container"
	StopSandbox Do = "stop sandbox"
	Cancel      Do = "give up what is being done"
	Clean       Do = "unmount volumes"
	Delete      Do = "delete the API object"
	Alter       Do = "change resources of containers"
	Remove      Do = "remove containers, sandbox and logs"
)

// Step is one thing to do. Steps of one plan may be done side by side; no two
// steps with the same target ever run together.
type Step struct {
	Do        Do
	Target    string // what it is about: key of Known.Busy
	Container string // name in the spec
	ID        string // of the container or sandbox
	Attempt   uint32
	Crash     Backoff   // Start: the container's crash back-off from now on
	Event     string    // Kill: what to tell; empty: upstream's default
	Deadline  time.Time // Kill: when it turns to force
	PreStop   bool      // Kill: run the hook before
}

// Plan is what Decide wants: steps to take now, the status to report, and when to
// look again if nothing happens before (zero: never).
type Plan struct {
	Steps  []Step
	Status corev1.PodStatus
	Wake   time.Time
	Hold   bool // the status is of a moment that nobody needs to hear of
	Over   bool // nothing is left of the pod: its worker ends
	Why    []string
}

// targets beside container names and IDs
const (
	volumesTarget = "/volumes"
	sandboxTarget = "/sandbox"
	endTarget     = "/end"
)

// Decide says what to do next for a pod. It is a pure function; calling it
// again with the outcome of its steps leads to a plan without steps.
func Decide(in Input) Plan {
	p := &planner{Input: in}
	p.Status = statusOf(&in)
	switch {
	case in.Gone || in.Pod.DeletionTimestamp != nil || in.Known.Rejected != nil || terminal(in.Pod.Status.Phase) || terminal(p.Status.Phase):
		p.end()
	default:
		p.deadline()
		p.keep()
	}
	return p.Plan
}

type planner struct {
	Input
	Plan
	launching bool // a container is being started, or will be by this plan
}

func (p *planner) why(format string, args ...any) {
	p.Why = append(p.Why, fmt.Sprintf(format, args...))
}

func (p *planner) step(s Step) {
	p.Steps = append(p.Steps, s)
	p.why("%s %s", s.Do, s.Container)
}

func (p *planner) wakeAt(t time.Time) {
	if t.After(p.Now) && (p.Wake.IsZero() || t.Before(p.Wake)) {
		p.Wake = t
	}
}

func (p *planner) busy(target string) bool {
	_, ok := p.Known.Busy[target]
	return ok
}

// deadline looks again when spec.activeDeadlineSeconds are over; status has
// failed the pod if they are.
func (p *planner) deadline() {
	if at, ok := deadline(p.Input.Pod); ok {
		p.wakeAt(at)
	}
}

// keep is a pod that should run.
func (p *planner) keep() {
	if renew := p.Known.Renew; !renew.IsZero() {
		p.wakeAt(renew)
	}
	if p.unmounted() && !p.busy(volumesTarget) {
		if t := p.Known.Failed; t != nil && t.Until.After(p.Now) {
			p.why("%s: %s", t.Reason, t.Message)
			p.wakeAt(t.Until)
		} else {
			p.step(Step{Do: Mount, Target: volumesTarget})
		}
	}
	spec := &p.Input.Pod.Spec
	for i, old := range p.Seen.Sandboxes {
		// One was made twice, by programs that were killed at the wrong moment.
		if i > 0 && old.State == runtimeapi.PodSandboxState_SANDBOX_READY && !p.busy(old.Id) {
			p.step(Step{Do: StopSandbox, Target: old.Id, ID: old.Id})
		}
	}
	if !p.Seen.ready(spec.HostNetwork) {
		p.sandbox()
		return
	}
	for target, b := range p.Known.Busy {
		p.launching = p.launching || b.Do == Pull || b.Do == Start
		if b.Do == Pull || b.Do == Start {
			p.why("%s %s is under way", b.Do, target)
		}
	}
	if p.initialize() {
		for i := range spec.Containers {
			p.container(&spec.Containers[i], false)
			p.hold(&spec.Containers[i])
		}
	}
	p.resize()
	for i := range spec.EphemeralContainers {
		c := corev1.Container(spec.EphemeralContainers[i].EphemeralContainerCommon)
		if p.Seen.Newest(c.Name) == nil {
			p.launch(&c, nil)
		}
	}
}

// unmounted says whether volumes are to be made, or made anew.
func (p *planner) unmounted() bool {
	return !p.Known.Volumes || p.Known.Refresh || !p.Known.Renew.IsZero() && !p.Known.Renew.After(p.Now)
}

// sandbox makes a sandbox where there is none, and replaces one that died.
// What still runs in an old one is stopped first.
func (p *planner) sandbox() {
	stopping := false
	for _, c := range p.Seen.Running("") {
		stopping = true
		p.kill(c, "Pod sandbox changed, it will be killed and re-created.", p.Now.Add(grace(p.Input.Pod)))
	}
	box := p.Seen.Sandbox()
	if box != nil && box.State == runtimeapi.PodSandboxState_SANDBOX_READY && !stopping {
		stopping = true
		if !p.busy(sandboxTarget) {
			p.step(Step{Do: StopSandbox, Target: sandboxTarget, ID: box.Id})
		}
	}
	if stopping || p.busy(sandboxTarget) || p.busy(volumesTarget) || !p.Known.Volumes {
		return
	}
	if t := p.Known.Failed; t != nil && t.Until.After(p.Now) {
		p.why("%s: %s", t.Reason, t.Message)
		p.wakeAt(t.Until)
		return
	}
	attempt := uint32(0)
	if box != nil {
		attempt = box.GetMetadata().GetAttempt() + 1
	}
	p.step(Step{Do: MakeSandbox, Target: sandboxTarget, Attempt: attempt})
}

// initialize runs init containers in order and keeps sidecars. It says whether
// the regular containers may run.
func (p *planner) initialize() bool {
	spec := &p.Input.Pod.Spec
	begun := false // a regular container was made in this sandbox: never initialize it again
	for i := range spec.Containers {
		begun = begun || p.Seen.Current(spec.Containers[i].Name) != nil
	}
	for i := range spec.InitContainers {
		c := &spec.InitContainers[i]
		if sidecar(c) {
			p.container(c, true)
			if begun {
				continue
			}
			if now := p.Seen.Current(c.Name); now == nil || !now.running() || !p.started(c, now) {
				p.why("init container %s (a sidecar) has not started", c.Name)
				return false
			}
			continue
		}
		if begun {
			continue
		}
		now := p.Seen.Current(c.Name)
		if now == nil || !now.exited() || now.ExitCode != 0 {
			p.container(c, true)
			p.why("init container %s has not succeeded", c.Name)
			return false
		}
	}
	return true
}

// started says whether a running container is past its startup probe.
func (p *planner) started(c *corev1.Container, now *Container) bool {
	if b, ok := p.Known.Busy[c.Name]; ok && b.Do == Start {
		return false // its postStart hook is running
	}
	probes := p.Input.container(c.Name).Probes
	return c.StartupProbe == nil || probes.ID == now.Id && probes.Started == Success
}

// container starts one that should run and does not, and stops one that should
// not go on as it is.
func (p *planner) container(c *corev1.Container, init bool) {
	now := p.Seen.Current(c.Name)
	if now != nil && now.running() {
		p.check(c, now)
		return
	}
	last := p.Seen.Newest(c.Name)
	switch {
	case last == nil || init && now == nil:
		p.launch(c, last) // never ran in this sandbox
	case last.exited() && !restarts(p.Input.Pod, c, init, last.ExitCode):
		// It ended and that is right.
	default:
		p.launch(c, last)
	}
}

// check stops a running container that failed a probe or whose definition
// changed. It comes back, if it may, when its exit is seen.
func (p *planner) check(c *corev1.Container, now *Container) {
	probes := p.Input.container(c.Name).Probes
	if probes.ID != now.Id {
		probes = Probes{}
	}
	after := grace(p.Input.Pod)
	switch {
	case changed(c, now):
		p.kill(now, fmt.Sprintf("Container %s definition changed, will be restarted", c.Name), p.Now.Add(after))
	case probes.Live == Failure:
		p.kill(now, fmt.Sprintf("Container %s failed liveness probe, will be restarted", c.Name), p.Now.Add(probeGrace(c.LivenessProbe, after)))
	case probes.Started == Failure:
		p.kill(now, fmt.Sprintf("Container %s failed startup probe, will be restarted", c.Name), p.Now.Add(probeGrace(c.StartupProbe, after)))
	}
}

// launch starts c, one container of a pod at a time and in order, as users
// rely on for postStart hooks; and after its back-off. last is its latest
// run, or nil.
func (p *planner) launch(c *corev1.Container, last *Container) {
	known := p.Input.container(c.Name)
	if p.busy(c.Name) {
		return
	}
	if !p.Known.Volumes {
		return
	}
	next := Step{Do: Start, Target: c.Name, Container: c.Name}
	next.Crash = known.Crash
	if last != nil {
		next.Attempt = restartCount(last) + 1
		if last.exited() {
			if until := known.Crash.Until(last.finished()); until.After(p.Now) {
				p.why("container %s: %s until %s", c.Name, reasonCrashLoop, until.Format(time.TimeOnly))
				p.wakeAt(until)
				return
			}
			next.Crash = known.Crash.Next(last.finished(), p.Now)
		}
	}
	if t := known.Trouble; t != nil && t.Until.After(p.Now) {
		p.why("container %s: %s: %s", c.Name, t.Reason, t.Message)
		if t.Reason == reasonPull && t.At.Add(pullNotice).After(p.Now) {
			p.wakeAt(t.At.Add(pullNotice)) // to say that it is backing off
		}
		p.wakeAt(t.Until)
		return
	}
	if p.launching {
		return
	}
	p.launching = true
	if known.ImageRef == "" {
		next.Do = Pull
	}
	p.step(next)
}

// replaceTime is how often the kubelet looks at containers.
const replaceTime = time.Second

// hold has nothing reported while a container that was stopped because its
// definition changed is started again. The kubelet does both in one go, and
// looks at containers afterwards, if that takes no longer than a second.
func (p *planner) hold(c *corev1.Container) {
	isStart := func(do Do) bool { return do == Pull || do == Start }
	if !isStart(p.Known.Busy[c.Name].Do) && !slices.ContainsFunc(p.Steps, func(s Step) bool { return s.Target == c.Name && isStart(s.Do) }) {
		return
	}
	i := slices.IndexFunc(p.Seen.Containers, func(old *Container) bool { return old.Name() == c.Name && old.exited() })
	if i < 0 || !changed(c, p.Seen.Containers[i]) {
		return
	}
	if until := p.Seen.Containers[i].finished().Add(replaceTime); until.After(p.Now) {
		p.Hold = true
		p.wakeAt(until)
	}
}

func (p *planner) kill(c *Container, event string, deadline time.Time) {
	if b, ok := p.Known.Busy[c.Id]; ok && !deadline.Add(time.Second).Before(b.Deadline) {
		return // it is being stopped, and no slower
	}
	p.step(Step{Do: Kill, Target: c.Id, Container: c.Name(), ID: c.Id, Event: event, Deadline: deadline, PreStop: true})
}

// end is a pod that should stop, or has.
func (p *planner) end() {
	for target, b := range p.Known.Busy {
		if b.Do == Pull || b.Do == Start || b.Do == Mount || b.Do == MakeSandbox {
			p.step(Step{Do: Cancel, Target: target})
		}
	}
	deadline := p.endDeadline()
	if p.stopContainers(deadline) {
		p.why("containers are stopping")
		return
	}
	if len(p.Known.Busy) > 0 || len(p.Steps) > 0 {
		return
	}
	for _, box := range p.Seen.Sandboxes {
		if box.State == runtimeapi.PodSandboxState_SANDBOX_READY {
			p.step(Step{Do: StopSandbox, Target: sandboxTarget, ID: box.Id})
			return
		}
	}
	switch {
	case !p.Known.Cleaned:
		p.retryable(Step{Do: Clean, Target: endTarget})
	case p.Gone && !p.Known.Removed:
		p.retryable(Step{Do: Remove, Target: endTarget})
	case p.Gone:
		p.Over = true
	case p.Known.Deleted:
		p.why("the API keeps the pod: finalizers %v", p.Input.Pod.Finalizers)
	case p.Input.Pod.DeletionTimestamp != nil:
		p.retryable(Step{Do: Delete, Target: endTarget})
	}
}

// retryable takes a step unless its last try failed a moment ago.
func (p *planner) retryable(s Step) {
	if t := p.Known.Failed; t != nil && t.Until.After(p.Now) {
		p.why("%s: %s", t.Reason, t.Message)
		p.wakeAt(t.Until)
		return
	}
	p.step(s)
}

// stopContainers stops what runs: regular containers together, then sidecars
// from the last to the first. It says whether something runs.
func (p *planner) stopContainers(deadline time.Time) bool {
	running := p.Seen.Running("")
	if len(running) == 0 {
		return false
	}
	sidecars := map[string]int{}
	for i := range p.Input.Pod.Spec.InitContainers {
		if c := &p.Input.Pod.Spec.InitContainers[i]; sidecar(c) {
			sidecars[c.Name] = i + 1
		}
	}
	last := slices.MaxFunc(running, func(a, b *Container) int { return rank(sidecars, a) - rank(sidecars, b) })
	for _, c := range running {
		if rank(sidecars, c) != rank(sidecars, last) {
			continue // its turn comes when the others have ended
		}
		at := deadline
		if rank(sidecars, c) < regular && at.Before(p.Now.Add(leastGrace)) && p.asked() > 0 {
			at = p.Now.Add(leastGrace)
		}
		if b, ok := p.Known.Busy[c.Id]; ok && rank(sidecars, c) < regular && b.Do == Kill && !p.shorter(b, deadline) {
			continue
		}
		p.kill(c, "", at)
	}
	return true
}

const (
	leastGrace = 2 * time.Second
	regular    = 1 << 20
)

// rank orders stopping: the highest goes first.
func rank(sidecars map[string]int, c *Container) int {
	if i := sidecars[c.Name()]; i > 0 {
		return i
	}
	return regular
}

// shorter says whether a kill under way should be hurried.
func (p *planner) shorter(b Busy, deadline time.Time) bool {
	return deadline.Add(leastGrace).Before(b.Deadline) && p.Now.Add(leastGrace).Before(b.Deadline)
}

func (p *planner) asked() time.Duration { return endGrace(p.Input.Pod) }

// endDeadline is when containers of a pod that is ending are killed by force.
func (p *planner) endDeadline() time.Time {
	began := p.Known.Stopping
	if d := p.Input.Pod.DeletionTimestamp; d != nil && !p.Gone {
		// The API has added the grace period to the time of the request.
		return d.Time
	}
	if began.IsZero() {
		began = p.Now
	}
	return began.Add(max(p.asked(), time.Second))
}
