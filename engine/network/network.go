// Package network connects stand-alone containers: each gets a veth of its own
// with one address, routed, without a bridge, so that it looks like a pod's
// (docs/decisions/022-stand-alone-network.md).
//
// Everything about a container's connection hangs on its network namespace and
// goes with it; what is on disk is which address is whose. network does not
// know what a container is: it is given IDs and namespaces.
package network

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"

	"sampan/internal/fault"
	"sampan/internal/ipam"
	"sampan/internal/netlink"
)

// Gateway is every container's way out. It is on the near end of each veth, so
// it needs no bridge and no address of the machine's.
var Gateway = netip.AddrFrom4([4]byte{169, 254, 1, 1})

// Config says which addresses the network has and where it remembers them.
type Config struct {
	Dir    string       // one file per address in use
	Subnet netip.Prefix // default: one of 172.20.0.0/16 to 172.27.0.0/16, by Dir
	MTU    int          // default 1500
	Table  string       // of nftables, the engine's own; default by Dir
}

// Network hands out addresses and makes links. It is safe for concurrent use,
// also by several processes.
type Network struct {
	config Config
	pool   ipam.Pool
}

// Request names a container and its network namespace.
type Request struct {
	ID    string
	NetNS string
	Ports []Port // of the host that lead to the container
}

// Result is what a container got.
type Result struct {
	IP      netip.Addr
	Gateway netip.Addr
	MAC     net.HardwareAddr
	Link    string // the near end's name
}

// New checks the configuration; the directory is made at first use.
func New(c Config) (*Network, error) {
	if c.Dir == "" {
		return nil, &fault.Error{Class: fault.Invalid, Op: "configure network", On: "default", Err: errors.New("no directory given")}
	}
	if !c.Subnet.IsValid() {
		sum := sha256.Sum256([]byte(c.Dir))
		c.Subnet = netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 20 + sum[0]%8, 0, 0}), 16)
	}
	if !c.Subnet.Addr().Is4() || c.Subnet.Bits() > 29 {
		return nil, &fault.Error{Class: fault.Invalid, Op: "configure network", On: c.Subnet.String(),
			Err: errors.New("want an IPv4 range of at least 8 addresses")}
	}
	c.Subnet = c.Subnet.Masked()
	if c.MTU == 0 {
		c.MTU = 1500
	}
	if c.Table == "" {
		c.Table = fmt.Sprintf("sampan-%x-containers", sha256.Sum256([]byte(c.Dir)))[:26]
	}
	return &Network{config: c, pool: ipam.Pool{Dir: c.Dir, Range: c.Subnet}}, nil
}

// Attach gives the namespace of a container an interface eth0 and an address.
// It may be called again for the same ID, also after a crash half-way.
func (n *Network) Attach(ctx context.Context, r Request) (Result, error) {
	host, err := netlink.Open()
	if err != nil {
		return Result{}, err
	}
	defer host.Close()
	inside, err := netlink.OpenAt(r.NetNS)
	if err != nil {
		return Result{}, err
	}
	defer inside.Close()

	res := Result{Gateway: Gateway, Link: linkName(r.ID), MAC: mac(r.ID, 'c')}
	near := mac(r.ID, 'h')
	index, err := host.AddVeth(netlink.Veth{Name: res.Link, MAC: near, MTU: n.config.MTU,
		PeerName: "eth0", PeerMAC: res.MAC, PeerNS: r.NetNS})
	if fault.ClassOf(err) == fault.Exists {
		// Left by a crash. What of it is right is not worth finding out.
		if old, e := host.Link(res.Link); e == nil {
			err = host.DeleteLink(old.Index)
		} else if old, e := inside.Link("eth0"); e == nil {
			err = inside.DeleteLink(old.Index)
		}
		if err == nil {
			index, err = host.AddVeth(netlink.Veth{Name: res.Link, MAC: near, MTU: n.config.MTU,
				PeerName: "eth0", PeerMAC: res.MAC, PeerNS: r.NetNS})
		}
	}
	if err != nil {
		return Result{}, err
	}
	err = n.near(ctx, host, index, r.ID, &res)
	if err == nil {
		err = far(inside, res, near)
	}
	if err == nil {
		err = n.openOutside(ctx, host)
	}
	if err == nil {
		err = n.publish(ctx, r, res)
	}
	if err != nil {
		// The link may be gone with its namespace, and the address is given
		// back by Collect at the latest.
		_ = host.DeleteLink(index)
		_ = n.Detach(context.WithoutCancel(ctx), r.ID)
		return Result{}, err
	}
	return res, nil
}

// near sets up the host's end: the gateway's address, forwarding for this link
// alone (so that no setting of the machine's changes and nothing has to be set
// back), and the route to the container. An address that somebody else routes
// already is passed over.
func (n *Network) near(ctx context.Context, host *netlink.Handle, index int, id string, res *Result) error {
	if err := host.AddAddr(netlink.Addr{Link: index, Prefix: netip.PrefixFrom(Gateway, 32)}); err != nil {
		return err
	}
	if err := host.SetUp(index); err != nil {
		return err
	}
	if err := netlink.SetSysctl("ipv4/conf/"+res.Link+"/forwarding", "1"); err != nil {
		return err
	}
	for {
		ip, err := n.pool.Take(ctx, id)
		if err != nil {
			return err
		}
		res.IP = ip
		err = host.AddRoute(netlink.Route{Dst: netip.PrefixFrom(ip, 32), Link: index, Scope: netlink.OnLink, Src: Gateway})
		if err == nil {
			return host.SetNeigh(netlink.Neigh{Link: index, IP: ip, MAC: res.MAC})
		}
		if fault.ClassOf(err) != fault.Exists {
			return err
		}
		if err := n.pool.Pass(ip); err != nil {
			return err
		}
	}
}

func far(inside *netlink.Handle, res Result, near net.HardwareAddr) error {
	eth, err := inside.Link("eth0")
	if err != nil {
		return err
	}
	steps := []func() error{
		func() error { return inside.SetUp(1) },
		func() error {
			return inside.AddAddr(netlink.Addr{Link: eth.Index, Prefix: netip.PrefixFrom(res.IP, 32)})
		},
		func() error { return inside.SetUp(eth.Index) },
		func() error { return inside.SetNeigh(netlink.Neigh{Link: eth.Index, IP: Gateway, MAC: near}) },
		func() error {
			return inside.AddRoute(netlink.Route{Dst: netip.PrefixFrom(Gateway, 32), Link: eth.Index, Scope: netlink.OnLink})
		},
		func() error {
			return inside.AddRoute(netlink.Route{Dst: netip.PrefixFrom(netip.IPv4Unspecified(), 0), Link: eth.Index, Via: Gateway})
		},
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// Detach gives the container's address back. The link goes with the network
// namespace, which costs nothing, where deleting it would cost 16 ms.
func (n *Network) Detach(ctx context.Context, id string) error {
	unlock, err := n.lock(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	err = n.unpublishLocked(id)
	unlock()
	if err != nil {
		return err
	}
	return n.pool.Release(ctx, id)
}

// Collect gives back the addresses of containers that are no more.
func (n *Network) Collect(ctx context.Context, alive func(id string) bool) error {
	held, err := n.pool.Owned()
	if err != nil {
		return err
	}
	for ip, owner := range held {
		if !alive(owner) {
			if err := n.Detach(ctx, owner); err != nil {
				return fmt.Errorf("address %s: %w", ip, err)
			}
		}
	}
	return nil
}

// Reset removes the links that are still there, and what is on disk.
func (n *Network) Reset(ctx context.Context) error {
	held, err := n.pool.Owned()
	if err != nil {
		return err
	}
	if len(held) > 0 {
		host, err := netlink.Open()
		if err != nil {
			return err
		}
		defer host.Close()
		for _, owner := range held {
			l, err := host.Link(linkName(owner))
			if err == nil {
				err = host.DeleteLink(l.Index)
			}
			if err != nil && fault.ClassOf(err) != fault.NotFound {
				return err
			}
		}
	}
	if err := n.closeOutside(); err != nil {
		return err
	}
	return os.RemoveAll(n.config.Dir)
}

// linkPrefix begins the names of all containers' links.
const linkPrefix = "sc"

// linkName is the near end's: a name of at most 15 bytes that is the
// container's own.
func linkName(id string) string {
	sum := sha256.Sum256([]byte(id))
	return fmt.Sprintf("%s%x", linkPrefix, sum[:6])
}

// mac is a locally administered address that stays the same for a container.
func mac(id string, end byte) net.HardwareAddr {
	sum := sha256.Sum256(append([]byte(id), end))
	return net.HardwareAddr{0x02, sum[0], sum[1], sum[2], sum[3], sum[4]}
}

func (n *Network) lock(ctx context.Context) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(n.config.Dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	// Held for microseconds, so a wait needs no way out.
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		f.Close()
		return nil, &fault.Error{Op: "lock", On: f.Name(), Err: err}
	}
	return func() { f.Close() }, ctx.Err()
}
