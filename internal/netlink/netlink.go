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

	lib "github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"sampan/internal/fault"
	"sampan/internal/linux"
)

// Handle talks to the kernel about one network namespace. It is safe for
// concurrent use.
type Handle struct{ h *lib.Handle }

// Open returns a handle on the calling thread's network namespace.
func Open() (*Handle, error) {
	h, err := lib.NewHandle(syscall.NETLINK_ROUTE)
	if err != nil {
		return nil, failed("open netlink socket", "", err)
	}
	return &Handle{h}, nil
}

// OpenAt returns a handle on the namespace pinned or linked at path
// (/proc/PID/ns/net, a bind mount). No thread is left there.
func OpenAt(path string) (*Handle, error) {
	ns, err := netns.GetFromPath(path)
	if err != nil {
		return nil, failed("open network namespace", path, err)
	}
	defer ns.Close()
	// On a thread that ends, instead of the library's way there and back: to
	// come back that looks itself up in /proc/thread-self, and whoever waits for
	// the process is then held up by milliseconds.
	var h *lib.Handle
	err = linux.OnThread(func() error {
		if err := linux.Setns(int(ns), linux.NewNet); err != nil {
			return err
		}
		var err error
		h, err = lib.NewHandle(syscall.NETLINK_ROUTE)
		return err
	})
	if err != nil {
		return nil, failed("open netlink socket in", path, err)
	}
	return &Handle{h}, nil
}

// Close ends the handle.
func (h *Handle) Close() { h.h.Close() }

// Scope is how far an address or route reaches.
type Scope uint8

// The scopes of rtnetlink(7).
const (
	World  Scope = 0
	OnLink Scope = 253
	OnHost Scope = 254
)

// Addr is an address on a link.
type Addr struct {
	Link   int // index
	Prefix netip.Prefix
	Scope  Scope
}

// AddAddr puts an address on a link; nil if it is there already. An IPv6
// address is usable at once: duplicate detection would hold it for 1.6 s.
func (h *Handle) AddAddr(a Addr) error {
	k := &lib.Addr{IPNet: ipnet(a.Prefix), Scope: int(a.Scope)}
	if a.Prefix.Addr().Is6() {
		k.Flags = syscall.IFA_F_NODAD
	}
	err := h.h.AddrAdd(byIndex(a.Link), k)
	if errors.Is(err, syscall.EEXIST) {
		return nil
	}
	return failed("add address "+a.Prefix.String()+" to", name(a.Link), err)
}

// DelAddr takes an address off a link; nil if it is not there.
func (h *Handle) DelAddr(a Addr) error {
	err := h.h.AddrDel(byIndex(a.Link), &lib.Addr{IPNet: ipnet(a.Prefix), Scope: int(a.Scope)})
	if gone(err) || errors.Is(err, syscall.EADDRNOTAVAIL) {
		return nil
	}
	return failed("take address "+a.Prefix.String()+" off", name(a.Link), err)
}

// Addrs returns the addresses of all links.
func (h *Handle) Addrs() ([]Addr, error) {
	list, err := h.h.AddrList(nil, lib.FAMILY_ALL)
	if err != nil {
		return nil, failed("list addresses", "", err)
	}
	all := make([]Addr, 0, len(list))
	for _, a := range list {
		all = append(all, Addr{Link: a.LinkIndex, Prefix: prefix(a.IPNet), Scope: Scope(a.Scope)})
	}
	return all, nil
}

// Neigh is a neighbour's hardware address.
type Neigh struct {
	Link int
	IP   netip.Addr
	MAC  net.HardwareAddr
}

// SetNeigh tells a link the hardware address of a neighbour, for good: no ARP
// is needed for it.
func (h *Handle) SetNeigh(n Neigh) error {
	err := h.h.NeighSet(&lib.Neigh{LinkIndex: n.Link, Family: family(n.IP), State: lib.NUD_PERMANENT,
		IP: n.IP.AsSlice(), HardwareAddr: n.MAC})
	return failed("set neighbour "+n.IP.String()+" of", name(n.Link), err)
}

// Sysctl returns a setting below /proc/sys/net of the calling thread's
// network namespace: "ipv4/ip_forward".
func Sysctl(setting string) (string, error) {
	data, err := os.ReadFile("/proc/sys/net/" + setting)
	for len(data) > 0 && data[len(data)-1] == '\n' {
		data = data[:len(data)-1]
	}
	return string(data), failed("read sysctl", "net/"+setting, err)
}

// SetSysctl changes a setting below /proc/sys/net of the calling thread's
// network namespace.
func SetSysctl(setting, value string) error {
	return failed("set sysctl net/"+setting+" to", value, os.WriteFile("/proc/sys/net/"+setting, []byte(value), 0))
}

func family(ip netip.Addr) int {
	if ip.Is4() {
		return lib.FAMILY_V4
	}
	return lib.FAMILY_V6
}

func ipnet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func prefix(n *net.IPNet) netip.Prefix {
	if n == nil {
		return netip.Prefix{}
	}
	ip, _ := netip.AddrFromSlice(n.IP)
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(ip.Unmap(), bits)
}

func address(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}

func name(index int) string { return fmt.Sprintf("link %d", index) }

func gone(err error) bool {
	var none lib.LinkNotFoundError
	return errors.As(err, &none) || errors.Is(err, syscall.ENODEV) || errors.Is(err, syscall.ESRCH)
}

// failed wraps what the kernel said; nil stays nil.
func failed(op, on string, err error) error {
	if err == nil {
		return nil
	}
	f := &fault.Error{Op: op, On: on, Err: err}
	switch {
	case gone(err) || errors.Is(err, os.ErrNotExist):
		f.Class = fault.NotFound
	case errors.Is(err, syscall.EEXIST):
		f.Class = fault.Exists
	case errors.Is(err, syscall.EPERM):
		f.Class, f.Fix = fault.Forbidden, "run as root"
	}
	return f
}
