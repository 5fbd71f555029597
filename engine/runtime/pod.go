package runtime

import (
	"context"
	"syscall"

	"sampan/internal/cgroup"
	"sampan/internal/fault"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

type subscriber struct{ ch chan Event }

// Pod is a monitor and what it holds.
type Pod struct{}

func notYet(op string) error {
	return &fault.Error{Class: fault.Unavailable, Op: op, Fix: "not built yet"}
}

// StartPod makes and pins the pod's namespaces and starts its monitor.
func (r *Runtime) StartPod(ctx context.Context, cfg PodConfig) (*Pod, error) {
	return nil, notYet("start pod")
}

// OpenPod takes over a pod that runs; fault.NotFound if its monitor is gone.
func (r *Runtime) OpenPod(ctx context.Context, id string) (*Pod, error) {
	return nil, notYet("open pod")
}

// Pods lists the pods that have a directory, running or not.
func (r *Runtime) Pods(ctx context.Context) ([]string, error) { return nil, notYet("list pods") }

// RemoveDead clears what a pod without a monitor left behind: pins, cgroups of
// its containers, files. Processes that still run in those cgroups are killed.
func (r *Runtime) RemoveDead(ctx context.Context, id string) error { return notYet("remove pod") }

// Events delivers the exits of all opened pods until ctx ends. Exits seen
// while nobody was connected are delivered when the pod is opened.
func (r *Runtime) Events(ctx context.Context) <-chan Event { return nil }

// Close leaves all pods running and ends the connections to their monitors.
func (r *Runtime) Close() error { return notYet("close runtime") }

// ID is the pod's.
func (p *Pod) ID() string { return "" }

// Config is what the pod was started with, also after a take-over.
func (p *Pod) Config() PodConfig { return PodConfig{} }

// NetNS is the path of the pinned network namespace; empty with HostNetwork.
func (p *Pod) NetNS() string { return "" }

// MonitorPID is the monitor's process.
func (p *Pod) MonitorPID() int { return 0 }

// Start runs a container's process: from clone3 to execve in one go.
func (p *Pod) Start(ctx context.Context, cfg ContainerConfig) (State, error) {
	return State{}, notYet("start container")
}

// State of one container; fault.NotFound if the pod does not know it.
func (p *Pod) State(ctx context.Context, id string) (State, error) {
	return State{}, notYet("read state")
}

// List has the states of all containers, running and exited.
func (p *Pod) List(ctx context.Context) ([]State, error) { return nil, notYet("list containers") }

// Wait returns when the container has ended.
func (p *Pod) Wait(ctx context.Context, id string) (Exit, error) { return Exit{}, notYet("wait") }

// Signal goes to the container's first process, or with all to every process in its cgroup.
func (p *Pod) Signal(ctx context.Context, id string, sig syscall.Signal, all bool) error {
	return notYet("signal")
}

// Exec runs a process inside a running container and returns when it has ended
// and its output is delivered.
func (p *Pod) Exec(ctx context.Context, id string, cfg ExecConfig, s Streams) (Exit, error) {
	return Exit{}, notYet("exec")
}

// Attach connects to the container's own process until it ends or ctx does.
func (p *Pod) Attach(ctx context.Context, id string, s Streams) error { return notYet("attach") }

// Resize sets the size of the container's terminal.
func (p *Pod) Resize(ctx context.Context, id string, w, h uint16) error { return notYet("resize") }

// ReopenLog makes the monitor open the log path anew, after somebody moved the file.
func (p *Pod) ReopenLog(ctx context.Context, id string) error { return notYet("reopen log") }

// Update changes limits of a running container.
func (p *Pod) Update(ctx context.Context, id string, res *specs.LinuxResources) error {
	return notYet("update")
}

// Stats is what the container uses.
func (p *Pod) Stats(ctx context.Context, id string) (cgroup.Stats, error) {
	return cgroup.Stats{}, notYet("read statistics")
}

// Freeze stops all processes of the container, Thaw lets them go on.
func (p *Pod) Freeze(ctx context.Context, id string) error { return notYet("freeze") }

// Thaw undoes Freeze.
func (p *Pod) Thaw(ctx context.Context, id string) error { return notYet("thaw") }

// Explain is the list of system calls that started the container, as text.
func (p *Pod) Explain(ctx context.Context, id string) (string, error) { return "", notYet("explain") }

// Remove forgets an exited container: its cgroup and records are gone afterwards. Nil if it is gone already.
func (p *Pod) Remove(ctx context.Context, id string) error { return notYet("remove container") }

// Close kills every container, ends the monitor and removes the pod's
// namespaces' pins and files. Nil if it is gone already.
func (p *Pod) Close(ctx context.Context) error { return notYet("close pod") }
