package endpoints

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// mirrorManager marks the slices that mirror Endpoints.
	mirrorManager = "endpointslicemirroring-controller.k8s.io"

	// mostMirrored is how many addresses of a subset are mirrored.
	mostMirrored = 1000

	// leaderAnnotation marks Endpoints that are nothing but a lock.
	leaderAnnotation = "control-plane.alpha.kubernetes.io/leader"
)

// mirrorable says whether somebody who is no controller wrote e, for others
// to reach addresses that are no pods.
func mirrorable(e *corev1.Endpoints, svc *corev1.Service) bool {
	_, lock := e.Annotations[leaderAnnotation]
	return svc != nil && len(svc.Spec.Selector) == 0 && !lock && e.Labels[discoveryv1.LabelSkipMirror] != "true"
}

// reflection is what is to be done so that slices mirror Endpoints.
type reflection struct {
	create, update []*discoveryv1.EndpointSlice
	remove         []*discoveryv1.EndpointSlice // shared
	invalid        int                          // addresses that are none
	skipped        int                          // addresses beyond mostMirrored
}

// reflect compares the slices that mirror e with those that should: one for
// each address family and set of ports. have are the mirroring slices of the
// service, shared; with a nil e all of them go. A slice whose ports are no
// longer wanted is used again for others.
func reflect(e *corev1.Endpoints, have []*discoveryv1.EndpointSlice) (r reflection) {
	if e == nil {
		r.remove = have
		return r
	}
	var want []*discoveryv1.EndpointSlice
	want, r.invalid, r.skipped = wanted(e)
	if e.DeletionTimestamp != nil {
		want = nil
	}
	free := slices.Clone(have)
	take := func(fits func(*discoveryv1.EndpointSlice) bool) *discoveryv1.EndpointSlice {
		i := slices.IndexFunc(free, fits)
		if i < 0 {
			return nil
		}
		s := free[i]
		free = slices.Delete(free, i, i+1)
		return s
	}
	var homeless []*discoveryv1.EndpointSlice
	for _, w := range want {
		s := take(func(s *discoveryv1.EndpointSlice) bool {
			return s.AddressType == w.AddressType && equality.Semantic.DeepEqual(s.Ports, w.Ports)
		})
		if s == nil {
			homeless = append(homeless, w)
		} else if next := become(s, w); next != s {
			r.update = append(r.update, next)
		}
	}
	for _, w := range homeless {
		if s := take(func(s *discoveryv1.EndpointSlice) bool { return s.AddressType == w.AddressType }); s != nil {
			r.update = append(r.update, become(s, w))
		} else {
			r.create = append(r.create, w)
		}
	}
	r.remove = free
	return r
}

// become is s with the content of w, s itself if it has that.
func become(s, w *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
	if equality.Semantic.DeepEqual(s.Ports, w.Ports) && equality.Semantic.DeepEqual(s.Endpoints, w.Endpoints) &&
		maps.Equal(s.Labels, w.Labels) && maps.Equal(s.Annotations, w.Annotations) &&
		equality.Semantic.DeepEqual(s.OwnerReferences, w.OwnerReferences) {
		return s
	}
	next := s.DeepCopy()
	next.Labels, next.Annotations, next.OwnerReferences = w.Labels, w.Annotations, w.OwnerReferences
	next.Ports, next.Endpoints = w.Ports, w.Endpoints
	return next
}

// wanted are the slices that mirror e, without names.
func wanted(e *corev1.Endpoints) (all []*discoveryv1.EndpointSlice, invalid, skipped int) {
	for i := range e.Subsets {
		s := &e.Subsets[i]
		ports := mirrorPorts(s.Ports)
		room := mostMirrored
		add := func(addresses []corev1.EndpointAddress, ready bool) {
			for j := range addresses {
				if room == 0 {
					skipped++
					continue
				}
				ip, err := netip.ParseAddr(addresses[j].IP)
				if err != nil {
					invalid++
					continue
				}
				room--
				slice := sliceFor(e, &all, family(ip), ports)
				slice.Endpoints = append(slice.Endpoints, endpoint(&addresses[j], ip, ready))
			}
		}
		add(s.Addresses, true)
		add(s.NotReadyAddresses, false)
	}
	return all, invalid, skipped
}

func family(ip netip.Addr) discoveryv1.AddressType {
	if ip.Is4() || ip.Is4In6() {
		return discoveryv1.AddressTypeIPv4
	}
	return discoveryv1.AddressTypeIPv6
}

func endpoint(a *corev1.EndpointAddress, ip netip.Addr, ready bool) discoveryv1.Endpoint {
	e := discoveryv1.Endpoint{
		Addresses:  []string{ip.Unmap().String()},
		Conditions: discoveryv1.EndpointConditions{Ready: &ready},
		TargetRef:  a.TargetRef.DeepCopy(),
	}
	if a.NodeName != nil {
		node := *a.NodeName
		e.NodeName = &node
	}
	if a.Hostname != "" {
		host := a.Hostname
		e.Hostname = &host
	}
	return e
}

func mirrorPorts(ports []corev1.EndpointPort) (all []discoveryv1.EndpointPort) {
	for i := range ports {
		p := *ports[i].DeepCopy()
		all = append(all, discoveryv1.EndpointPort{Name: &p.Name, Port: &p.Port, Protocol: &p.Protocol, AppProtocol: p.AppProtocol})
	}
	slices.SortFunc(all, func(a, b discoveryv1.EndpointPort) int { return strings.Compare(portText(a), portText(b)) })
	return all
}

func portText(p discoveryv1.EndpointPort) string {
	return fmt.Sprintf("%s/%s/%d", *p.Name, *p.Protocol, *p.Port)
}

// sliceFor finds the slice of a family and set of ports in all, or adds it.
func sliceFor(e *corev1.Endpoints, all *[]*discoveryv1.EndpointSlice, t discoveryv1.AddressType, ports []discoveryv1.EndpointPort) *discoveryv1.EndpointSlice {
	for _, s := range *all {
		if s.AddressType == t && equality.Semantic.DeepEqual(s.Ports, ports) {
			return s
		}
	}
	labels := maps.Clone(e.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	labels[discoveryv1.LabelServiceName] = e.Name
	labels[discoveryv1.LabelManagedBy] = mirrorManager
	annotations := maps.Clone(e.Annotations)
	delete(annotations, corev1.EndpointsLastChangeTriggerTime)
	delete(annotations, corev1.LastAppliedConfigAnnotation)
	s := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: e.Namespace, GenerateName: e.Name + "-", Labels: labels, Annotations: annotations,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(e, corev1.SchemeGroupVersion.WithKind("Endpoints"))},
		},
		AddressType: t,
		Ports:       ports,
	}
	*all = append(*all, s)
	return s
}

// mirrors returns those of slices that mirror Endpoints.
func mirrors(all []*discoveryv1.EndpointSlice) []*discoveryv1.EndpointSlice {
	return slices.DeleteFunc(slices.Clone(all), func(s *discoveryv1.EndpointSlice) bool {
		return s.Labels[discoveryv1.LabelManagedBy] != mirrorManager
	})
}
