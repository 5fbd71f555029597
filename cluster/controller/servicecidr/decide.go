package servicecidr

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/kind/networking"
)

// prefixes are the ranges of a ServiceCIDR.
func prefixes(c *networkingv1.ServiceCIDR) (all []netip.Prefix) {
	for _, text := range c.Spec.CIDRs {
		if p, err := netip.ParsePrefix(text); err == nil { // validated when it was written
			all = append(all, p.Masked())
		}
	}
	return all
}

// holds says whether one of the ranges of c has all of p.
func holds(c *networkingv1.ServiceCIDR, p netip.Prefix) bool {
	return slices.ContainsFunc(prefixes(c), func(q netip.Prefix) bool { return q.Bits() <= p.Bits() && q.Contains(p.Addr()) })
}

// removable says whether c may go: everything that it has, or every address of
// it that a service has, is in another range too. all are all ranges.
func removable(c *networkingv1.ServiceCIDR, all []*networkingv1.ServiceCIDR, addresses []*networkingv1.IPAddress) bool {
	elsewhere := func(p netip.Prefix) bool {
		return slices.ContainsFunc(all, func(other *networkingv1.ServiceCIDR) bool { return other.Name != c.Name && holds(other, p) })
	}
	own := prefixes(c)
	if !slices.ContainsFunc(own, func(p netip.Prefix) bool { return !elsewhere(p) }) {
		return true
	}
	for _, a := range addresses {
		addr, err := netip.ParseAddr(a.Name)
		if err != nil || !networking.Allocated(a) {
			continue
		}
		p := netip.PrefixFrom(addr, addr.BitLen())
		if holds(c, p) && !elsewhere(p) {
			return false
		}
	}
	return true
}

// touches says whether two ranges have an address in common: what happens to
// one may decide on the other.
func touches(a, b *networkingv1.ServiceCIDR) bool {
	return slices.ContainsFunc(prefixes(a), func(p netip.Prefix) bool {
		return slices.ContainsFunc(prefixes(b), p.Overlaps)
	})
}

// condition is what the status of a range says.
func condition(c *networkingv1.ServiceCIDR, stuck bool, now metav1.Time) metav1.Condition {
	ready := metav1.Condition{Type: networkingv1.ServiceCIDRConditionReady, Status: metav1.ConditionTrue,
		Message: "Kubernetes Service CIDR is ready", LastTransitionTime: now}
	if stuck {
		ready.Status, ready.Reason = metav1.ConditionFalse, networkingv1.ServiceCIDRReasonTerminating
		ready.Message = "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR"
	}
	return ready
}

// addresses are those that a service has; nil has none.
func addresses(s *corev1.Service) (all []netip.Addr) {
	if s == nil || s.Spec.Type == corev1.ServiceTypeExternalName {
		return nil
	}
	for _, ip := range s.Spec.ClusterIPs {
		if addr, err := netip.ParseAddr(ip); err == nil { // "None" is no address
			all = append(all, addr.Unmap())
		}
	}
	return all
}

// object is the IPAddress of an address that a service has.
func object(addr netip.Addr, namespace, name string) *networkingv1.IPAddress {
	family := corev1.IPv4Protocol
	if addr.Is6() {
		family = corev1.IPv6Protocol
	}
	return &networkingv1.IPAddress{
		ObjectMeta: metav1.ObjectMeta{Name: addr.String(), Labels: map[string]string{
			networkingv1.LabelIPAddressFamily: string(family), networkingv1.LabelManagedBy: networking.Allocator}},
		Spec: networkingv1.IPAddressSpec{ParentRef: &networkingv1.ParentReference{Resource: "services", Namespace: namespace, Name: name}},
	}
}
