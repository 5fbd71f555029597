package bootstrap

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"time"

	"sampan/cluster/client"
	"sampan/cluster/kind"
	"sampan/engine/cri"
	"sampan/internal/fault"
	"sampan/node/cni"
	"sampan/node/pod"
)

// The engine's CRI face is what a pod needs of a container engine.
var _ pod.Runtime = (*cri.Server)(nil)

// pipe serves an http.Handler to callers in this process, over connections
// that are never sockets. It is a net.Listener and an api.Dialer.
type pipe struct {
	node  string
	conns chan net.Conn
	over  chan struct{}
	once  sync.Once
}

func newPipe(node string) *pipe {
	return &pipe{node: node, conns: make(chan net.Conn), over: make(chan struct{})}
}

// DialNode implements api.Dialer for the one node that there is.
func (p *pipe) DialNode(ctx context.Context, name string) (net.Conn, error) {
	if name != p.node {
		return nil, &fault.Error{Class: fault.NotFound, Op: "reach node", On: name, Err: errors.New("it is not of this cluster")}
	}
	here, there := net.Pipe()
	select {
	case p.conns <- there:
		return here, nil
	case <-p.over:
		return nil, &fault.Error{Class: fault.Unavailable, Op: "reach node", On: name, Err: errors.New("it is shutting down")}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Accept implements net.Listener.
func (p *pipe) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.over:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (p *pipe) Close() error { p.once.Do(func() { close(p.over) }); return nil }

// Addr implements net.Listener.
func (p *pipe) Addr() net.Addr { return pipeAddr{} }

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "pipe" }

// serve answers requests on l until ctx ends.
func serve(ctx context.Context, l net.Listener, h http.Handler) error {
	s := &http.Server{Handler: h, ReadHeaderTimeout: 30 * time.Second}
	defer context.AfterFunc(ctx, func() { s.Close() })()
	if err := s.Serve(l); ctx.Err() == nil {
		return err
	}
	return nil
}

// nodeClient is the local node's. It follows secrets and config maps with one
// watch over all, which the identity of a node does not give; the objects
// themselves it reads under that identity. In this process the watch costs
// nothing and shows nothing that the process does not hold; a joined node has
// to watch by name.
type nodeClient struct {
	client.Client
	all client.Reader
}

// Watch implements client.Reader.
func (n nodeClient) Watch(ctx context.Context, k *kind.Kind, q client.Query) (client.Watcher, error) {
	if r := k.GroupResource(); q.Name == "" && r.Group == "" && (r.Resource == "secrets" || r.Resource == "configmaps") {
		return n.all.Watch(ctx, k, q)
	}
	return n.Client.Watch(ctx, k, q)
}

// podNetwork puts the node's network behind the interface that the engine
// declares.
type podNetwork struct{ net *cni.Network }

func (p podNetwork) request(r cri.NetworkRequest) cni.Request {
	out := cni.Request{ID: r.SandboxID, NetNS: r.NetNS}
	for _, m := range r.Ports {
		if m.HostPort == 0 {
			continue
		}
		proto := uint8(syscall.IPPROTO_TCP)
		if strings.EqualFold(m.Protocol, "udp") {
			proto = syscall.IPPROTO_UDP
		}
		host, _ := netip.ParseAddr(m.HostIP)
		out.Ports = append(out.Ports, cni.Port{HostIP: host, HostPort: m.HostPort,
			ContainerPort: m.ContainerPort, Protocol: proto})
	}
	return out
}

// Attach implements cri.Network.
func (p podNetwork) Attach(ctx context.Context, r cri.NetworkRequest) (cri.NetworkResult, error) {
	ip, err := p.net.Attach(ctx, p.request(r))
	if err != nil {
		return cri.NetworkResult{}, err
	}
	return cri.NetworkResult{IPs: []netip.Addr{ip}}, nil
}

// Detach implements cri.Network.
func (p podNetwork) Detach(ctx context.Context, r cri.NetworkRequest) error {
	return p.net.Detach(ctx, p.request(r))
}

// Status implements cri.Network.
func (p podNetwork) Status(ctx context.Context) error { return p.net.Status(ctx) }
