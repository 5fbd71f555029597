package endpoints

import (
	"bytes"
	"cmp"
	"encoding/json"
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

const (
	// managedBy marks the objects that this controller made.
	managedBy = "endpoints.kubernetes.io/managed-by"
	manager   = "endpoint-controller"

	// most is how many addresses an Endpoints object holds (since 1.22).
	most      = 1000
	truncated = "truncated"
)

// decide returns the Endpoints that svc should have: have itself if it is as
// it should be. have is nil if there is none; pods are those that svc selects,
// in any order and any phase.
func decide(svc *corev1.Service, pods []*corev1.Pod, have *corev1.Endpoints) *corev1.Endpoints {
	subsets, cut := truncate(compile(svc, pods))
	next := &corev1.Endpoints{}
	if have != nil {
		next = have.DeepCopy()
	}
	next.Namespace, next.Name, next.Subsets = svc.Namespace, svc.Name, subsets
	next.Labels = maps.Clone(svc.Labels)
	if next.Labels == nil {
		next.Labels = map[string]string{}
	}
	next.Labels[managedBy] = manager
	delete(next.Labels, corev1.IsHeadlessService)
	if svc.Spec.ClusterIP == "" || svc.Spec.ClusterIP == corev1.ClusterIPNone {
		next.Labels[corev1.IsHeadlessService] = ""
	}
	delete(next.Annotations, corev1.EndpointsOverCapacity)
	if cut {
		if next.Annotations == nil {
			next.Annotations = map[string]string{}
		}
		next.Annotations[corev1.EndpointsOverCapacity] = truncated
	}
	if have != nil && equality.Semantic.DeepEqual(have, next) {
		return have
	}
	return next
}

// backend is one address with one port; a headless service without ports has
// backends without.
type backend struct {
	ip    string
	uid   types.UID
	port  corev1.EndpointPort
	plain bool // no port
}

// compile returns the subsets of svc in upstream's canonical form: every
// address once per set of ports, those with the same ports together.
func compile(svc *corev1.Service, pods []*corev1.Pod) []corev1.EndpointSubset {
	addresses := map[backend]corev1.EndpointAddress{} // without port
	ready := map[backend]bool{}
	for _, p := range pods {
		a, ok := address(svc, p)
		if !ok {
			continue
		}
		who := backend{ip: a.IP, uid: p.UID}
		up := svc.Spec.PublishNotReadyAddresses || isReady(p)
		add := func(b backend) {
			addresses[who] = a
			ready[b] = up
		}
		if len(svc.Spec.Ports) == 0 && svc.Spec.ClusterIP == corev1.ClusterIPNone {
			add(backend{ip: a.IP, uid: p.UID, plain: true})
		}
		for i := range svc.Spec.Ports {
			sp := &svc.Spec.Ports[i]
			if n, ok := targetPort(p, sp); ok {
				add(backend{ip: a.IP, uid: p.UID, port: corev1.EndpointPort{Name: sp.Name, Port: n, Protocol: sp.Protocol, AppProtocol: sp.AppProtocol}})
			}
		}
	}
	return pack(addresses, ready)
}

// pack groups backends: by port, then the ports that the same addresses have
// in the same state.
func pack(addresses map[backend]corev1.EndpointAddress, ready map[backend]bool) []corev1.EndpointSubset {
	type port struct {
		corev1.EndpointPort
		app   string // AppProtocol by value
		plain bool
	}
	byPort := map[port][]backend{}
	for b := range ready {
		k := port{EndpointPort: b.port, plain: b.plain}
		if b.port.AppProtocol != nil {
			k.app, k.AppProtocol = "="+*b.port.AppProtocol, nil
		}
		byPort[k] = append(byPort[k], b)
	}
	groups := map[string]*corev1.EndpointSubset{}
	for k, all := range byPort {
		slices.SortFunc(all, func(a, b backend) int {
			return cmp.Or(strings.Compare(a.ip, b.ip), cmp.Compare(a.uid, b.uid))
		})
		var key strings.Builder
		var up, down []corev1.EndpointAddress
		for _, b := range all {
			a := addresses[backend{ip: b.ip, uid: b.uid}]
			if ready[b] {
				up = append(up, a)
				key.WriteString("+")
			} else {
				down = append(down, a)
				key.WriteString("-")
			}
			key.WriteString(b.ip + "/" + string(b.uid) + " ")
		}
		if k.plain {
			key.WriteString("plain")
		}
		s := groups[key.String()]
		if s == nil {
			s = &corev1.EndpointSubset{Addresses: up, NotReadyAddresses: down}
			groups[key.String()] = s
		}
		if !k.plain {
			p := k.EndpointPort
			if app, ok := strings.CutPrefix(k.app, "="); ok {
				p.AppProtocol = &app
			}
			s.Ports = append(s.Ports, p)
		}
	}
	return sorted(groups)
}

func sorted(groups map[string]*corev1.EndpointSubset) []corev1.EndpointSubset {
	var all []corev1.EndpointSubset
	for _, key := range slices.Sorted(maps.Keys(groups)) {
		s := groups[key]
		slices.SortFunc(s.Ports, func(a, b corev1.EndpointPort) int { return bytes.Compare(text(a), text(b)) })
		all = append(all, *s)
	}
	return all
}

// text is a port as something to sort by.
func text(p corev1.EndpointPort) []byte {
	b, err := json.Marshal(p)
	if err != nil {
		panic("endpoints: " + err.Error()) // a struct of strings and numbers
	}
	return b
}

// truncate keeps most addresses, ready ones before others, the same share of
// every subset.
func truncate(all []corev1.EndpointSubset) (kept []corev1.EndpointSubset, cut bool) {
	up, down := 0, 0
	for _, s := range all {
		up, down = up+len(s.Addresses), down+len(s.NotReadyAddresses)
	}
	if up+down <= most {
		return all, false
	}
	room, of := most-up, down
	if up > most {
		room, of = most, up
	}
	free := room
	for _, s := range all {
		part := &s.NotReadyAddresses
		if up > most {
			part, s.NotReadyAddresses = &s.Addresses, nil
		}
		n := min((len(*part)*room+of-1)/of, free, len(*part))
		*part = (*part)[:n]
		free -= n
		if len(s.Addresses)+len(s.NotReadyAddresses) > 0 {
			kept = append(kept, s)
		}
	}
	return kept, true
}

// address is how svc reaches pod; false if it should not.
func address(svc *corev1.Service, pod *corev1.Pod) (a corev1.EndpointAddress, ok bool) {
	if pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodSucceeded {
		return a, false
	}
	if pod.DeletionTimestamp != nil && !svc.Spec.PublishNotReadyAddresses {
		return a, false
	}
	ip := podIP(svc, pod)
	if ip == "" {
		return a, false
	}
	node := pod.Spec.NodeName
	a = corev1.EndpointAddress{IP: ip, NodeName: &node, TargetRef: &corev1.ObjectReference{
		Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID}}
	if pod.Spec.Hostname != "" && pod.Spec.Subdomain == svc.Name {
		a.Hostname = pod.Spec.Hostname
	}
	return a, true
}

// podIP is the pod's address in the service's first family.
func podIP(svc *corev1.Service, pod *corev1.Pod) string {
	if len(svc.Spec.IPFamilies) == 0 {
		return pod.Status.PodIP
	}
	for _, p := range pod.Status.PodIPs {
		ip, err := netip.ParseAddr(p.IP)
		if err == nil && ip.Is6() == (svc.Spec.IPFamilies[0] == corev1.IPv6Protocol) {
			return p.IP
		}
	}
	return ""
}

// targetPort is the pod's port behind a service's port. Names are looked up
// among the containers and then the sidecars.
func targetPort(pod *corev1.Pod, sp *corev1.ServicePort) (int32, bool) {
	if sp.TargetPort.Type == intstr.Int {
		return cmp.Or(sp.TargetPort.IntVal, sp.Port), true
	}
	find := func(c *corev1.Container) (int32, bool) {
		for _, p := range c.Ports {
			if p.Name == sp.TargetPort.StrVal && p.Protocol == sp.Protocol {
				return p.ContainerPort, true
			}
		}
		return 0, false
	}
	for i := range pod.Spec.Containers {
		if n, ok := find(&pod.Spec.Containers[i]); ok {
			return n, true
		}
	}
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			if n, ok := find(c); ok {
				return n, true
			}
		}
	}
	return 0, false
}

func isReady(pod *corev1.Pod) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// matters says whether a pod's change can change the endpoints of a service.
func matters(old, now *corev1.Pod) bool {
	return (old.DeletionTimestamp == nil) != (now.DeletionTimestamp == nil) ||
		isReady(old) != isReady(now) ||
		old.Status.Phase != now.Status.Phase ||
		old.Status.PodIP != now.Status.PodIP ||
		!slices.Equal(old.Status.PodIPs, now.Status.PodIPs) ||
		old.Spec.Hostname != now.Spec.Hostname || old.Spec.Subdomain != now.Spec.Subdomain ||
		old.Spec.NodeName != now.Spec.NodeName ||
		!maps.Equal(old.Labels, now.Labels)
}

// selects says whether a service's selector takes a pod. An empty one takes
// none: somebody else writes that service's endpoints.
func selects(svc *corev1.Service, pod *corev1.Pod) bool {
	for k, v := range svc.Spec.Selector {
		if have, ok := pod.Labels[k]; !ok || have != v {
			return false
		}
	}
	return collected(svc)
}

// collected says whether svc's endpoints are pods.
func collected(svc *corev1.Service) bool {
	return len(svc.Spec.Selector) > 0 && svc.Spec.Type != corev1.ServiceTypeExternalName
}
