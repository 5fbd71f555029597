//go:build !split

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/klog/v2"

	"sampan/bootstrap"
	"sampan/internal/fault"
	"sampan/internal/heap"
)

// notifyFD is the variable that names a descriptor on which a detached program
// says, in one line of JSON, that it is up or why it is not.
const notifyFD = "SAMPAN_NOTIFY_FD"

func newUpCommand(g *globals) *cobra.Command {
	var cfg bootstrap.Config
	var detach, verbose bool
	cmd := &cobra.Command{
		Use:   "up [flags]",
		Short: "Start the platform: the container engine and a Kubernetes of one node",
		Long: `Up starts the whole platform in one process and keeps it until it is
interrupted, or stopped by "sampan down". Containers go on running then, and
the next up takes them over without a restart.

With --join the machine becomes a node of another machine's cluster instead.
The file for it comes from there: sampan node-kubeconfig. It is needed once;
later a plain up goes on as that node.

Exit codes: 0 stopped as asked, 1 an error.`,
		Example: "  sampan up --detach\n  sampan up --detach --join worker-1.kubeconfig\n  sampan --state /tmp/a --run /tmp/a/run up --port 7443 --kubelet-port 11250 --kubeconfig /tmp/a/kubeconfig",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if detach {
				return upDetached(g)
			}
			debug.SetMemoryLimit(math.MaxInt64)
			// What the start leaves is collected when it is over, and not again
			// and again while objects are read.
			garbage := heap.Keep(heap.Room{Idle: 100, Busy: 64 << 20})
			defer garbage.End()
			oneForTheDisk()
			level := slog.LevelInfo
			if verbose {
				level = slog.LevelDebug
			}
			cfg.State, cfg.Run, cfg.Version, cfg.Self = g.State, g.Run, version, executable()
			cfg.Flags = map[string]string{}
			cmd.Flags().VisitAll(func(f *pflag.Flag) { cfg.Flags[f.Name] = f.Value.String() })
			cfg.Log = slog.New(slog.NewTextHandler(g.err, &slog.HandlerOptions{Level: level}))
			klog.SetSlogLogger(slog.New(debugOnly{cfg.Log.Handler()}))
			// A program in the background holds no directory; what was said
			// relative to the one it was started in stays so.
			for _, path := range append(identityFiles(&cfg), &cfg.EtcdTLS.CA, &cfg.EtcdTLS.Cert, &cfg.EtcdTLS.Key, &cfg.Join, &cfg.Kubeconfig, &cfg.ResolvConf, &cfg.AdmissionFile, &cfg.Encryption.File,
				&cfg.Audit.PolicyFile, &cfg.Audit.Webhook.File) {
				if *path != "" {
					*path, _ = filepath.Abs(*path) // fails only where the directory is gone
				}
			}
			if p := &cfg.Audit.File.Path; *p != "" && *p != "-" {
				*p, _ = filepath.Abs(*p)
			}
			tell, detached := notifier()
			if detached {
				if err := os.Chdir("/"); err != nil {
					return err
				}
			}
			cfg.Ready = func(r bootstrap.Ready) {
				tell(notice{Ready: &r})
				// The heap of an idle platform is small: collecting it a little
				// more often costs nothing and keeps it so. It goes on till the end.
				garbage.Change(heap.Room{Idle: 50, Busy: 32 << 20, Calm: 5 * time.Second})
				fmt.Fprintf(g.out, "sampan is up after %.1f s\n%s", r.Took.Seconds(), places(r))
			}
			program, err := bootstrap.New(cfg)
			if err == nil {
				err = program.Run(cmd.Context())
			}
			if err != nil {
				tell(notice{Error: err.Error()})
			}
			return err
		},
	}
	platformFlags(cmd, &cfg)
	identityFlags(cmd, &cfg)
	cmd.Flags().StringVar(&cfg.Join, "join", "", "file to join another machine's cluster with (see sampan node-kubeconfig)")
	cmd.Flags().BoolVarP(&detach, "detach", "d", false, "run in the background; returns when the platform is up")
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "log more")
	return cmd
}

// places says where what is up can be reached.
func places(r bootstrap.Ready) string {
	text := fmt.Sprintf("  node        %s\n  API         %s\n", r.Node, r.Server)
	if r.Kubeconfig != "" { // a node that joined has none
		text += fmt.Sprintf("  kubeconfig  %s\n", r.Kubeconfig)
	}
	return text
}

// notice is what a detached program says once.
type notice struct {
	Ready *bootstrap.Ready `json:"ready,omitempty"`
	Error string           `json:"error,omitempty"`
}

// notifier returns a function that says a notice to whoever started this
// program detached; to nobody if nobody did.
func notifier() (tell func(notice), detached bool) {
	fd, err := strconv.Atoi(os.Getenv(notifyFD))
	if err != nil {
		return func(notice) {}, false
	}
	os.Unsetenv(notifyFD)
	syscall.CloseOnExec(fd)
	f := os.NewFile(uintptr(fd), "notify")
	return func(n notice) {
		// Nobody is left to hear of a failure to tell.
		_ = json.NewEncoder(f).Encode(n)
		_ = f.Close()
	}, true
}

// upDetached starts this command again without --detach, in a session of its
// own, and waits until it is up or has failed.
func upDetached(g *globals) error {
	p := newSteps(g.err)
	p.say("starting sampan on %s", g.State)
	if err := os.MkdirAll(g.Run, 0o755); err != nil {
		return &fault.Error{Op: "make directory", On: g.Run, Err: err, Fix: "run as root, or choose another with --run"}
	}
	logPath := filepath.Join(g.Run, "sampan.log")
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return &fault.Error{Op: "open log", On: logPath, Err: err}
	}
	defer log.Close()
	hear, say, err := os.Pipe()
	if err != nil {
		return err
	}
	defer hear.Close()
	var args []string
	for _, a := range os.Args[1:] {
		if a != "--detach" && a != "-d" && a != "--detach=true" {
			args = append(args, a)
		}
	}
	child := exec.Command(executable(), args...)
	child.Env = append(os.Environ(), notifyFD+"=3")
	child.Stdout, child.Stderr, child.ExtraFiles = log, log, []*os.File{say}
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := child.Start(); err != nil {
		return &fault.Error{Op: "start", On: child.Path, Err: err}
	}
	say.Close()

	heard := make(chan notice, 1)
	go func() {
		var n notice
		line, err := bufio.NewReader(hear).ReadBytes('\n')
		if err != nil || json.Unmarshal(line, &n) != nil {
			n = notice{Error: "it ended without a word; see " + logPath}
		}
		heard <- n
	}()
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	for {
		select {
		case n := <-heard:
			if n.Ready == nil {
				_ = child.Wait()
				return errors.New(strings.TrimPrefix(n.Error, "sampan: "))
			}
			fmt.Fprintf(g.out, "sampan is up after %.1f s (process %d)\n%s  log         %s\n",
				n.Ready.Took.Seconds(), child.Process.Pid, places(*n.Ready), logPath)
			return child.Process.Release()
		case <-tick.C:
			p.say("still starting; its log is %s", logPath)
		}
	}
}
