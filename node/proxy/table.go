package proxy

import (
	"fmt"
	"net/netip"
	"syscall"
	"time"

	"sampan/internal/nft"
)

// The maps of the proxy's table. A service costs an element in each and no
// chain of its own: 5,000 services are loaded in 37 ms, where a chain and an
// anonymous map each would take 4 s.
const (
	services  = "services"  // address, protocol, port → chain "pick-N" for N endpoints
	nodePorts = "nodeports" // protocol, port → chain "node-N" or "local-N"
	endpoints = "endpoints" // address, protocol, port, number below N → endpoint's address and port; node ports have address 0.0.0.0
	dead      = "dead"      // protocol, port: node ports without an endpoint
	affinity  = "affinity"  // client, address, protocol, port → the endpoint that the client had; kept by the kernel
	hairpin   = "hairpin"   // address, address: an endpoint that reaches itself through its service
)

// masqueradeMark marks packets whose source must become this machine's, so
// that the answer comes back here: kube-proxy's bit.
const masqueradeMark = 0x4000

// table is what never changes: maps, hooks and the rules in them.
func table(name string, serviceRange netip.Prefix) nft.Table {
	proto, port, tcp := nft.Protocol(), nft.DstPort(), nft.IsProtocol(syscall.IPPROTO_TCP)
	dispatch := []nft.Rule{
		{nft.Dispatch(services, nft.DstAddr(), proto, port)},
		{nft.NotTo(loopback), nft.ToHere(), nft.Dispatch(nodePorts, proto, port)},
	}
	return nft.Table{
		Name: name,
		Maps: []nft.Map{
			{Name: services, Key: []nft.Type{nft.IPv4, nft.Proto, nft.Port}, Jump: true},
			{Name: nodePorts, Key: []nft.Type{nft.Proto, nft.Port}, Jump: true},
			{Name: endpoints, Key: []nft.Type{nft.IPv4, nft.Proto, nft.Port, nft.Number}, Value: []nft.Type{nft.IPv4, nft.Port}},
			{Name: dead, Key: []nft.Type{nft.Proto, nft.Port}},
			{Name: affinity, Key: []nft.Type{nft.IPv4, nft.IPv4, nft.Proto, nft.Port}, Value: []nft.Type{nft.IPv4, nft.Port}, Learns: 1 << 18},
			{Name: hairpin, Key: []nft.Type{nft.IPv4, nft.IPv4}},
		},
		Chains: []nft.Chain{
			{Name: "prerouting", Hook: &nft.Hook{NAT: true, At: nft.Prerouting, Priority: -100}, Rules: dispatch},
			{Name: "output", Hook: &nft.Hook{NAT: true, At: nft.Output, Priority: -100}, Rules: dispatch},
			{Name: "postrouting", Hook: &nft.Hook{NAT: true, At: nft.Postrouting, Priority: 100}, Rules: []nft.Rule{
				{nft.Marked(masqueradeMark), nft.Masquerade()},
				{nft.In(hairpin, nft.SrcAddr(), nft.DstAddr()), nft.Masquerade()},
			}},
			// What still goes to the service range here was taken by no service.
			{Name: "forward", Hook: &nft.Hook{At: nft.Forward}, Rules: []nft.Rule{
				{nft.To(serviceRange), tcp, nft.Reset()},
				{nft.To(serviceRange), nft.Reject()},
			}},
			{Name: "outgoing", Hook: &nft.Hook{At: nft.Output}, Rules: []nft.Rule{
				{nft.To(serviceRange), nft.NotToHere(), tcp, nft.Reset()},
				{nft.To(serviceRange), nft.NotToHere(), nft.Reject()},
			}},
			{Name: "incoming", Hook: &nft.Hook{At: nft.Input}, Rules: []nft.Rule{
				{nft.In(dead, proto, port), nft.NotTo(loopback), tcp, nft.Reset()},
				{nft.In(dead, proto, port), nft.NotTo(loopback), nft.Reject()},
			}},
		},
	}
}

var loopback = netip.PrefixFrom(netip.AddrFrom4([4]byte{127}), 8)

// Chain names a chain that chooses one of N endpoints.
type Chain struct {
	Kind   string        // "pick" for an address of the service, "node" for a node port, "local" for one whose clients keep their address
	N      int           // endpoints
	Sticky time.Duration // a client gets the same endpoint again within this time; 0: any
}

// Name is "pick-3", or with affinity "pick-3-10800s".
func (c Chain) Name() string {
	if c.Sticky == 0 {
		return fmt.Sprintf("%s-%d", c.Kind, c.N)
	}
	return fmt.Sprintf("%s-%d-%.0fs", c.Kind, c.N, c.Sticky.Seconds())
}

func (c Chain) rules() nft.Chain {
	proto, port, number := nft.Protocol(), nft.DstPort(), nft.Random(uint32(c.N))
	to := nft.DstAddr()
	if c.Kind != "pick" {
		to = nft.Const(anyAddress)
	}
	chain := nft.Chain{Name: c.Name()}
	if c.Kind == "node" {
		chain.Rules = append(chain.Rules, nft.Rule{nft.Mark(masqueradeMark)})
	}
	if c.Sticky == 0 {
		chain.Rules = append(chain.Rules, nft.Rule{nft.DNAT(endpoints, to, proto, port, number)})
		return chain
	}
	remember := nft.Remember(affinity, c.Sticky, nft.SrcAddr(), to, proto, port)
	chain.Rules = append(chain.Rules,
		nft.Rule{nft.Pick(affinity, nft.SrcAddr(), to, proto, port), remember, nft.Send()},
		nft.Rule{nft.Pick(endpoints, to, proto, port, number), remember, nft.Send()})
	return chain
}

var anyAddress = netip.IPv4Unspecified()
