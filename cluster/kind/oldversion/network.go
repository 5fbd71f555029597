package oldversion

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	discoveryv1beta1 "k8s.io/api/discovery/v1beta1"
	extensionsv1beta1 "k8s.io/api/extensions/v1beta1"
	networkingv1 "k8s.io/api/networking/v1"
	networkingv1beta1 "k8s.io/api/networking/v1beta1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"sampan/cluster/kind"
)

// ingresses named a service and its port in two fields, and did not have to say
// how a path is meant.
func ingresses(t table) {
	hub := networkingv1.SchemeGroupVersion
	differ := differs[networkingv1beta1.Ingress, networkingv1.Ingress]{
		old: func(i *networkingv1beta1.Ingress) {
			for _, r := range i.Spec.Rules {
				if r.HTTP == nil {
					continue
				}
				for n := range r.HTTP.Paths {
					fill(&r.HTTP.Paths[n].PathType, networkingv1beta1.PathTypeImplementationSpecific)
				}
			}
		},
		parts: func(up, down *copier) {
			then(up, backendUp)
			then(down, backendDown)
			then(up, func(dst *networkingv1.IngressSpec, src *networkingv1beta1.IngressSpec) {
				if b := src.Backend; b != nil {
					dst.DefaultBackend = &networkingv1.IngressBackend{Resource: b.Resource}
					backendUp(dst.DefaultBackend, b)
				}
			})
			then(down, func(dst *networkingv1beta1.IngressSpec, src *networkingv1.IngressSpec) {
				if b := src.DefaultBackend; b != nil {
					dst.Backend = &networkingv1beta1.IngressBackend{Resource: b.Resource}
					backendDown(dst.Backend, b)
				}
			})
		},
	}
	add(t, hub, networkingv1beta1.SchemeGroupVersion, differ)
	// The Go types of extensions are the same but for their name.
	gvk := extensionsv1beta1.SchemeGroupVersion.WithKind("Ingress")
	addAs(t, hub.WithKind("Ingress"), gvk, kind.Deprecation(gvk, &extensionsv1beta1.Ingress{}), differ)
	add(t, hub, networkingv1beta1.SchemeGroupVersion, differs[networkingv1beta1.IngressClass, networkingv1.IngressClass]{})
}

// backendUp names the service in a field of its own, if there is one.
func backendUp(dst *networkingv1.IngressBackend, src *networkingv1beta1.IngressBackend) {
	if src.ServiceName != "" || src.ServicePort != (intstr.IntOrString{}) {
		dst.Service = &networkingv1.IngressServiceBackend{Name: src.ServiceName,
			Port: networkingv1.ServiceBackendPort{Name: src.ServicePort.StrVal, Number: src.ServicePort.IntVal}}
	}
}

func backendDown(dst *networkingv1beta1.IngressBackend, src *networkingv1.IngressBackend) {
	s := src.Service
	switch {
	case s == nil:
		return
	case s.Port.Name != "":
		dst.ServicePort = intstr.FromString(s.Port.Name)
	default:
		dst.ServicePort = intstr.FromInt32(s.Port.Number)
	}
	dst.ServiceName = s.Name
}

func networkPolicies(t table) {
	add(t, networkingv1.SchemeGroupVersion, extensionsv1beta1.SchemeGroupVersion, differs[extensionsv1beta1.NetworkPolicy, networkingv1.NetworkPolicy]{})
}

// endpointSlices had a map of where an endpoint is, out of which zone and node became
// fields. (KEP-0752.)
func endpointSlices(t table) {
	add(t, discoveryv1.SchemeGroupVersion, discoveryv1beta1.SchemeGroupVersion, differs[discoveryv1beta1.EndpointSlice, discoveryv1.EndpointSlice]{
		parts: func(up, down *copier) {
			then(up, func(dst *discoveryv1.Endpoint, src *discoveryv1beta1.Endpoint) {
				rest := maps.Clone(src.Topology)
				if zone, ok := rest[corev1.LabelTopologyZone]; ok {
					dst.Zone = &zone
					delete(rest, corev1.LabelTopologyZone)
				}
				if node, ok := rest[corev1.LabelHostname]; ok && dst.NodeName != nil && *dst.NodeName == node {
					delete(rest, corev1.LabelHostname)
				}
				if len(rest) > 0 {
					dst.DeprecatedTopology = rest
				}
			})
			then(down, func(dst *discoveryv1beta1.Endpoint, src *discoveryv1.Endpoint) {
				if src.DeprecatedTopology == nil && src.Zone == nil && src.NodeName == nil {
					return
				}
				dst.Topology = make(map[string]string, len(src.DeprecatedTopology)+2)
				maps.Copy(dst.Topology, src.DeprecatedTopology)
				if src.Zone != nil {
					dst.Topology[corev1.LabelTopologyZone] = *src.Zone
				}
				if src.NodeName != nil && dst.Topology[corev1.LabelHostname] == "" {
					dst.Topology[corev1.LabelHostname] = *src.NodeName
				}
			})
		},
	})
}
