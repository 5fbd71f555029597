// Package dns answers names of the cluster, out of the API objects in memory:
// services, headless pods, ports and addresses, as the Kubernetes DNS-Based
// Service Discovery specification 1.1 says. Other names are forwarded.
//
// Nothing is indexed or watched for it: a question is a look-up in the one
// cache. Names fail while the program is down.
package dns

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"sampan/cluster/client"
	"sampan/internal/fault"
	"sampan/internal/netlink"
)

// Config is what a server needs.
type Config struct {
	Client     client.Reader
	Address    netip.Addr     // put on lo, and listened on, port 53
	Domain     string         // default cluster.local
	Ranges     []netip.Prefix // of pods and services: reverse names in them are never forwarded
	ResolvConf string         // names the servers that other names are forwarded to; default /etc/resolv.conf
	Log        *slog.Logger
}

// Server answers DNS questions. See the package comment.
type Server struct {
	cfg     Config
	zone    string // "cluster.local."
	forward *forwarder
}

// ttl is how long a client may keep an answer, in seconds: endpoints change.
const ttl = 5

// New returns a server.
func New(cfg Config) *Server {
	if cfg.Domain == "" {
		cfg.Domain = "cluster.local"
	}
	if cfg.ResolvConf == "" {
		cfg.ResolvConf = "/etc/resolv.conf"
	}
	return &Server{cfg: cfg, zone: dns.Fqdn(strings.ToLower(cfg.Domain)),
		forward: &forwarder{conf: cfg.ResolvConf, self: cfg.Address}}
}

// Run answers until ctx ends. The address stays on lo: the next Run wants it.
func (s *Server) Run(ctx context.Context) error {
	h, err := netlink.Open()
	if err != nil {
		return err
	}
	lo, err := h.Link("lo")
	if err == nil {
		err = h.AddAddr(netlink.Addr{Link: lo.Index, Prefix: netip.PrefixFrom(s.cfg.Address, 32)})
	}
	h.Close()
	if err != nil {
		return err
	}
	return s.serve(ctx, netip.AddrPortFrom(s.cfg.Address, 53).String())
}

func (s *Server) serve(ctx context.Context, addr string) error {
	wrap := func(err error) error {
		return &fault.Error{Op: "serve DNS on", On: addr, Err: err, Fix: "stop what uses port 53 there"}
	}
	udp, err := net.ListenPacket("udp", addr)
	if err != nil {
		return wrap(err)
	}
	defer udp.Close()
	tcp, err := net.Listen("tcp", addr)
	if err != nil {
		return wrap(err)
	}
	defer tcp.Close()
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) { s.handle(ctx, w, q) })
	servers := []*dns.Server{
		// The library's own bound of two seconds on a read would wake the
		// process for nothing; a socket without connections has none to give up.
		{PacketConn: udp, Handler: handler, UDPSize: 4096, ReadTimeout: time.Hour},
		{Listener: tcp, Handler: handler},
	}
	failed := make(chan error, len(servers))
	var all sync.WaitGroup
	for _, server := range servers {
		all.Go(func() { failed <- server.ActivateAndServe() })
	}
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	udp.Close()
	tcp.Close()
	all.Wait()
	if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return wrap(err)
}

func (s *Server) handle(ctx context.Context, w dns.ResponseWriter, q *dns.Msg) {
	defer func() {
		if p := recover(); p != nil {
			s.cfg.Log.Error("panic while answering", "question", q.Question, "panic", p)
			w.WriteMsg(new(dns.Msg).SetRcode(q, dns.RcodeServerFailure))
		}
	}()
	a := s.Answer(ctx, q, w.RemoteAddr().Network() == "tcp")
	if err := w.WriteMsg(a); err != nil && ctx.Err() == nil {
		s.cfg.Log.Debug("answer not sent", "to", w.RemoteAddr(), "err", err)
	}
}

// Answer is the answer to q, cut to what fits the client's buffer.
func (s *Server) Answer(ctx context.Context, q *dns.Msg, tcp bool) *dns.Msg {
	a := new(dns.Msg).SetReply(q)
	a.RecursionAvailable = true
	switch {
	case q.Opcode != dns.OpcodeQuery:
		return a.SetRcode(q, dns.RcodeNotImplemented)
	case len(q.Question) != 1:
		return a.SetRcode(q, dns.RcodeFormatError)
	}
	question := q.Question[0]
	name := strings.ToLower(question.Name)
	found, mine := s.lookup(ctx, name, question)
	if !mine {
		a = s.forward.ask(ctx, q, tcp)
	} else {
		a.Authoritative = true
		a.Rcode, a.Answer, a.Extra = found.rcode, found.records, found.extra
		if len(a.Answer) == 0 {
			a.Ns = []dns.RR{s.soa()}
		}
	}
	size := dns.MinMsgSize
	if opt := q.IsEdns0(); opt != nil {
		size = max(size, int(opt.UDPSize()))
		if a.IsEdns0() == nil {
			a.SetEdns0(4096, opt.Do())
		}
	}
	if tcp {
		size = dns.MaxMsgSize
	}
	a.Truncate(min(size, dns.MaxMsgSize))
	a.Compress = true
	return a
}

func (s *Server) soa() dns.RR {
	return &dns.SOA{Hdr: header(s.zone, dns.TypeSOA), Ns: "ns.dns." + s.zone, Mbox: "hostmaster." + s.zone,
		Serial: 1, Refresh: 7200, Retry: 1800, Expire: 86400, Minttl: ttl}
}

func header(name string, t uint16) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: t, Class: dns.ClassINET, Ttl: ttl}
}
