package bootstrap

import (
	"context"
	"log/slog"
	"net/netip"
	"path/filepath"
	"runtime/debug"
	"time"

	corev1 "k8s.io/api/core/v1"

	"sampan/cluster/client"
	"sampan/cluster/kind"
	"sampan/engine"
	"sampan/engine/cri"
	"sampan/internal/linux"
	"sampan/node"
	"sampan/node/cni"
	"sampan/node/dns"
	"sampan/node/proxy"
	"sampan/node/routes"
)

// machine is what every node has, whether the cluster's own process is on it
// or not: the engine, the pods' network, and the agent.
type machine struct {
	Program
	record  Record
	kinds   *kind.Table
	engine  *engine.Engine
	cri     *cri.Server
	network *cni.Network
	agent   *node.Agent
}

// openNetwork makes the network ready; the node's address is known then.
func (m *machine) openNetwork(ctx context.Context, pods netip.Prefix) (err error) {
	m.network, err = newNetwork(m.cfg, pods, m.log)
	if err != nil {
		return err
	}
	return m.network.Setup(ctx)
}

func newNetwork(cfg Config, pods netip.Prefix, log *slog.Logger) (*cni.Network, error) {
	return cni.New(cni.Config{Dir: filepath.Join(cfg.State, "network"), Instance: instance(cfg.State),
		Pods: pods, AllPods: cfg.Pods, Services: cfg.Services, FallbackNode: cfg.NodeAddress, Log: log})
}

func servicesTable(state string) string { return "sampan-" + instance(state) + "-services" }

func (m *machine) openEngine(ctx context.Context) (err error) {
	mirrors, err := m.cfg.mirrors()
	if err != nil {
		return err
	}
	m.engine, err = engine.Open(ctx, engine.Config{State: m.cfg.State, Run: m.cfg.Run, Log: m.log, Mirrors: mirrors,
		Self: []string{m.cfg.Self, "--state", m.cfg.State, "--run", m.cfg.Run}})
	if err != nil {
		return err
	}
	m.cri, err = cri.New(cri.Config{Engine: m.engine, Network: podNetwork{m.network}, Version: m.cfg.Version, Log: m.log})
	return err
}

// presence is how a node shows that it lives, and reads what pods name.
type presence struct {
	lease, renew time.Duration // zero: the agent's own, for a node in the cluster's process
	alone        bool          // see node.Config.WatchAlone
}

func (m *machine) openAgent(c client.Client, pods netip.Prefix, p presence) (err error) {
	cfg := node.Config{
		Client: c, Runtime: m.cri, NodeName: m.cfg.NodeName,
		Addresses: []corev1.NodeAddress{
			{Type: corev1.NodeInternalIP, Address: m.network.NodeIP().String()}, {Type: corev1.NodeHostName, Address: m.cfg.NodeName}},
		StateDir: filepath.Join(m.cfg.State, "node"), CgroupRoot: m.engine.CgroupRoot(), ResolvConf: m.cfg.ResolvConf,
		ClusterDNS: []string{m.cfg.serviceAddress(dnsServiceNumber).String()}, ClusterDomain: m.cfg.ClusterDomain,
		Port: m.cfg.KubeletPort, Log: m.log,
		LeaseDuration: p.lease, LeaseRenew: p.renew, WatchAlone: p.alone,
	}
	if pods.IsValid() {
		cfg.PodCIDRs = []string{pods.String()}
	}
	m.agent, err = node.New(cfg)
	return err
}

// parts are what runs on every node. proxied reads for the service proxy and
// the routes, named for the DNS.
func (m *machine) parts(proxied, named client.Reader) []part {
	return []part{
		{"engine", m.engine.Run},
		{"cri", func(ctx context.Context) error { return m.cri.Serve(ctx, filepath.Join(m.cfg.Run, "cri.sock")) }},
		{"node", func(ctx context.Context) error {
			select {
			case <-m.engine.Recovered(): // what was half-written is not to be decided by
			case <-ctx.Done():
			}
			return m.agent.Run(ctx)
		}},
		{"proxy", proxy.New(proxy.Config{Client: proxied, Node: m.cfg.NodeName,
			Table: servicesTable(m.cfg.State), ServiceRange: m.cfg.Services, Log: m.log}).Run},
		{"routes", routes.New(routes.Config{Client: proxied, Node: m.cfg.NodeName, Pods: m.cfg.Pods, Log: m.log}).Run},
		{"dns", dns.New(dns.Config{Client: named, Address: m.cfg.serviceAddress(dnsServiceNumber), Ranges: []netip.Prefix{m.cfg.Pods, m.cfg.Services},
			Domain: m.cfg.ClusterDomain, ResolvConf: m.cfg.ResolvConf, Log: m.log}).Run},
		{"memory", func(ctx context.Context) error { return settle(ctx, m.log) }},
	}
}

// settled is how long after the start what was needed for it alone is given back.
const settled = 20 * time.Second

// settle gives memory back once, when the start is over: what it allocated, and
// the code that it ran. (docs/decisions/047.)
func settle(ctx context.Context, log *slog.Logger) error {
	timer := time.NewTimer(settled)
	defer timer.Stop()
	select {
	case <-timer.C:
		debug.FreeOSMemory()
		if err := linux.ForgetCode(); err != nil {
			log.Warn("the pages of the program's code stay mapped", "err", err)
		}
	case <-ctx.Done():
		return nil
	}
	<-ctx.Done()
	return nil
}
