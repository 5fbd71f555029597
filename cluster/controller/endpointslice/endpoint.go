package endpointslice

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"sampan/cluster/controller/pods"
)

// groups are the endpoints of one address type, by portsKey.
func groups(s state, t discoveryv1.AddressType) map[string]*group {
	all := map[string]*group{}
	for _, p := range s.pods {
		e, ok := endpoint(s, p, t)
		if !ok {
			continue
		}
		ports := endpointPorts(s.service, p)
		key := portsKey(ports)
		if all[key] == nil {
			all[key] = &group{ports: ports, endpoints: map[string]discoveryv1.Endpoint{}}
		}
		all[key].endpoints[identity(e)] = e
	}
	return all
}

// endpoint is a pod as a service sees it; ok is false if it has no address of
// the type, will never run again, or is on a node that nobody knows.
//
// A pod that is leaving is not ready at once, so that nobody sends it new
// connections; serving tells those who have nobody else (KEP-1672).
func endpoint(s state, p *corev1.Pod, t discoveryv1.AddressType) (e discoveryv1.Endpoint, ok bool) {
	if pods.Over(p) {
		return e, false
	}
	for _, ip := range p.Status.PodIPs {
		if addressType(ip.IP) == t {
			e.Addresses = append(e.Addresses, ip.IP)
		}
	}
	if len(p.Status.PodIPs) == 0 && addressType(p.Status.PodIP) == t {
		e.Addresses = []string{p.Status.PodIP}
	}
	if len(e.Addresses) == 0 {
		return e, false
	}
	serving, terminating := pods.Ready(p), p.DeletionTimestamp != nil
	ready := s.service.Spec.PublishNotReadyAddresses || serving && !terminating
	e.Conditions = discoveryv1.EndpointConditions{Ready: &ready, Serving: &serving, Terminating: &terminating}
	e.TargetRef = &corev1.ObjectReference{Kind: "Pod", Namespace: p.Namespace, Name: p.Name, UID: p.UID}
	if p.Spec.Hostname != "" && p.Spec.Subdomain == s.service.Name {
		e.Hostname = &p.Spec.Hostname
	}
	if p.Spec.NodeName != "" {
		e.NodeName = &p.Spec.NodeName
		node := s.node(p.Spec.NodeName)
		if node == nil && !s.service.Spec.PublishNotReadyAddresses {
			return e, false
		}
		if node != nil && node.Labels[corev1.LabelTopologyZone] != "" {
			zone := node.Labels[corev1.LabelTopologyZone]
			e.Zone = &zone
		}
	}
	return e, true
}

// addressType is "" for what is no address.
func addressType(ip string) discoveryv1.AddressType {
	a, err := netip.ParseAddr(ip)
	switch {
	case err != nil:
		return ""
	case a.Is4():
		return discoveryv1.AddressTypeIPv4
	}
	return discoveryv1.AddressTypeIPv6
}

// endpointPorts are the service's ports as p has them. One that p does not
// have is left out; a service without ports has none.
func endpointPorts(svc *corev1.Service, p *corev1.Pod) []discoveryv1.EndpointPort {
	all := []discoveryv1.EndpointPort{}
	for i := range svc.Spec.Ports {
		port := &svc.Spec.Ports[i]
		n, ok := number(p, port)
		if !ok {
			continue
		}
		name, protocol := port.Name, port.Protocol
		all = append(all, discoveryv1.EndpointPort{Name: &name, Port: &n, Protocol: &protocol, AppProtocol: port.AppProtocol})
	}
	slices.SortStableFunc(all, func(a, b discoveryv1.EndpointPort) int {
		return cmp.Or(cmp.Compare(*a.Name, *b.Name), cmp.Compare(*a.Protocol, *b.Protocol), cmp.Compare(*a.Port, *b.Port))
	})
	return all
}

// number finds a target port in a pod: a name is a port of one of its
// containers, sidecars included.
func number(p *corev1.Pod, port *corev1.ServicePort) (int32, bool) {
	if port.TargetPort.Type == intstr.Int {
		return port.TargetPort.IntVal, true
	}
	named := func(c *corev1.Container) (int32, bool) {
		for _, have := range c.Ports {
			if have.Name == port.TargetPort.StrVal && have.Protocol == port.Protocol {
				return have.ContainerPort, true
			}
		}
		return 0, false
	}
	for i := range p.Spec.Containers {
		if n, ok := named(&p.Spec.Containers[i]); ok {
			return n, true
		}
	}
	for i := range p.Spec.InitContainers {
		c := &p.Spec.InitContainers[i]
		if c.RestartPolicy == nil || *c.RestartPolicy != corev1.ContainerRestartPolicyAlways {
			continue
		}
		if n, ok := named(c); ok {
			return n, true
		}
	}
	return 0, false
}

// portsKey is the same for lists of the same ports in any order.
func portsKey(ports []discoveryv1.EndpointPort) string {
	all := make([]string, len(ports))
	for i, p := range ports {
		all[i] = fmt.Sprintf("%s/%d/%s/%s", deref(p.Name), deref(p.Port), deref(p.Protocol), deref(p.AppProtocol))
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func deref[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}
