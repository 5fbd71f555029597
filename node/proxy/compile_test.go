package proxy

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// web is a service on 10.96.0.7:80, changed by with.
func web(with ...func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}}
	s.Spec.ClusterIP, s.Spec.ClusterIPs = "10.96.0.7", []string{"10.96.0.7"}
	s.Spec.Ports = []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP}}
	for _, f := range with {
		f(s)
	}
	return s
}

func nodePort(port int32) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Spec.Type, s.Spec.Ports[0].NodePort = corev1.ServiceTypeNodePort, port }
}

func external(p corev1.ServiceExternalTrafficPolicy) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Spec.ExternalTrafficPolicy = p }
}

func internalLocal(s *corev1.Service) {
	p := corev1.ServiceInternalTrafficPolicyLocal
	s.Spec.InternalTrafficPolicy = &p
}

// slice is an endpoint slice of web on port 8080. An endpoint is "IP node
// state" with states ready, leaving, unready.
func slice(eps ...string) *discoveryv1.EndpointSlice {
	name, port, proto := "http", int32(8080), corev1.ProtocolTCP
	s := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web-1",
			Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: &name, Port: &port, Protocol: &proto}},
	}
	yes, no := true, false
	for _, e := range eps {
		f := strings.Fields(e)
		ep := discoveryv1.Endpoint{Addresses: f[:1], NodeName: &f[1]}
		switch f[2] {
		case "ready":
			ep.Conditions = discoveryv1.EndpointConditions{Ready: &yes, Serving: &yes, Terminating: &no}
		case "leaving":
			ep.Conditions = discoveryv1.EndpointConditions{Ready: &no, Serving: &yes, Terminating: &yes}
		case "unready":
			ep.Conditions = discoveryv1.EndpointConditions{Ready: &no, Serving: &no, Terminating: &no}
		}
		s.Endpoints = append(s.Endpoints, ep)
	}
	return s
}

func TestCompile(t *testing.T) {
	for _, c := range []struct {
		it     string
		svc    *corev1.Service
		slices []*discoveryv1.EndpointSlice
		want   string
	}{
		{it: "leads an address to its ready endpoints, and masquerades a pod that reaches itself", svc: web(),
			slices: []*discoveryv1.EndpointSlice{slice("10.244.0.3 here ready", "10.244.1.3 there ready", "10.244.0.9 here unready")},
			want: `
services 10.96.0.7 . 6.0.0.0 . 0.80.0.0 -> pick-2
endpoints 10.96.0.7 . 6.0.0.0 . 0.80.0.0 . 0.0.0.0 -> 10.244.0.3 . 31.144.0.0
endpoints 10.96.0.7 . 6.0.0.0 . 0.80.0.0 . 1.0.0.0 -> 10.244.1.3 . 31.144.0.0
hairpin 10.244.0.3 . 10.244.0.3
`},
		{it: "puts nothing into the kernel for a service without endpoints", svc: web()},
		{it: "falls back to endpoints that are leaving", svc: web(),
			slices: []*discoveryv1.EndpointSlice{slice("10.244.1.3 there leaving")},
			want: `
services 10.96.0.7 . 6.0.0.0 . 0.80.0.0 -> pick-1
endpoints 10.96.0.7 . 6.0.0.0 . 0.80.0.0 . 0.0.0.0 -> 10.244.1.3 . 31.144.0.0
`},
		{it: "keeps an endpoint that is in two slices once", svc: web(),
			slices: []*discoveryv1.EndpointSlice{slice("10.244.1.3 there ready"), slice("10.244.1.3 there ready")},
			want: `
services 10.96.0.7 . 6.0.0.0 . 0.80.0.0 -> pick-1
endpoints 10.96.0.7 . 6.0.0.0 . 0.80.0.0 . 0.0.0.0 -> 10.244.1.3 . 31.144.0.0
`},
		{it: "stays on the node where the internal policy says so", svc: web(internalLocal),
			slices: []*discoveryv1.EndpointSlice{slice("10.244.1.3 there ready")}},
		{it: "opens a node port", svc: web(nodePort(30080)),
			slices: []*discoveryv1.EndpointSlice{slice("10.244.1.3 there ready")},
			want: `
services 10.96.0.7 . 6.0.0.0 . 0.80.0.0 -> pick-1
nodeports 6.0.0.0 . 117.128.0.0 -> node-1
endpoints 10.96.0.7 . 6.0.0.0 . 0.80.0.0 . 0.0.0.0 -> 10.244.1.3 . 31.144.0.0
endpoints 0.0.0.0 . 6.0.0.0 . 117.128.0.0 . 0.0.0.0 -> 10.244.1.3 . 31.144.0.0
`},
		{it: "rejects on a node port without a local endpoint under policy Local",
			svc:    web(nodePort(30080), external(corev1.ServiceExternalTrafficPolicyLocal)),
			slices: []*discoveryv1.EndpointSlice{slice("10.244.1.3 there ready")},
			want: `
services 10.96.0.7 . 6.0.0.0 . 0.80.0.0 -> pick-1
endpoints 10.96.0.7 . 6.0.0.0 . 0.80.0.0 . 0.0.0.0 -> 10.244.1.3 . 31.144.0.0
dead 6.0.0.0 . 117.128.0.0
`},
		{it: "does nothing for a headless service", svc: web(func(s *corev1.Service) { s.Spec.ClusterIP = "None" }),
			slices: []*discoveryv1.EndpointSlice{slice("10.244.1.3 there ready")}},
	} {
		t.Run(c.it, func(t *testing.T) {
			got := Compile(c.svc, c.slices, "here").String()
			if want := strings.TrimPrefix(c.want, "\n"); got != want {
				t.Errorf("got\n%swant\n%s", got, want)
			}
		})
	}
}
