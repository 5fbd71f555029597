// Package aggregate lets other servers answer for group versions of this API:
// those that an APIService names, behind services in the cluster. It passes
// requests on to them, looks whether they are there, knows what they serve,
// and keeps the APIServices of what this server answers for itself.
//
// Nothing here polls: a server that cannot be reached is looked at again with
// back-off, one that can when somebody uses it (touch).
//
// aggregate authorizes nobody and does not know how this server answers.
package aggregate

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"sampan/cluster/client"
	"sampan/cluster/controller/loop"
	"sampan/cluster/kind/apiregistration"
	"sampan/internal/fault"
)

type apiService = apiregistrationv1.APIService

// Config is what an Aggregator needs. Client and Certificate are required.
type Config struct {
	// Client reads APIServices, services and endpoint slices, and writes
	// APIServices.
	Client client.Client

	// Certificate is what this server shows to the others: they believe its
	// holder whom a request is from. (The front proxy's.)
	Certificate tls.Certificate

	// Trust is what other servers have to know to believe this one.
	Trust Trust

	// Own are group versions that this server answers for although no kind in
	// the table is of them.
	Own []schema.GroupVersion

	// Dial reaches pods. Default: this machine's network.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	Log *slog.Logger     // default: slog.Default
	Now func() time.Time // default: time.Now
}

// Aggregator knows who else answers. It is safe for concurrent use.
type Aggregator struct {
	cfg     Config
	loop    loop.Loop[string] // of APIServices, to look at who is behind them
	own     loop.Loop[string] // of those that this server keeps for itself
	trust   loop.Loop[string] // of the one ConfigMap; see trust.go
	state   atomic.Pointer[State]
	wants   atomic.Pointer[map[schema.GroupVersion]bool] // whose APIServices are kept, true: of custom resources; replaced, never written to
	watches sync.WaitGroup                               // of services and endpoint slices

	describing sync.Mutex // held while servers are asked for documents, before mu
	telling    sync.Mutex // the same for documents of version 2

	mu         sync.Mutex // guards all below
	known      map[string]*known
	priorities map[schema.GroupVersion]Priority // of local ones that differ from the usual
	registered map[string]bool                  // see register.go
	atStart    map[string]bool
}

// known is what is remembered of an APIService behind a service.
type known struct {
	of         *apiService // the latest; shared
	stop       context.CancelFunc
	connection *connection

	condition apiregistrationv1.APIServiceCondition // as last found
	discovery apidiscoveryv2.APIVersionDiscovery    // as last fetched
	described described                             // as last asked
	told      told                                  // the same for version 2
	looked    time.Time
	failed    int           // looks in a row
	next      chan struct{} // closed when the look that is due is over; nil: none is waited for
}

// New checks cfg. It starts nothing.
func New(cfg Config) (*Aggregator, error) {
	if cfg.Client == nil || len(cfg.Certificate.Certificate) == 0 {
		return nil, &fault.Error{Class: fault.Invalid, Op: "set up aggregation", Fix: "give a client and the front proxy's certificate"}
	}
	if cfg.Dial == nil {
		cfg.Dial = (&net.Dialer{Timeout: 30 * time.Second}).DialContext
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	a := &Aggregator{cfg: cfg, known: map[string]*known{}, priorities: map[schema.GroupVersion]Priority{},
		registered: map[string]bool{}, atStart: map[string]bool{}}
	a.loop = loop.Loop[string]{Name: "apiservice", Workers: 2, Log: cfg.Log, Sync: a.look}
	a.own = loop.Loop[string]{Name: "apiservice-registration", Workers: 2, Log: cfg.Log, Sync: a.register}
	a.trust = loop.Loop[string]{Name: "extension-apiserver-authentication", Log: cfg.Log, Sync: a.publishTrust}
	a.state.Store(&State{})
	return a, nil
}

// Run works until ctx ends. It returns when nothing of it runs any more.
func (a *Aggregator) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer a.watches.Wait() // nothing is added once both loops have ended
	defer cancel()
	failed := make(chan error, 2)
	for _, drive := range []func() error{
		func() error { return a.own.Drive(ctx, a.follow) },
		func() error { return a.trust.Drive(ctx, a.followTrust) },
	} {
		go func() {
			failed <- drive()
			cancel()
		}()
	}
	err := a.loop.Drive(ctx, client.Changes(a.cfg.Client, client.Query{}, a.seen))
	cancel()
	return errors.Join(err, <-failed, <-failed)
}

// seen takes in what happened to an APIService.
func (a *Aggregator) seen(ctx context.Context, e client.Change[*apiService]) {
	s := e.Object
	if e.Type == client.Deleted {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.priorities, groupVersion(s))
		a.forgetLocked(s.Name)
		a.publishLocked(true)
		return
	}
	if !elsewhere(s) {
		a.seenLocal(s)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.priorities, groupVersion(s))
	k := a.known[s.Name]
	moved := k == nil || !equality.Semantic.DeepEqual(k.of.Spec.Service, s.Spec.Service)
	trust := moved || k.of.Spec.InsecureSkipTLSVerify != s.Spec.InsecureSkipTLSVerify || string(k.of.Spec.CABundle) != string(s.Spec.CABundle)
	if moved {
		a.forgetLocked(s.Name)
		k = &known{discovery: apidiscoveryv2.APIVersionDiscovery{Version: s.Spec.Version, Freshness: apidiscoveryv2.DiscoveryFreshnessStale}}
		k.stop = a.watch(ctx, s)
		a.known[s.Name] = k
	}
	if trust {
		k.connection.close()
		k.connection, k.described, k.told = a.connect(s), described{}, told{}
	}
	shown := moved || k.of.Spec.GroupPriorityMinimum != s.Spec.GroupPriorityMinimum || k.of.Spec.VersionPriority != s.Spec.VersionPriority
	k.of = s
	a.publishLocked(shown)
	have := apiregistration.Condition(s)
	if trust || have == nil || have.Status != k.condition.Status || have.Reason != k.condition.Reason || have.Message != k.condition.Message {
		a.loop.Add(s.Name)
	}
}

// seenLocal takes in an APIService that this server answers for.
func (a *Aggregator) seenLocal(s *apiService) {
	a.mu.Lock()
	defer a.mu.Unlock()
	gv := groupVersion(s)
	before, differed := a.priorities[gv]
	delete(a.priorities, gv)
	p := Priority{s.Spec.GroupPriorityMinimum, s.Spec.VersionPriority}
	if p != usual(gv) {
		a.priorities[gv] = p
	} else {
		p = Priority{}
	}
	_, was := a.known[s.Name]
	a.forgetLocked(s.Name)
	if was || differed != (p != Priority{}) || before != p {
		a.publishLocked(true)
	}
	if c := apiregistration.Condition(s); c == nil || c.Status != apiregistrationv1.ConditionTrue || c.Reason != "Local" {
		a.loop.Add(s.Name)
	}
}

func (a *Aggregator) forgetLocked(name string) {
	k := a.known[name]
	if k == nil {
		return
	}
	delete(a.known, name)
	k.stop()
	k.connection.close()
	if k.next != nil {
		close(k.next)
	}
}

// watch looks again whenever something about the service behind s changes.
func (a *Aggregator) watch(ctx context.Context, s *apiService) context.CancelFunc {
	ctx, stop := context.WithCancel(ctx)
	name, ref := s.Name, s.Spec.Service
	again := func(err error) {
		if err != nil && ctx.Err() == nil {
			a.cfg.Log.Warn("service of an aggregated API is not watched", "key", name, "err", err)
		}
	}
	a.watches.Go(func() {
		first := true
		again(client.Follow(ctx, a.cfg.Client, client.Query{Namespace: ref.Namespace, Name: ref.Name}, func(e client.Change[*corev1.Service]) {
			if first = first && e.Type != client.Synced; !first {
				a.loop.Add(name)
			}
		}))
	})
	a.watches.Go(func() {
		first := true
		again(client.Follow(ctx, a.cfg.Client, slicesOf(ref), func(e client.Change[*discoveryv1.EndpointSlice]) {
			if first = first && e.Type != client.Synced; !first {
				a.loop.Add(name)
			}
		}))
	})
	return stop
}

func slicesOf(ref *apiregistrationv1.ServiceReference) client.Query {
	return client.Query{Namespace: ref.Namespace, Labels: labels.SelectorFromSet(labels.Set{discoveryv1.LabelServiceName: ref.Name})}
}

// How soon a server is looked at again that somebody uses, and one that was
// not there. Upstream looks at all of them every 30 seconds.
const (
	used       = 30 * time.Second
	firstRetry = time.Second
	lastRetry  = 5 * time.Minute
)

// look finds out whether the server behind an APIService is there and what it
// serves, and writes down the first.
func (a *Aggregator) look(ctx context.Context, name string) (again time.Duration, err error) {
	s, err := client.Get[*apiService](ctx, a.cfg.Client, "", name)
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if !elsewhere(s) {
		return 0, a.report(ctx, s, apiregistration.Local(a.cfg.Now()))
	}
	a.mu.Lock()
	k := a.known[name]
	if k == nil {
		a.mu.Unlock()
		return 0, nil // its event is on the way, and adds it again
	}
	connection, known := k.connection, k.discovery
	a.mu.Unlock()

	now := a.cfg.Now()
	condition, worthwhile := a.check(ctx, s, connection)
	if ctx.Err() != nil {
		return 0, nil
	}
	fetched, stale := known, error(nil)
	if condition.Status == apiregistrationv1.ConditionTrue {
		fetched, stale = a.discover(ctx, connection, s)
		worthwhile = stale != nil
	}
	if condition.Status != apiregistrationv1.ConditionTrue || stale != nil {
		fetched = known
		fetched.Freshness = apidiscoveryv2.DiscoveryFreshnessStale
	}
	if stale != nil {
		a.cfg.Log.Warn("discovery of an aggregated API failed", "key", name, "err", stale)
	}

	a.mu.Lock()
	if k == a.known[name] && k.connection == connection {
		k.condition, k.looked = condition, now
		k.failed++
		if !worthwhile {
			k.failed = 0
		} else {
			again = min(firstRetry<<min(k.failed-1, 20), lastRetry)
		}
		if !equality.Semantic.DeepEqual(k.discovery, fetched) {
			k.discovery = fetched
			a.publishLocked(true)
		}
		if k.next != nil {
			close(k.next)
			k.next = nil
		}
	}
	a.mu.Unlock()
	return again, a.report(ctx, s, condition)
}

// report writes what was found into the status of s.
func (a *Aggregator) report(ctx context.Context, s *apiService, found apiregistrationv1.APIServiceCondition) error {
	next := s.DeepCopy()
	if have := apiregistration.Condition(next); have == nil {
		next.Status.Conditions = append(next.Status.Conditions, found)
	} else {
		if have.Status == found.Status {
			found.LastTransitionTime = have.LastTransitionTime
		}
		*have = found
	}
	if equality.Semantic.DeepEqual(next.Status, s.Status) {
		return nil
	}
	switch {
	case !elsewhere(s):
	case found.Status == apiregistrationv1.ConditionTrue:
		a.cfg.Log.Info("aggregated API is available", "key", s.Name)
	default:
		a.cfg.Log.Warn("aggregated API is not available", "key", s.Name, "reason", found.Reason, "message", found.Message)
	}
	_, err := client.UpdateStatus(ctx, a.cfg.Client, next)
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// touch has a server looked at that somebody uses and that nobody has looked at
// for a while. The channel, none if there is no need, is closed when that is
// done.
func (a *Aggregator) touch(name string) (due []<-chan struct{}) {
	now := a.cfg.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	k := a.known[name]
	if k == nil {
		return nil
	}
	wait := used
	if k.condition.Status != apiregistrationv1.ConditionTrue {
		wait = firstRetry
	}
	if now.Sub(k.looked) < wait {
		return nil
	}
	if k.next == nil {
		k.next = make(chan struct{})
		a.loop.Add(name)
	}
	return []<-chan struct{}{k.next}
}

// patience is how long somebody who asks what is served waits for servers that
// nobody has asked for a while.
const patience = time.Second

// Refresh has all servers looked at that nobody has looked at for a while, and
// waits a little for them.
func (a *Aggregator) Refresh(ctx context.Context) {
	remotes := a.State().remotes
	if len(remotes) == 0 {
		return
	}
	var due []<-chan struct{}
	for _, r := range remotes {
		if soon := a.touch(r.name); r.available { // others are not worth waiting for
			due = append(due, soon...)
		}
	}
	if len(due) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for _, done := range due {
		select {
		case <-done:
		case <-ctx.Done():
			return
		}
	}
}

// elsewhere says whether another server answers. Who registers servers is
// answered here: else nobody could undo a mistake.
func elsewhere(s *apiService) bool {
	return s.Spec.Service != nil && s.Spec.Group != apiregistrationv1.GroupName
}

func groupVersion(s *apiService) schema.GroupVersion {
	return schema.GroupVersion{Group: s.Spec.Group, Version: s.Spec.Version}
}
