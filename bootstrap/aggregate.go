package bootstrap

import (
	"context"
	"os"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sampan/cluster/aggregate"
	"sampan/cluster/api"
	"sampan/cluster/auth"
	"sampan/internal/fault"
)

// openAggregate puts together what knows other servers of the API. What it
// does in its own name it does as a controller: upstream's is in the API
// server, as system:masters.
func (r *running) openAggregate() (*aggregate.Aggregator, error) {
	trust := aggregate.Trust{ClientCA: string(r.pki.CAPEM), ProxyCA: string(r.pki.FrontProxyCAPEM), Names: []string{FrontProxyClient}}
	if p := r.cfg.Authentication.FrontProxy; p.CAFile != "" {
		ca, err := os.ReadFile(p.CAFile)
		if err != nil {
			return nil, &fault.Error{Class: fault.Invalid, Op: "read the authority of front proxies", On: p.CAFile, Err: err, Fix: "correct --requestheader-client-ca-file"}
		}
		trust.Proxies = &aggregate.Proxies{CA: string(ca), Names: p.Names, UserHeaders: p.UserHeaders, UIDHeaders: p.UIDHeaders,
			GroupHeaders: p.GroupHeaders, ExtraPrefixes: p.ExtraPrefixes}
	}
	return aggregate.New(aggregate.Config{
		Client:      r.verbs.WithCache(auth.ServiceAccount("kube-system", "apiservice-controller"), auth.Component("kube-controller-manager")),
		Certificate: r.pki.FrontProxy,
		Trust:       trust,
		Own:         []schema.GroupVersion{authenticationv1.SchemeGroupVersion, authorizationv1.SchemeGroupVersion},
		Log:         r.log,
	})
}

// components are the parts of the control plane as upstream divides it.
func (r *running) components() []api.Component {
	return []api.Component{
		{Name: "scheduler", Run: func(context.Context) error { return r.down.of("scheduler") }},
		{Name: "controller-manager", Run: func(context.Context) error {
			return r.down.of("deployment", "replicaset", "garbage", "namespace", "endpointslice")
		}},
		{Name: "etcd-0", Run: func(ctx context.Context) error {
			_, err := r.store.Sync(ctx)
			return err
		}},
	}
}
