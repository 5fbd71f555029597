package engine

import (
	"net/netip"
	"time"
)

// Sandbox is what containers share: network, ipc and uts namespaces, a cgroup
// parent, and the monitor that is their parent process.
type Sandbox struct {
	ID      string
	Config  SandboxConfig
	State   SandboxState
	Created time.Time
	NetNS   string       // path of the network namespace; empty for the host's
	IPs     []netip.Addr // the first is the primary one
	// Standalone says that the sandbox exists for one container of the same
	// ID, and comes and goes with it.
	Standalone bool
}

// SandboxState is whether containers can be started in a sandbox.
type SandboxState string

const (
	SandboxReady    SandboxState = "ready"
	SandboxNotReady SandboxState = "notready"
)

// NetworkMode is where a sandbox gets its network from.
type NetworkMode string

const (
	// NetworkDefault is the engine's own network for stand-alone containers.
	NetworkDefault NetworkMode = "default"
	// NetworkNone is a network namespace with a loopback interface only. A
	// caller that brings its own network plugs it in afterwards (SetAddresses).
	NetworkNone NetworkMode = "none"
	// NetworkHost is the network namespace the program runs in.
	NetworkHost NetworkMode = "host"
)

// SandboxConfig says what a sandbox is to be like. It does not change after.
type SandboxConfig struct {
	Name        string // unique among sandboxes if not empty
	Hostname    string // default: the first 12 digits of the ID, or the host's with the host's network
	Labels      map[string]string
	Annotations map[string]string

	Network  NetworkMode // default NetworkDefault
	HostIPC  bool
	HostPID  bool
	SharePID bool // one process namespace for all containers of the sandbox
	DNS      DNS
	Hosts    []HostAlias
	Ports    []PortMapping
	Sysctls  map[string]string

	// CgroupParent is a path from the root of the cgroup hierarchies; empty
	// means the engine's own.
	CgroupParent string
	LogDirectory string
	ShmBytes     int64 // size of /dev/shm; default 64 MiB

	// Meta is kept for whoever made the sandbox; the engine does not look at it.
	Meta []byte
}

// DNS is what resolv.conf is made of. The zero value is a copy of the host's.
type DNS struct {
	Servers  []string
	Searches []string
	Options  []string
}

// HostAlias is a line of /etc/hosts.
type HostAlias struct {
	IP    string
	Names []string
}

// PortMapping publishes a port of a sandbox on the host.
type PortMapping struct {
	Protocol      string // tcp, udp or sctp; default tcp
	ContainerPort uint16
	HostPort      uint16
	HostIP        string // default: all addresses
}

// Container is a container as it is now: what was asked for and what became
// of it. A value handed out is the receiver's own.
type Container struct {
	ID      string
	Sandbox string
	Image   string // ID of the image
	Config  ContainerConfig
	Status  Status
	Created time.Time
}

// State is where a container is in its life.
type State string

const (
	Created State = "created"
	Running State = "running"
	Exited  State = "exited"
	Unknown State = "unknown" // its monitor is gone and left no record
)

// Status is the part of a container that changes.
type Status struct {
	State     State
	Pid       int `json:",omitempty"`
	Started   time.Time
	Finished  time.Time
	ExitCode  int
	Signal    int    `json:",omitempty"` // the signal that ended it
	OOMKilled bool   `json:",omitempty"`
	Error     string `json:",omitempty"` // why it could not be started
	Restarts  int    `json:",omitempty"`
	User      *User  `json:",omitempty"` // who its process was started as
}

// User is whom a process runs as.
type User struct {
	UID, GID uint32
	Groups   []uint32
}

// ContainerConfig says what a container is to be like.
type ContainerConfig struct {
	Name        string // unique if not empty
	Image       string // as the user wrote it
	Entrypoint  []string
	Command     []string
	NoImageCmd  bool     // the image's command is not used even where Command is empty
	Env         []string // added to the image's, replacing what has the same name
	WorkingDir  string
	User        string // "", "name", "uid", "name:group", "uid:gid"
	Groups      []uint32
	StrictGroup bool // only Groups, not those of the image's /etc/group (KEP-3619)
	MergeGroups bool // those of the image's /etc/group also where User names a group
	Labels      map[string]string
	Annotations map[string]string

	Mounts  []Mount
	Devices []Device

	CapAdd, CapDrop []string // with or without CAP_, or ALL
	CapAmbient      []string
	Privileged      bool
	ReadOnlyRootFS  bool
	NoNewPrivileges bool
	Seccomp         string   // "" or "default", "unconfined", or the path of a profile
	MaskedPaths     []string // nil: the usual ones; empty: none
	ReadonlyPaths   []string // nil: the usual ones; empty: none
	PID             string   // "": its own or the sandbox's, "host", "container:ID"
	CgroupHost      bool     // no cgroup namespace of its own

	Resources   Resources
	OOMScoreAdj int
	Rlimits     []Rlimit

	Stdin, StdinOnce, TTY bool

	LogPath     string // default: in the container's directory
	LogFormat   string // cri, json-file (default) or none
	LogMaxBytes int64
	LogMaxFiles int

	StopSignal  string        // default: the image's, or SIGTERM
	StopTimeout time.Duration // default 10 s
	AutoRemove  bool
	Detached    bool // nobody waits: Config.Self settles it at its end

	Meta []byte // kept for whoever made the container
}

// Mount is a file or directory that a container sees at Target.
type Mount struct {
	Type              string // bind, volume, tmpfs, image
	Source            string // path on the host, the volume's name, or the image's ID
	SubPath           string `json:",omitempty"` // of an image: what of its files is mounted
	Target            string
	ReadOnly          bool
	RecursiveReadOnly bool
	Propagation       string // rprivate (default), rslave, rshared
	Options           []string
}

// Device is a device node of the host that a container gets.
type Device struct {
	HostPath      string
	ContainerPath string
	Permissions   string // of r, w, m
}

// Resources are a container's limits. Zero means none.
type Resources struct {
	CPUShares   uint64            `json:",omitempty"`
	CPUQuota    int64             `json:",omitempty"` // µs a period
	CPUPeriod   uint64            `json:",omitempty"` // µs
	CPUs        string            `json:",omitempty"` // cpuset
	Mems        string            `json:",omitempty"`
	MemoryBytes int64             `json:",omitempty"`
	SwapBytes   int64             `json:",omitempty"` // memory and swap together
	Pids        int64             `json:",omitempty"`
	HugePages   map[string]uint64 `json:",omitempty"` // page size, e.g. 2MB → bytes
	Unified     map[string]string `json:",omitempty"` // cgroup v2 files
}

// Rlimit is one of setrlimit(2)'s, e.g. RLIMIT_NOFILE.
type Rlimit struct {
	Type       string
	Soft, Hard uint64
}

// Volume is a named directory that outlives containers.
type Volume struct {
	Name    string
	Path    string
	Created time.Time
	Labels  map[string]string
}

// EventType is what happened to a container or sandbox.
type EventType string

const (
	EventCreated EventType = "created"
	EventStarted EventType = "started"
	EventStopped EventType = "stopped"
	EventDeleted EventType = "deleted"
)

// Event tells that something happened. Container is empty for an event of
// the sandbox itself.
type Event struct {
	Type      EventType
	Sandbox   string
	Container string
	At        time.Time
}
