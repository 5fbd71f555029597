package dns

import (
	"context"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// Bounds of forwarding.
const (
	patience   = 2 * time.Second // for one server
	mostCached = 1000
	longestTTL = 30 * time.Second
)

// forwarder asks the machine's own DNS servers, and remembers a little.
type forwarder struct {
	conf string
	self netip.Addr // not asked: that would be a circle

	mu      sync.Mutex // guards all below
	read    time.Time  // the file's time when it was read
	servers []string
	cache   map[dns.Question]remembered
	order   []dns.Question // of the cache, oldest first
}

type remembered struct {
	answer *dns.Msg
	until  time.Time
}

// ask returns the first server's answer; SERVFAIL if none gives one, at once
// if there is none.
func (f *forwarder) ask(ctx context.Context, q *dns.Msg, tcp bool) *dns.Msg {
	if a := f.recall(q); a != nil {
		return a
	}
	network := "udp"
	if tcp {
		network = "tcp"
	}
	c := &dns.Client{Net: network, Timeout: patience}
	for _, server := range f.upstreams() {
		ask := q.Copy()
		ask.Id = dns.Id()
		a, _, err := c.ExchangeContext(ctx, ask, server)
		if err != nil || a == nil || len(a.Question) != 1 || a.Rcode == dns.RcodeServerFailure {
			continue
		}
		a.Id = q.Id
		f.remember(q.Question[0], a)
		return a
	}
	return new(dns.Msg).SetRcode(q, dns.RcodeServerFailure)
}

// upstreams reads the file again when it has changed.
func (f *forwarder) upstreams() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	info, err := os.Stat(f.conf)
	if err != nil {
		return nil
	}
	if info.ModTime().Equal(f.read) {
		return f.servers
	}
	conf, err := dns.ClientConfigFromFile(f.conf)
	if err != nil {
		return nil
	}
	f.read = info.ModTime()
	f.servers = nil
	for _, s := range conf.Servers {
		if ip, err := netip.ParseAddr(s); err != nil || ip != f.self {
			f.servers = append(f.servers, net.JoinHostPort(s, conf.Port))
		}
	}
	return f.servers
}

func (f *forwarder) recall(q *dns.Msg) *dns.Msg {
	f.mu.Lock()
	defer f.mu.Unlock()
	r, ok := f.cache[q.Question[0]]
	if !ok || time.Now().After(r.until) {
		return nil
	}
	a := r.answer.Copy()
	a.Id = q.Id
	return a
}

func (f *forwarder) remember(q dns.Question, a *dns.Msg) {
	if a.Truncated || len(a.Answer) == 0 {
		return
	}
	keep := longestTTL
	for _, rr := range a.Answer {
		keep = min(keep, time.Duration(rr.Header().Ttl)*time.Second)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.cache == nil {
		f.cache = map[dns.Question]remembered{}
	}
	if _, known := f.cache[q]; !known {
		if len(f.order) >= mostCached {
			delete(f.cache, f.order[0])
			f.order = slices.Delete(f.order, 0, 1)
		}
		f.order = append(f.order, q)
	}
	f.cache[q] = remembered{a.Copy(), time.Now().Add(keep)}
}
