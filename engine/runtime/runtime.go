// Package runtime turns an OCI runtime configuration into a running process
// and keeps track of it: pods (shared namespaces and the monitor that holds
// them), containers, processes executed in them.
//
// Deciding is apart from doing: compile makes a Program, a list of system
// calls, out of a specs.Spec, and can be read and tested without a kernel; the
// monitor's child carries the list out. Nothing here knows images, networks or
// Kubernetes.
package runtime

import (
	"log/slog"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"sampan/internal/cgroup"
	"sampan/internal/fault"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Config says where a Runtime keeps its files and whom it tells.
type Config struct {
	// Dir holds, for each pod, its monitor's socket, pinned namespaces, exit
	// files and the configurations of its containers. It has to be on a file
	// system that a reboot clears (/run/sampan/pods): its content describes
	// processes. It is made with the first pod.
	Dir string

	// MonitorCgroup is where monitors sit, outside every container's group:
	// a path below each hierarchy's root, made if it is not there. Empty leaves
	// them in the caller's group.
	MonitorCgroup string

	// Cgroups are the hierarchies to use; nil means those in
	// /proc/self/mountinfo.
	Cgroups *cgroup.Tree

	// Log may be nil.
	Log *slog.Logger
}

// Runtime starts pods and finds those that run already. It is safe for
// concurrent use, and several processes may use one Dir at once.
type Runtime struct {
	cfg Config
	log *slog.Logger
	cgs *cgroup.Tree

	filters filters

	mu   sync.Mutex // guards all below
	pods map[string]*Pod
	subs map[*subscriber]struct{}
}

// New checks cfg. It starts nothing.
func New(cfg Config) (*Runtime, error) {
	if cfg.Dir == "" || !filepath.IsAbs(cfg.Dir) {
		return nil, &fault.Error{Class: fault.Invalid, Op: "open runtime directory", On: cfg.Dir, Fix: "give an absolute path"}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	tree := cfg.Cgroups
	if tree == nil {
		var err error
		if tree, err = cgroup.Detect(); err != nil {
			return nil, err
		}
	}
	return &Runtime{cfg: cfg, log: cfg.Log, cgs: tree, pods: map[string]*Pod{}, subs: map[*subscriber]struct{}{}}, nil
}

// Cgroups is the tree of control groups the runtime puts containers into.
func (r *Runtime) Cgroups() *cgroup.Tree { return r.cgs }

// PodConfig is what containers of a pod share.
type PodConfig struct {
	ID       string // unique in Dir; letters, digits, '-', '_' and '.'
	Hostname string // of the new uts namespace; empty keeps the machine's
	// Sysctls are written in the pod's own namespaces; one that belongs to a
	// namespace the pod shares with the machine is an error.
	Sysctls map[string]string
	// HostNetwork, HostIPC, HostUTS keep the machine's namespace. HostPID lets
	// containers see the machine's processes; SharePID makes one process
	// namespace for the pod with a reaper as process 1. With neither, each
	// container has its own.
	HostNetwork, HostIPC, HostUTS, HostPID, SharePID bool
	NetNS                                            string // path of a network namespace to join instead of a new one
	// Connect, if not nil, is called with the path of the pod's pinned network
	// namespace while its monitor starts, which takes about as long.
	Connect      func(netns string) error `json:"-"`
	Labels       map[string]string        // kept, not interpreted
	CgroupParent string                   // kept; where SharePID's reaper sits
}

// ContainerConfig is one container. Spec's namespaces of type network, ipc,
// uts and pid without a path mean the pod's (pid: a new one unless the pod
// shares); leave them out to get exactly the pod's.
type ContainerConfig struct {
	ID     string
	Spec   *specs.Spec
	RootFS string // mounted already; overrides Spec.Root.Path
	Cgroup string // overrides Spec.Linux.CgroupsPath
	// NewPID gives the container a process namespace of its own although the
	// pod shares one; TargetPID joins the one of a running container of the
	// same pod.
	NewPID    bool
	TargetPID string

	Stdin, StdinOnce, TTY bool
	LogPath               string // empty keeps no log
	LateLog               bool   // the log's file is made with the first thing written
	LogFormat             string // "cri" (default) or "json-file"
	LogMaxSize            int64  // bytes before rotation; 0 never
	LogMaxFiles           int    // rotated files kept beside the current one; 0 means 1 with LogMaxSize
	// OnExit is a program with arguments that the monitor runs on the machine
	// after the container has ended (sampan rm, say).
	OnExit []string
}

// Status is where a container is in its life.
type Status string

const (
	Running Status = "running"
	Exited  Status = "exited"
)

// State is what is known of a container now.
type State struct {
	ID        string
	Status    Status
	Pid       int    // in the machine's process namespace; 0 after exit
	StartTime uint64 // field 22 of /proc/PID/stat: tells a reused Pid apart
	StartedAt time.Time
	Exit      Exit // valid when Status is Exited
	Cgroup    string
	Warnings  []string // steps that the kernel refused and that were not necessary
}

// Exit is how a process ended. Code follows the shell: 128 + signal when a
// signal ended it.
type Exit struct {
	Code      int
	Signal    syscall.Signal // 0 if it exited by itself
	OOMKilled bool
	At        time.Time
}

// Event tells of a container's end.
type Event struct {
	Pod, Container string
	Exit           Exit
	// Gone means the pod's monitor itself ended: Container is empty, and what
	// it held has been killed by the kernel.
	Gone bool
}

// ExecConfig is a process to run in a running container. Zero values take what
// the container's own process has.
type ExecConfig struct {
	Args            []string
	Env             []string // replaces the container's if not nil
	Cwd             string
	User            *specs.User
	TTY             bool
	Size            Size // first size of the terminal
	Capabilities    *specs.LinuxCapabilities
	NoNewPrivileges *bool
	Privileged      bool // all capabilities, no seccomp filter
}
