package cni

import (
	"context"
	"errors"
	"net/netip"
	"os"

	"sampan/internal/fault"
	"sampan/internal/ipam"
	"sampan/internal/netlink"
	"sampan/internal/nft"
	"sampan/node/routes"
)

var (
	everywhere = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	loopback   = netip.PrefixFrom(netip.AddrFrom4([4]byte{127}), 8)
)

// Setup prepares this network namespace, or finds it prepared: the node's
// address, the routes by which unknown addresses fail at once, forwarding to
// the rest of the world, the rules for what leaves. What it changes it
// remembers on disk beforehand.
func (n *Network) Setup(ctx context.Context) error {
	if err := os.MkdirAll(n.cfg.Dir, 0o700); err != nil {
		return &fault.Error{Op: "make directory", On: n.cfg.Dir, Err: err}
	}
	h, err := netlink.Open()
	if err != nil {
		return err
	}
	defer h.Close()
	c, err := n.remembered()
	if err != nil {
		return &fault.Error{Op: "read what was changed", On: n.cfg.Dir, Err: err}
	}
	lo, err := h.Link("lo")
	if err != nil {
		return err
	}
	if !lo.Up {
		c.LoopbackWasDown = true
		if err := n.remember(c); err != nil {
			return err
		}
		if err := h.SetUp(lo.Index); err != nil {
			return err
		}
	}
	if n.node, n.out, err = n.findNode(h, c); err != nil {
		return err
	}
	if !n.node.IsValid() {
		n.node = n.cfg.FallbackNode
		c.Address = n.node
		if err := n.remember(c); err != nil {
			return err
		}
		if err := h.AddAddr(netlink.Addr{Link: lo.Index, Prefix: netip.PrefixFrom(n.node, 32)}); err != nil {
			return err
		}
	}
	if n.out != "" && n.out != "lo" {
		if err := n.sysctl(&c, "ipv4/conf/"+n.out+"/forwarding", "1"); err != nil {
			return err
		}
	}
	for _, r := range n.routes(lo.Index) {
		if err := h.SetRoute(r); err != nil {
			return err
		}
	}
	return n.restoreTable()
}

// routes make addresses fail at once that nobody has. The service range needs
// a route to a device: routing comes before the OUTPUT hook, in which a
// service's address is translated, so an unreachable route would cut the node
// off its own services. What no service takes, the proxy's table rejects.
func (n *Network) routes(lo int) []netlink.Route {
	return []netlink.Route{
		{Dst: n.cfg.AllPods, Refused: true},
		{Dst: n.cfg.Services, Link: lo, Scope: netlink.OnLink, Src: n.node},
	}
}

// findNode chooses the node's address: of the default route's link, else any
// that reaches beyond this host. Zero if there is none.
func (n *Network) findNode(h *netlink.Handle, c changed) (netip.Addr, string, error) {
	addrs, err := h.Addrs()
	if err != nil {
		return netip.Addr{}, "", err
	}
	routes, err := h.Routes()
	if err != nil {
		return netip.Addr{}, "", err
	}
	links, err := h.Links()
	if err != nil {
		return netip.Addr{}, "", err
	}
	names := map[int]netlink.Link{}
	for _, l := range links {
		names[l.Index] = l
	}
	exit := 0
	for _, r := range routes {
		if r.Dst == everywhere || !r.Dst.IsValid() && r.Via.Is4() {
			exit = r.Link
			break
		}
	}
	var found netip.Addr
	var out string
	for _, a := range addrs {
		ip := a.Prefix.Addr()
		if !ip.Is4() || a.Scope != netlink.World || ip.IsLoopback() || ip == c.Address || !names[a.Link].Up ||
			n.cfg.Services.Contains(ip) || n.cfg.AllPods.Contains(ip) {
			continue
		}
		if a.Link == exit {
			return ip, names[a.Link].Name, nil
		}
		if !found.IsValid() {
			found, out = ip, names[a.Link].Name
		}
	}
	return found, out, nil
}

// sysctl changes a setting and remembers what it was.
func (n *Network) sysctl(c *changed, setting, value string) error {
	was, err := netlink.Sysctl(setting)
	if err != nil || was == value {
		return err
	}
	if _, known := c.Sysctls[setting]; !known {
		c.Sysctls[setting] = was
		if err := n.remember(*c); err != nil {
			return err
		}
	}
	return netlink.SetSysctl(setting, value)
}

// Status says what is wrong with the network, or nil.
func (n *Network) Status(ctx context.Context) error {
	if !n.node.IsValid() {
		return &fault.Error{Class: fault.Unavailable, Op: "connect pods", Err: errors.New("the pod network is not set up yet")}
	}
	_, err := n.addressPool()
	return err
}

// Reset undoes all that Setup and Attach did in this network namespace. Links
// of pods whose namespaces are gone went with them; others are deleted.
func (n *Network) Reset(ctx context.Context) error {
	c, err := n.remembered()
	if err != nil {
		return &fault.Error{Op: "read what was changed", On: n.cfg.Dir, Err: err}
	}
	h, err := netlink.Open()
	if err != nil {
		return err
	}
	defer h.Close()
	owned, err := ipam.Pool{Dir: n.addresses()}.Owned()
	for _, id := range owned {
		l, e := h.Link(n.linkName(id))
		if e == nil {
			e = h.DeleteLink(l.Index)
		}
		if e != nil && fault.ClassOf(e) != fault.NotFound {
			err = errors.Join(err, e)
		}
	}
	lo, e := h.Link("lo")
	err = errors.Join(err, e)
	for _, r := range n.routes(lo.Index) {
		r.Src = netip.Addr{}
		err = errors.Join(err, h.DelRoute(r))
	}
	others, e := routes.Existing(h, n.cfg.AllPods)
	err = errors.Join(err, e)
	for _, r := range others {
		err = errors.Join(err, h.DelRoute(r))
	}
	addrs, e := h.Addrs()
	err = errors.Join(err, e)
	for _, a := range addrs {
		// The node's own address, those of services that the node serves, and
		// what the kernel gave lo when it came up.
		ip := a.Prefix.Addr()
		if a.Link == lo.Index && (ip == c.Address || n.cfg.Services.Contains(ip) || c.LoopbackWasDown && ip.IsLoopback()) {
			err = errors.Join(err, h.DelAddr(a))
		}
	}
	if c.LoopbackWasDown {
		err = errors.Join(err, h.SetDown(lo.Index))
	}
	for setting, was := range c.Sysctls {
		if e := netlink.SetSysctl(setting, was); e != nil && fault.ClassOf(e) != fault.NotFound {
			err = errors.Join(err, e)
		}
	}
	err = errors.Join(err, nft.Delete(n.tableName(), false))
	if err != nil {
		return err
	}
	return os.RemoveAll(n.cfg.Dir)
}
