package routes

import (
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"sampan/internal/netlink"
)

// wanted are the routes to other nodes' pods. A node without a range or an
// address has none; a range that two nodes claim is the one's whose name comes
// first, so that all nodes choose alike.
func wanted(nodes []*corev1.Node, self string, pods netip.Prefix) (routes []netlink.Route) {
	nodes = slices.Clone(nodes)
	slices.SortFunc(nodes, func(a, b *corev1.Node) int { return strings.Compare(a.Name, b.Name) })
	taken := map[netip.Prefix]bool{}
	for _, n := range nodes {
		to, ok := rangeOf(n)
		if !ok || taken[to] || !inside(to, pods) {
			continue
		}
		taken[to] = true
		if via, ok := addressOf(n); ok && n.Name != self {
			routes = append(routes, netlink.Route{Dst: to, Via: via})
		}
	}
	return routes
}

// differ says what to take away from have and what to set to get want.
func differ(have, want []netlink.Route) (gone, come []netlink.Route) {
	find := func(in []netlink.Route, r netlink.Route) bool {
		return slices.ContainsFunc(in, func(o netlink.Route) bool { return o.Dst == r.Dst && o.Via == r.Via })
	}
	for _, r := range have {
		// One whose gateway changed is replaced, not removed in between.
		if !slices.ContainsFunc(want, func(o netlink.Route) bool { return o.Dst == r.Dst }) {
			gone = append(gone, r)
		}
	}
	for _, r := range want {
		if !find(have, r) {
			come = append(come, r)
		}
	}
	return gone, come
}

// same says whether two states of a node ask for the same route.
func same(a, b *corev1.Node) bool {
	oldRange, _ := rangeOf(a)
	newRange, _ := rangeOf(b)
	oldIP, _ := addressOf(a)
	newIP, _ := addressOf(b)
	return oldRange == newRange && oldIP == newIP
}

func rangeOf(n *corev1.Node) (netip.Prefix, bool) {
	p, err := netip.ParsePrefix(n.Spec.PodCIDR)
	return p, err == nil
}

// addressOf is a node's first internal IPv4 address.
func addressOf(n *corev1.Node) (netip.Addr, bool) {
	for _, a := range n.Status.Addresses {
		if ip, err := netip.ParseAddr(a.Address); err == nil && ip.Is4() && a.Type == corev1.NodeInternalIP {
			return ip, true
		}
	}
	return netip.Addr{}, false
}

// inside says whether p is a part of all, and not all of it.
func inside(p, all netip.Prefix) bool {
	return p.IsValid() && p.Bits() > all.Bits() && all.Contains(p.Addr())
}
