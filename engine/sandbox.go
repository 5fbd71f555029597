package engine

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"sampan/engine/network"
	"sampan/engine/runtime"
	"sampan/internal/fault"
)

// sandboxRecord is a sandbox on disk. Whether it is ready is also a question
// of whether its monitor lives, which is asked each time.
type sandboxRecord struct {
	Sandbox
	Stopped bool // network and monitor are given back
	Removed bool // removal has begun and is to be finished
	// Volatile says that its place, and its container's, is below Run.
	Volatile bool `json:",omitempty"`
}

// CreateSandbox makes the namespaces and the monitor. The sandbox is not ready
// before SetAddresses was called, unless the engine itself connects it
// (NetworkDefault, NetworkHost).
func (e *Engine) CreateSandbox(ctx context.Context, c SandboxConfig) (Sandbox, error) {
	return e.createSandbox(ctx, newID(), c, nil)
}

// createSandbox makes a sandbox, for one container only if that is given.
func (e *Engine) createSandbox(ctx context.Context, id string, c SandboxConfig, only *ContainerConfig) (Sandbox, error) {
	if err := e.live(ctx); err != nil {
		return Sandbox{}, err
	}
	standalone := only != nil
	if c.Network == "" {
		c.Network = NetworkDefault
	}
	if c.Hostname == "" && c.Network != NetworkHost {
		c.Hostname = id[:12]
	}
	if c.CgroupParent == "" {
		c.CgroupParent = e.CgroupRoot() + "/containers"
	}
	s := sandboxRecord{Sandbox: Sandbox{ID: id, Config: c, State: SandboxNotReady, Created: time.Now(), Standalone: standalone}, Volatile: standalone && only.AutoRemove}
	dir, commit, undo, err := e.begin(ctx, "sandboxes", id, s.Volatile)
	if err != nil {
		return Sandbox{}, err
	}
	if err := e.reserve(ctx, "s", c.Name, id, s.Volatile); err != nil {
		undo()
		return Sandbox{}, err
	}
	if standalone { // its namespaces come and go with the container's process
		err = e.writeFiles(dir, &s)
	} else {
		err = e.startSandbox(ctx, dir, &s)
	}
	if err == nil {
		err = save(filepath.Join(dir, "sandbox.json"), &s)
	}
	if err == nil {
		err = commit()
	}
	if err != nil {
		clean := context.WithoutCancel(ctx)
		err = join(in("create sandbox", short(id), err), e.endSandbox(clean, &s))
		e.release("s", c.Name, id)
		undo()
		return Sandbox{}, err
	}
	if !standalone {
		e.events.emit(Event{Type: EventCreated, Sandbox: id, At: s.Created})
		if s.State == SandboxReady {
			e.events.emit(Event{Type: EventStarted, Sandbox: id, At: time.Now()})
		}
	}
	return s.Sandbox, nil
}

// startSandbox starts the monitor and connects it, and writes the files that
// depend on the address.
func (e *Engine) startSandbox(ctx context.Context, dir string, s *sandboxRecord) error {
	c := &s.Config
	if !s.Standalone && !c.HostIPC {
		if err := e.mountShm(s); err != nil {
			return err
		}
	}
	s.IPs = nil
	cfg := podConfig(s)
	if c.Network == NetworkDefault {
		ports, err := hostPorts(c.Ports)
		if err != nil {
			return err
		}
		cfg.Connect = func(netns string) error {
			res, err := e.network.Attach(ctx, network.Request{ID: s.ID, NetNS: netns, Ports: ports})
			s.IPs = []netip.Addr{res.IP}
			return err
		}
	}
	pod, err := e.Runtime.StartPod(ctx, cfg)
	if err != nil {
		return err
	}
	s.NetNS = pod.NetNS()
	if c.Network != NetworkNone || s.Standalone {
		s.State = SandboxReady
	}
	return e.writeFiles(dir, s)
}

// podConfig is the sandbox in the runtime's terms.
func podConfig(s *sandboxRecord) runtime.PodConfig {
	c := &s.Config
	return runtime.PodConfig{
		ID: s.ID, Hostname: c.Hostname, Sysctls: c.Sysctls, CgroupParent: c.CgroupParent,
		HostNetwork: c.Network == NetworkHost, HostIPC: c.HostIPC, HostUTS: c.Network == NetworkHost && c.Hostname == "",
		HostPID: c.HostPID, SharePID: c.SharePID,
	}
}

// hostPorts are the ports to publish in the network's terms.
func hostPorts(list []PortMapping) ([]network.Port, error) {
	var out []network.Port
	for _, p := range list {
		port := network.Port{Protocol: p.Protocol, HostPort: p.HostPort, ContainerPort: p.ContainerPort}
		if port.Protocol == "" {
			port.Protocol = "tcp"
		}
		if p.HostIP != "" && p.HostIP != "0.0.0.0" {
			ip, err := netip.ParseAddr(p.HostIP)
			if err != nil {
				return nil, invalid("host address", p.HostIP, "it is no IP address")
			}
			port.HostIP = ip
		}
		if p.HostPort == 0 || p.ContainerPort == 0 {
			return nil, invalid("port mapping", port.String(), "both ports have to be given")
		}
		out = append(out, port)
	}
	return out, nil
}

// SetAddresses makes a sandbox ready whose network the caller has plugged in.
func (e *Engine) SetAddresses(ctx context.Context, id string, ips []netip.Addr) (Sandbox, error) {
	unlock, s, err := e.lockSandbox(ctx, id)
	if err != nil {
		return Sandbox{}, err
	}
	defer unlock()
	s.IPs, s.State = ips, SandboxReady
	if err := e.writeFiles(e.place("sandboxes", id), s); err != nil {
		return Sandbox{}, err
	}
	if err := save(e.place("sandboxes", id, "sandbox.json"), s); err != nil {
		return Sandbox{}, err
	}
	e.events.emit(Event{Type: EventStarted, Sandbox: id, At: time.Now()})
	return s.Sandbox, nil
}

// Sandbox returns the sandbox as it is now.
func (e *Engine) Sandbox(ctx context.Context, id string) (Sandbox, error) {
	r, err := e.sandbox(id)
	if err != nil {
		return Sandbox{}, err
	}
	s := r.Sandbox
	if s.State == SandboxReady {
		if _, err := e.Runtime.OpenPod(ctx, id); fault.ClassOf(err) == fault.NotFound {
			s.State = SandboxNotReady
		} else if err != nil {
			return Sandbox{}, err
		}
	}
	return s, nil
}

// Sandboxes lists all sandboxes, those of stand-alone containers left out.
func (e *Engine) Sandboxes(ctx context.Context) ([]Sandbox, error) {
	ids, err := e.ids("sandboxes")
	if err != nil {
		return nil, err
	}
	out := make([]Sandbox, 0, len(ids))
	for _, id := range ids {
		s, err := e.Sandbox(ctx, id)
		if fault.ClassOf(err) == fault.NotFound {
			continue
		}
		if err != nil {
			return nil, err
		}
		if !s.Standalone {
			out = append(out, s)
		}
	}
	return out, nil
}

// StopSandbox kills what runs in the sandbox and ends its monitor. Nil if that
// is done already.
func (e *Engine) StopSandbox(ctx context.Context, id string) error {
	return again(ctx, func() error { return e.stopSandbox(ctx, id) })
}

func (e *Engine) stopSandbox(ctx context.Context, id string) error {
	unlock, s, err := e.lockSandbox(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	return e.stopSandboxLocked(ctx, s)
}

func (e *Engine) stopSandboxLocked(ctx context.Context, s *sandboxRecord) error {
	if s.Stopped {
		return nil
	}
	if err := e.killContainersOf(ctx, s.ID); err != nil {
		return err
	}
	if err := e.endSandbox(ctx, s); err != nil {
		return err
	}
	was := s.State
	s.State, s.Stopped = SandboxNotReady, true
	if err := save(e.place("sandboxes", s.ID, "sandbox.json"), s); err != nil {
		return err
	}
	if was == SandboxReady && !s.Standalone {
		e.events.emit(Event{Type: EventStopped, Sandbox: s.ID, At: time.Now()})
	}
	return nil
}

// RemoveSandbox removes a sandbox and its containers, killing what runs. Nil
// if it is gone already.
func (e *Engine) RemoveSandbox(ctx context.Context, id string) error {
	return again(ctx, func() error { return e.removeSandbox(ctx, id) })
}

func (e *Engine) removeSandbox(ctx context.Context, id string) error {
	unlock, s, err := e.lockSandbox(ctx, id)
	if fault.ClassOf(err) == fault.NotFound {
		return nil
	}
	if err != nil {
		return err
	}
	defer unlock()
	s.Removed = true
	if err := save(e.place("sandboxes", id, "sandbox.json"), s); err != nil {
		return err
	}
	var early sync.WaitGroup
	if c, err := e.container(id); s.Standalone && err == nil && c.Status.State != Running {
		// While the sandbox ends, which is mostly waiting. What fails here is
		// tried again, and said, below.
		early.Go(func() {
			if e.unmountRoot(ctx, id) == nil {
				_ = e.Snapshots.Remove(ctx, id)
			}
		})
	}
	err = e.stopSandboxLocked(ctx, s)
	early.Wait()
	if err != nil {
		return err
	}
	list, err := e.ContainersOf(ctx, id)
	if err != nil {
		return err
	}
	for _, c := range list {
		if err := e.remove(ctx, c.ID); err != nil {
			return err
		}
	}
	if err := e.dropSandbox(s); err != nil {
		return err
	}
	if !s.Standalone {
		e.events.emit(Event{Type: EventDeleted, Sandbox: id, At: time.Now()})
	}
	return nil
}

// dropSandbox removes the record of a sandbox that is stopped and empty.
func (e *Engine) dropSandbox(s *sandboxRecord) error {
	dir := e.place("sandboxes", s.ID)
	e.release("s", s.Config.Name, s.ID)
	// The record goes first: a directory without one is finished by Recover.
	if err := os.Remove(filepath.Join(dir, "sandbox.json")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return failed("remove sandbox", short(s.ID), err)
	}
	e.records.forgetBelow(dir)
	return failed("remove sandbox", short(s.ID), os.RemoveAll(dir))
}

// endSandbox gives back what a sandbox holds in the kernel.
func (e *Engine) endSandbox(ctx context.Context, s *sandboxRecord) error {
	if err := e.endPod(ctx, s.ID); err != nil {
		return err
	}
	if s.Config.Network == NetworkDefault {
		if err := e.network.Detach(ctx, s.ID); err != nil {
			return err
		}
	}
	return unmount(e.run("shm", s.ID))
}

// again repeats fn while a monitor ends just as it is asked: another process,
// or another part of this one, ends the same pod, and the next look finds it
// gone.
func again(ctx context.Context, fn func() error) error {
	const tries = 5
	for range tries - 1 {
		if err := fn(); !errors.Is(err, io.ErrUnexpectedEOF) || ctx.Err() != nil {
			return err
		}
	}
	return fn()
}

func (e *Engine) endPod(ctx context.Context, id string) error {
	return again(ctx, func() error {
		pod, err := e.Runtime.OpenPod(ctx, id)
		if err == nil {
			return pod.Close(ctx)
		}
		if fault.ClassOf(err) == fault.NotFound {
			return e.Runtime.RemoveDead(ctx, id)
		}
		return err
	})
}

func (e *Engine) sandbox(id string) (*sandboxRecord, error) {
	if id == "" || strings.ContainsAny(id, "/.") {
		return nil, noSandbox(id)
	}
	r, err := load[sandboxRecord](&e.records, e.place("sandboxes", id, "sandbox.json"))
	if fault.ClassOf(err) == fault.NotFound {
		return nil, noSandbox(id)
	}
	return r, err
}

// lockSandbox takes the sandbox's lock and reads its record, to be changed.
func (e *Engine) lockSandbox(ctx context.Context, id string) (unlock func(), _ *sandboxRecord, err error) {
	if _, err := e.sandbox(id); err != nil {
		return nil, nil, err
	}
	unlock, err = lock(ctx, e.place("sandboxes", id, "lock"))
	if fault.ClassOf(err) == fault.NotFound {
		return nil, nil, noSandbox(id)
	}
	if err != nil {
		return nil, nil, err
	}
	r, err := e.sandbox(id)
	if err != nil {
		unlock()
		return nil, nil, err
	}
	own := *r
	return unlock, &own, nil
}

func noSandbox(id string) error {
	return &fault.Error{Class: fault.NotFound, Op: "find sandbox", On: id, Err: errors.New("no such sandbox: " + id)}
}

// begin makes a directory for something new, locked, that nobody counts before
// commit; undo removes it.
func (e *Engine) begin(ctx context.Context, kind, id string, volatile bool) (dir string, commit func() error, undo func(), err error) {
	base := e.path(kind)
	if volatile {
		base = e.run(kind)
	}
	dir = filepath.Join(base, halfMade+id)
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return "", nil, nil, failed("make directory", dir, err)
	}
	unlock, err := lock(ctx, filepath.Join(dir, "lock"))
	if err != nil {
		return "", nil, nil, err
	}
	commit = func() error {
		err := os.Rename(dir, filepath.Join(base, id))
		if err == nil {
			unlock()
		}
		return failed("make directory", filepath.Join(base, id), err)
	}
	undo = func() {
		// What cannot be removed now is half-made still, and Recover's.
		_ = os.RemoveAll(dir)
		unlock()
	}
	return dir, commit, undo, nil
}

// mountShm makes the /dev/shm that the sandbox's containers share.
func (e *Engine) mountShm(s *sandboxRecord) error {
	dir := e.run("shm", s.ID)
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return failed("make directory", dir, err)
	}
	size := s.Config.ShmBytes
	if size == 0 {
		size = 64 << 20
	}
	err := syscall.Mount("shm", dir, "tmpfs", syscall.MS_NOSUID|syscall.MS_NODEV|syscall.MS_NOEXEC,
		"mode=1777,size="+itoa(size))
	return failed("mount tmpfs", dir, err)
}

// unmount unmounts and removes a mount point; nil if there is none.
func unmount(dir string) error {
	for {
		err := syscall.Unmount(dir, syscall.MNT_DETACH|umountNoFollow)
		if err == nil {
			continue // there may be one below
		}
		if errors.Is(err, syscall.EINVAL) || errors.Is(err, fs.ErrNotExist) {
			break
		}
		return failed("unmount", dir, err)
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return failed("remove mount point", dir, err)
	}
	return nil
}

const umountNoFollow = 0x8 // UMOUNT_NOFOLLOW, umount(2)
