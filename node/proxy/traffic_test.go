package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/vishvananda/netns"

	"sampan/cluster/client/clienttest"
	"sampan/cluster/kind"
	"sampan/cluster/kind/discovery"
	"sampan/internal/nft"
	"sampan/node/cni"
)

// These tests need root: the whole test process runs in a network namespace of
// its own that has only lo, and its pods are further namespaces.
func TestMain(m *testing.M) {
	switch os.Getenv("PROXY_TEST") {
	case "pod":
		io.Copy(io.Discard, os.Stdin) // holds a namespace until the test ends
		return
	case "inside":
		os.Exit(m.Run())
	}
	self := exec.Command("/proc/self/exe", os.Args[1:]...)
	self.Env = append(os.Environ(), "PROXY_TEST=inside")
	self.Stdin, self.Stdout, self.Stderr = os.Stdin, os.Stdout, os.Stderr
	self.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if err := self.Run(); err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			os.Exit(exit.ExitCode())
		}
		fmt.Fprintln(os.Stderr, "these tests need root:", err)
		os.Exit(1)
	}
}

var (
	podRange     = netip.MustParsePrefix("10.244.0.0/24")
	serviceRange = netip.MustParsePrefix("10.96.0.0/16")
)

type machine struct {
	*testing.T
	net    *cni.Network
	client *clienttest.Fake
	proxy  *Proxy
}

func newMachine(t *testing.T) *machine {
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	network, err := cni.New(cni.Config{Dir: t.TempDir() + "/cni", Instance: "t", Pods: podRange,
		AllPods: netip.MustParsePrefix("10.244.0.0/16"), Services: serviceRange,
		FallbackNode: netip.MustParseAddr("192.168.255.1"), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	before := visible(t)
	if err := network.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	svc := kind.Declare(kind.Of[corev1.Service]{GVK: corev1.SchemeGroupVersion.WithKind("Service"), Plural: "services"})
	m := &machine{T: t, net: network, client: clienttest.New(t, kind.NewTable(discovery.Kinds(), []*kind.Kind{svc}))}
	t.Cleanup(func() {
		if err := errors.Join(network.Reset(context.Background()), nft.Delete("sampan-t-services", false)); err != nil {
			t.Error(err)
		}
		if after := visible(t); after != before {
			t.Errorf("left behind:\n%s\nbefore:\n%s", after, before)
		}
	})
	return m
}

// start runs a proxy until stop is called, at the latest by the end of the test.
func (m *machine) start(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	p := New(Config{Client: m.client, Node: "here", Table: "sampan-t-services", ServiceRange: serviceRange,
		Log: slog.New(slog.NewTextHandler(m.Output(), nil))})
	over := make(chan struct{})
	go func() {
		defer close(over)
		if err := p.Run(ctx); err != nil {
			m.Error(err)
		}
	}()
	stop = func() { cancel(); <-over }
	m.Cleanup(stop)
	return stop
}

// visible is what a person sees of the network.
func visible(t *testing.T) string {
	dev, err := os.ReadFile("/proc/net/dev")
	if err != nil {
		t.Fatal(err)
	}
	route, err := os.ReadFile("/proc/net/route")
	if err != nil {
		t.Fatal(err)
	}
	tables, err := nft.Tables()
	if err != nil {
		t.Fatal(err)
	}
	var links []string
	for line := range strings.Lines(string(dev)) {
		links = append(links, strings.Fields(line)[0])
	}
	_, routes, _ := strings.Cut(string(route), "\n") // without the heading, absent while lo is down
	return fmt.Sprint(links, "\n", routes, tables)
}

// pod makes a namespace with a server on port 8080 that answers with its name.
func (m *machine) pod(name string) (ip, ns string) {
	m.Helper()
	hold := exec.Command("/proc/self/exe")
	hold.Env = append(os.Environ(), "PROXY_TEST=pod")
	hold.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	leash, err := hold.StdinPipe()
	if err == nil {
		err = hold.Start()
	}
	if err != nil {
		m.Fatal(err)
	}
	ns = fmt.Sprintf("/proc/%d/ns/net", hold.Process.Pid)
	addr, err := m.net.Attach(m.Context(), cni.Request{ID: name, NetNS: ns})
	m.Cleanup(func() { leash.Close(); hold.Wait() })
	if err != nil {
		m.Fatal(err)
	}
	within(m.T, ns, func() {
		l, err := net.Listen("tcp4", ":8080")
		if err != nil {
			m.Error(err)
			return
		}
		m.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				io.WriteString(c, name+" "+c.RemoteAddr().(*net.TCPAddr).IP.String())
				c.Close()
			}
		}()
	})
	return addr.String(), ns
}

func within(t *testing.T, ns string, fn func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread ends here
		h, err := netns.GetFromPath(ns)
		if err == nil {
			err = netns.Set(h)
		}
		if err != nil {
			t.Error(err)
			return
		}
		fn()
	}()
	<-done
}

// ask connects from a namespace ("" is the node) and returns the answer.
func (m *machine) ask(ns, to string) (answer string, err error) {
	dial := func() {
		var c net.Conn
		if c, err = net.DialTimeout("tcp4", to, time.Second); err != nil {
			return
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(time.Second))
		var b []byte
		b, err = io.ReadAll(c)
		answer = string(b)
	}
	if ns == "" {
		dial()
	} else {
		within(m.T, ns, dial)
	}
	return answer, err
}

// eventually asks until the answer is as wanted; the kernel is told of a
// change a few milliseconds after it.
func (m *machine) eventually(ns, to, want string) {
	m.Helper()
	var got string
	var err error
	for range 6000 {
		if got, err = m.ask(ns, to); err == nil && strings.HasPrefix(got, want) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	m.Fatalf("%s answers %q, %v; want %q", to, got, err, want)
}

func (m *machine) refused(ns, to string) {
	m.Helper()
	var err error
	for range 6000 {
		if _, err = m.ask(ns, to); errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.EHOSTUNREACH) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	m.Fatalf("%s: %v, want refused at once", to, err)
}

func TestTrafficOfServices(t *testing.T) {
	m := newMachine(t)
	m.start(t.Context())
	aIP, a := m.pod("a")
	_, b := m.pod("b")
	m.eventually(b, aIP+":8080", "a") // pods reach each other
	m.eventually("", aIP+":8080", "a")

	svc := web(nodePort(30080))
	m.client.Put(svc)
	m.client.Put(slice(aIP + " here ready"))
	node := m.net.NodeIP().String()
	for _, from := range []string{"", a, b} {
		m.eventually(from, "10.96.0.7:80", "a")
		m.eventually(from, node+":30080", "a")
	}
	if got, _ := m.ask(b, "10.96.0.7:80"); got == "a "+node {
		t.Errorf("%q: a pod's address must be kept inside the cluster", got)
	}
	m.refused(b, "10.96.9.9:80") // no such service
	m.refused("", "10.96.9.9:80")
	m.refused(b, "10.96.0.7:81") // no such port
	m.refused(b, "10.244.0.200:80")
	m.refused("", "10.244.7.7:80")

	// An endpoint goes, another comes.
	bIP := m.addressOf(b)
	m.client.Put(slice(bIP + " here ready"))
	m.eventually(a, "10.96.0.7:80", "b")
	m.client.Put(slice())
	m.refused(a, "10.96.0.7:80")
	m.refused("", node+":30080")
}

func TestServicesGoOnWhileTheProxyIsAway(t *testing.T) {
	m := newMachine(t)
	aIP, _ := m.pod("a")
	_, b := m.pod("b")
	m.client.Put(web())
	m.client.Put(slice(aIP + " here ready"))
	stop := m.start(t.Context())
	m.eventually(b, "10.96.0.7:80", "a")
	stop()
	for range 5 {
		m.eventually(b, "10.96.0.7:80", "a")
	}
	again := m.start(t.Context())
	for range 50 { // the new one takes over: no connection may fail meanwhile
		if got, err := m.ask(b, "10.96.0.7:80"); err != nil {
			t.Fatalf("%q, %v", got, err)
		}
	}
	again()
}

func TestAClientKeepsItsEndpoint(t *testing.T) {
	m := newMachine(t)
	m.start(t.Context())
	var eps []string
	for _, name := range []string{"a", "b", "c", "d"} {
		ip, _ := m.pod(name)
		eps = append(eps, ip+" here ready")
	}
	_, client := m.pod("client")
	m.client.Put(web(nodePort(30080), func(s *corev1.Service) { s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP }))
	m.client.Put(slice(eps...))
	for _, to := range []string{"10.96.0.7:80", m.net.NodeIP().String() + ":30080"} {
		m.eventually(client, to, "")
		first, _ := m.ask(client, to)
		first, _, _ = strings.Cut(first, " ")
		for range 12 {
			if got, err := m.ask(client, to); err != nil || !strings.HasPrefix(got, first+" ") {
				t.Fatalf("%s: %q, %v; before it was %q", to, got, err, first)
			}
		}
	}
	first, _ := m.ask(client, "10.96.0.7:80")
	first, _, _ = strings.Cut(first, " ")
	gone := int(first[0] - 'a')
	m.client.Put(slice(append(append([]string{}, eps[:gone]...), eps[gone+1:]...)...))
	for range 6000 { // until the kernel knows; then never again
		if got, err := m.ask(client, "10.96.0.7:80"); err == nil && !strings.HasPrefix(got, first) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("still answered by %s, which is gone", first)
}

func (m *machine) addressOf(ns string) (ip string) {
	within(m.T, ns, func() {
		addrs, _ := net.InterfaceAddrs()
		for _, a := range addrs {
			if n := a.(*net.IPNet); podRange.Contains(netip.MustParseAddr(n.IP.String())) {
				ip = n.IP.String()
			}
		}
	})
	return ip
}

func BenchmarkProgram5000Services(b *testing.B) {
	tbl := table("sampan-bench", serviceRange)
	for _, n := range []int{1, 2, 3} {
		tbl.Chains = append(tbl.Chains, Chain{Kind: "pick", N: n}.rules())
	}
	elements := map[string][]nft.Element{}
	for i := range 5000 {
		svc := web(func(s *corev1.Service) {
			s.Spec.ClusterIP = fmt.Sprintf("10.96.%d.%d", i/250, i%250+1)
			s.Spec.ClusterIPs = []string{s.Spec.ClusterIP}
		})
		r := Compile(svc, []*discoveryv1.EndpointSlice{slice("10.244.0.3 there ready", "10.244.0.4 there ready", "10.244.0.5 there ready")}, "here")
		for m, list := range r.Elements {
			elements[m] = append(elements[m], list...)
		}
	}
	b.Cleanup(func() { nft.Delete("sampan-bench", false) })
	for b.Loop() {
		if err := nft.Replace(tbl, elements); err != nil {
			b.Fatal(err)
		}
	}
}
