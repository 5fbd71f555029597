package nodeipam

import (
	"encoding/binary"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
)

// choose returns the node if it has no range, and the range it is to get; ok is
// false if none is left. Ranges go round: the one behind the highest in use
// comes first, so that the range of a node that left, whose pods may still be
// known somewhere, is given late.
func choose(nodes []*corev1.Node, name string, cfg Config) (node *corev1.Node, pods netip.Prefix, ok bool) {
	used := map[netip.Prefix]bool{}
	for other, p := range cfg.Fixed {
		used[p] = other != name
	}
	last := -1
	for _, n := range nodes {
		if n.Name == name {
			node = n
		}
		for _, text := range n.Spec.PodCIDRs {
			p, err := netip.ParsePrefix(text)
			if err != nil || !p.Overlaps(cfg.Range) {
				continue
			}
			// A range of another length takes all that it touches.
			for i := index(cfg, p); i < count(cfg) && nth(cfg, i).Overlaps(p); i++ {
				used[nth(cfg, i)], last = true, max(last, i)
			}
		}
	}
	if node == nil || node.Spec.PodCIDR != "" {
		return nil, pods, false
	}
	if p, fixed := cfg.Fixed[name]; fixed {
		return node, p, !used[p]
	}
	n := count(cfg)
	for i := range n {
		if p := nth(cfg, (last+1+i)%n); !used[p] {
			return node, p, true
		}
	}
	return node, pods, false
}

// count is how many ranges there are.
func count(cfg Config) int {
	if cfg.Bits < cfg.Range.Bits() {
		return 0
	}
	return 1 << (cfg.Bits - cfg.Range.Bits())
}

// nth is the i-th range.
func nth(cfg Config, i int) netip.Prefix {
	var ip [4]byte
	binary.BigEndian.PutUint32(ip[:], number(cfg.Range)+uint32(i)<<(32-cfg.Bits))
	return netip.PrefixFrom(netip.AddrFrom4(ip), cfg.Bits)
}

// index is the first range that p, which overlaps cfg.Range, touches.
func index(cfg Config, p netip.Prefix) int {
	if number(p) < number(cfg.Range) {
		return 0
	}
	return int((number(p) - number(cfg.Range)) >> (32 - cfg.Bits))
}

// number is the first address of an IPv4 range.
func number(p netip.Prefix) uint32 {
	ip := p.Masked().Addr().As4()
	return binary.BigEndian.Uint32(ip[:])
}
