package pod

import (
	"cmp"
	"context"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	kubelet "k8s.io/kubelet/pkg/types"
)

// Observed is what the runtime has of one pod, newest first.
type Observed struct {
	Sandboxes  []*runtimeapi.PodSandboxStatus
	Containers []*Container
}

// Container is a container that the runtime has, and the sandbox it is in.
type Container struct {
	*runtimeapi.ContainerStatus
	Sandbox string
}

// Name is that of the container in the pod's spec.
func (c *Container) Name() string { return c.GetMetadata().GetName() }

func (c *Container) running() bool       { return c.State == runtimeapi.ContainerState_CONTAINER_RUNNING }
func (c *Container) exited() bool        { return c.State == runtimeapi.ContainerState_CONTAINER_EXITED }
func (c *Container) finished() time.Time { return time.Unix(0, c.FinishedAt) }

// Sandbox is the newest sandbox, nil if there is none.
func (o Observed) Sandbox() *runtimeapi.PodSandboxStatus {
	if len(o.Sandboxes) == 0 {
		return nil
	}
	return o.Sandboxes[0]
}

// Newest is the latest container made for a container of the spec, or nil.
func (o Observed) Newest(name string) *Container {
	for _, c := range o.Containers {
		if c.Name() == name {
			return c
		}
	}
	return nil
}

// Current is the latest container of that name in the newest sandbox, or nil.
func (o Observed) Current(name string) *Container {
	box := o.Sandbox()
	for _, c := range o.Containers {
		if box != nil && c.Sandbox == box.Id && c.Name() == name {
			return c
		}
	}
	return nil
}

// Before is the latest exited container of that name that is older than c.
func (o Observed) Before(c *Container) *Container {
	for _, old := range o.Containers {
		if old.Id != c.Id && old.Name() == c.Name() && old.CreatedAt <= c.CreatedAt && old.exited() {
			return old
		}
	}
	return nil
}

// Running lists the running containers of that name; empty name: all.
func (o Observed) Running(name string) []*Container {
	var all []*Container
	for _, c := range o.Containers {
		if c.running() && (name == "" || c.Name() == name) {
			all = append(all, c)
		}
	}
	return all
}

// ready says whether the newest sandbox can hold containers. One whose
// network name space is the pod's own must have an address.
func (o Observed) ready(hostNetwork bool) bool {
	s := o.Sandbox()
	return s != nil && s.State == runtimeapi.PodSandboxState_SANDBOX_READY &&
		(hostNetwork || s.GetNetwork().GetIp() != "")
}

// Sandboxes lists the IDs of a pod's sandboxes. It costs a look at all of the
// node's; a worker does it only when it cannot know.
func Sandboxes(ctx context.Context, r Runtime, uid types.UID) ([]string, error) {
	mine := map[string]string{kubelet.KubernetesPodUIDLabel: string(uid)}
	list, err := r.ListPodSandbox(ctx, &runtimeapi.ListPodSandboxRequest{Filter: &runtimeapi.PodSandboxFilter{LabelSelector: mine}})
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, box := range list.Items {
		ids = append(ids, box.Id)
	}
	return ids, nil
}

// Observe asks the runtime for what it has of a pod in the sandboxes given;
// those that are gone are left out. settled are the statuses of exited
// containers from an earlier call, which can never change again.
func Observe(ctx context.Context, r Runtime, sandboxes []string, settled map[string]*runtimeapi.ContainerStatus) (Observed, error) {
	var o Observed
	for _, id := range sandboxes {
		s, err := r.PodSandboxStatus(ctx, &runtimeapi.PodSandboxStatusRequest{PodSandboxId: id})
		if gone(err) {
			continue
		}
		if err != nil {
			return o, err
		}
		o.Sandboxes = append(o.Sandboxes, s.Status)
		if s.Timestamp != 0 || len(s.ContainersStatuses) > 0 {
			for _, c := range s.ContainersStatuses {
				o.Containers = append(o.Containers, &Container{c, id})
			}
			continue
		}
		// The runtime does not tell of both at once.
		if err := o.ask(ctx, r, id, settled); err != nil {
			return o, err
		}
	}
	o.sort()
	return o, nil
}

// ask looks at the containers of a sandbox one by one.
func (o *Observed) ask(ctx context.Context, r Runtime, sandbox string, settled map[string]*runtimeapi.ContainerStatus) error {
	list, err := r.ListContainers(ctx, &runtimeapi.ListContainersRequest{Filter: &runtimeapi.ContainerFilter{PodSandboxId: sandbox}})
	if err != nil {
		return err
	}
	for _, c := range list.Containers {
		if s := settled[c.Id]; s != nil {
			o.Containers = append(o.Containers, &Container{s, sandbox})
			continue
		}
		s, err := r.ContainerStatus(ctx, &runtimeapi.ContainerStatusRequest{ContainerId: c.Id})
		if gone(err) {
			continue
		}
		if err != nil {
			return err
		}
		o.Containers = append(o.Containers, &Container{s.Status, sandbox})
	}
	return nil
}

func (o *Observed) sort() {
	slices.SortStableFunc(o.Sandboxes, func(a, b *runtimeapi.PodSandboxStatus) int {
		return cmp.Or(cmp.Compare(b.CreatedAt, a.CreatedAt), cmp.Compare(b.GetMetadata().GetAttempt(), a.GetMetadata().GetAttempt()))
	})
	slices.SortStableFunc(o.Containers, func(a, b *Container) int {
		return cmp.Or(cmp.Compare(b.CreatedAt, a.CreatedAt), cmp.Compare(b.GetMetadata().GetAttempt(), a.GetMetadata().GetAttempt()))
	})
}

// Known is what a worker remembers of a pod that the runtime does not know.
// A new worker starts with the zero value: what it loses is back-off.
type Known struct {
	Rejected   *Verdict  // the node refused the pod: it never starts
	Volumes    bool      // all volumes are there
	Refresh    bool      // what they are made of changed
	Renew      time.Time // when a token in them should be renewed; zero: never
	Resize     Resize    // of running containers
	Failed     *Trouble  // the last try at volumes or sandbox, if it failed
	Cleaned    bool      // the volumes of an ended pod are gone
	Deleted    bool      // the API was told that the pod has ended; a finalizer may hold it
	Removed    bool      // all of a pod that the API has no more is gone
	Stopping   time.Time // since when the pod is being ended for a reason of the node's
	Containers map[string]*ContainerKnown
	Busy       map[string]Busy // by target: a container's name, "volumes", "sandbox", "end"
}

// Verdict is why a pod is Failed by the node.
type Verdict struct {
	Reason, Message string
}

// Trouble is an attempt that failed and when to try again.
type Trouble struct {
	Reason, Message string
	At, Until       time.Time
}

// Busy is a step being taken. Deadline is for a kill: when it turns to force.
type Busy struct {
	Do       Do
	Deadline time.Time
}

// ContainerKnown is what a worker remembers of one container of a pod.
type ContainerKnown struct {
	ImageRef string   // pulled or found, for the next start
	Trouble  *Trouble // why it is not started: reason and message of "waiting"
	Pull     Backoff
	Crash    Backoff
	Probes   Probes
}

// Probes are the verdicts on the running container ID.
type Probes struct {
	ID      string
	Live    Result
	Ready   Result
	Started Result
}

// Result is what a probe says, thresholds applied.
type Result uint8

// Unset is what counts before the first verdict: success for liveness, failure for
// readiness and startup.
const (
	Unset Result = iota
	Success
	Failure
)

// Input is all that Decide looks at.
type Input struct {
	Pod     *corev1.Pod // as the API says; never nil
	Gone    bool        // the API has it no more: it was deleted by force
	Seen    Observed
	Known   Known
	Runtime string // the runtime's name, the scheme of container IDs
	HostIPs []string
	Now     time.Time

	// Message reads what a container left as its last words. It may be nil.
	Message func(c *corev1.Container, s *Container) string
}

func (in *Input) container(name string) *ContainerKnown {
	if k := in.Known.Containers[name]; k != nil {
		return k
	}
	return &ContainerKnown{}
}
