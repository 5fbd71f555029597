package dns

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"sampan/cluster/client"
)

// found is what the cluster knows of a name. No records and RcodeSuccess means
// that the name exists, but not with this type.
type found struct {
	rcode   int
	records []dns.RR
	extra   []dns.RR
}

var (
	noSuchName = found{rcode: dns.RcodeNameError}
	noData     = found{rcode: dns.RcodeSuccess}
)

// lookup answers a question about a name of the cluster; mine is false for all
// other names. name is the question's, in lower case.
func (s *Server) lookup(ctx context.Context, name string, q dns.Question) (f found, mine bool) {
	if ip, ok := reverse(name); ok {
		return s.pointer(ctx, ip, q)
	}
	if name != s.zone && !strings.HasSuffix(name, "."+s.zone) {
		return found{}, false
	}
	if q.Qclass != dns.ClassINET && q.Qclass != dns.ClassANY {
		return noData, true
	}
	labels := dns.SplitDomainName(strings.TrimSuffix(strings.TrimSuffix(name, s.zone), "."))
	n := len(labels)
	switch {
	case n == 0:
		if q.Qtype == dns.TypeSOA {
			return found{records: []dns.RR{s.soa()}}, true
		}
		return noData, true
	case n == 1 && labels[0] == "dns-version":
		if q.Qtype == dns.TypeTXT {
			return found{records: []dns.RR{&dns.TXT{Hdr: header(q.Name, dns.TypeTXT), Txt: []string{"1.1.0"}}}}, true
		}
		return noData, true
	case n == 1 && (labels[0] == "svc" || labels[0] == "pod"):
		return noData, true
	case labels[n-1] == "svc":
		return s.underNamespace(ctx, labels[:n-1], q), true
	case labels[n-1] == "pod":
		return s.pod(ctx, labels[:n-1], q), true
	}
	return noSuchName, true
}

// underNamespace answers for NAMESPACE, SERVICE.NAMESPACE and what is below.
func (s *Server) underNamespace(ctx context.Context, labels []string, q dns.Question) found {
	n := len(labels)
	namespace := labels[n-1]
	if n == 1 {
		if !s.namespaceExists(ctx, namespace) {
			return noSuchName
		}
		return noData
	}
	svc, err := client.Get[*corev1.Service](ctx, s.cfg.Client, namespace, labels[n-2])
	if err != nil {
		return noSuchName
	}
	below := labels[:n-2]
	if svc.Spec.Type == corev1.ServiceTypeExternalName {
		if len(below) > 0 {
			return noSuchName
		}
		return s.alias(ctx, svc, q)
	}
	headless := svc.Spec.ClusterIP == corev1.ClusterIPNone
	full := svc.Name + "." + svc.Namespace + ".svc." + s.zone
	switch {
	case len(below) == 0 && headless:
		return s.headless(ctx, svc, "", "", q, full)
	case len(below) == 0:
		if q.Qtype == dns.TypeSRV {
			return s.ports(svc, "", "", q, full)
		}
		return addresses(q, clusterIPs(svc))
	case len(below) == 1 && headless && !strings.HasPrefix(below[0], "_"):
		return s.member(ctx, svc, below[0], q)
	case len(below) == 2 && strings.HasPrefix(below[0], "_") && strings.HasPrefix(below[1], "_"):
		port, proto := below[0][1:], below[1][1:]
		if headless {
			return s.headless(ctx, svc, port, proto, q, full)
		}
		return s.ports(svc, port, proto, q, full)
	}
	return noSuchName
}

// ports answers SRV for a service with an address: _port._proto, or all ports.
func (s *Server) ports(svc *corev1.Service, port, proto string, q dns.Question, full string) found {
	var matching []corev1.ServicePort
	for _, p := range svc.Spec.Ports {
		if port == "" || p.Name == port && strings.EqualFold(string(p.Protocol), proto) {
			matching = append(matching, p)
		}
	}
	if len(matching) == 0 {
		return noSuchName
	}
	if q.Qtype != dns.TypeSRV {
		return noData
	}
	f := found{extra: addresses(dns.Question{Name: full, Qtype: dns.TypeA}, clusterIPs(svc)).records}
	for _, p := range matching {
		f.records = append(f.records, srv(q.Name, uint16(p.Port), full, len(matching)))
	}
	return f
}

func srv(name string, port uint16, target string, of int) dns.RR {
	return &dns.SRV{Hdr: header(name, dns.TypeSRV), Priority: 0, Weight: uint16(100 / of), Port: port, Target: target}
}

// endpoint is one address behind a headless service.
type endpoint struct {
	ip   netip.Addr
	name string // its hostname, or its address with dashes
}

// endpoints returns what is ready behind a headless service, and the numbers
// of the ports that match.
func (s *Server) endpoints(ctx context.Context, svc *corev1.Service, port, proto string) (all []endpoint, numbers []uint16) {
	slicesOf, err := client.List[*discoveryv1.EndpointSlice](ctx, s.cfg.Client, client.Query{
		Namespace: svc.Namespace, Index: discoveryv1.LabelServiceName, Value: svc.Name})
	if err != nil {
		return nil, nil
	}
	seen := map[endpoint]bool{}
	for _, slice := range slicesOf {
		match := port == ""
		for _, p := range slice.Ports {
			if p.Port == nil || port != "" && (deref(p.Name) != port || p.Protocol == nil || !strings.EqualFold(string(*p.Protocol), proto)) {
				continue
			}
			match = true
			if n := uint16(*p.Port); !slices.Contains(numbers, n) {
				numbers = append(numbers, n)
			}
		}
		if !match {
			continue
		}
		for _, e := range slice.Endpoints {
			if e.Conditions.Ready != nil && !*e.Conditions.Ready {
				continue
			}
			for _, text := range e.Addresses {
				ip, err := netip.ParseAddr(text)
				if err != nil {
					continue
				}
				ep := endpoint{ip, dashed(ip)}
				if e.Hostname != nil && *e.Hostname != "" {
					ep.name = *e.Hostname
				}
				if !seen[ep] {
					seen[ep] = true
					all = append(all, ep)
				}
			}
		}
	}
	return all, numbers
}

// headless answers for the members of a service without an address.
func (s *Server) headless(ctx context.Context, svc *corev1.Service, port, proto string, q dns.Question, full string) found {
	members, numbers := s.endpoints(ctx, svc, port, proto)
	if q.Qtype != dns.TypeSRV {
		if port != "" {
			if len(numbers) == 0 {
				return noSuchName
			}
			return noData
		}
		if len(members) == 0 {
			return noSuchName // as CoreDNS: a headless service without endpoints
		}
		ips := make([]netip.Addr, len(members))
		for i, m := range members {
			ips[i] = m.ip
		}
		return addresses(q, ips)
	}
	if len(members) == 0 || len(numbers) == 0 {
		return noSuchName
	}
	var f found
	for _, m := range members {
		target := m.name + "." + full
		for _, n := range numbers {
			f.records = append(f.records, srv(q.Name, n, target, len(members)*len(numbers)))
		}
		f.extra = append(f.extra, addresses(dns.Question{Name: target, Qtype: typeOf(m.ip)}, []netip.Addr{m.ip}).records...)
	}
	return f
}

// member answers for HOSTNAME.SERVICE.NAMESPACE.
func (s *Server) member(ctx context.Context, svc *corev1.Service, host string, q dns.Question) found {
	members, _ := s.endpoints(ctx, svc, "", "")
	var ips []netip.Addr
	for _, m := range members {
		if strings.EqualFold(m.name, host) {
			ips = append(ips, m.ip)
		}
	}
	if len(ips) == 0 {
		return noSuchName
	}
	return addresses(q, ips)
}

// alias answers for a service of type ExternalName.
func (s *Server) alias(ctx context.Context, svc *corev1.Service, q dns.Question) found {
	target := dns.Fqdn(svc.Spec.ExternalName)
	f := found{records: []dns.RR{&dns.CNAME{Hdr: header(q.Name, dns.TypeCNAME), Target: target}}}
	if q.Qtype == dns.TypeCNAME {
		return f
	}
	// Resolvers want the end of the chain in the same answer. An alias of an
	// alias is left to them, so that no circle can hold us.
	next := dns.Question{Name: target, Qtype: q.Qtype, Qclass: q.Qclass}
	lower := strings.ToLower(target)
	if strings.HasSuffix(lower, "."+s.zone) {
		if labels := dns.SplitDomainName(strings.TrimSuffix(lower, "."+s.zone)); len(labels) == 3 && labels[2] == "svc" {
			other, err := client.Get[*corev1.Service](ctx, s.cfg.Client, labels[1], labels[0])
			if err == nil && other.Spec.Type == corev1.ServiceTypeExternalName {
				return f
			}
		}
		if end, mine := s.lookup(ctx, lower, next); mine {
			f.records = append(f.records, end.records...)
		}
		return f
	}
	m := new(dns.Msg)
	m.SetQuestion(target, q.Qtype)
	f.records = append(f.records, s.forward.ask(ctx, m, false).Answer...)
	return f
}

// pod answers for A-B-C-D.NAMESPACE.pod, whoever has the address.
func (s *Server) pod(ctx context.Context, labels []string, q dns.Question) found {
	if len(labels) > 2 || !s.namespaceExists(ctx, labels[len(labels)-1]) {
		return noSuchName
	}
	if len(labels) == 1 {
		return noData
	}
	ip, err := netip.ParseAddr(strings.ReplaceAll(labels[0], "-", "."))
	if err != nil {
		if ip, err = netip.ParseAddr(strings.ReplaceAll(labels[0], "-", ":")); err != nil {
			return noSuchName
		}
	}
	return addresses(q, []netip.Addr{ip})
}

// pointer answers who has an address. An address of the cluster's ranges that
// nobody has is not asked about elsewhere.
func (s *Server) pointer(ctx context.Context, ip netip.Addr, q dns.Question) (found, bool) {
	record := func(name string) found {
		if q.Qtype != dns.TypePTR {
			return noData
		}
		return found{records: []dns.RR{&dns.PTR{Hdr: header(q.Name, dns.TypePTR), Ptr: name}}}
	}
	svcs, err := client.List[*corev1.Service](ctx, s.cfg.Client, client.Query{})
	if err != nil {
		return found{rcode: dns.RcodeServerFailure}, true
	}
	for _, svc := range svcs {
		if slices.Contains(clusterIPs(svc), ip) {
			return record(svc.Name + "." + svc.Namespace + ".svc." + s.zone), true
		}
	}
	var f found
	eps, _ := client.List[*discoveryv1.EndpointSlice](ctx, s.cfg.Client, client.Query{})
	for _, slice := range eps {
		service := slice.Labels[discoveryv1.LabelServiceName]
		for _, e := range slice.Endpoints {
			if service == "" || !slices.Contains(e.Addresses, ip.String()) {
				continue
			}
			svc, err := client.Get[*corev1.Service](ctx, s.cfg.Client, slice.Namespace, service)
			if err != nil || svc.Spec.ClusterIP != corev1.ClusterIPNone {
				continue
			}
			name := dashed(ip)
			if e.Hostname != nil && *e.Hostname != "" {
				name = *e.Hostname
			}
			f.records = append(f.records, record(name+"."+service+"."+slice.Namespace+".svc."+s.zone).records...)
		}
	}
	if len(f.records) > 0 {
		return f, true
	}
	for _, r := range s.cfg.Ranges {
		if r.Contains(ip) {
			return noSuchName, true
		}
	}
	return found{}, false
}

func (s *Server) namespaceExists(ctx context.Context, name string) bool {
	_, err := client.Get[*corev1.Namespace](ctx, s.cfg.Client, "", name)
	return err == nil
}

// addresses answers A and AAAA.
func addresses(q dns.Question, ips []netip.Addr) (f found) {
	for _, ip := range ips {
		switch {
		case ip.Is4() && (q.Qtype == dns.TypeA || q.Qtype == dns.TypeANY):
			f.records = append(f.records, &dns.A{Hdr: header(q.Name, dns.TypeA), A: net.IP(ip.AsSlice())})
		case ip.Is6() && (q.Qtype == dns.TypeAAAA || q.Qtype == dns.TypeANY):
			f.records = append(f.records, &dns.AAAA{Hdr: header(q.Name, dns.TypeAAAA), AAAA: net.IP(ip.AsSlice())})
		}
	}
	return f
}

func clusterIPs(svc *corev1.Service) (ips []netip.Addr) {
	for _, text := range append(slices.Clone(svc.Spec.ClusterIPs), svc.Spec.ClusterIP) {
		if ip, err := netip.ParseAddr(text); err == nil && !slices.Contains(ips, ip) {
			ips = append(ips, ip)
		}
	}
	return ips
}

func typeOf(ip netip.Addr) uint16 {
	if ip.Is4() {
		return dns.TypeA
	}
	return dns.TypeAAAA
}

func dashed(ip netip.Addr) string {
	return strings.NewReplacer(".", "-", ":", "-").Replace(ip.String())
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// reverse is the address that a name below in-addr.arpa or ip6.arpa stands for.
func reverse(name string) (netip.Addr, bool) {
	if rest, ok := strings.CutSuffix(name, ".in-addr.arpa."); ok {
		labels := strings.Split(rest, ".")
		slices.Reverse(labels)
		ip, err := netip.ParseAddr(strings.Join(labels, "."))
		return ip, err == nil
	}
	rest, ok := strings.CutSuffix(name, ".ip6.arpa.")
	labels := strings.Split(rest, ".")
	if !ok || len(labels) != 32 {
		return netip.Addr{}, false
	}
	var b [16]byte
	for i, l := range labels {
		n, err := strconv.ParseUint(l, 16, 4)
		if err != nil || len(l) != 1 {
			return netip.Addr{}, false
		}
		b[15-i/2] |= byte(n) << (4 * (i % 2))
	}
	return netip.AddrFrom16(b), true
}
