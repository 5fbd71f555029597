package bootstrap

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"sampan/cluster/auth"
	"sampan/cluster/client"
	"sampan/cluster/kind/scheduling"
)

// firstObjects makes what every cluster has before its first user comes: the
// namespaces, the classes of critical pods, and the services of the API and
// the DNS, whose endpoints are this program.
func (r *running) firstObjects(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	c := r.verbs.As(auth.Server())
	for _, name := range []string{metav1.NamespaceDefault, metav1.NamespaceSystem, metav1.NamespacePublic, corev1.NamespaceNodeLease} {
		if err := ensure(ctx, c, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, nil); err != nil {
			return err
		}
	}
	for _, class := range scheduling.SystemClasses() {
		if err := ensure(ctx, c, class, nil); err != nil {
			return err
		}
	}
	if err := ensure(ctx, c, r.serviceRange(), nil); err != nil {
		return err
	}
	api := r.apiService()
	if err := ensure(ctx, c, api, nil); err != nil {
		return err
	}
	if r.cfg.APIOnly { // nothing that runs in a pod reaches this one
		return nil
	}
	if err := ensure(ctx, c, r.apiEndpoints(), func(have, want *corev1.Endpoints) bool {
		same := apiequality.Semantic.DeepEqual(have.Subsets, want.Subsets)
		have.Subsets = want.Subsets
		return same
	}); err != nil {
		return err
	}
	if err := ensure(ctx, c, r.apiSlice(), func(have, want *discoveryv1.EndpointSlice) bool {
		same := apiequality.Semantic.DeepEqual(have.Endpoints, want.Endpoints) && apiequality.Semantic.DeepEqual(have.Ports, want.Ports)
		have.Endpoints, have.Ports = want.Endpoints, want.Ports
		return same
	}); err != nil {
		return err
	}
	return ensure(ctx, c, r.dnsService(), nil)
}

// serviceRange says which addresses services get, under the name that every
// cluster has for it.
func (r *running) serviceRange() *networkingv1.ServiceCIDR {
	return &networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: "kubernetes"},
		Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{r.cfg.Services.Masked().String()}}}
}

// ensure creates want, unless it is there. mend, if not nil, makes an object
// that is there as wanted, and returns true if it was so already.
func ensure[T client.Typed](ctx context.Context, c client.Client, want T, mend func(have, want T) (same bool)) error {
	have, err := client.Get[T](ctx, c, want.GetNamespace(), want.GetName())
	switch {
	case apierrors.IsNotFound(err):
		_, err = client.Create(ctx, c, want)
	case err == nil && mend != nil:
		have = have.DeepCopyObject().(T)
		if !mend(have, want) {
			_, err = client.Update(ctx, c, have)
		}
	}
	if err != nil {
		return fmt.Errorf("%s %s/%s: %w", client.KindOf[T](c), want.GetNamespace(), want.GetName(), err)
	}
	return nil
}

// apiName is the service under which pods find the API.
const apiName = "kubernetes"

func (r *running) apiService() *corev1.Service {
	ip := r.cfg.serviceAddress(apiServiceNumber).String()
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: apiName,
			Labels: map[string]string{"component": "apiserver", "provider": "kubernetes"}},
		Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP, ClusterIP: ip, ClusterIPs: []string{ip},
			Ports: []corev1.ServicePort{{Name: "https", Port: 443, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromInt(r.cfg.Port)}}},
	}
}

func (r *running) apiEndpoints() *corev1.Endpoints {
	return &corev1.Endpoints{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: apiName,
			Labels: map[string]string{discoveryv1.LabelSkipMirror: "true"}},
		Subsets: []corev1.EndpointSubset{{
			Addresses: []corev1.EndpointAddress{{IP: r.network.NodeIP().String()}},
			Ports:     []corev1.EndpointPort{{Name: "https", Port: int32(r.cfg.Port), Protocol: corev1.ProtocolTCP}}}},
	}
}

func (r *running) apiSlice() *discoveryv1.EndpointSlice {
	name, port, tcp, ready := "https", int32(r.cfg.Port), corev1.ProtocolTCP, true
	return &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: apiName,
			Labels: map[string]string{discoveryv1.LabelServiceName: apiName}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints: []discoveryv1.Endpoint{{Addresses: []string{r.network.NodeIP().String()},
			Conditions: discoveryv1.EndpointConditions{Ready: &ready}}},
		Ports: []discoveryv1.EndpointPort{{Name: &name, Port: &port, Protocol: &tcp}},
	}
}

// dnsService has no endpoints: the program itself listens on its address.
func (r *running) dnsService() *corev1.Service {
	ip := r.cfg.serviceAddress(dnsServiceNumber).String()
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: "kube-dns", Labels: map[string]string{
			"k8s-app": "kube-dns", "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS"}},
		Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP, ClusterIP: ip, ClusterIPs: []string{ip},
			Ports: []corev1.ServicePort{
				{Name: "dns", Port: 53, Protocol: corev1.ProtocolUDP, TargetPort: intstr.FromInt(53)},
				{Name: "dns-tcp", Port: 53, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromInt(53)}}},
	}
}
