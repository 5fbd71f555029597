package webhook

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sampan/cluster/client"
)

// How many webhooks have connections kept, how many each, and for how long: a
// webhook that is asked for every write answers on a warm connection, one that
// is asked once a day costs nothing meanwhile.
const (
	maxTransports = 64
	maxIdle       = 8
	idleFor       = 30 * time.Second
)

// transports are the connections by target, the latest used last.
type transports struct {
	mu  sync.Mutex // guards all below
	all []transport
}

type transport struct {
	of [sha256.Size]byte
	*http.Transport
}

// transport returns the connections to t, kept or new.
func (c *Caller) transport(t Target) (*http.Transport, error) {
	id := t.identity()
	c.transports.mu.Lock()
	defer c.transports.mu.Unlock()
	all := &c.transports.all
	if i := slices.IndexFunc(*all, func(have transport) bool { return have.of == id }); i >= 0 {
		have := (*all)[i]
		*all = append(slices.Delete(*all, i, i+1), have)
		return have.Transport, nil
	}
	trust, err := t.trust()
	if err != nil {
		return nil, err
	}
	dial := c.cfg.Dial
	if t.Service != nil {
		dial = c.toService(*t.Service)
	}
	made := transport{of: id, Transport: &http.Transport{
		DialContext: dial, TLSClientConfig: trust, TLSHandshakeTimeout: 10 * time.Second,
		MaxIdleConnsPerHost: maxIdle, IdleConnTimeout: idleFor, ForceAttemptHTTP2: true,
	}}
	if len(*all) == maxTransports {
		(*all)[0].CloseIdleConnections()
		*all = slices.Delete(*all, 0, 1)
	}
	*all = append(*all, made)
	return made.Transport, nil
}

// toService dials one of a service's ready endpoints. The proxy's rules are not
// needed for it: they may be behind what the cache has.
func (c *Caller) toService(s Service) func(ctx context.Context, network, _ string) (net.Conn, error) {
	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		address, err := c.endpoint(ctx, s)
		if err != nil {
			return nil, err
		}
		return c.cfg.Dial(ctx, network, address)
	}
}

// endpoint is the address of one endpoint of a service.
func (c *Caller) endpoint(ctx context.Context, s Service) (string, error) {
	svc, err := client.Get[*corev1.Service](ctx, c.cfg.Objects, s.Namespace, s.Name)
	if apierrors.IsNotFound(err) {
		err = apierrors.NewNotFound(schema.GroupResource{Resource: "service"}, s.Name) // upstream's word
	}
	if err != nil {
		return "", err
	}
	number := s.Port
	if number == 0 {
		number = 443
	}
	if svc.Spec.Type == corev1.ServiceTypeExternalName {
		return net.JoinHostPort(svc.Spec.ExternalName, strconv.Itoa(int(number))), nil
	}
	i := slices.IndexFunc(svc.Spec.Ports, func(p corev1.ServicePort) bool { return p.Port == number })
	if i < 0 {
		return "", fmt.Errorf("no service port %d found for service %q", number, s.Name)
	}
	all, err := client.List[*discoveryv1.EndpointSlice](ctx, c.cfg.Objects, client.Query{Namespace: s.Namespace,
		Labels: labels.SelectorFromSet(labels.Set{discoveryv1.LabelServiceName: s.Name})})
	if err != nil {
		return "", err
	}
	ready := readyAddresses(all, svc.Spec.Ports[i].Name)
	if len(ready) == 0 {
		return "", fmt.Errorf("no endpoints available for service %q", s.Name)
	}
	return ready[rand.IntN(len(ready))], nil
}

func readyAddresses(all []*discoveryv1.EndpointSlice, port string) (ready []string) {
	for _, s := range all {
		for _, p := range s.Ports {
			if p.Port == nil || p.Name != nil && *p.Name != port || p.Name == nil && port != "" {
				continue
			}
			for _, e := range s.Endpoints {
				if e.Conditions.Ready != nil && !*e.Conditions.Ready || len(e.Addresses) == 0 {
					continue
				}
				ready = append(ready, net.JoinHostPort(e.Addresses[0], strconv.Itoa(int(*p.Port))))
			}
		}
	}
	return ready
}
