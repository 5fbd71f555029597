package bootstrap

import (
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sampan/cluster/aggregate"
	"sampan/cluster/auth"
)

// openAggregate puts together what knows other servers of the API. What it
// does in its own name it does as a controller: upstream's is in the API
// server, as system:masters.
func (r *running) openAggregate() (*aggregate.Aggregator, error) {
	return aggregate.New(aggregate.Config{
		Client:      r.verbs.WithCache(auth.ServiceAccount("kube-system", "apiservice-controller"), auth.Component("kube-controller-manager")),
		Certificate: r.pki.FrontProxy,
		Trust:       aggregate.Trust{ClientCA: string(r.pki.CAPEM), ProxyCA: string(r.pki.FrontProxyCAPEM), Names: []string{FrontProxyClient}},
		Own:         []schema.GroupVersion{authenticationv1.SchemeGroupVersion, authorizationv1.SchemeGroupVersion},
		Log:         r.log,
	})
}
