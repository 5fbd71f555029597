package engine

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"sampan/engine/runtime"
	"sampan/engine/snapshot"
	"sampan/internal/fault"
)

// Start runs the container's process. A container that ended may be started
// again.
func (e *Engine) Start(ctx context.Context, ref string) (Container, error) {
	id, err := e.Resolve(ref)
	if err != nil {
		return Container{}, err
	}
	c, err := e.container(id)
	if err != nil {
		return Container{}, err
	}
	if c.Sandbox == c.ID {
		unlock, s, err := e.lockSandbox(ctx, c.Sandbox)
		if err != nil {
			return Container{}, err
		}
		defer unlock()
		return e.start(ctx, s, id)
	}
	s, err := e.sandbox(c.Sandbox)
	if err != nil {
		return Container{}, err
	}
	return e.start(ctx, s, id)
}

func (e *Engine) start(ctx context.Context, s *sandboxRecord, id string) (Container, error) {
	unlock, c, err := e.lockContainer(ctx, id)
	if err != nil {
		return Container{}, err
	}
	defer unlock()
	started := c.Status.State == Created
	if c, err = e.adoptLocked(ctx, c); err != nil {
		return Container{}, err
	}
	if started && c.Status.State == Running {
		return e.observeLocked(ctx, c) // by a process that died
	}
	if c, err = e.observeLocked(ctx, c); err != nil {
		return Container{}, err
	}
	switch c.Status.State {
	case Running:
		return Container{}, &fault.Error{Class: fault.Conflict, Op: "start container", On: short(id), Err: errors.New("it is running already")}
	case Exited, Unknown:
		c.Status.Restarts++
	}
	st, err := e.launch(ctx, s, &c)
	if err != nil {
		code := startCode(err)
		now := time.Now()
		c.Status = Status{State: Exited, Finished: now, ExitCode: code, Error: err.Error(), Restarts: c.Status.Restarts}
		clean := context.WithoutCancel(ctx)
		err = join(in("start container", short(id), err), e.saveStatus(&c), e.giveBack(clean, s, &c))
		e.events.emit(Event{Type: EventStopped, Sandbox: s.ID, Container: id, At: now})
		return c, err
	}
	c.Status = Status{State: Running, Pid: st.Pid, Started: st.StartedAt, Restarts: c.Status.Restarts, User: c.Status.User}
	if err := e.saveStatus(&c); err != nil {
		return Container{}, err
	}
	for _, w := range st.Warnings {
		if e.news(w) {
			e.log.Warn("container runs without something it asked for", "key", short(id), "warning", w)
		}
	}
	e.events.emit(Event{Type: EventStarted, Sandbox: s.ID, Container: id, At: st.StartedAt})
	return c, nil
}

// maxWarned bounds how many kinds of warnings are remembered.
const maxWarned = 64

// news says whether a warning is to be logged. What this process itself may
// not do (raise limits without CAP_SYS_RESOURCE, say) fails for each container
// alike, and is said once, whatever the numbers in it.
func (e *Engine) news(warning string) bool {
	if !strings.HasSuffix(warning, syscall.EPERM.Error()) && !strings.HasSuffix(warning, syscall.EACCES.Error()) {
		return true
	}
	key := strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r == '-' {
			return -1
		}
		return r
	}, warning)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.warned[key] || len(e.warned) >= maxWarned {
		return false
	}
	if e.warned == nil {
		e.warned = map[string]bool{}
	}
	e.warned[key] = true
	return true
}

// startCode is the shell's convention, which Docker follows: 127 for a command
// that is not there, 126 for one that cannot be run, 128 for all else.
func startCode(err error) int {
	if code, ok := runtime.ExitCodeOf(err); ok {
		return code
	}
	return 128
}

// launch takes all steps from a record to a process. The monitor and network
// of a stand-alone container are made while its root is mounted and its program
// compiled.
func (e *Engine) launch(ctx context.Context, s *sandboxRecord, c *Container) (runtime.State, error) {
	again := c.Status.State != Created
	podReady := make(chan error, 1)
	up := *s // s is read meanwhile
	if s.Standalone {
		go func() { podReady <- e.restartSandbox(ctx, &up) }()
	} else {
		podReady <- nil
	}
	var ready *runtime.Prepared
	cfg, err := e.prepare(ctx, s, c)
	if err == nil && !again {
		ready, err = e.Runtime.Prepare(ctx, podConfig(s), cfg)
	}
	if perr := <-podReady; perr != nil {
		err = perr
	}
	*s = up
	if ready != nil {
		defer ready.Close()
	}
	if err != nil {
		return runtime.State{}, err
	}
	pod, err := e.Runtime.OpenPod(ctx, s.ID)
	if err != nil {
		return runtime.State{}, err
	}
	if again {
		// The monitor keeps what it knows of the last run, and its control
		// group is there, until told to forget.
		if err := pod.Remove(ctx, c.ID); err != nil {
			return runtime.State{}, err
		}
		return pod.Start(ctx, cfg)
	}
	return pod.StartPrepared(ctx, ready)
}

// restartSandbox brings a stand-alone container's sandbox up, anew if a run
// before this one left something.
func (e *Engine) restartSandbox(ctx context.Context, s *sandboxRecord) error {
	if s.NetNS != "" || s.State == SandboxReady {
		if err := e.endSandbox(ctx, s); err != nil {
			return err
		}
	}
	s.Stopped = false
	dir := e.place("sandboxes", s.ID)
	if err := e.startSandbox(ctx, dir, s); err != nil {
		return err
	}
	return save(filepath.Join(dir, "sandbox.json"), s)
}

// prepare mounts the root file system and compiles the configuration.
func (e *Engine) prepare(ctx context.Context, s *sandboxRecord, c *Container) (runtime.ContainerConfig, error) {
	spec, rootfs, err := e.specOf(ctx, s, c)
	if err != nil {
		return runtime.ContainerConfig{}, err
	}
	cfg := runtime.ContainerConfig{ID: c.ID, Spec: spec, RootFS: rootfs, Cgroup: spec.Linux.CgroupsPath,
		NewPID: c.Config.PID == "private", Stdin: c.Config.Stdin, StdinOnce: c.Config.StdinOnce, TTY: c.Config.TTY,
		LogPath: c.Config.LogPath, LateLog: c.Config.LogPath == e.logPath(c.ID), LogFormat: c.Config.LogFormat, LogMaxSize: c.Config.LogMaxBytes, LogMaxFiles: c.Config.LogMaxFiles}
	if target, ok := strings.CutPrefix(c.Config.PID, "container:"); ok {
		cfg.TargetPID = target
	}
	if s.Standalone && c.Config.Detached && len(e.config.Self) > 0 {
		cfg.OnExit = append(append([]string{}, e.config.Self...), "settle", c.ID)
	}
	return cfg, nil
}

func (e *Engine) specOf(ctx context.Context, s *sandboxRecord, c *Container) (*specs.Spec, string, error) {
	img, err := e.Images.Get(ctx, c.Image)
	if err != nil {
		return nil, "", err
	}
	rootfs := e.run("rootfs", c.ID)
	// What a loss of power may cost is the files of containers that do not
	// outlive one; those of stand-alone containers that stay are synced.
	if err := e.mountRoot(ctx, c.ID, rootfs, c.Config.AutoRemove || !s.Standalone); err != nil {
		return nil, "", err
	}
	user := c.Config.User
	if user == "" {
		user = img.Config.Config.User
	}
	acct, err := e.account(rootfs, user, c.Config.MergeGroups)
	if err != nil {
		return nil, "", err
	}
	devices, err := hostDevices(c.Config.Devices, c.Config.Privileged)
	if err != nil {
		return nil, "", err
	}
	seccomp, err := e.seccomp(&c.Config)
	if err != nil {
		return nil, "", err
	}
	volumes, err := e.volumePaths(&c.Config)
	if err != nil {
		return nil, "", err
	}
	if err := e.mountViews(ctx, c, volumes); err != nil {
		return nil, "", err
	}
	shm := ""
	if !s.Standalone && !s.Config.HostIPC {
		shm = e.run("shm", s.ID)
	}
	spec, err := compile(specInput{container: c, sandbox: &s.Sandbox, image: img.Config.Config.ImageConfig, account: acct,
		hostname: s.Config.Hostname, files: e.initLayer(s, c), shm: shm, volumes: volumes, devices: devices,
		seccomp: seccomp, cgroup: s.Config.CgroupParent + "/" + c.ID})
	if err != nil {
		return nil, "", err
	}
	u := spec.Process.User
	c.Status.User = &User{UID: u.UID, GID: u.GID, Groups: u.AdditionalGids}
	return spec, rootfs, nil
}

// mountRoot mounts the container's root file system if it is not mounted yet.
func (e *Engine) mountRoot(ctx context.Context, id, rootfs string, volatile bool) error {
	if mounted(rootfs) {
		return nil
	}
	if err := os.MkdirAll(rootfs, 0o711); err != nil {
		return failed("make mount point", rootfs, err)
	}
	base, err := e.skeleton()
	if err != nil {
		return err
	}
	return e.Snapshots.Mount(ctx, id, rootfs, snapshot.MountOptions{Volatile: volatile, Base: base})
}

// mounted says whether something is mounted at dir, by its device number being
// another than its parent's.
func mounted(dir string) bool {
	a, err := deviceOf(dir)
	if err != nil {
		return false
	}
	b, err := deviceOf(filepath.Dir(dir))
	return err == nil && a != b
}

// account resolves a user by the image's own files, which may be hostile: they
// are opened without leaving the root, and read to a limit.
func (e *Engine) account(rootfs, user string, merge bool) (account, error) {
	root, err := os.OpenRoot(rootfs)
	if err != nil {
		return account{}, failed("open root file system", rootfs, err)
	}
	defer root.Close()
	const limit = 8 << 20
	open := func(name string) io.Reader {
		f, err := root.Open(name)
		if err != nil {
			return nil // no such file: only numbers can be used
		}
		defer f.Close()
		if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
			return nil
		}
		b, err := io.ReadAll(io.LimitReader(f, limit))
		if err != nil {
			return nil
		}
		return strings.NewReader(string(b))
	}
	return resolveUser(user, merge, open("etc/passwd"), open("etc/group"))
}

// seccomp reads or makes the filter's profile.
func (e *Engine) seccomp(c *ContainerConfig) (*specs.LinuxSeccomp, error) {
	switch {
	case c.Seccomp == "unconfined" || c.Privileged:
		return nil, nil
	case c.Seccomp == "" || c.Seccomp == "default":
		caps, err := capabilities(c)
		if err != nil {
			return nil, err
		}
		return runtime.DefaultSeccomp(caps.Bounding), nil
	}
	b, err := os.ReadFile(c.Seccomp)
	if err != nil {
		return nil, &fault.Error{Class: fault.Invalid, Op: "read seccomp profile", On: c.Seccomp, Err: err}
	}
	var p specs.LinuxSeccomp
	if err := json.Unmarshal(b, &p); err != nil {
		return nil, &fault.Error{Class: fault.Invalid, Op: "read seccomp profile", On: c.Seccomp, Err: err}
	}
	return &p, nil
}

// giveBack ends what a stand-alone container held while it ran. Its root stays
// mountable, its records stay.
func (e *Engine) giveBack(ctx context.Context, s *sandboxRecord, c *Container) error {
	if !s.Standalone {
		return nil
	}
	if err := e.endSandbox(ctx, s); err != nil {
		return err
	}
	s.State, s.Stopped, s.NetNS = SandboxNotReady, false, ""
	return join(e.unmountRoot(ctx, c.ID), save(e.place("sandboxes", s.ID, "sandbox.json"), s))
}

// unmountRoot takes away the container's root, and the images mounted into it.
func (e *Engine) unmountRoot(ctx context.Context, id string) error {
	if err := e.unmountViews(ctx, id); err != nil {
		return err
	}
	rootfs := e.run("rootfs", id)
	if mounted(rootfs) {
		if err := e.Snapshots.Unmount(ctx, rootfs); err != nil {
			return err
		}
	}
	return unmount(rootfs)
}
