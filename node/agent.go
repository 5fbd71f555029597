// Package node keeps this machine's part of the cluster: it registers the
// machine, renews its lease, and runs a worker for each pod bound to it.
//
// It knows nothing of other nodes, of how the API is stored, or of how a
// container is made.
package node

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"sampan/cluster/client"
	"sampan/cluster/client/event"
	"sampan/internal/fault"
	"sampan/node/pod"
	"sampan/node/resource"
	"sampan/node/stream"
	"sampan/node/volume"
)

// Config is what an Agent needs. Client, Runtime and NodeName have no default.
type Config struct {
	Client   client.Client // as system:node:NAME in group system:nodes
	Runtime  pod.Runtime
	NodeName string

	// Addresses are what the Node object reports, in this order. The first
	// InternalIP of each family is the host IP of pods.
	Addresses []corev1.NodeAddress
	PodCIDRs  []string          // spec.podCIDRs of a Node that this agent creates
	Labels    map[string]string // of a Node that this agent creates, beside the well-known ones
	Taints    []corev1.Taint    // of a Node that this agent creates

	StateDir   string      // default /var/lib/sampan/node
	PodsDir    string      // volumes and files of pods; default <StateDir>/pods
	LogDir     string      // container logs; default <StateDir>/logs/pods
	CgroupRoot string      // parent of the pods' cgroups, such as "/sampan-1f2e"; empty: the root
	Cgroups    pod.Cgroups // default: the kernel's
	ResolvConf string      // the machine's resolver settings; default /etc/resolv.conf

	ClusterDNS    []string // name servers of pods with dnsPolicy ClusterFirst
	ClusterDomain string   // default cluster.local

	Port     int                 // of the kubelet API, as reported in the Node; 0: not reported
	MaxPods  int                 // default 110
	Reserved corev1.ResourceList // taken off allocatable
	Version  string              // kubeletVersion; default v1.37.2

	WatchAlone bool // watch secrets and config maps each by its name; see volume.Config.Alone

	LeaseDuration time.Duration // default 240 s
	LeaseRenew    time.Duration // default 60 s
	StatusEvery   time.Duration // status is written at least this often; default 5 min

	Log *slog.Logger
}

// Agent keeps the pods of one node. Make it with New.
type Agent struct {
	c       Config
	machine resource.Machine
	version *runtimeapi.VersionResponse
	changed chan struct{} // the node's status may have to be written
	events  *event.Recorder
	volumes *volume.Set
	handler http.Handler

	mu       sync.Mutex // guards all below
	workers  map[types.UID]*pod.Worker
	names    map[string]types.UID                 // namespace/name → the newest worker
	boxes    map[types.UID][]string               // sandboxes that ran at the start and have no worker yet
	found    map[types.UID]*runtimeapi.PodSandbox // one of each, until orphans are known
	admitted map[types.UID]bool                   // pods that take room on the node
	node     *corev1.Node                         // as last seen or written
	group    *sync.WaitGroup
	shared   *pod.Config
}

// New checks c and fills its defaults. It touches nothing.
func New(c Config) (*Agent, error) {
	switch {
	case c.Client == nil:
		return nil, &fault.Error{Class: fault.Invalid, Op: "make node agent", On: "Config.Client", Fix: "set it"}
	case c.Runtime == nil:
		return nil, &fault.Error{Class: fault.Invalid, Op: "make node agent", On: "Config.Runtime", Fix: "set it"}
	case c.NodeName == "":
		return nil, &fault.Error{Class: fault.Invalid, Op: "make node agent", On: "Config.NodeName", Fix: "set it to the machine's name in lower case"}
	}
	c.StateDir = cmp.Or(c.StateDir, "/var/lib/sampan/node")
	c.PodsDir = cmp.Or(c.PodsDir, filepath.Join(c.StateDir, "pods"))
	c.LogDir = cmp.Or(c.LogDir, filepath.Join(c.StateDir, "logs", "pods"))
	c.ResolvConf = cmp.Or(c.ResolvConf, "/etc/resolv.conf")
	c.ClusterDomain = cmp.Or(c.ClusterDomain, "cluster.local")
	c.MaxPods = cmp.Or(c.MaxPods, 110)
	c.Version = cmp.Or(c.Version, "v1.37.2")
	c.LeaseDuration = cmp.Or(c.LeaseDuration, 240*time.Second)
	c.LeaseRenew = cmp.Or(c.LeaseRenew, 60*time.Second)
	c.StatusEvery = cmp.Or(c.StatusEvery, 5*time.Minute)
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Cgroups == nil {
		c.Cgroups = &cgroups{log: c.Log}
	}
	a := &Agent{c: c, workers: map[types.UID]*pod.Worker{}, names: map[string]types.UID{}, admitted: map[types.UID]bool{}, changed: make(chan struct{}, 1)}
	a.events = &event.Recorder{Client: c.Client, Component: "kubelet", Host: c.NodeName, Log: c.Log}
	a.volumes = volume.New(volume.Config{
		Dir: c.PodsDir, Client: c.Client, Log: c.Log, Facts: a.facts, Alone: c.WatchAlone,
		Changed: func(uid types.UID) { a.wake(uid, pod.Sources) },
	})
	a.handler = stream.New(stream.Config{Pods: (*lookup)(a), Runtime: c.Runtime, LogDir: c.LogDir, NodeName: c.NodeName, Log: c.Log})
	return a, nil
}

// Handler is the kubelet's HTTP API (logs, exec, attach, port-forward, …). It
// authenticates nobody: whoever serves it does.
func (a *Agent) Handler() http.Handler { return a.handler }

// Poke has the agent look again whether its runtime is ready, for whoever
// knows that something changed.
func (a *Agent) Poke() { a.poke() }

// Run registers the node, takes over what runs, and keeps the pods until ctx
// ends. Containers go on running then.
func (a *Agent) Run(ctx context.Context) error {
	for _, dir := range []string{a.c.PodsDir, a.c.LogDir} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return &fault.Error{Op: "make directory of pods", On: dir, Err: err}
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	var group sync.WaitGroup
	defer group.Wait()
	a.mu.Lock()
	a.group = &group
	a.mu.Unlock()

	a.guard(ctx, "events", func() error { a.events.Run(ctx); return nil })
	a.guard(ctx, "volume sources", func() error { return a.volumes.Run(ctx) })
	if err := a.learn(ctx); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return nil
	}
	a.guard(ctx, "container events", func() error { return a.followRuntime(ctx) })
	a.guard(ctx, "node status", func() error { return a.keepStatus(ctx) })
	a.guard(ctx, "node", func() error { return a.followNode(ctx) })
	a.guard(ctx, "node lease", func() error { return a.keepLease(ctx) })
	a.guard(ctx, "pods", func() error { return a.followPods(ctx) })
	<-ctx.Done()
	return nil
}

// guard runs fn in a goroutine of Run's until ctx ends: an error or a panic
// is logged and fn is called again, after 1 s and twice as long each time.
func (a *Agent) guard(ctx context.Context, what string, fn func() error) {
	a.group.Go(func() {
		for delay := time.Second; ctx.Err() == nil; delay = min(2*delay, time.Minute) {
			began := time.Now()
			err := recovered(a.c.Log, what, fn)
			if ctx.Err() != nil || err == nil {
				return
			}
			if time.Since(began) > time.Minute {
				delay = time.Second
			}
			a.c.Log.Error("part of the node agent failed", "part", what, "retry", delay, "err", err)
			wait(ctx, delay)
		}
	})
}

func recovered(log *slog.Logger, what string, fn func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			log.Error("panic", "part", what, "panic", p, "stack", string(debug.Stack()))
			err = &fault.Error{Op: "run", On: what}
		}
	}()
	return fn()
}

// wait returns after d or when ctx ends.
func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// Explain says in words what this node sees of a pod and does about it; none
// if the pod is not here.
func (a *Agent) Explain(ctx context.Context, uid types.UID) []string {
	return (*lookup)(a).Explain(ctx, uid)
}
