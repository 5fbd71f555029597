// Package proxy makes services work on this machine: connections to a
// service's address or node port go to one of its endpoints, by rules in the
// kernel that stay when the program is away.
//
// What a service needs is compiled from it alone (compile.go, pure); a change
// of one service is a change of its elements in the maps of one nftables
// table. It knows neither how a pod gets its address nor who made the
// endpoints.
package proxy

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"sampan/cluster/client"
	"sampan/internal/netlink"
	"sampan/internal/nft"
)

// Config is what a proxy needs. It works on the network namespace of the
// thread that Run is called on; a process has one.
type Config struct {
	Client       client.Reader
	Node         string       // this node's name
	Table        string       // the nftables table's name, this instance's own
	ServiceRange netip.Prefix // where an address of no service is rejected
	Log          *slog.Logger
}

// settle is how long further changes are awaited before the kernel is told: a
// rolling update changes an endpoint slice many times in a moment.
const settle = 5 * time.Millisecond

// Proxy keeps the table. See the package comment.
type Proxy struct {
	cfg   Config
	table nft.Table

	mu    sync.Mutex // guards dirty and all below that Follow's callbacks write
	dirty map[types.NamespacedName]bool
	wake  chan struct{}

	// Run's goroutine only.
	applied map[types.NamespacedName]Rules
	owners  map[string]map[string]types.NamespacedName // map → key → the service that put it there
	shared  map[nft.Element]int                        // hairpin elements: how many services want them
	chains  map[Chain]bool
}

// New returns a proxy.
func New(cfg Config) *Proxy {
	return &Proxy{
		cfg: cfg, table: table(cfg.Table, cfg.ServiceRange),
		dirty: map[types.NamespacedName]bool{}, wake: make(chan struct{}, 1),
	}
}

// Run keeps the table until ctx ends. The table then stays as it is.
func (p *Proxy) Run(ctx context.Context) error {
	var all sync.WaitGroup
	defer all.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	synced := make(chan struct{}, 2)
	failed := make(chan error, 2)
	all.Go(func() {
		failed <- client.Follow(ctx, p.cfg.Client, client.Query{}, func(c client.Change[*corev1.Service]) {
			if c.Type == client.Synced {
				synced <- struct{}{}
				return
			}
			p.mark(types.NamespacedName{Namespace: c.Object.Namespace, Name: c.Object.Name})
		})
	})
	all.Go(func() {
		failed <- client.Follow(ctx, p.cfg.Client, client.Query{}, func(c client.Change[*discoveryv1.EndpointSlice]) {
			if c.Type == client.Synced {
				synced <- struct{}{}
				return
			}
			for _, s := range []*discoveryv1.EndpointSlice{c.Object, c.Old} {
				if s != nil {
					p.mark(types.NamespacedName{Namespace: s.Namespace, Name: s.Labels[discoveryv1.LabelServiceName]})
				}
			}
		})
	})
	for range 2 {
		select {
		case <-synced:
		case err := <-failed:
			return err
		case <-ctx.Done():
			return nil
		}
	}
	retry, timer := time.Duration(0), time.NewTimer(0)
	defer timer.Stop()
	whole := true // the first time, and after a failure, the table is made anew
	for {
		select {
		case <-timer.C:
		case <-p.wake:
			if retry == 0 {
				timer.Reset(settle)
			}
			continue
		case err := <-failed:
			return err
		case <-ctx.Done():
			return nil
		}
		var err error
		if whole {
			err = p.replace(ctx)
		} else {
			err = p.update(ctx)
		}
		if whole = err != nil; whole && ctx.Err() == nil {
			retry = min(max(2*retry, 100*time.Millisecond), time.Minute)
			p.cfg.Log.Error("service rules not applied", "retry", retry, "err", err)
			timer.Reset(retry)
			continue
		}
		retry = 0
	}
}

func (p *Proxy) mark(name types.NamespacedName) {
	p.mu.Lock()
	p.dirty[name] = true
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (p *Proxy) takeDirty() map[types.NamespacedName]bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	d := p.dirty
	p.dirty = map[types.NamespacedName]bool{}
	return d
}

// replace makes the whole table anew, in one step.
func (p *Proxy) replace(ctx context.Context) error {
	p.takeDirty()
	p.applied = map[types.NamespacedName]Rules{}
	p.owners = map[string]map[string]types.NamespacedName{}
	p.shared = map[nft.Element]int{}
	p.chains = map[Chain]bool{}
	svcs, err := client.List[*corev1.Service](ctx, p.cfg.Client, client.Query{})
	if err != nil {
		return err
	}
	t := p.table
	t.Chains = slices.Clone(t.Chains)
	elements := map[string][]nft.Element{}
	for _, svc := range svcs {
		name := types.NamespacedName{Namespace: svc.Namespace, Name: svc.Name}
		r, err := p.compile(ctx, name)
		if err != nil {
			return err
		}
		p.applied[name] = r
		for m, list := range r.Elements {
			elements[m] = append(elements[m], p.claim(name, m, list)...)
		}
		for _, c := range r.Chains {
			if !p.chains[c] {
				p.chains[c] = true
				t.Chains = append(t.Chains, c.rules())
			}
		}
	}
	return nft.Replace(t, elements)
}

// update applies what has changed.
func (p *Proxy) update(ctx context.Context) error {
	changes := map[string]*nft.Change{}
	change := func(m string) *nft.Change {
		if changes[m] == nil {
			changes[m] = &nft.Change{Map: m}
		}
		return changes[m]
	}
	var chains []nft.Chain
	var stale []netlink.Flow
	for name := range p.takeDirty() {
		r, err := p.compile(ctx, name)
		if err != nil {
			return err
		}
		old := p.applied[name]
		for _, m := range []string{services, nodePorts, endpoints, dead, hairpin} {
			gone, come := differ(old.Elements[m], r.Elements[m])
			if m == endpoints && len(gone) > 0 && old.sticky > 0 {
				// A client may be bound to what has gone. Which one is not
				// known here: all clients choose anew.
				change(affinity).Empty = true
			}
			if len(gone) > 0 {
				change(m).Delete = append(change(m).Delete, p.release(name, m, gone)...)
			}
			if len(come) > 0 {
				change(m).Add = append(change(m).Add, p.claim(name, m, come)...)
			}
		}
		for _, c := range r.Chains {
			if !p.chains[c] {
				p.chains[c] = true
				chains = append(chains, c.rules())
			}
		}
		for _, f := range old.flows {
			if !slices.Contains(r.flows, f) {
				stale = append(stale, netlink.Flow{Protocol: syscall.IPPROTO_UDP,
					Dst: f.to.Addr(), DstPort: f.to.Port(), From: f.from})
			}
		}
		if len(r.Elements) == 0 {
			delete(p.applied, name)
		} else {
			p.applied[name] = r
		}
	}
	var list []nft.Change
	for _, c := range changes {
		if len(c.Add)+len(c.Delete) > 0 || c.Empty {
			list = append(list, *c)
		}
	}
	if len(list) > 0 || len(chains) > 0 {
		if err := nft.Update(p.table, chains, list); err != nil {
			return err
		}
	}
	// A UDP "connection" to an endpoint that is gone would be kept by the
	// kernel for as long as the client goes on sending.
	if len(stale) > 0 {
		if _, err := netlink.DropFlows(false, stale); err != nil {
			p.cfg.Log.Warn("stale connections not dropped", "err", err)
		}
	}
	return nil
}

func (p *Proxy) compile(ctx context.Context, name types.NamespacedName) (Rules, error) {
	svc, err := client.Get[*corev1.Service](ctx, p.cfg.Client, name.Namespace, name.Name)
	if err != nil {
		return Rules{}, ignoreNotFound(err)
	}
	eps, err := client.List[*discoveryv1.EndpointSlice](ctx, p.cfg.Client, client.Query{
		Namespace: name.Namespace, Index: discoveryv1.LabelServiceName, Value: name.Name})
	if err != nil {
		return Rules{}, err
	}
	return Compile(svc, eps, p.cfg.Node), nil
}

// claim returns those of list that name may put into m: a key that another
// service has already (an external address, say) stays that one's.
func (p *Proxy) claim(name types.NamespacedName, m string, list []nft.Element) (mine []nft.Element) {
	if m == hairpin {
		for _, e := range list {
			if p.shared[e]++; p.shared[e] == 1 {
				mine = append(mine, e)
			}
		}
		return mine
	}
	if p.owners[m] == nil {
		p.owners[m] = map[string]types.NamespacedName{}
	}
	for _, e := range list {
		if owner, taken := p.owners[m][e.Key]; taken && owner != name {
			p.cfg.Log.Warn("two services want one address and port", "key", name, "other", owner)
			continue
		}
		p.owners[m][e.Key] = name
		mine = append(mine, e)
	}
	return mine
}

// release returns those of list that leave m now that name lets go of them.
func (p *Proxy) release(name types.NamespacedName, m string, list []nft.Element) (gone []nft.Element) {
	for _, e := range list {
		if m == hairpin {
			if p.shared[e]--; p.shared[e] == 0 {
				delete(p.shared, e)
				gone = append(gone, e)
			}
			continue
		}
		if p.owners[m][e.Key] == name {
			delete(p.owners[m], e.Key)
			gone = append(gone, e)
		}
	}
	return gone
}

// differ says what to take away from old and what to add to get now.
func differ(old, now []nft.Element) (gone, come []nft.Element) {
	had := make(map[nft.Element]bool, len(old))
	for _, e := range old {
		had[e] = true
	}
	for _, e := range now {
		if !had[e] {
			come = append(come, e)
		}
		delete(had, e)
	}
	for _, e := range old {
		if had[e] {
			gone = append(gone, e)
		}
	}
	return gone, come
}

func ignoreNotFound(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
