package netlink

import (
	"errors"
	"net/netip"
	"syscall"

	lib "github.com/vishvananda/netlink"
)

// Route is where packets for Dst go.
type Route struct {
	Dst      netip.Prefix
	Link     int        // out of this link
	Via      netip.Addr // through this neighbour; zero: Dst is on the link
	Src      netip.Addr // the source of packets from here; zero: the kernel's choice
	Scope    Scope
	Direct   bool // Via need not be in a range of the link
	Refused  bool // unreachable: answered with an error at once; Link and Via are not used
	Priority int
}

// AddRoute adds a route; fault.Exists if Dst has one already.
func (h *Handle) AddRoute(r Route) error {
	return failed("add route", r.Dst.String(), h.h.RouteAdd(r.kernel()))
}

// SetRoute adds a route, or replaces the one of the same destination and
// priority.
func (h *Handle) SetRoute(r Route) error {
	return failed("set route", r.Dst.String(), h.h.RouteReplace(r.kernel()))
}

// DelRoute removes a route; nil if there is none.
func (h *Handle) DelRoute(r Route) error {
	err := h.h.RouteDel(r.kernel())
	if gone(err) || errors.Is(err, syscall.ENETUNREACH) {
		return nil
	}
	return failed("delete route", r.Dst.String(), err)
}

// Routes returns the routes of the main table.
func (h *Handle) Routes() ([]Route, error) {
	list, err := h.h.RouteList(nil, lib.FAMILY_ALL)
	if err != nil {
		return nil, failed("list routes", "", err)
	}
	all := make([]Route, 0, len(list))
	for _, k := range list {
		all = append(all, Route{Dst: prefix(k.Dst), Link: k.LinkIndex, Via: address(k.Gw), Src: address(k.Src),
			Scope: Scope(k.Scope), Direct: k.Flags&int(lib.FLAG_ONLINK) != 0,
			Refused: k.Type == syscall.RTN_UNREACHABLE, Priority: k.Priority})
	}
	return all, nil
}

func (r Route) kernel() *lib.Route {
	k := &lib.Route{Dst: ipnet(r.Dst), Priority: r.Priority, Family: family(r.Dst.Addr()), Scope: lib.Scope(r.Scope)}
	if r.Refused {
		k.Type = syscall.RTN_UNREACHABLE
		return k
	}
	k.LinkIndex = r.Link
	if r.Via.IsValid() {
		k.Gw = r.Via.AsSlice()
	}
	if r.Src.IsValid() {
		k.Src = r.Src.AsSlice()
	}
	if r.Direct {
		k.Flags = int(lib.FLAG_ONLINK)
	}
	return k
}
