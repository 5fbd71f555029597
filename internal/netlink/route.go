package netlink

import (
	"errors"
	"net/netip"
	"syscall"

	nl "github.com/vishvananda/netlink"
)

// Route is where packets for Dst go.
type Route struct {
	Dst      netip.Prefix
	Link     string     // out of this interface
	Via      netip.Addr // through this neighbour; zero: Dst is on the link
	Src      netip.Addr // the source address of packets from here; zero: the kernel's choice
	OnLink   bool       // Via need not be in a range of the link
	Refused  bool       // unreachable: answered with an error at once; Link and Via are empty
	Priority int
	Table    int // 0: main
}

// SetRoute adds a route, or replaces the one with the same destination,
// priority and table.
func (h *Handle) SetRoute(r Route) error {
	k, err := h.kernel(r)
	if err == nil {
		err = h.h.RouteReplace(k)
	}
	return failed("set route", r.Dst.String(), err)
}

// DelRoute removes a route; nil if there is none.
func (h *Handle) DelRoute(r Route) error {
	k, err := h.kernel(r)
	if err == nil {
		err = h.h.RouteDel(k)
	}
	if gone(err) || errors.Is(err, syscall.ENETUNREACH) {
		return nil
	}
	return failed("delete route", r.Dst.String(), err)
}

// Routes returns the unicast and unreachable routes of the main table.
func (h *Handle) Routes() ([]Route, error) {
	links, err := h.h.LinkList()
	if err != nil {
		return nil, failed("list links", h.on, err)
	}
	names := map[int]string{}
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	list, err := h.h.RouteList(nil, nl.FAMILY_ALL)
	if err != nil {
		return nil, failed("list routes", h.on, err)
	}
	var all []Route
	for _, k := range list {
		r := Route{Link: names[k.LinkIndex], Priority: k.Priority, Table: k.Table,
			OnLink: k.Flags&int(nl.FLAG_ONLINK) != 0, Refused: k.Type == syscall.RTN_UNREACHABLE}
		if k.Dst != nil {
			ip, _ := netip.AddrFromSlice(k.Dst.IP)
			bits, _ := k.Dst.Mask.Size()
			r.Dst = netip.PrefixFrom(ip.Unmap(), bits)
		}
		if ip, ok := netip.AddrFromSlice(k.Gw); ok {
			r.Via = ip.Unmap()
		}
		if ip, ok := netip.AddrFromSlice(k.Src); ok {
			r.Src = ip.Unmap()
		}
		all = append(all, r)
	}
	return all, nil
}

func (h *Handle) kernel(r Route) (*nl.Route, error) {
	k := &nl.Route{Dst: ipnet(r.Dst), Priority: r.Priority, Table: r.Table, Family: family(r.Dst.Addr())}
	if r.Refused {
		k.Type = syscall.RTN_UNREACHABLE
		return k, nil
	}
	l, err := h.h.LinkByName(r.Link)
	if err != nil {
		return nil, err
	}
	k.LinkIndex = l.Attrs().Index
	if r.Via.IsValid() {
		k.Gw = r.Via.AsSlice()
	} else {
		k.Scope = nl.SCOPE_LINK
	}
	if r.Src.IsValid() {
		k.Src = r.Src.AsSlice()
	}
	if r.OnLink {
		k.Flags = int(nl.FLAG_ONLINK)
	}
	return k, nil
}
