package bootstrap

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sampan/cluster/admission"
	"sampan/cluster/aggregate"
	"sampan/cluster/api"
	"sampan/cluster/audit"
	"sampan/cluster/auth"
	"sampan/cluster/auth/setup"
	"sampan/cluster/client"
	"sampan/cluster/controller/definition"
	"sampan/cluster/controller/loop"
	"sampan/cluster/controller/unusedtokens"
	"sampan/cluster/crd"
	"sampan/cluster/encrypt"
	"sampan/cluster/flow"
	"sampan/cluster/kind"
	"sampan/cluster/kind/admissionregistration"
	"sampan/cluster/kind/apiextensions"
	"sampan/cluster/kind/apiregistration"
	"sampan/cluster/kind/apps"
	"sampan/cluster/kind/autoscaling"
	"sampan/cluster/kind/batch"
	"sampan/cluster/kind/certificates"
	"sampan/cluster/kind/coordination"
	"sampan/cluster/kind/core"
	"sampan/cluster/kind/discovery"
	"sampan/cluster/kind/flowcontrol"
	"sampan/cluster/kind/networking"
	nodekind "sampan/cluster/kind/node"
	"sampan/cluster/kind/oldversion"
	policykind "sampan/cluster/kind/policy"
	"sampan/cluster/kind/rbac"
	resourcekind "sampan/cluster/kind/resource"
	"sampan/cluster/kind/scheduling"
	"sampan/cluster/kind/storage"
	"sampan/cluster/kind/storagemigration"
	"sampan/cluster/object"
	"sampan/cluster/schema"
	"sampan/cluster/store"
	"sampan/cluster/verb"
	"sampan/cluster/webhook"
	"sampan/internal/fault"
)

// Program is the whole platform of one machine.
type Program struct {
	cfg   Config
	log   *slog.Logger
	named string // the node's name as it was given, or empty
}

// New checks the configuration. It touches nothing.
func New(cfg Config) (*Program, error) {
	named := cfg.NodeName
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Program{cfg: cfg, log: cfg.Log, named: named}, nil
}

// Kinds is the table of all kinds that the program serves, and of those alone
// that upstream serves too if strict is true.
func Kinds(strict bool) *kind.Table {
	all := slices.Concat(core.Kinds(), apps.Kinds(), coordination.Kinds(), discovery.Kinds(), rbac.Kinds(), scheduling.Kinds(), batch.Kinds(), policykind.Kinds(), certificates.Kinds(), storage.Kinds(), apiextensions.Kinds(), apiregistration.Kinds(), networking.Kinds(), nodekind.Kinds(), admissionregistration.Kinds(), resourcekind.Kinds(), storagemigration.Kinds(), flowcontrol.Kinds(), autoscaling.Kinds())
	if strict {
		oldversion.Read(all)
	} else {
		oldversion.Serve(all)
	}
	return kind.NewTable(all)
}

func oldReviews(strict bool) []oldversion.Review {
	if strict {
		return nil
	}
	return oldversion.Reviews()
}

// running is what Run has put together.
type running struct {
	machine
	pki    *PKI
	store  *store.Store
	verbs  *verb.API
	may    *auth.Authorizer
	rbac   *auth.RBAC
	who    *auth.Authenticator
	tokens *auth.Tokens

	authenticators *setup.Authenticators // who is of it
	rules          *setup.Authorizers    // may is of it

	pipe   *pipe
	api    *api.Server
	flow   *flow.Flow
	reader client.Reader

	encryption *encrypt.Encryption // of what the store keeps; nil: none
	audit      *audit.Trail        // nil: none

	webhooks *webhook.Caller // for admission and conversion alike
	custom   *crd.Registry
	counted  []func(io.Writer) // what appends to /metrics
	metrics  registry          // what is on it beside

	aggregate *aggregate.Aggregator // other servers, behind services
	down      outages               // parts that do not run
}

// Run starts the platform and keeps it until ctx ends. Containers go on
// running then; the next Run takes them over.
func (p *Program) Run(ctx context.Context) error {
	started := time.Now()
	if os.Geteuid() != 0 && !p.cfg.APIOnly {
		return &fault.Error{Class: fault.Forbidden, Op: "start sampan", On: "as user " + strconv.Itoa(os.Geteuid()),
			Err: errors.New("namespaces, mounts and cgroups need root"), Fix: "run it with sudo"}
	}
	lock, err := lockInstance(p.cfg.State, p.cfg.Run)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	as := *p
	file, err := as.membership()
	if err != nil {
		return err
	}
	m := machine{Program: as, kinds: Kinds(p.cfg.StrictVersions), record: as.record(started)}
	if file != nil {
		j := &joined{machine: m, file: *file}
		return j.run(ctx, started)
	}
	r := &running{machine: m, metrics: prometheus.NewRegistry()}
	if err := r.record.write(); err != nil {
		return err
	}

	// The port is taken first: of all that can go wrong it is the likeliest.
	listener, err := listen(p.cfg.Listen, p.cfg.Port, "--port")
	if err != nil {
		return err
	}
	defer listener.Close()
	var kubelet net.Listener
	if !p.cfg.APIOnly {
		if kubelet, err = listen(p.cfg.Listen, p.cfg.KubeletPort, "--kubelet-port"); err != nil {
			return err
		}
		defer kubelet.Close()
	}

	// The store waits for an election; the rest is made ready meanwhile.
	opened := make(chan error, 1)
	go func() { opened <- r.openStore(ctx) }()
	if p.cfg.APIOnly {
		err = r.openKeys()
	} else {
		err = r.openMachine(ctx)
	}
	err = errors.Join(err, <-opened)
	if r.store != nil {
		defer r.store.Close()
	}
	if r.engine != nil {
		defer r.engine.Close()
	}
	if err == nil {
		err = r.openCluster()
	}
	if err != nil {
		return err
	}
	return r.serve(ctx, started, listener, kubelet)
}

// listen takes a TCP port, and says what to do if somebody has it.
func listen(host string, port int, flag string) (net.Listener, error) {
	addr := net.JoinHostPort(host, strconv.Itoa(port))
	l, err := net.Listen("tcp", addr)
	if err != nil {
		f := &fault.Error{Op: "listen on", On: addr, Err: err}
		if errors.Is(err, syscall.EADDRINUSE) {
			f.Class, f.Fix = fault.Exists, "stop what uses the port, or choose another with "+flag
		}
		return nil, f
	}
	return l, nil
}

func (r *running) openStore(ctx context.Context) (err error) {
	sealed, err := r.transformer(ctx)
	if err != nil {
		return err
	}
	etcdTLS, err := r.cfg.etcdTLS()
	if err != nil {
		return err
	}
	dir := storeDir(r.cfg.State)
	if len(r.cfg.EtcdEndpoints) > 0 {
		dir = ""
	}
	r.store, err = store.Open(ctx, store.Config{
		Dir: dir, Endpoints: r.cfg.EtcdEndpoints, TLS: etcdTLS, Prefix: r.cfg.EtcdPrefix, CompactEvery: r.cfg.EtcdCompaction,
		Kinds: r.kinds, Codec: object.Storage{}, Transformer: sealed, Log: r.log, CheckShared: r.cfg.CheckShared,
	})
	return err
}

// openMachine makes the engine and the network ready, and the keys, which
// name the node's address.
func (r *running) openMachine(ctx context.Context) (err error) {
	if err := r.openNetwork(ctx, r.cfg.nodePods()); err != nil {
		return err
	}
	if err := r.openKeys(); err != nil {
		return err
	}
	return r.openEngine(ctx)
}

func (r *running) openKeys() (err error) {
	r.pki, err = LoadPKI(PKIConfig{Dir: filepath.Join(r.cfg.State, "pki"), Names: []string{r.cfg.NodeName}, IPs: []net.IP{
		r.address().AsSlice(), r.cfg.serviceAddress(apiServiceNumber).AsSlice()}})
	return err
}

// address is the node's; without a node the API is for this machine.
func (r *running) address() netip.Addr {
	if r.cfg.APIOnly {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return r.network.NodeIP()
}

// openCluster puts the API together on the open store.
func (r *running) openCluster() (err error) {
	r.reader = verb.NewReader(r.kinds, r.store)
	if r.webhooks, err = webhook.New(webhook.Config{Objects: r.reader, Metrics: webhook.NewMetrics(r.metrics)}); err != nil {
		return err
	}
	r.custom, err = crd.New(crd.Config{Objects: r.reader, Kinds: r.kinds, Store: r.store, Webhooks: r.webhooks, Log: r.log})
	if err != nil {
		return err
	}
	schemas := schema.New(r.kinds)
	if err := r.openIdentity(); err != nil {
		return err
	}
	plugins, err := r.admission(schemas)
	if err != nil {
		return err
	}
	if err := r.openAudit(); err != nil {
		return err
	}
	measured := &admission.Metrics{}
	r.metrics.MustRegister(measured)
	r.verbs, err = verb.New(verb.Config{
		Kinds: r.kinds, Store: r.store, Schemas: schemas, Authorizer: r.may,
		Admission: admission.NewMeasuredChain(measured, plugins...),
		Actions:   actions(r.tokens),
		Audit:     r.audit,
	})
	if err != nil {
		return err
	}
	if err := r.openFlow(); err != nil {
		return err
	}
	if r.aggregate, err = r.openAggregate(); err != nil {
		return err
	}
	r.pipe = newPipe(r.cfg.NodeName)
	r.api, err = api.New(api.Config{
		Verbs: r.verbs, Kinds: r.kinds, Schemas: schemas, Authenticator: r.who, Authorizer: r.may, Aggregate: r.aggregate, Components: r.components(),
		Objects: r.reader, Dialer: dialer{local: r.pipe, nodes: r.reader, pki: r.pki}, Tokens: r.tokens, Log: r.log,
		Debug: map[string]http.HandlerFunc{whyPath: r.why, snapshotPath: r.snapshot}, OldReviews: oldReviews(r.cfg.StrictVersions), Metrics: r.writeMetrics, Flags: r.cfg.Flags,
		Checks: r.checks(), Audit: r.audit, Limits: r.cfg.Limits.Limits,
	})
	if err != nil {
		return err
	}
	if r.cfg.APIOnly {
		return nil
	}
	return r.openAgent(nodeClient{r.verbs.As(auth.Node(r.cfg.NodeName)), r.reader}, r.cfg.nodePods(), presence{})
}

// serve runs everything until ctx ends, the API last.
func (r *running) serve(ctx context.Context, started time.Time, listener, kubelet net.Listener) error {
	inner, stopParts := context.WithCancel(ctx)
	defer stopParts()
	outer, stopAPI := context.WithCancel(context.WithoutCancel(ctx))
	defer stopAPI()

	if err := r.custom.Load(ctx); err != nil {
		return fmt.Errorf("take up the custom resources: %w", err)
	}
	defer r.keepAudit()()
	failed := make(chan error, 1)
	var all sync.WaitGroup
	all.Go(func() {
		failed <- r.api.Serve(outer, api.TLS(r.pki.Serving, append(r.authenticators.Proxies, r.pki.CA)...), listener)
	})

	url := "https://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(r.cfg.Port))
	if err := (Kubeconfig{Server: url, CA: r.pki.CAPEM, User: AdminUser, Client: r.pki.Admin}).Write(r.cfg.Kubeconfig); err != nil {
		return err
	}
	if err := r.firstObjects(ctx); err != nil {
		return fmt.Errorf("make the objects that every cluster has: %w", err)
	}
	queues := &loop.Metrics{}
	r.metrics.MustRegister(queues)
	if !r.cfg.APIOnly {
		r.metrics.MustRegister(managed(&r.down))
	}
	all.Go(func() { supervise(queues.With(inner), r.log, r.parts(kubelet), &r.down) })
	r.record.Server, r.record.Address = url, r.address().String()
	if err := r.record.write(); err != nil {
		return err
	}
	if r.cfg.Ready != nil {
		r.cfg.Ready(Ready{Server: url, Kubeconfig: r.cfg.Kubeconfig, Node: r.cfg.NodeName, Took: time.Since(started)})
	}
	r.log.Info("up", "server", url, "node", r.cfg.NodeName, "took", time.Since(started).Round(time.Millisecond))

	var err error
	var enough <-chan time.Time
	select {
	case <-ctx.Done():
	case err = <-failed:
	case <-r.store.Done():
		err = r.store.Err()              // what is not in the cache can't be served
		enough = time.After(brokenPause) // what is broken may hold what a part waits for
	}
	stopParts()
	stopAPI()
	r.pipe.Close()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		all.Wait()
	}()
	select {
	case <-ended:
	case <-enough:
		r.log.Error("parts still wait for the store, which is broken")
	}
	return err
}

// brokenPause is how long parts may take to end when the store cannot go on:
// longer than the API takes for its last requests.
const brokenPause = 20 * time.Second

// parts are what runs beside the API.
func (r *running) parts(kubelet net.Listener) []part {
	as := func(name string) client.Client {
		return r.verbs.WithCache(auth.ServiceAccount("kube-system", name), auth.Component("kube-controller-manager"))
	}
	if r.cfg.APIOnly {
		return append(r.ownParts(as), part{"memory", func(ctx context.Context) error { return settle(ctx, r.log) }})
	}
	nodeTLS := tls.NewListener(kubelet, api.TLS(r.pki.Serving, r.pki.CA))
	handler := r.agent.Handler()
	coredns := auth.ServiceAccount("kube-system", "coredns")
	return slices.Concat(r.ownParts(as), r.controllers(as), []part{
		{"node-api", func(ctx context.Context) error {
			return serve(ctx, nodeTLS, guarded(handler, r.cfg.NodeName, r.who, r.may))
		}},
		{"node-api-local", func(ctx context.Context) error { return serve(ctx, r.pipe, handler) }},
	}, r.machine.parts(r.verbs.WithCache(auth.Component("kube-proxy"), auth.Component("kube-proxy")), r.verbs.WithCache(coredns, coredns)))
}

// ownParts are those of an API server, which upstream has in that program too.
func (r *running) ownParts(as func(name string) client.Client) []part {
	return slices.Concat(r.identityParts(), r.encryptionParts(), []part{
		{"custom", r.custom.Run},
		{"aggregate", r.aggregate.Run},
		{"roles", r.writeRoles},
		{"flow-control", r.flow.Run},
		{"tokentracker", unusedtokens.NewTracker(r.verbs.WithCache(auth.Server(), auth.Component("kube-controller-manager")), r.log).Run},
		{"definition", definition.New(definition.Config{Client: as("customresourcedefinition-controller"), Log: r.log}).Run},
	})
}
