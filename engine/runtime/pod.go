package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"sampan/engine/monitor"
	"sampan/engine/monitor/wire"
	"sampan/internal/fault"
	"sampan/internal/linux"
)

// Pod is a monitor and what it holds. It is safe for concurrent use.
type Pod struct {
	r     *Runtime
	cfg   PodConfig
	dir   string
	child int // the monitor, if it is a child of this process

	mu     sync.Mutex // guards all below
	client *monitor.Client
	procs  map[string]*proc
	execs  uint64
	gone   bool
	closed bool // by Close: its end is no event
	left   bool // by Runtime.Close: it runs on, unwatched
}

const podFile = "pod.json"

// StartPod makes and pins the pod's namespaces and starts its monitor.
func (r *Runtime) StartPod(ctx context.Context, cfg PodConfig) (*Pod, error) {
	if !validID(cfg.ID) {
		return nil, &fault.Error{Class: fault.Invalid, Op: "start pod", On: cfg.ID, Fix: "use letters, digits, '-', '_' and '.', at most 128"}
	}
	if err := checkSysctls(cfg); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(r.cfg.Dir, 0o711); err != nil {
		return nil, &fault.Error{Class: fault.Unavailable, Op: "make runtime directory", On: r.cfg.Dir, Err: err}
	}
	bin, err := monitor.Install(r.cfg.Dir)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(r.cfg.Dir, cfg.ID)
	if err := os.Mkdir(dir, 0o700); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return nil, &fault.Error{Class: fault.Exists, Op: "start pod", On: cfg.ID, Fix: "open it, or remove what is left of it"}
		}
		return nil, &fault.Error{Class: fault.Unavailable, Op: "start pod", On: cfg.ID, Err: err}
	}
	p := &Pod{r: r, cfg: cfg, dir: dir, procs: map[string]*proc{}}
	pid := 0
	undo := func(err error) (*Pod, error) {
		if pid > 0 {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			_ = monitor.Reap(pid)
		}
		_ = removePodDir(dir)
		return nil, err
	}
	for _, d := range []string{"ns", "exit", "ctr"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			return undo(&fault.Error{Class: fault.Unavailable, Op: "start pod", On: cfg.ID, Err: err})
		}
	}
	// Written before the monitor lives: whoever finds a monitor finds this.
	if err := writeJSON(filepath.Join(dir, podFile), cfg); err != nil {
		return undo(err)
	}
	plugged := make(chan error, 1)
	plug := func() {
		if cfg.Connect == nil || cfg.HostNetwork {
			plugged <- nil
			return
		}
		go func() { plugged <- cfg.Connect(p.NetNS()) }()
	}
	// The thread is in other namespaces afterwards, and ends.
	pinned := false
	err = linux.OnThread(func() (err error) {
		pid, err = p.spawn(bin, func() { pinned = true; plug() })
		return err
	})
	if err == nil {
		p.child = pid
		err = p.connect(ctx, true)
	}
	if pinned {
		if perr := <-plugged; err == nil && perr != nil {
			p.mu.Lock()
			p.closed, p.child = true, 0
			p.mu.Unlock()
			p.conn().Close()
			err = perr
		}
	}
	if err != nil {
		p.mu.Lock()
		p.child = 0
		p.mu.Unlock()
		return undo(err)
	}
	if cfg.SharePID {
		if err := p.startReaper(ctx, bin); err != nil {
			p.mu.Lock()
			p.closed, p.child = true, 0
			p.mu.Unlock()
			p.conn().Close()
			return undo(err)
		}
	}
	r.mu.Lock()
	r.pods[cfg.ID] = p
	r.mu.Unlock()
	return p, nil
}

// spawn runs on a thread of its own: what it enters, the monitor inherits. It
// calls pinned once the namespaces have their places.
func (p *Pod) spawn(bin string, pinned func()) (int, error) {
	cfg := p.cfg
	fail := func(op string, err error) (int, error) {
		return 0, &fault.Error{Class: fault.Unavailable, Op: op, On: "pod " + cfg.ID, Err: err}
	}
	start := monitor.StartConfig{Binary: bin, Name: cfg.ID, Dir: p.dir}
	if p.r.cfg.MonitorCgroup != "" {
		tasks, unified, err := p.r.monitorGroup()
		if err != nil {
			return 0, err
		}
		for _, t := range tasks {
			if _, err := t.WriteString("0"); err != nil {
				p.r.log.Warn("monitor stays in this process's control group", "file", t.Name(), "err", err)
			}
			t.Close()
		}
		if unified != nil {
			defer unified.Close()
			start.Cgroup = unified
		}
	}
	flags := 0
	if !cfg.HostIPC {
		flags |= linux.NewIPC
	}
	if !cfg.HostUTS {
		flags |= linux.NewUTS
	}
	if !cfg.HostNetwork && cfg.NetNS == "" {
		flags |= linux.NewNet
	}
	if flags != 0 {
		if err := linux.Unshare(flags); err != nil {
			return fail("make namespaces", err)
		}
	}
	if cfg.NetNS != "" {
		f, err := os.Open(cfg.NetNS)
		if err != nil {
			return fail("open network namespace", err)
		}
		err = linux.Setns(int(f.Fd()), linux.NewNet)
		f.Close()
		if err != nil {
			return fail("enter network namespace "+cfg.NetNS, err)
		}
	}
	if flags&linux.NewNet != 0 {
		if err := linux.LoopbackUp(); err != nil {
			return fail("switch lo on", err)
		}
	}
	if flags&linux.NewUTS != 0 && cfg.Hostname != "" {
		if err := linux.SetHostname(cfg.Hostname); err != nil {
			return fail("set hostname "+cfg.Hostname, err)
		}
	}
	for _, k := range sortedKeys(cfg.Sysctls) {
		if err := os.WriteFile(sysctlPath(k), []byte(cfg.Sysctls[k]), 0o644); err != nil {
			return 0, &fault.Error{Class: fault.Invalid, Op: "set sysctl " + k + "=" + cfg.Sysctls[k], On: "pod " + cfg.ID, Err: err}
		}
	}
	for name, on := range map[string]bool{"ipc": flags&linux.NewIPC != 0, "uts": flags&linux.NewUTS != 0, "net": !cfg.HostNetwork} {
		if !on {
			continue
		}
		pin := filepath.Join(p.dir, "ns", name)
		if err := os.WriteFile(pin, nil, 0o600); err != nil {
			return fail("pin namespace", err)
		}
		if err := syscall.Mount("/proc/thread-self/ns/"+name, pin, "", syscall.MS_BIND, ""); err != nil {
			return fail("pin namespace on "+pin, err)
		}
	}
	pinned()
	return monitor.Start(start)
}

func (r *Runtime) monitorGroup() (tasks []*os.File, unified *os.File, err error) {
	g := r.cgs.Group(r.cfg.MonitorCgroup)
	if tasks, unified, err = g.Join(); err == nil {
		return tasks, unified, nil
	}
	if err := g.Create(); err != nil {
		return nil, nil, err
	}
	return g.Join()
}

// checkSysctls refuses what would change the machine instead of the pod. The
// list is of sysctls that a namespace has its own value of (Kubernetes, using
// sysctls in a cluster).
func checkSysctls(cfg PodConfig) error {
	for k := range cfg.Sysctls {
		k = strings.ReplaceAll(k, "/", ".")
		shared, known := false, true
		switch {
		case strings.HasPrefix(k, "net."):
			shared = cfg.HostNetwork
		case strings.HasPrefix(k, "kernel.shm"), strings.HasPrefix(k, "kernel.msg"), k == "kernel.sem", strings.HasPrefix(k, "fs.mqueue."):
			shared = cfg.HostIPC
		case k == "kernel.hostname", k == "kernel.domainname":
			shared = cfg.HostUTS
		default:
			known = false
		}
		if !known {
			return &fault.Error{Class: fault.Invalid, Op: "set sysctl " + k, On: "pod " + cfg.ID, Fix: "it is not namespaced: set it on the machine"}
		}
		if shared {
			return &fault.Error{Class: fault.Invalid, Op: "set sysctl " + k, On: "pod " + cfg.ID, Fix: "the pod shares that namespace with the machine"}
		}
	}
	return nil
}

func validID(id string) bool {
	if id == "" || len(id) > 128 || id[0] == '.' || id[0] == '-' {
		return false
	}
	return !slices.ContainsFunc([]byte(id), func(c byte) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.'
	})
}

// connect dials the monitor and learns what it knows, which is nothing if it is
// fresh.
func (p *Pod) connect(ctx context.Context, fresh bool) error {
	c, err := monitor.Dial(ctx, p.dir, p.pushed)
	if err != nil {
		return err
	}
	if !fresh {
		if err := p.learn(ctx, c); err != nil {
			c.Close()
			return err
		}
	}
	p.mu.Lock()
	p.client = c
	p.mu.Unlock()
	return nil
}

// OpenPod takes over a pod that runs; fault.NotFound if its monitor is gone.
func (r *Runtime) OpenPod(ctx context.Context, id string) (*Pod, error) {
	r.mu.Lock()
	p := r.pods[id]
	r.mu.Unlock()
	if p != nil && !p.isGone() {
		return p, nil
	}
	if !validID(id) {
		return nil, &fault.Error{Class: fault.NotFound, Op: "open pod", On: id}
	}
	p = &Pod{r: r, dir: filepath.Join(r.cfg.Dir, id), procs: map[string]*proc{}}
	if err := readJSON(filepath.Join(p.dir, podFile), &p.cfg); err != nil {
		return nil, &fault.Error{Class: fault.NotFound, Op: "open pod", On: id, Err: err}
	}
	if err := p.connect(ctx, false); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if other := r.pods[id]; other != nil && !other.isGone() {
		go p.conn().Close() // another goroutine was first; pushed may hold r.mu
		return other, nil
	}
	r.pods[id] = p
	return p, nil
}

// Pods lists the pods that have a directory, running or not.
func (r *Runtime) Pods(ctx context.Context) ([]string, error) {
	entries, err := os.ReadDir(r.cfg.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, &fault.Error{Class: fault.Unavailable, Op: "list pods", On: r.cfg.Dir, Err: err}
	}
	var out []string
	for _, e := range entries {
		if e.IsDir() && validID(e.Name()) {
			out = append(out, e.Name())
		}
	}
	return out, nil
}

// Close leaves all pods running and ends the connections to their monitors.
func (r *Runtime) Close() error {
	r.mu.Lock()
	pods := r.pods
	r.pods = map[string]*Pod{}
	r.mu.Unlock()
	for _, p := range pods {
		p.mu.Lock()
		p.closed, p.left, p.child = true, true, 0
		p.mu.Unlock()
		p.conn().Close()
	}
	return nil
}

// ID is the pod's.
func (p *Pod) ID() string { return p.cfg.ID }

// Config is what the pod was started with, also after a take-over.
func (p *Pod) Config() PodConfig { return p.cfg }

// NetNS is the path of the pinned network namespace; empty with HostNetwork.
func (p *Pod) NetNS() string {
	if p.cfg.HostNetwork {
		return ""
	}
	return filepath.Join(p.dir, "ns", "net")
}

// MonitorPID is the monitor's process.
func (p *Pod) MonitorPID() int { return p.conn().Pid }

// conn is the connection to the monitor; another one after it was lost.
func (p *Pod) conn() *monitor.Client {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.client
}

func (p *Pod) isGone() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.gone
}

// Close kills every container, ends the monitor and removes the pod's
// namespaces' pins and files. Nil if it is gone already.
func (p *Pod) Close(ctx context.Context) error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	for _, group := range cgroupsOf(p.dir) {
		if err := p.r.cgs.Group(group).Kill(); err != nil {
			p.r.log.Warn("kill control group", "key", group, "err", err)
		}
	}
	if !p.isGone() {
		// An error means it ended meanwhile, or never answers: the directory's
		// removal below finds out which.
		_, _ = p.conn().Call(ctx, wire.Request{Header: wire.Header{Type: wire.Shutdown}})
		select {
		case <-p.conn().Done():
		case <-ctx.Done():
			return &fault.Error{Class: fault.Unavailable, Op: "end monitor", On: "pod " + p.cfg.ID, Err: ctx.Err()}
		}
	}
	p.r.mu.Lock()
	if p.r.pods[p.cfg.ID] == p {
		delete(p.r.pods, p.cfg.ID)
	}
	p.r.mu.Unlock()
	return p.r.RemoveDead(ctx, p.cfg.ID)
}

// RemoveDead clears what a pod without a monitor left behind: pins, cgroups of
// its containers, files. Processes that still run in those cgroups are killed.
func (r *Runtime) RemoveDead(ctx context.Context, id string) error {
	if !validID(id) {
		return &fault.Error{Class: fault.Invalid, Op: "remove pod", On: id}
	}
	dir := filepath.Join(r.cfg.Dir, id)
	c, err := monitor.Dial(ctx, dir, func(wire.Reply) {})
	if err == nil {
		c.Close()
		return &fault.Error{Class: fault.Conflict, Op: "remove pod", On: id, Fix: "its monitor lives: open and close it"}
	}
	for _, group := range cgroupsOf(dir) {
		g := r.cgs.Group(group)
		if err := g.Kill(); err != nil {
			return err
		}
		if err := g.Destroy(ctx); err != nil {
			return err
		}
	}
	return removePodDir(dir)
}

// removePodDir unmounts the pins and deletes the directory.
func removePodDir(dir string) error {
	for _, ns := range []string{"net", "ipc", "uts"} {
		pin := filepath.Join(dir, "ns", ns)
		if err := syscall.Unmount(pin, syscall.MNT_DETACH); err != nil && err != syscall.ENOENT && err != syscall.EINVAL {
			return &fault.Error{Class: fault.Unavailable, Op: "unpin namespace", On: pin, Err: err}
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		return &fault.Error{Class: fault.Unavailable, Op: "remove pod directory", On: dir, Err: err}
	}
	return nil
}

// cgroupsOf lists the control groups of a pod's containers, for clearing up: a
// container whose record cannot be read has never started.
func cgroupsOf(dir string) []string {
	files, _ := filepath.Glob(filepath.Join(dir, "ctr", "*.json"))
	var out []string
	for _, f := range files {
		var c struct{ Cgroup string }
		if err := readJSON(f, &c); err == nil && c.Cgroup != "" {
			out = append(out, c.Cgroup)
		}
	}
	return out
}

// writeJSON replaces a file as a whole; without fsync, as what it describes
// does not survive a power failure either.
func writeJSON(path string, v any) error {
	b, err := json.Marshal(v)
	if err == nil {
		tmp := path + ".tmp"
		if err = os.WriteFile(tmp, b, 0o600); err == nil {
			err = os.Rename(tmp, path)
		}
	}
	if err != nil {
		return &fault.Error{Class: fault.Unavailable, Op: "write", On: path, Err: err}
	}
	return nil
}

func readJSON(path string, v any) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, v)
}
