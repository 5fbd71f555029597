package bootstrap

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sampan/cluster/api"
	"sampan/cluster/auth"
	"sampan/cluster/client"
	"sampan/cluster/client/remote"
	"sampan/cluster/kind"
	"sampan/internal/durable"
	"sampan/internal/fault"
)

// joined is a node of a cluster whose process is on another machine: the
// engine, the agent, the service proxy and the DNS, which speak to the API
// over HTTP, each under its own name.
type joined struct {
	machine
	file    NodeFile
	asNode  *remote.Client // system:node:NAME
	asProxy *remote.Client // system:kube-proxy
	asDNS   *remote.Client // the DNS's service account
}

// Times of a node's lease across processes, upstream's.
const (
	joinedLease = 40 * time.Second
	joinedRenew = 10 * time.Second
)

// keptFile is where a joined node keeps what it joined with.
func keptFile(state string) string { return filepath.Join(state, "node.kubeconfig") }

// membership finds out whether this machine is a node of another one's
// cluster: because it is to join now, or joined before. The configuration
// becomes that of the cluster then. Nil: it has a cluster of its own.
func (p *Program) membership() (*NodeFile, error) {
	refuse := func(err error) error {
		return &fault.Error{Class: fault.Conflict, Op: "join with", On: p.cfg.Join, Err: err,
			Fix: "choose another --state, or remove what is there with: sampan reset"}
	}
	kept, err := readNodeFile(keptFile(p.cfg.State))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	file := kept
	if p.cfg.Join != "" {
		if file, err = readNodeFile(p.cfg.Join); err != nil {
			return nil, err
		}
		if kept != nil && (kept.Node != file.Node || !slices.Equal(kept.CA, file.CA)) {
			return nil, refuse(errors.New("this machine is the node " + kept.Node + " of the cluster at " + kept.Server + " already"))
		}
		if r, err := readRecord(savedPath(p.cfg.State)); err == nil && !r.Config.Joined {
			return nil, refuse(errors.New("this machine has a cluster of its own"))
		}
	}
	if file == nil {
		return nil, nil
	}
	c := p.cfg
	c.NodeName = p.named
	if p.cfg, err = file.configure(c); err == nil {
		err = p.cfg.check()
	}
	return file, err
}

// run is Program.Run of a joined node.
func (j *joined) run(ctx context.Context, started time.Time) error {
	j.record.Config.Joined, j.record.Kubeconfig = true, "" // the file that it joined with is not its own
	pods := netip.Prefix{}
	if r, err := readRecord(savedPath(j.cfg.State)); err == nil {
		pods, _ = netip.ParsePrefix(r.Config.NodePods)
		j.record.Config.NodePods = r.Config.NodePods
	}
	if err := j.record.write(); err != nil {
		return err
	}
	kubelet, err := listen(j.cfg.Listen, j.cfg.KubeletPort, "--kubelet-port")
	if err != nil {
		return err
	}
	defer kubelet.Close()
	trust, err := j.connect()
	if err != nil {
		return err
	}
	clients, disconnect := context.WithCancel(context.WithoutCancel(ctx))
	var all sync.WaitGroup
	defer all.Wait()
	defer disconnect()
	for _, c := range []*remote.Client{j.asNode, j.asProxy, j.asDNS} {
		all.Go(func() { _ = c.Run(clients) }) // ends with clients, and without an error
	}
	if !pods.IsValid() { // a node that was known before starts its pods without the API too
		if err := j.knock(ctx); err != nil {
			return err
		}
	}
	data, err := j.file.Encode()
	if err == nil {
		err = durable.WriteFile(keptFile(j.cfg.State), data, 0o600)
	}
	if err == nil {
		err = j.openNetwork(ctx, pods)
	}
	if err == nil {
		err = j.openEngine(ctx)
	}
	if err != nil {
		return err
	}
	defer j.engine.Close()
	shared := pooled{Client: j.asNode, from: j.asProxy, kinds: []schema.GroupResource{{Resource: "services"}}}
	if err := j.openAgent(shared, pods, presence{lease: joinedLease, renew: joinedRenew, alone: true}); err != nil {
		return err
	}
	serving, err := tls.X509KeyPair(j.file.Serving.Cert, j.file.Serving.Key)
	if err != nil {
		return err
	}
	who := &auth.Authenticator{ClientCA: auth.NewTrust(trust),
		Tokens: &auth.Cached{Of: tokenReviews{j.asNode}, Success: tokensLast, Failure: tokensLast}}
	handler := guarded(j.agent.Handler(), j.cfg.NodeName, who, &reviews{client: j.asNode})
	named := pooled{Client: j.asDNS, from: j.asProxy, kinds: []schema.GroupResource{
		{Resource: "services"}, {Group: "discovery.k8s.io", Resource: "endpointslices"}}}
	parts := append(j.machine.parts(j.asProxy, named), []part{
		{"node-api", func(ctx context.Context) error {
			return serve(ctx, tls.NewListener(kubelet, api.TLS(serving, trust)), handler)
		}},
		{"pod-range", func(ctx context.Context) error { return j.followRange(ctx, started) }},
	}...)
	supervise(ctx, j.log, parts, &outages{})
	return nil
}

// connect makes the clients, which connect to nothing yet, and returns the
// cluster's certificate authority.
func (j *joined) connect() (*x509.Certificate, error) {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(j.file.CA) {
		return nil, &fault.Error{Class: fault.Invalid, Op: "read certificate authority", On: j.file.Server, Fix: "make a new file to join with"}
	}
	block, _ := pem.Decode(j.file.CA) // AppendCertsFromPEM has seen that there is one
	trust, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, err
	}
	for _, c := range []struct {
		to    **remote.Client
		pair  Pair
		agent string
		whole []schema.GroupResource
	}{
		{&j.asNode, j.file.Agent, "kubelet", nil},
		{&j.asProxy, j.file.Proxy, "kube-proxy", []schema.GroupResource{{Resource: "services"}, {Resource: "nodes"},
			{Group: "discovery.k8s.io", Resource: "endpointslices"}}},
		{&j.asDNS, j.file.DNS, "coredns", []schema.GroupResource{{Resource: "namespaces"}}},
	} {
		pair, err := tls.X509KeyPair(c.pair.Cert, c.pair.Key)
		if err != nil {
			return nil, err
		}
		if *c.to, err = remote.New(remote.Config{Server: j.file.Server, Kinds: j.kinds, Whole: c.whole, Log: j.log,
			Agent: c.agent + "/" + j.cfg.Version, TLS: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}}}); err != nil {
			return nil, err
		}
	}
	return trust, nil
}

// knock sees whether the cluster takes this node: what is wrong is better said
// at once than in a log.
func (j *joined) knock(ctx context.Context) error {
	_, err := client.Get[*corev1.Node](ctx, j.asNode, "", j.cfg.NodeName)
	if err == nil || apierrors.IsNotFound(err) {
		return nil
	}
	return &fault.Error{Op: "join the cluster at", On: j.file.Server, Err: err,
		Fix: "see that the address can be reached from here, and that the file is of this cluster"}
}

// followRange takes the node's share of the pod addresses from its Node. Once
// it has one the node is up.
func (j *joined) followRange(ctx context.Context, started time.Time) error {
	up := false
	arrived := func() {
		if up {
			return
		}
		up = true
		j.record.Server, j.record.Address = j.file.Server, j.network.NodeIP().String()
		if err := j.record.write(); err != nil {
			j.log.Error("record not written", "err", err)
		}
		if j.cfg.Ready != nil {
			j.cfg.Ready(Ready{Server: j.file.Server, Node: j.cfg.NodeName, Took: time.Since(started)})
		}
		j.log.Info("up", "server", j.file.Server, "node", j.cfg.NodeName, "took", time.Since(started).Round(time.Millisecond))
	}
	if j.record.Config.NodePods != "" {
		arrived()
	}
	return client.Follow(ctx, j.asNode, client.Query{Name: j.cfg.NodeName}, func(e client.Change[*corev1.Node]) {
		if e.Type != client.Added && e.Type != client.Modified || e.Object.Spec.PodCIDR == "" || e.Object.Spec.PodCIDR == j.record.Config.NodePods {
			return
		}
		pods, err := netip.ParsePrefix(e.Object.Spec.PodCIDR)
		if err == nil {
			err = j.network.SetRange(pods)
		}
		if err != nil {
			j.log.Error("the range of pod addresses that the cluster gives can't be used", "range", e.Object.Spec.PodCIDR, "err", err)
			return
		}
		j.record.Config.NodePods = pods.String()
		if err := j.record.write(); err != nil {
			j.log.Error("record not written", "err", err)
		}
		j.agent.Poke()
		arrived()
	})
}

// pooled reads some kinds from another's memory, as parts in the cluster's
// process share its cache, and does all else as itself.
type pooled struct {
	client.Client
	from  client.Reader
	kinds []schema.GroupResource
}

func (p pooled) reader(k *kind.Kind) client.Reader {
	if slices.Contains(p.kinds, k.GroupResource()) {
		return p.from
	}
	return p.Client
}

// Get implements client.Reader.
func (p pooled) Get(ctx context.Context, k *kind.Kind, namespace, name string) (kind.Object, error) {
	return p.reader(k).Get(ctx, k, namespace, name)
}

// List implements client.Reader.
func (p pooled) List(ctx context.Context, k *kind.Kind, q client.Query) ([]kind.Object, error) {
	return p.reader(k).List(ctx, k, q)
}

// Watch implements client.Reader.
func (p pooled) Watch(ctx context.Context, k *kind.Kind, q client.Query) (client.Watcher, error) {
	return p.reader(k).Watch(ctx, k, q)
}
