// Package cni connects pods to the network: each has a routed veth of its own,
// with one address of this node's range and a fixed link-local gateway, and no
// bridge (docs/decisions/032-routed-pods.md).
//
// What a pod's connection consists of hangs on its network namespace and goes
// with it; on disk is which address is whose, and what was changed on the
// machine, so that Reset can put it back. cni knows no containers and no API:
// it is given IDs and namespaces.
package cni

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"

	"sampan/internal/durable"
	"sampan/internal/fault"
	"sampan/internal/ipam"
	"sampan/internal/netlink"
)

// Gateway is every pod's way out. It is on the near end of each veth.
var Gateway = netip.AddrFrom4([4]byte{169, 254, 1, 1})

// Config says which addresses there are and where changes are remembered.
type Config struct {
	Dir          string       // addresses in use, and what Setup changed
	Instance     string       // a few letters that are this instance's own in this network namespace
	Pods         netip.Prefix // this node's pods; zero: known later, see SetRange
	AllPods      netip.Prefix // all nodes' pods; traffic to them keeps its source
	Services     netip.Prefix
	FallbackNode netip.Addr // the node's address where the machine has none but lo's own
	MTU          int        // default 1500
	Log          *slog.Logger
}

// Network connects pods. It is safe for concurrent use.
type Network struct {
	cfg  Config
	pool atomic.Pointer[ipam.Pool] // nil until the range is known
	node netip.Addr                // after Setup
	out  string                    // the link to the rest of the world, or empty
}

// Port is a port of the node that leads to a pod.
type Port struct {
	HostIP        netip.Addr // zero: every address of the node
	HostPort      uint16
	ContainerPort uint16
	Protocol      uint8
}

// Request names a pod's sandbox and its network namespace.
type Request struct {
	ID    string
	NetNS string // path; may be gone already in Detach
	Ports []Port
}

// New checks the configuration and changes nothing.
func New(c Config) (*Network, error) {
	if c.Dir == "" || c.Instance == "" {
		return nil, &fault.Error{Class: fault.Invalid, Op: "configure pod network", On: c.Instance, Err: errors.New("no directory or instance given")}
	}
	for _, p := range []netip.Prefix{c.AllPods, c.Services} {
		if err := usable(p); err != nil {
			return nil, err
		}
	}
	if c.AllPods.Overlaps(c.Services) {
		return nil, &fault.Error{Class: fault.Invalid, Op: "configure pod network", On: c.AllPods.String(),
			Err: fmt.Errorf("the service range %s overlaps it", c.Services), Fix: "choose ranges apart from each other"}
	}
	if c.MTU == 0 {
		c.MTU = 1500
	}
	n := &Network{cfg: c}
	if c.Pods.IsValid() {
		return n, n.SetRange(c.Pods)
	}
	return n, nil
}

func usable(p netip.Prefix) error {
	if p.Addr().Is4() && p.Bits() <= 29 {
		return nil
	}
	return &fault.Error{Class: fault.Invalid, Op: "configure pod network", On: p.String(),
		Err: errors.New("want an IPv4 range of at least 8 addresses")}
}

// SetRange says which addresses this node's pods get. That can be said once:
// pods have addresses of the range from then on. The same range again is fine.
func (n *Network) SetRange(pods netip.Prefix) error {
	if err := usable(pods); err != nil {
		return err
	}
	if n.pool.CompareAndSwap(nil, &ipam.Pool{Dir: n.addresses(), Range: pods}) {
		return nil
	}
	if have := n.pool.Load().Range; have != pods {
		return &fault.Error{Class: fault.Conflict, Op: "use pod range", On: pods.String(),
			Err: fmt.Errorf("pods of this node have addresses of %s", have), Fix: "sampan reset on this node, then join it again"}
	}
	return nil
}

func (n *Network) addresses() string { return filepath.Join(n.cfg.Dir, "addresses") }

// addressPool hands out addresses; Unavailable while the range is not known.
func (n *Network) addressPool() (*ipam.Pool, error) {
	if p := n.pool.Load(); p != nil {
		return p, nil
	}
	return nil, &fault.Error{Class: fault.Unavailable, Op: "connect pods", Err: errors.New("this node has no range of pod addresses yet")}
}

// NodeIP is the address under which this node is known; Setup chooses it.
func (n *Network) NodeIP() netip.Addr { return n.node }

// Attach gives a sandbox its interface eth0 and its address. It may be called
// again for the same ID, also after a crash half-way.
func (n *Network) Attach(ctx context.Context, r Request) (netip.Addr, error) {
	pool, err := n.addressPool()
	if err != nil {
		return netip.Addr{}, err
	}
	host, err := netlink.Open()
	if err != nil {
		return netip.Addr{}, err
	}
	defer host.Close()
	inside, err := netlink.OpenAt(r.NetNS)
	if err != nil {
		return netip.Addr{}, err
	}
	defer inside.Close()
	ip, err := pool.Take(ctx, r.ID)
	if err != nil {
		return netip.Addr{}, err
	}
	if err := n.connect(host, inside, r, ip); err != nil {
		return netip.Addr{}, errors.Join(err, n.Detach(ctx, r))
	}
	if len(r.Ports) > 0 {
		if err := n.publish(r, ip); err != nil {
			return netip.Addr{}, errors.Join(err, n.Detach(ctx, r))
		}
	}
	return ip, nil
}

func (n *Network) connect(host, inside *netlink.Handle, r Request, ip netip.Addr) error {
	link, near, far := n.linkName(r.ID), mac(r.ID, 'h'), mac(r.ID, 'c')
	pair := netlink.Veth{Name: link, MAC: near, MTU: n.cfg.MTU, PeerName: "eth0", PeerMAC: far, PeerNS: r.NetNS}
	index, err := host.AddVeth(pair)
	if fault.ClassOf(err) == fault.Exists {
		// Left by a crash: what of it is right is not worth finding out.
		if old, e := host.Link(link); e == nil {
			err = host.DeleteLink(old.Index)
		} else if old, e := inside.Link("eth0"); e == nil {
			err = inside.DeleteLink(old.Index)
		}
		if err == nil {
			index, err = host.AddVeth(pair)
		}
	}
	if err != nil {
		return err
	}
	eth, err := inside.Link("eth0")
	if err != nil {
		return err
	}
	own := netip.PrefixFrom(ip, 32)
	gateway := netip.PrefixFrom(Gateway, 32)
	for _, step := range []func() error{
		func() error {
			return host.AddAddr(netlink.Addr{Link: index, Prefix: gateway, Scope: netlink.OnLink})
		},
		// Forwarding for this link alone: no setting of the machine changes.
		func() error { return netlink.SetSysctl("ipv4/conf/"+link+"/forwarding", "1") },
		// 127.0.0.1:hostPort is sent to the pod; its answers come back here
		// with a loopback address. The guard chain keeps pods off it.
		func() error { return netlink.SetSysctl("ipv4/conf/"+link+"/route_localnet", "1") },
		func() error { return host.SetUp(index) },
		func() error { return host.SetNeigh(netlink.Neigh{Link: index, IP: ip, MAC: far}) },
		func() error {
			return host.SetRoute(netlink.Route{Dst: own, Link: index, Scope: netlink.OnLink, Src: n.node})
		},
		func() error { return inside.SetUp(1) },
		func() error { return inside.AddAddr(netlink.Addr{Link: eth.Index, Prefix: own}) },
		func() error { return inside.SetUp(eth.Index) },
		func() error { return inside.SetNeigh(netlink.Neigh{Link: eth.Index, IP: Gateway, MAC: near}) },
		func() error {
			return inside.SetRoute(netlink.Route{Dst: gateway, Link: eth.Index, Scope: netlink.OnLink})
		},
		func() error {
			return inside.SetRoute(netlink.Route{Dst: netip.PrefixFrom(netip.IPv4Unspecified(), 0), Link: eth.Index, Via: Gateway})
		},
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// Detach gives back the sandbox's address and ports; nil if it has none. The
// link goes with the network namespace: deleting it would take 16 ms.
func (n *Network) Detach(ctx context.Context, r Request) error {
	return errors.Join(n.unpublish(r.ID), ipam.Pool{Dir: n.addresses()}.Release(ctx, r.ID))
}

// Collect gives back what belongs to sandboxes that are no more.
func (n *Network) Collect(ctx context.Context, alive func(id string) bool) error {
	owned, err := ipam.Pool{Dir: n.addresses()}.Owned()
	if err != nil {
		return err
	}
	for _, id := range owned {
		if !alive(id) {
			err = errors.Join(err, n.Detach(ctx, Request{ID: id}))
		}
	}
	return err
}

// linkName is the near end's: at most 15 bytes, and the sandbox's own.
func (n *Network) linkName(id string) string {
	sum := sha256.Sum256([]byte(id))
	return fmt.Sprintf("%s%x", n.linkPrefix(), sum[:4])
}

func (n *Network) linkPrefix() string { return "p" + n.cfg.Instance }

// mac is a locally administered address, the same for the same sandbox.
func mac(id string, end byte) net.HardwareAddr {
	sum := sha256.Sum256(append([]byte(id), end))
	return net.HardwareAddr{0x0a, sum[0], sum[1], sum[2], sum[3], sum[4]}
}

// changed is what Setup did to the machine, for Reset.
type changed struct {
	Address netip.Addr        `json:"address,omitzero"` // put on lo
	Sysctls map[string]string `json:"sysctls,omitempty"`

	LoopbackWasDown bool `json:"loopbackWasDown,omitempty"`
}

func (n *Network) remembered() (c changed, err error) {
	data, err := os.ReadFile(filepath.Join(n.cfg.Dir, "changed.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return changed{Sysctls: map[string]string{}}, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &c)
	}
	if c.Sysctls == nil {
		c.Sysctls = map[string]string{}
	}
	return c, err
}

func (n *Network) remember(c changed) error {
	data, err := json.Marshal(c)
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(n.cfg.Dir, "changed.json"), data, 0o600)
}
