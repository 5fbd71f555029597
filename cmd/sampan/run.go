package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"sampan/engine"
	"sampan/engine/runtime"
	"sampan/internal/fault"
)

// runFlags are the words of `sampan run`.
type runFlags struct {
	remove, detach, interactive, tty, readOnly, privileged   bool
	name, workdir, user, network, memory, cpus, hostname     string
	entrypoint, pid, ipc, stopSignal, shm, cpuset, swap      string
	env, envFile, volume, publish, capAdd, capDrop, security []string
	label, device, tmpfs, dns, addHost, groupAdd, ulimit     []string
	sysctl                                                   map[string]string
	pids                                                     int64
	shares                                                   uint64
	oom, stopTimeout                                         int
}

func newRunCommand(g *globals) *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run [flags] IMAGE [COMMAND] [ARG...]",
		Short: "Create and run a new container from an image",
		Example: "  sampan run --rm -it alpine sh\n" +
			"  sampan run -d --name web -v data:/srv nginx\n\n" +
			"Exit codes: the command's; 125 sampan itself failed, 126 the command cannot be run, 127 it is not there",
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			sc, c, err := f.config(args)
			if err != nil {
				return err
			}
			return g.run(cmd.Context(), sc, c, f.detach)
		},
	}
	s := cmd.Flags()
	s.SetInterspersed(false)
	s.BoolVar(&f.remove, "rm", false, "remove the container when it exits")
	s.BoolVarP(&f.detach, "detach", "d", false, "run in the background and print the container's ID")
	s.BoolVarP(&f.interactive, "interactive", "i", false, "keep standard input open")
	s.BoolVarP(&f.tty, "tty", "t", false, "allocate a terminal")
	s.StringVar(&f.name, "name", "", "name of the container")
	s.StringArrayVarP(&f.env, "env", "e", nil, "set an environment variable: NAME=VALUE, or NAME to pass it on")
	s.StringArrayVar(&f.envFile, "env-file", nil, "read environment variables from a file")
	s.StringArrayVarP(&f.volume, "volume", "v", nil, "mount a directory or a volume: SOURCE:TARGET[:ro]")
	s.StringArrayVar(&f.tmpfs, "tmpfs", nil, "mount a tmpfs: TARGET[:OPTIONS]")
	s.StringVarP(&f.workdir, "workdir", "w", "", "working directory")
	s.StringVarP(&f.user, "user", "u", "", "user name or ID, optionally :group")
	s.StringArrayVar(&f.groupAdd, "group-add", nil, "additional group IDs")
	s.StringVar(&f.network, "network", "default", "network: default, none or host")
	s.StringArrayVarP(&f.publish, "publish", "p", nil, "publish a port: [IP:]HOSTPORT:PORT[/PROTOCOL]")
	s.StringVarP(&f.memory, "memory", "m", "", "memory limit, e.g. 512m")
	s.StringVar(&f.swap, "memory-swap", "", "limit of memory and swap together")
	s.StringVar(&f.cpus, "cpus", "", "number of CPUs, e.g. 1.5")
	s.StringVar(&f.cpuset, "cpuset-cpus", "", "CPUs to run on, e.g. 0-1")
	s.Uint64Var(&f.shares, "cpu-shares", 0, "relative weight")
	s.Int64Var(&f.pids, "pids-limit", 0, "limit of processes")
	s.BoolVar(&f.readOnly, "read-only", false, "mount the root file system read-only")
	s.StringArrayVar(&f.capAdd, "cap-add", nil, "add a capability")
	s.StringArrayVar(&f.capDrop, "cap-drop", nil, "drop a capability")
	s.BoolVar(&f.privileged, "privileged", false, "give all capabilities and devices")
	s.StringArrayVar(&f.security, "security-opt", nil, "no-new-privileges, seccomp=unconfined, seccomp=FILE")
	s.StringVar(&f.entrypoint, "entrypoint", "", "replace the image's entrypoint")
	s.StringVar(&f.hostname, "hostname", "", "host name inside the container")
	s.StringArrayVarP(&f.label, "label", "l", nil, "label: NAME=VALUE")
	s.StringArrayVar(&f.device, "device", nil, "add a device of the host: PATH[:TARGET[:rwm]]")
	s.StringVar(&f.pid, "pid", "", "process namespace: host")
	s.StringVar(&f.ipc, "ipc", "", "ipc namespace: host or private")
	s.StringVar(&f.shm, "shm-size", "", "size of /dev/shm")
	s.StringArrayVar(&f.dns, "dns", nil, "name servers")
	s.StringArrayVar(&f.addHost, "add-host", nil, "line of /etc/hosts: NAME:IP")
	s.StringArrayVar(&f.ulimit, "ulimit", nil, "limit: NAME=SOFT[:HARD]")
	s.StringToStringVar(&f.sysctl, "sysctl", nil, "kernel parameter: NAME=VALUE")
	s.StringVar(&f.stopSignal, "stop-signal", "", "signal that asks it to end")
	s.IntVar(&f.stopTimeout, "stop-timeout", 0, "seconds to wait before it is killed")
	s.IntVar(&f.oom, "oom-score-adj", 0, "how soon it is killed when memory runs out")
	return cmd
}

// config fills the engine's configuration.
func (f *runFlags) config(args []string) (engine.SandboxConfig, engine.ContainerConfig, error) {
	sc := engine.SandboxConfig{Hostname: f.hostname, Network: engine.NetworkMode(f.network), Sysctls: f.sysctl,
		HostPID: f.pid == "host", HostIPC: f.ipc == "host"}
	c := engine.ContainerConfig{Name: f.name, Image: args[0], Command: args[1:], WorkingDir: f.workdir, User: f.user,
		CapAdd: f.capAdd, CapDrop: f.capDrop, Privileged: f.privileged, ReadOnlyRootFS: f.readOnly,
		Stdin: f.interactive, StdinOnce: f.interactive && !f.detach, TTY: f.tty, AutoRemove: f.remove, Detached: f.detach,
		StopSignal: f.stopSignal, StopTimeout: time.Duration(f.stopTimeout) * time.Second, OOMScoreAdj: f.oom,
		Resources: engine.Resources{CPUs: f.cpuset, CPUShares: f.shares, Pids: f.pids}}
	switch sc.Network {
	case engine.NetworkDefault, engine.NetworkNone, engine.NetworkHost:
	case "bridge":
		sc.Network = engine.NetworkDefault
	default:
		return sc, c, usage("--network %s: want default, none or host", f.network)
	}
	if f.pid != "" && f.pid != "host" || f.ipc != "" && f.ipc != "host" && f.ipc != "private" {
		return sc, c, usage("--pid wants host; --ipc wants host or private")
	}
	if f.entrypoint != "" {
		c.Entrypoint, c.NoImageCmd = []string{f.entrypoint}, true
	}
	var err error
	if c.Env, err = environment(f.env, f.envFile); err != nil {
		return sc, c, err
	}
	if c.Resources.MemoryBytes, err = size("--memory", f.memory); err != nil {
		return sc, c, err
	}
	if c.Resources.SwapBytes, err = size("--memory-swap", f.swap); err != nil {
		return sc, c, err
	}
	if sc.ShmBytes, err = size("--shm-size", f.shm); err != nil {
		return sc, c, err
	}
	if f.cpus != "" {
		n, err := strconv.ParseFloat(f.cpus, 64)
		if err != nil || n <= 0 || n > 1<<20 {
			return sc, c, usage("--cpus %s: want a number above 0", f.cpus)
		}
		c.Resources.CPUPeriod, c.Resources.CPUQuota = 100_000, int64(math.Round(n*100_000))
	}
	for _, v := range f.volume {
		m, err := volume(v)
		if err != nil {
			return sc, c, err
		}
		c.Mounts = append(c.Mounts, m)
	}
	for _, v := range f.tmpfs {
		target, options, _ := strings.Cut(v, ":")
		m := engine.Mount{Type: "tmpfs", Target: target}
		if options != "" {
			m.Options = strings.Split(options, ",")
		}
		c.Mounts = append(c.Mounts, m)
	}
	for _, v := range f.security {
		name, value, _ := strings.Cut(v, "=")
		switch {
		case name == "no-new-privileges" && (value == "" || value == "true"):
			c.NoNewPrivileges = true
		case name == "no-new-privileges" && value == "false":
		case name == "seccomp" && value != "":
			c.Seccomp = value
			if value != "unconfined" && value != "default" {
				if c.Seccomp, err = filepath.Abs(value); err != nil {
					return sc, c, err
				}
			}
		default:
			return sc, c, usage("--security-opt %s is not supported", v)
		}
	}
	if c.Labels, err = pairs("--label", f.label); err != nil {
		return sc, c, err
	}
	for _, v := range f.device {
		p := strings.Split(v, ":")
		d := engine.Device{HostPath: p[0]}
		if len(p) > 1 {
			d.ContainerPath = p[1]
		}
		if len(p) > 2 {
			d.Permissions = p[2]
		}
		c.Devices = append(c.Devices, d)
	}
	for _, v := range f.addHost {
		name, ip, ok := strings.Cut(v, ":")
		if !ok {
			return sc, c, usage("--add-host %s: want NAME:IP", v)
		}
		sc.Hosts = append(sc.Hosts, engine.HostAlias{IP: ip, Names: []string{name}})
	}
	sc.DNS.Servers = f.dns
	for _, v := range f.groupAdd {
		n, err := strconv.ParseUint(v, 10, 31)
		if err != nil {
			return sc, c, usage("--group-add %s: want a number", v)
		}
		c.Groups = append(c.Groups, uint32(n))
	}
	for _, v := range f.ulimit {
		l, err := units.ParseUlimit(v)
		if err != nil {
			return sc, c, usage("--ulimit %s: %v", v, err)
		}
		c.Rlimits = append(c.Rlimits, engine.Rlimit{Type: "RLIMIT_" + strings.ToUpper(l.Name), Soft: uint64(l.Soft), Hard: uint64(l.Hard)})
	}
	for _, v := range f.publish {
		p, err := port(v)
		if err != nil {
			return sc, c, err
		}
		sc.Ports = append(sc.Ports, p)
	}
	return sc, c, nil
}

func size(flag, v string) (int64, error) {
	if v == "" || v == "-1" {
		return map[string]int64{"-1": -1}[v], nil
	}
	n, err := units.RAMInBytes(v)
	if err != nil {
		return 0, usage("%s %s: want a size such as 512m", flag, v)
	}
	return n, nil
}

func pairs(flag string, list []string) (map[string]string, error) {
	out := map[string]string{}
	for _, v := range list {
		name, value, _ := strings.Cut(v, "=")
		if name == "" {
			return nil, usage("%s %s: want NAME=VALUE", flag, v)
		}
		out[name] = value
	}
	return out, nil
}

// environment reads -e and --env-file; a name alone passes the caller's on.
func environment(list, files []string) ([]string, error) {
	var all []string
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			return nil, exitCode{125, err}
		}
		for line := range strings.Lines(string(b)) {
			if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
				all = append(all, line)
			}
		}
	}
	var out []string
	for _, kv := range append(all, list...) {
		if !strings.Contains(kv, "=") {
			v, ok := os.LookupEnv(kv)
			if !ok {
				continue
			}
			kv += "=" + v
		}
		out = append(out, kv)
	}
	return out, nil
}

// volume reads -v: a path is bound, a name is a volume.
func volume(v string) (engine.Mount, error) {
	p := strings.Split(v, ":")
	if len(p) < 2 || len(p) > 3 {
		return engine.Mount{}, usage("--volume %s: want SOURCE:TARGET[:ro]", v)
	}
	m := engine.Mount{Type: "volume", Source: p[0], Target: p[1]}
	if strings.ContainsAny(p[0], "/.") {
		m.Type = "bind"
		abs, err := filepath.Abs(p[0])
		if err != nil {
			return m, exitCode{125, err}
		}
		m.Source = abs
		if _, err := os.Stat(abs); os.IsNotExist(err) {
			if err := os.MkdirAll(abs, 0o755); err != nil { // as Docker's -v does
				return m, exitCode{125, err}
			}
		}
	}
	if len(p) == 3 {
		for _, o := range strings.Split(p[2], ",") {
			switch o {
			case "ro":
				m.ReadOnly = true
			case "rw":
			case "rprivate", "rslave", "rshared":
				m.Propagation = o
			default:
				return m, usage("--volume %s: option %s is not known", v, o)
			}
		}
	}
	return m, nil
}

func port(v string) (engine.PortMapping, error) {
	var m engine.PortMapping
	spec, proto, _ := strings.Cut(v, "/")
	m.Protocol = proto
	p := strings.Split(spec, ":")
	if len(p) < 2 || len(p) > 3 {
		return m, usage("--publish %s: want [IP:]HOSTPORT:PORT[/PROTOCOL]", v)
	}
	if len(p) == 3 {
		m.HostIP = p[0]
	}
	host, err1 := strconv.ParseUint(p[len(p)-2], 10, 16)
	inside, err2 := strconv.ParseUint(p[len(p)-1], 10, 16)
	if err1 != nil || err2 != nil {
		return m, usage("--publish %s: a port is a number below 65536", v)
	}
	m.HostPort, m.ContainerPort = uint16(host), uint16(inside)
	return m, nil
}

// run creates, starts and, unless detached, stays with a container.
func (g *globals) run(ctx context.Context, sc engine.SandboxConfig, c engine.ContainerConfig, detach bool) error {
	if c.TTY && !detach && !term.IsTerminal(int(g.in.Fd())) && c.Stdin {
		return exitCode{1, errors.New("the input device is not a TTY")}
	}
	e, err := g.engine(ctx)
	if err != nil {
		return exitCode{125, err}
	}
	defer e.Close()
	created, err := e.CreateStandalone(ctx, sc, c)
	if fault.ClassOf(err) == fault.NotFound {
		fmt.Fprintf(g.err, "Unable to find image '%s' locally\n", c.Image)
		if err = g.pull(ctx, e, c.Image, g.err); err == nil {
			created, err = e.CreateStandalone(ctx, sc, c)
		}
	}
	if err != nil {
		return exitCode{125, err}
	}
	started, err := e.Start(ctx, created.ID)
	if err != nil {
		code := started.Status.ExitCode
		if code != 126 && code != 127 {
			code = 125
		}
		if c.AutoRemove {
			err = errors.Join(err, e.Remove(ctx, created.ID, true))
		}
		return exitCode{code, err}
	}
	if detach {
		fmt.Fprintln(g.out, created.ID)
		return nil
	}
	code, err := g.stay(ctx, e, created.ID, c)
	if err == nil {
		err = e.Settle(context.WithoutCancel(ctx), created.ID)
	}
	if err != nil {
		return exitCode{125, err}
	}
	if code != 0 {
		return exitCode{code: code}
	}
	return nil
}

// stay passes on input, output, signals and the terminal's size until the
// container ends. Output comes from the log, which misses nothing; that of a
// terminal comes as it is written.
func (g *globals) stay(ctx context.Context, e *engine.Engine, id string, c engine.ContainerConfig) (int, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer g.forward(ctx, e, id)()
	if c.TTY || c.Stdin {
		streams := runtime.Streams{}
		if c.Stdin {
			streams.Stdin = g.in
		}
		if c.TTY {
			restore, resize, err := g.terminal(ctx)
			if err != nil {
				return 0, err
			}
			defer restore()
			streams.Stdout, streams.Resize = g.out, resize
			err = e.Attach(ctx, id, streams)
			switch fault.ClassOf(err) {
			case fault.Conflict, fault.NotFound, fault.Unavailable:
				// It ended before it could be attached to: the log has it all.
				err = e.Logs(ctx, id, engine.LogOptions{Follow: true, Tail: -1}, g.out, g.out)
			}
			if err != nil {
				return 0, err
			}
		} else {
			go func() {
				// Input ends with the container, whatever the reason.
				_ = e.Attach(ctx, id, streams)
			}()
		}
	}
	if !c.TTY {
		if err := e.Logs(ctx, id, engine.LogOptions{Follow: true, Tail: -1}, g.out, g.err); err != nil {
			return 0, err
		}
	}
	st, err := e.Wait(ctx, id)
	return st.ExitCode, err
}

// forward sends the signals that this process gets to the container, as
// docker run does (--sig-proxy).
func (g *globals) forward(ctx context.Context, e *engine.Engine, id string) (stop func()) {
	got := make(chan os.Signal, 8)
	signal.Notify(got, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for s := range got {
			// One that has ended meanwhile needs no signal.
			_ = e.Kill(ctx, id, s.(syscall.Signal))
		}
	}()
	return func() { signal.Stop(got); close(got); <-done }
}

// terminal makes the user's terminal raw and tells its size, now and whenever
// it changes.
func (g *globals) terminal(ctx context.Context) (restore func(), sizes <-chan runtime.Size, err error) {
	fd := int(g.in.Fd())
	if !term.IsTerminal(fd) {
		return func() {}, nil, nil
	}
	old, err := term.MakeRaw(fd)
	if err != nil {
		return nil, nil, err
	}
	out := make(chan runtime.Size, 1)
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, syscall.SIGWINCH)
	changed <- syscall.SIGWINCH
	go func() {
		defer close(out)
		for {
			select {
			case <-ctx.Done():
				return
			case <-changed:
				if w, h, err := term.GetSize(fd); err == nil {
					select {
					case out <- runtime.Size{Width: uint16(w), Height: uint16(h)}:
					case <-ctx.Done():
						return
					}
				}
			}
		}
	}()
	return func() { signal.Stop(changed); _ = term.Restore(fd, old) }, out, nil
}
