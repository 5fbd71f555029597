package proxy

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"sampan/internal/nft"
)

// Rules are what one service puts into the maps of the table, and the chains
// that it goes to.
type Rules struct {
	Elements map[string][]nft.Element // by map
	Chains   []Chain
	sticky   time.Duration
	flows    []flow // UDP only: what a connection may be bound to
}

// flow is a UDP address of the service and an endpoint behind it.
type flow struct {
	to   netip.AddrPort
	from netip.Addr
}

// backend is an endpoint of one service port.
type backend struct {
	addr  netip.AddrPort
	local bool
}

// Compile is a pure function of a service, its endpoint slices and the name of
// this node: what the table must hold for it.
func Compile(svc *corev1.Service, slices []*discoveryv1.EndpointSlice, node string) Rules {
	r := Rules{Elements: map[string][]nft.Element{}}
	if svc.Spec.Type == corev1.ServiceTypeExternalName || svc.Spec.ClusterIP == corev1.ClusterIPNone {
		return r
	}
	if svc.Spec.SessionAffinity == corev1.ServiceAffinityClientIP {
		r.sticky = time.Duration(corev1.DefaultClientIPServiceAffinitySeconds) * time.Second
		if c := svc.Spec.SessionAffinityConfig; c != nil && c.ClientIP != nil && c.ClientIP.TimeoutSeconds != nil {
			r.sticky = time.Duration(*c.ClientIP.TimeoutSeconds) * time.Second
		}
	}
	addresses := addressesOf(svc)
	for _, port := range svc.Spec.Ports {
		proto, ok := protocols[port.Protocol]
		if !ok {
			continue
		}
		all := backends(port, slices, node)
		near := all
		if p := svc.Spec.InternalTrafficPolicy; p != nil && *p == corev1.ServiceInternalTrafficPolicyLocal {
			near = localOnly(all)
		}
		for _, ip := range addresses {
			r.address(ip, proto, uint16(port.Port), near)
		}
		if port.NodePort != 0 {
			r.nodePort(proto, uint16(port.NodePort), all, svc.Spec.ExternalTrafficPolicy)
		}
	}
	return r
}

var protocols = map[corev1.Protocol]uint8{
	"":                 syscall.IPPROTO_TCP,
	corev1.ProtocolTCP: syscall.IPPROTO_TCP,
	corev1.ProtocolUDP: syscall.IPPROTO_UDP,
}

func addressesOf(svc *corev1.Service) (all []netip.Addr) {
	texts := svc.Spec.ClusterIPs
	if len(texts) == 0 {
		texts = []string{svc.Spec.ClusterIP}
	}
	texts = append(slices.Clone(texts), svc.Spec.ExternalIPs...)
	for _, t := range texts {
		if ip, err := netip.ParseAddr(t); err == nil && ip.Is4() && !slices.Contains(all, ip) {
			all = append(all, ip)
		}
	}
	return all
}

// address makes ip:port lead to one of backs. Without any, nothing is added:
// the rule for the service range rejects.
func (r *Rules) address(ip netip.Addr, proto uint8, port uint16, backs []backend) {
	if len(backs) == 0 {
		return
	}
	r.add(services, nft.Element{Key: nft.Bytes(ip, proto, port), Goto: r.chain("pick", len(backs))})
	r.choices(ip, proto, port, backs)
	for _, b := range backs {
		if proto == syscall.IPPROTO_UDP {
			r.flows = append(r.flows, flow{netip.AddrPortFrom(ip, port), b.addr.Addr()})
		}
		if b.local {
			r.add(hairpin, nft.Element{Key: nft.Bytes(b.addr.Addr(), b.addr.Addr())})
		}
	}
}

// nodePort makes a port of the node lead to one of backs.
func (r *Rules) nodePort(proto uint8, port uint16, backs []backend, policy corev1.ServiceExternalTrafficPolicy) {
	kind := "node"
	if policy == corev1.ServiceExternalTrafficPolicyLocal {
		kind, backs = "local", localOnly(backs)
	}
	key := nft.Bytes(proto, port)
	if len(backs) == 0 {
		r.add(dead, nft.Element{Key: key})
		return
	}
	r.add(nodePorts, nft.Element{Key: key, Goto: r.chain(kind, len(backs))})
	r.choices(anyAddress, proto, port, backs)
}

// choices numbers the endpoints behind an address.
func (r *Rules) choices(ip netip.Addr, proto uint8, port uint16, backs []backend) {
	for i, b := range backs {
		r.add(endpoints, nft.Element{
			Key:   nft.Bytes(ip, proto, port, uint32(i)),
			Value: nft.Bytes(b.addr.Addr(), b.addr.Port()),
		})
	}
}

func (r *Rules) add(m string, e nft.Element) {
	if m == hairpin && slices.Contains(r.Elements[m], e) {
		return // two ports of one service
	}
	r.Elements[m] = append(r.Elements[m], e)
}

func (r *Rules) chain(kind string, n int) string {
	c := Chain{kind, n, r.sticky}
	if !slices.Contains(r.Chains, c) {
		r.Chains = append(r.Chains, c)
	}
	return c.Name()
}

// backends are the endpoints that serve a port: the ready ones, or if there
// are none those that are terminating and still serve (KEP-1669). They are
// ordered by address.
func backends(port corev1.ServicePort, all []*discoveryv1.EndpointSlice, node string) []backend {
	var ready, leaving []backend
	for _, s := range all {
		if s.AddressType != discoveryv1.AddressTypeIPv4 {
			continue
		}
		for _, p := range s.Ports {
			if p.Port == nil || deref(p.Name) != port.Name || (p.Protocol != nil && *p.Protocol != orTCP(port.Protocol)) {
				continue
			}
			for _, e := range s.Endpoints {
				to := &ready
				switch c := e.Conditions; {
				case c.Ready == nil || *c.Ready:
				case c.Serving != nil && *c.Serving && c.Terminating != nil && *c.Terminating:
					to = &leaving
				default:
					continue
				}
				// The API says that all addresses of an endpoint are one and the
				// same thing, and that consumers may use the first.
				if len(e.Addresses) == 0 {
					continue
				}
				if ip, err := netip.ParseAddr(e.Addresses[0]); err == nil && ip.Is4() {
					*to = append(*to, backend{netip.AddrPortFrom(ip, uint16(*p.Port)), deref(e.NodeName) == node})
				}
			}
		}
	}
	if len(ready) == 0 {
		ready = leaving
	}
	slices.SortFunc(ready, func(a, b backend) int { return a.addr.Compare(b.addr) })
	return slices.CompactFunc(ready, func(a, b backend) bool { return a.addr == b.addr })
}

func localOnly(all []backend) (local []backend) {
	for _, b := range all {
		if b.local {
			local = append(local, b)
		}
	}
	return local
}

func orTCP(p corev1.Protocol) corev1.Protocol { return cmp.Or(p, corev1.ProtocolTCP) }

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// String is the rules as text, a line an element, for people and tests.
func (r Rules) String() string {
	text := ""
	for _, m := range []string{services, nodePorts, endpoints, dead, hairpin} {
		for _, e := range r.Elements[m] {
			text += m + " " + show(e.Key)
			if e.Goto != "" {
				text += " -> " + e.Goto
			}
			if e.Value != "" {
				text += " -> " + show(e.Value)
			}
			text += "\n"
		}
	}
	return text
}

func show(b string) string {
	text := ""
	for i := 0; i+4 <= len(b); i += 4 {
		if i > 0 {
			text += " . "
		}
		text += fmt.Sprintf("%d.%d.%d.%d", b[i], b[i+1], b[i+2], b[i+3])
	}
	return text
}
