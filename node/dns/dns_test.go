package dns

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/client/clienttest"
	"sampan/cluster/kind"
	"sampan/cluster/kind/core"
	"sampan/cluster/kind/discovery"
)

func newServer(t testing.TB, resolvConf string) *Server {
	fake := clienttest.New(t, kind.NewTable(core.Kinds(), discovery.Kinds()))
	put := func(objs ...kind.Object) {
		for _, o := range objs {
			fake.Put(o)
		}
	}
	meta := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: "shop", Name: name} }
	service := func(name, ip string) *corev1.Service {
		return &corev1.Service{ObjectMeta: meta(name), Spec: corev1.ServiceSpec{ClusterIP: ip, ClusterIPs: []string{ip},
			Ports: []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP}}}}
	}
	alias := func(name, to string) *corev1.Service {
		return &corev1.Service{ObjectMeta: meta(name), Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: to}}
	}
	port, name, tcp, host, no := int32(8080), "http", corev1.ProtocolTCP, "db-0", false
	put(
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}},
		service("web", "10.96.0.7"), service("db", "None"), service("idle", "None"),
		alias("out", "example.org"), alias("in", "web.shop.svc.cluster.local"), alias("circle", "circle.shop.svc.cluster.local"),
		&discoveryv1.EndpointSlice{
			ObjectMeta:  metav1.ObjectMeta{Namespace: "shop", Name: "db-1", Labels: map[string]string{discoveryv1.LabelServiceName: "db"}},
			AddressType: discoveryv1.AddressTypeIPv4,
			Ports:       []discoveryv1.EndpointPort{{Name: &name, Port: &port, Protocol: &tcp}},
			Endpoints: []discoveryv1.Endpoint{
				{Addresses: []string{"10.244.0.3"}, Hostname: &host},
				{Addresses: []string{"10.244.0.4"}},
				{Addresses: []string{"10.244.0.5"}, Conditions: discoveryv1.EndpointConditions{Ready: &no}},
			},
		},
	)
	return New(Config{Client: fake, Address: netip.MustParseAddr("127.0.0.1"), ResolvConf: resolvConf,
		Ranges: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16")}, Log: slog.New(slog.DiscardHandler)})
}

// ask returns "RCODE: record, record", the records sorted and shortened.
func ask(s *Server, name string, t uint16) string {
	q := new(dns.Msg)
	q.SetQuestion(name, t)
	a := s.Answer(context.Background(), q, false)
	var records []string
	for _, rr := range a.Answer {
		f := strings.Fields(rr.String())
		records = append(records, strings.Join(f[3:], " "))
	}
	slices.Sort(records)
	return dns.RcodeToString[a.Rcode] + ": " + strings.Join(records, ", ")
}

func TestNamesOfTheCluster(t *testing.T) {
	s := newServer(t, filepath.Join(t.TempDir(), "none"))
	for _, c := range []struct {
		it, name string
		t        uint16
		want     string
	}{
		{"a service is its address", "web.shop.svc.cluster.local.", dns.TypeA, "NOERROR: A 10.96.0.7"},
		{"case does not matter", "WEB.Shop.SVC.cluster.local.", dns.TypeA, "NOERROR: A 10.96.0.7"},
		{"a service without IPv6 exists all the same", "web.shop.svc.cluster.local.", dns.TypeAAAA, "NOERROR: "},
		{"a name of nothing does not exist", "nope.shop.svc.cluster.local.", dns.TypeA, "NXDOMAIN: "},
		{"a namespace exists", "shop.svc.cluster.local.", dns.TypeA, "NOERROR: "},
		{"another does not", "nope.svc.cluster.local.", dns.TypeA, "NXDOMAIN: "},
		{"a headless service is its ready pods", "db.shop.svc.cluster.local.", dns.TypeA, "NOERROR: A 10.244.0.3, A 10.244.0.4"},
		{"a headless service without pods does not exist", "idle.shop.svc.cluster.local.", dns.TypeA, "NXDOMAIN: "},
		{"a pod of one has its hostname", "db-0.db.shop.svc.cluster.local.", dns.TypeA, "NOERROR: A 10.244.0.3"},
		{"or its address", "10-244-0-4.db.shop.svc.cluster.local.", dns.TypeA, "NOERROR: A 10.244.0.4"},
		{"a port is found by name", "_http._tcp.web.shop.svc.cluster.local.", dns.TypeSRV,
			"NOERROR: SRV 0 100 80 web.shop.svc.cluster.local."},
		{"and not by another protocol", "_http._udp.web.shop.svc.cluster.local.", dns.TypeSRV, "NXDOMAIN: "},
		{"ports of pods name the pods", "_http._tcp.db.shop.svc.cluster.local.", dns.TypeSRV,
			"NOERROR: SRV 0 50 8080 10-244-0-4.db.shop.svc.cluster.local., SRV 0 50 8080 db-0.db.shop.svc.cluster.local."},
		{"an address leads back to its service", "7.0.96.10.in-addr.arpa.", dns.TypePTR, "NOERROR: PTR web.shop.svc.cluster.local."},
		{"an address leads back to its pod", "3.0.244.10.in-addr.arpa.", dns.TypePTR, "NOERROR: PTR db-0.db.shop.svc.cluster.local."},
		{"an address of the service range that nobody has is nobody's", "9.9.96.10.in-addr.arpa.", dns.TypePTR, "NXDOMAIN: "},
		{"an alias of another service brings its address along", "in.shop.svc.cluster.local.", dns.TypeA,
			"NOERROR: A 10.96.0.7, CNAME web.shop.svc.cluster.local."},
		{"an alias of itself ends", "circle.shop.svc.cluster.local.", dns.TypeA, "NOERROR: CNAME circle.shop.svc.cluster.local."},
		{"an alias of the world is one, whether the world answers or not", "out.shop.svc.cluster.local.", dns.TypeA, "NOERROR: CNAME example.org."},
		{"a pod's address is a name", "10-244-0-9.shop.pod.cluster.local.", dns.TypeA, "NOERROR: A 10.244.0.9"},
		{"the version is told", "dns-version.cluster.local.", dns.TypeTXT, `NOERROR: TXT "1.1.0"`},
		{"other names fail at once where nobody can be asked", "example.org.", dns.TypeA, "SERVFAIL: "},
	} {
		t.Run(c.it, func(t *testing.T) {
			if got := ask(s, c.name, c.t); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// Another server on loopback plays the machine's own.
func TestOtherNamesAreForwardedAndRemembered(t *testing.T) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan string, 10)
	up := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		asked <- q.Question[0].Name
		a := new(dns.Msg).SetReply(q)
		a.Answer = []dns.RR{&dns.A{Hdr: header(q.Question[0].Name, dns.TypeA), A: net.IPv4(192, 0, 2, 9)}}
		w.WriteMsg(a)
	})}
	over := make(chan struct{})
	go func() { defer close(over); up.ActivateAndServe() }()
	t.Cleanup(func() { conn.Close(); <-over })

	conf := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(conf, []byte("nameserver 127.0.0.1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := newServer(t, conf)
	s.forward.self = netip.MustParseAddr("127.0.0.9")
	s.forward.upstreams() // reads the file; the port is a test's
	s.forward.servers = []string{conn.LocalAddr().String()}
	for range 2 {
		if got := ask(s, "example.org.", dns.TypeA); got != "NOERROR: A 192.0.2.9" {
			t.Fatal(got)
		}
	}
	if got := ask(s, "out.shop.svc.cluster.local.", dns.TypeA); got != "NOERROR: A 192.0.2.9, CNAME example.org." {
		t.Error(got)
	}
	if len(asked) != 1 {
		t.Errorf("asked %d times, want once", len(asked))
	}
}

func TestItServesOverUDPAndTCPAndEndsWithItsContext(t *testing.T) {
	s := newServer(t, filepath.Join(t.TempDir(), "none"))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	ctx, stop := context.WithCancel(t.Context())
	over := make(chan error, 1)
	go func() { over <- s.serve(ctx, addr) }()
	for _, network := range []string{"tcp", "udp"} {
		q := new(dns.Msg)
		q.SetQuestion("web.shop.svc.cluster.local.", dns.TypeA)
		var a *dns.Msg
		for range 100 { // until it listens
			if a, _, err = (&dns.Client{Net: network}).Exchange(q, addr); err == nil {
				break
			}
		}
		if err != nil || len(a.Answer) != 1 {
			t.Errorf("%s: %v, %v", network, a, err)
		}
	}
	stop()
	if err := <-over; err != nil {
		t.Error(err)
	}
}

func FuzzAnswer(f *testing.F) {
	s := newServer(f, "/nonexistent")
	for _, name := range []string{"web.shop.svc.cluster.local.", "_http._tcp.db.shop.svc.cluster.local.", "1.0.0.10.in-addr.arpa.", "."} {
		q := new(dns.Msg)
		q.SetQuestion(name, dns.TypeSRV)
		b, _ := q.Pack()
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		q := new(dns.Msg)
		if q.Unpack(b) != nil {
			return
		}
		if a := s.Answer(context.Background(), q, false); a == nil || a.Id != q.Id {
			t.Errorf("answer %v to %v", a, q)
		}
	})
}
