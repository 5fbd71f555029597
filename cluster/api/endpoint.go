package api

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"

	"sampan/cluster/client"
	"sampan/cluster/request"
)

// locateServiceProxy picks one ready endpoint of the service at random.
// (Upstream: ResourceLocation in pkg/registry/core/service/storage.)
func locateServiceProxy(c *call, r request.Request, q url.Values) (*target, error) {
	scheme, name, port, err := splitProxyName(r.Name, "service")
	if err != nil {
		return nil, err
	}
	ctx := c.r.Context()
	svc, err := client.Get[*corev1.Service](ctx, c.s.cfg.Objects, r.Namespace, name)
	if err != nil {
		return nil, err
	}
	portName, err := servicePort(svc, port)
	if err != nil {
		return nil, err
	}
	slices, err := client.List[*discoveryv1.EndpointSlice](ctx, c.s.cfg.Objects, client.Query{Namespace: r.Namespace,
		Labels: labels.SelectorFromSet(labels.Set{discoveryv1.LabelServiceName: name})})
	if err != nil {
		return nil, err
	}
	addresses := readyAddresses(slices, portName, scheme)
	if len(addresses) == 0 {
		return nil, apierrors.NewServiceUnavailable(fmt.Sprintf("no endpoints available for service %q", r.Name))
	}
	return &target{address: addresses[rand.IntN(len(addresses))], scheme: scheme, path: c.proxyPath(q), query: q}, nil
}

// servicePort is the name of the port meant: given by name or number, or the
// only one.
func servicePort(svc *corev1.Service, port string) (string, error) {
	if port == "" {
		if len(svc.Spec.Ports) > 0 {
			return svc.Spec.Ports[0].Name, nil
		}
		return "", nil
	}
	for _, p := range svc.Spec.Ports {
		if p.Name == port || strconv.Itoa(int(p.Port)) == port {
			return p.Name, nil
		}
	}
	return "", apierrors.NewServiceUnavailable(fmt.Sprintf("no service port %q found for service %q", port, svc.Name))
}

func readyAddresses(slices []*discoveryv1.EndpointSlice, port, scheme string) (all []string) {
	for _, s := range slices {
		for _, p := range s.Ports {
			if p.Port == nil || p.Name != nil && *p.Name != port || p.Name == nil && port != "" {
				continue
			}
			for _, e := range s.Endpoints {
				if e.Conditions.Ready != nil && !*e.Conditions.Ready || len(e.Addresses) == 0 {
					continue
				}
				all = append(all, joinPort(e.Addresses[0], strconv.Itoa(int(*p.Port)), scheme))
			}
		}
	}
	return all
}

func joinPort(host, port, scheme string) string {
	if port == "" {
		port = "80"
		if scheme == "https" {
			port = "443"
		}
	}
	return net.JoinHostPort(host, port)
}
