// Package netlink speaks of links, addresses, routes, neighbours and tracked
// connections as values, in this network namespace or in another.
//
// It is the only importer of the netlink library, and knows nothing of what
// the links are for.
package netlink

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"

	nl "github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"sampan/internal/fault"
)

// Handle talks to the kernel about one network namespace. It is safe for
// concurrent use.
type Handle struct {
	h  *nl.Handle
	on string // the namespace, for errors; empty: this process's
}

// Open returns a handle on the calling thread's network namespace.
func Open() (*Handle, error) {
	h, err := nl.NewHandle(syscall.NETLINK_ROUTE)
	if err != nil {
		return nil, failed("open netlink socket", "", err)
	}
	return &Handle{h: h}, nil
}

// OpenPath returns a handle on the namespace pinned or linked at path
// (/proc/PID/ns/net, a bind mount).
func OpenPath(path string) (*Handle, error) {
	ns, err := netns.GetFromPath(path)
	if err != nil {
		return nil, failed("open network namespace", path, err)
	}
	defer ns.Close()
	h, err := nl.NewHandleAt(ns, syscall.NETLINK_ROUTE)
	if err != nil {
		return nil, failed("open netlink socket in", path, err)
	}
	return &Handle{h: h, on: path}, nil
}

// Close ends the handle.
func (h *Handle) Close() { h.h.Close() }

// Link is a network interface as it is.
type Link struct {
	Name  string
	Index int
	Type  string // "veth", "bridge", "device" …
	MAC   net.HardwareAddr
	MTU   int
	Up    bool
}

// Veth describes a pair of interfaces to make. The peer is created inside its
// namespace at once: moving it there later takes 16 ms, this 0.6.
type Veth struct {
	Name, Peer string
	PeerNS     *os.File // nil: this handle's namespace
	MAC        net.HardwareAddr
	PeerMAC    net.HardwareAddr
	MTU        int // 0: the kernel's default
}

// Link returns the interface of that name, with fault.NotFound if there is none.
func (h *Handle) Link(name string) (Link, error) {
	l, err := h.h.LinkByName(name)
	if err != nil {
		return Link{}, failed("find link", name, err)
	}
	return link(l), nil
}

// Links returns all interfaces.
func (h *Handle) Links() ([]Link, error) {
	list, err := h.h.LinkList()
	if err != nil {
		return nil, failed("list links", h.on, err)
	}
	all := make([]Link, len(list))
	for i, l := range list {
		all[i] = link(l)
	}
	return all, nil
}

func link(l nl.Link) Link {
	a := l.Attrs()
	return Link{Name: a.Name, Index: a.Index, Type: l.Type(), MAC: a.HardwareAddr, MTU: a.MTU, Up: a.Flags&net.FlagUp != 0}
}

// AddVeth makes a pair of interfaces. Both are down.
func (h *Handle) AddVeth(v Veth) error {
	pair := &nl.Veth{LinkAttrs: nl.NewLinkAttrs(), PeerName: v.Peer, PeerHardwareAddr: v.PeerMAC}
	pair.Name, pair.HardwareAddr, pair.MTU = v.Name, v.MAC, v.MTU
	if v.PeerNS != nil {
		pair.PeerNamespace = nl.NsFd(int(v.PeerNS.Fd()))
	}
	if err := h.h.LinkAdd(pair); err != nil {
		return failed("create veth pair", v.Name, err)
	}
	return nil
}

// AddBridge makes a bridge, down. One that is there already is left as it is.
func (h *Handle) AddBridge(name string) error {
	b := &nl.Bridge{LinkAttrs: nl.NewLinkAttrs()}
	b.Name = name
	if err := h.h.LinkAdd(b); err != nil && !errors.Is(err, syscall.EEXIST) {
		return failed("create bridge", name, err)
	}
	return nil
}

// SetUp brings an interface up.
func (h *Handle) SetUp(name string) error {
	l, err := h.h.LinkByName(name)
	if err == nil {
		err = h.h.LinkSetUp(l)
	}
	return failed("bring up link", name, err)
}

// SetMaster puts an interface on a bridge.
func (h *Handle) SetMaster(name, bridge string) error {
	l, err := h.h.LinkByName(name)
	if err != nil {
		return failed("find link", name, err)
	}
	b, err := h.h.LinkByName(bridge)
	if err == nil {
		err = h.h.LinkSetMaster(l, b)
	}
	return failed("put link on bridge "+bridge, name, err)
}

// DeleteLink removes an interface; for a veth its peer as well. Nil if it is
// gone already.
func (h *Handle) DeleteLink(name string) error {
	l, err := h.h.LinkByName(name)
	if err == nil {
		err = h.h.LinkDel(l)
	}
	if gone(err) {
		return nil
	}
	return failed("delete link", name, err)
}

// Addr is an address on an interface.
type Addr struct {
	Link   string
	Prefix netip.Prefix
	Scope  int // 0: the whole world, 253: the link, 254: this host
}

// AddAddr puts an address on an interface; nil if it is there already. An IPv6
// address is usable at once: duplicate detection would hold it for 1.6 s.
func (h *Handle) AddAddr(link string, p netip.Prefix) error {
	l, err := h.h.LinkByName(link)
	if err != nil {
		return failed("find link", link, err)
	}
	a := &nl.Addr{IPNet: ipnet(p)}
	if p.Addr().Is6() {
		a.Flags = syscall.IFA_F_NODAD
	}
	if err := h.h.AddrAdd(l, a); err != nil && !errors.Is(err, syscall.EEXIST) {
		return failed("add address "+p.String()+" to", link, err)
	}
	return nil
}

// DelAddr takes an address off an interface; nil if it is not there.
func (h *Handle) DelAddr(link string, p netip.Prefix) error {
	l, err := h.h.LinkByName(link)
	if err == nil {
		err = h.h.AddrDel(l, &nl.Addr{IPNet: ipnet(p)})
	}
	if gone(err) || errors.Is(err, syscall.EADDRNOTAVAIL) {
		return nil
	}
	return failed("take address "+p.String()+" off", link, err)
}

// Addrs returns the addresses of all interfaces.
func (h *Handle) Addrs() ([]Addr, error) {
	links, err := h.h.LinkList()
	if err != nil {
		return nil, failed("list links", h.on, err)
	}
	names := map[int]string{}
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	list, err := h.h.AddrList(nil, nl.FAMILY_ALL)
	if err != nil {
		return nil, failed("list addresses", h.on, err)
	}
	all := make([]Addr, 0, len(list))
	for _, a := range list {
		ip, ok := netip.AddrFromSlice(a.IP)
		if !ok {
			continue
		}
		bits, _ := a.Mask.Size()
		all = append(all, Addr{Link: names[a.LinkIndex], Prefix: netip.PrefixFrom(ip.Unmap(), bits), Scope: a.Scope})
	}
	return all, nil
}

// AddNeighbour tells an interface the hardware address of ip, for good.
func (h *Handle) AddNeighbour(link string, ip netip.Addr, mac net.HardwareAddr) error {
	l, err := h.h.LinkByName(link)
	if err == nil {
		err = h.h.NeighSet(&nl.Neigh{LinkIndex: l.Attrs().Index, Family: family(ip), State: nl.NUD_PERMANENT,
			IP: ip.AsSlice(), HardwareAddr: mac})
	}
	return failed("add neighbour "+ip.String()+" to", link, err)
}

func family(ip netip.Addr) int {
	if ip.Is4() {
		return nl.FAMILY_V4
	}
	return nl.FAMILY_V6
}

func ipnet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func gone(err error) bool {
	var none nl.LinkNotFoundError
	return errors.As(err, &none) || errors.Is(err, syscall.ENODEV) || errors.Is(err, syscall.ESRCH)
}

// failed wraps what the kernel said; nil stays nil.
func failed(op, on string, err error) error {
	if err == nil {
		return nil
	}
	class := fault.Unknown
	switch {
	case gone(err) || errors.Is(err, os.ErrNotExist):
		class = fault.NotFound
	case errors.Is(err, syscall.EEXIST):
		class = fault.Exists
	case errors.Is(err, syscall.EPERM):
		return &fault.Error{Class: fault.Forbidden, Op: op, On: on, Err: err, Fix: "run as root"}
	}
	return &fault.Error{Class: class, Op: op, On: on, Err: fmt.Errorf("netlink: %w", err)}
}
