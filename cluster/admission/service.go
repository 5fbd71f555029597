package admission

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/client"
	"sampan/cluster/kind/networking"
)

// PortRange are the node ports, both ends included.
type PortRange struct{ First, Last int32 }

func (r PortRange) String() string { return fmt.Sprintf("%d-%d", r.First, r.Last) }

// Services gives Services their cluster addresses and node ports. What is
// taken is read from the Services that exist, and from the writes under way;
// so there is nothing to rebuild after a start and nothing to leak. Addresses
// come from the ranges of the program's configuration and from the ServiceCIDRs
// that users have made.
type Services struct {
	reader client.Reader
	ranges []addresses
	ports  PortRange

	mu      sync.Mutex // guards all below
	pending map[netip.Addr]int
	opening map[int32]int
}

// NewServices returns the plugin for the ranges given: one, or one of each
// family, of which the first is used unless a Service asks for another.
func NewServices(reader client.Reader, ranges []netip.Prefix, ports PortRange) (*Services, error) {
	s := &Services{reader: reader, ports: ports, pending: map[netip.Addr]int{}, opening: map[int32]int{}}
	for _, p := range ranges {
		if p.Addr().BitLen()-p.Bits() < 3 {
			return nil, fmt.Errorf("service range %v: it must have at least 8 addresses", p)
		}
		s.ranges = append(s.ranges, *newAddresses(p, 1)) // for the service of the API
	}
	if len(ranges) == 0 || ports.First < 1 || ports.Last > 65535 || ports.First > ports.Last {
		return nil, fmt.Errorf("services need an address range and node ports; got %v and %v", ranges, ports)
	}
	return s, nil
}

// Allocate implements Allocator.
func (s *Services) Allocate(ctx context.Context, a *Attempt) error {
	svc, ok := a.Object.(*corev1.Service)
	if !ok || a.Request.Subresource != "" {
		return nil
	}
	old, _ := a.Old.(*corev1.Service)
	if errs := s.families(svc, old); len(errs) > 0 {
		return refuse(a, svc, errs)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var taken *inUse
	look := func() (*inUse, error) { // only writes that need something look
		var err error
		if taken == nil {
			taken, err = s.inUseLocked(ctx, svc)
		}
		return taken, err
	}
	if err := s.addressesLocked(ctx, a, svc, old, look); err != nil {
		return err
	}
	return s.portsLocked(a, svc, old, look)
}

// inUse is what other Services have, and the addresses that users keep for
// themselves.
type inUse struct {
	addrs map[netip.Addr]bool
	ports map[int32]bool
}

func (s *Services) inUseLocked(ctx context.Context, but *corev1.Service) (*inUse, error) {
	all, err := client.List[*corev1.Service](ctx, s.reader, client.Query{})
	if err != nil {
		return nil, err
	}
	u := &inUse{addrs: map[netip.Addr]bool{}, ports: map[int32]bool{}}
	kept, err := client.List[*networkingv1.IPAddress](ctx, s.reader, client.Query{Index: networking.ForeignIndex, Value: "true"})
	if err != nil {
		return nil, err
	}
	for _, a := range kept {
		if addr, err := netip.ParseAddr(a.Name); err == nil {
			u.addrs[addr.Unmap()] = true
		}
	}
	for _, other := range all {
		if other.Namespace == but.Namespace && other.Name == but.Name {
			continue
		}
		for _, ip := range other.Spec.ClusterIPs {
			if addr, err := netip.ParseAddr(ip); err == nil {
				u.addrs[addr.Unmap()] = true
			}
		}
		for _, p := range other.Spec.Ports {
			if p.NodePort != 0 {
				u.ports[p.NodePort] = true
			}
		}
		if p := other.Spec.HealthCheckNodePort; p != 0 {
			u.ports[p] = true
		}
	}
	return u, nil
}

// refuse is an Invalid that names the Service.
func refuse(a *Attempt, svc *corev1.Service, errs field.ErrorList) error {
	return apierrors.NewInvalid(a.Request.Kind.GVK.GroupKind(), svc.Name, errs)
}

// families settles which address families svc is of.
func (s *Services) families(svc, old *corev1.Service) (errs field.ErrorList) {
	spec, at := &svc.Spec, field.NewPath("spec")
	if spec.Type == corev1.ServiceTypeExternalName || old != nil && len(spec.IPFamilies) > 0 && spec.IPFamilyPolicy != nil {
		return nil
	}
	for i, f := range spec.IPFamilies {
		if s.rangeOf(f) == nil && (f == corev1.IPv4Protocol || f == corev1.IPv6Protocol) {
			errs = append(errs, field.Invalid(at.Child("ipFamilies").Index(i), f, "not configured on this cluster"))
		}
	}
	if spec.IPFamilyPolicy == nil {
		policy := corev1.IPFamilyPolicySingleStack
		if len(spec.IPFamilies) > 1 || len(spec.ClusterIPs) > 1 {
			policy = corev1.IPFamilyPolicyPreferDualStack
		}
		spec.IPFamilyPolicy = &policy
	}
	if *spec.IPFamilyPolicy == corev1.IPFamilyPolicyRequireDualStack && len(s.ranges) < 2 {
		headlessAlone := spec.ClusterIP == corev1.ClusterIPNone && len(spec.Selector) == 0
		if !headlessAlone {
			errs = append(errs, field.Invalid(at.Child("ipFamilyPolicy"), *spec.IPFamilyPolicy,
				"this cluster is not configured for dual-stack services"))
		}
	}
	if len(errs) > 0 {
		return errs
	}
	for _, ip := range spec.ClusterIPs {
		if addr, err := netip.ParseAddr(ip); err == nil && len(spec.IPFamilies) < len(spec.ClusterIPs) {
			if f := familyOf(addr); !slices.Contains(spec.IPFamilies, f) {
				spec.IPFamilies = append(spec.IPFamilies, f)
			}
		}
	}
	if len(spec.IPFamilies) == 0 {
		spec.IPFamilies = []corev1.IPFamily{familyOf(s.ranges[0].prefix.Addr())}
	}
	if *spec.IPFamilyPolicy != corev1.IPFamilyPolicySingleStack {
		for _, r := range s.ranges {
			if f := familyOf(r.prefix.Addr()); !slices.Contains(spec.IPFamilies, f) {
				spec.IPFamilies = append(spec.IPFamilies, f)
			}
		}
	}
	return nil
}

func familyOf(a netip.Addr) corev1.IPFamily {
	if a.Unmap().Is4() {
		return corev1.IPv4Protocol
	}
	return corev1.IPv6Protocol
}

func (s *Services) rangeOf(f corev1.IPFamily) *addresses {
	for i := range s.ranges {
		if familyOf(s.ranges[i].prefix.Addr()) == f {
			return &s.ranges[i]
		}
	}
	return nil
}

// rangesOf are the ranges that addresses of a family come from, the
// configuration's first. A ServiceCIDR that is not ready, or is being deleted,
// gives none.
func (s *Services) rangesOf(ctx context.Context, f corev1.IPFamily) ([]*addresses, error) {
	first := s.rangeOf(f)
	if first == nil {
		return nil, nil
	}
	all := []*addresses{first}
	cidrs, err := client.List[*networkingv1.ServiceCIDR](ctx, s.reader, client.Query{})
	if err != nil {
		return nil, err
	}
	for _, c := range cidrs {
		if c.DeletionTimestamp != nil || !meta.IsStatusConditionTrue(c.Status.Conditions, networkingv1.ServiceCIDRConditionReady) {
			continue
		}
		for _, text := range c.Spec.CIDRs {
			p, err := netip.ParsePrefix(text)
			if err != nil || familyOf(p.Addr()) != f || p.Masked() == first.prefix {
				continue
			}
			all = append(all, newAddresses(p, 0))
		}
	}
	return all, nil
}

// addressesLocked gives svc an address of each of its families.
func (s *Services) addressesLocked(ctx context.Context, a *Attempt, svc, old *corev1.Service, look func() (*inUse, error)) error {
	spec := &svc.Spec
	if spec.Type == corev1.ServiceTypeExternalName {
		return nil
	}
	if spec.ClusterIP == corev1.ClusterIPNone || len(spec.ClusterIPs) > 0 && spec.ClusterIPs[0] == corev1.ClusterIPNone {
		spec.ClusterIP, spec.ClusterIPs = corev1.ClusterIPNone, []string{corev1.ClusterIPNone}
		return nil
	}
	if len(spec.ClusterIPs) == 0 && spec.ClusterIP != "" {
		spec.ClusterIPs = []string{spec.ClusterIP}
	}
	for i, f := range spec.IPFamilies {
		if i < len(spec.ClusterIPs) && old != nil && slices.Contains(old.Spec.ClusterIPs, spec.ClusterIPs[i]) {
			continue
		}
		ranges, err := s.rangesOf(ctx, f)
		if err != nil {
			return err
		}
		if ranges == nil {
			continue // the rules of Services say what is wrong with it
		}
		if i >= len(spec.ClusterIPs) {
			addr, err := s.chooseLocked(ranges, look)
			if err != nil {
				return apierrors.NewInternalError(fmt.Errorf("failed to allocate a serviceIP: %w", err))
			}
			spec.ClusterIPs = append(spec.ClusterIPs, addr.String())
			s.holdLocked(a, addr)
			continue
		}
		ip := spec.ClusterIPs[i]
		addr, err := netip.ParseAddr(ip)
		if err != nil {
			continue
		}
		if err := s.takeLocked(ranges, addr.Unmap(), look); err != nil {
			return refuse(a, svc, field.ErrorList{field.Invalid(field.NewPath("spec", "clusterIPs"), spec.ClusterIPs,
				fmt.Sprintf("failed to allocate IP %v: %v", ip, err))})
		}
		s.holdLocked(a, addr.Unmap())
	}
	if len(spec.ClusterIPs) > 0 {
		spec.ClusterIP = spec.ClusterIPs[0]
	}
	return nil
}

func (s *Services) chooseLocked(ranges []*addresses, look func() (*inUse, error)) (netip.Addr, error) {
	u, err := look()
	if err != nil {
		return netip.Addr{}, err
	}
	for _, r := range ranges {
		var n int
		n, err = r.pool.choose(func(n int) bool { addr := r.at(n); return !u.addrs[addr] && s.pending[addr] == 0 })
		if err == nil {
			return r.at(n), nil
		}
	}
	return netip.Addr{}, err
}

func (s *Services) takeLocked(ranges []*addresses, addr netip.Addr, look func() (*inUse, error)) error {
	i := slices.IndexFunc(ranges, func(r *addresses) bool { return r.prefix.Contains(addr) })
	if i < 0 {
		return errors.New("the provided network does not match the current range")
	}
	if r := ranges[i]; addr == r.prefix.Addr() || r.last().Less(addr) {
		return fmt.Errorf("the provided IP (%v) is not in the valid range. The range of valid IPs is %v", addr, r)
	}
	u, err := look()
	if err != nil {
		return err
	}
	if u.addrs[addr] || s.pending[addr] > 0 {
		return fmt.Errorf("provided IP is already allocated")
	}
	return nil
}

// holdLocked keeps addr for the attempt until it is over: then either the
// Service has it, where others see it, or nobody.
func (s *Services) holdLocked(a *Attempt, addr netip.Addr) {
	s.pending[addr]++
	a.OnDone(func(bool) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.pending[addr]--; s.pending[addr] == 0 {
			delete(s.pending, addr)
		}
	})
}

// portsLocked gives svc a node port for each port that needs one.
func (s *Services) portsLocked(a *Attempt, svc, old *corev1.Service, look func() (*inUse, error)) error {
	if !opensPorts(svc) {
		return nil
	}
	had := map[int32]bool{} // node ports that svc has, from before or by now
	if old != nil {
		for _, p := range old.Spec.Ports {
			had[p.NodePort] = true
		}
	}
	used := map[int32][]corev1.Protocol{}
	for i := range svc.Spec.Ports {
		p := &svc.Spec.Ports[i]
		if p.NodePort == 0 {
			continue
		}
		if !had[p.NodePort] {
			if err := s.openLocked(p.NodePort, look); err != nil {
				return refuse(a, svc, field.ErrorList{field.Invalid(
					field.NewPath("spec", "ports").Index(i).Child("nodePort"), p.NodePort, err.Error())})
			}
			s.keepLocked(a, p.NodePort)
			had[p.NodePort] = true
		}
		used[p.NodePort] = append(used[p.NodePort], p.Protocol)
	}
	// A port that is served for two protocols has one node port for both.
	byPort := map[int32]int32{}
	for _, p := range svc.Spec.Ports {
		if p.NodePort != 0 {
			byPort[p.Port] = p.NodePort
		}
	}
	for i := range svc.Spec.Ports {
		p := &svc.Spec.Ports[i]
		if p.NodePort != 0 {
			continue
		}
		if n := byPort[p.Port]; n != 0 && !slices.Contains(used[n], p.Protocol) {
			p.NodePort = n
		} else {
			u, err := look()
			if err != nil {
				return err
			}
			size := int(s.ports.Last-s.ports.First) + 1
			c, err := pool{size: size, static: band(size, 16, 32, 128)}.choose(func(n int) bool {
				port := s.ports.First + int32(n)
				return !u.ports[port] && s.opening[port] == 0 && !had[port]
			})
			if err != nil {
				return apierrors.NewInternalError(fmt.Errorf("failed to allocate a nodePort: %w", err))
			}
			p.NodePort = s.ports.First + int32(c)
			s.keepLocked(a, p.NodePort)
			had[p.NodePort] = true
		}
		byPort[p.Port] = p.NodePort
		used[p.NodePort] = append(used[p.NodePort], p.Protocol)
	}
	return nil
}

// opensPorts says whether svc is reached at the nodes' addresses.
func opensPorts(svc *corev1.Service) bool {
	switch svc.Spec.Type {
	case corev1.ServiceTypeNodePort:
		return true
	case corev1.ServiceTypeLoadBalancer:
		return svc.Spec.AllocateLoadBalancerNodePorts == nil || *svc.Spec.AllocateLoadBalancerNodePorts
	}
	return false
}

func (s *Services) openLocked(port int32, look func() (*inUse, error)) error {
	if port < s.ports.First || port > s.ports.Last {
		return fmt.Errorf("provided port is not in the valid range. The range of valid ports is %v", s.ports)
	}
	u, err := look()
	if err != nil {
		return err
	}
	if u.ports[port] || s.opening[port] > 0 {
		return fmt.Errorf("provided port is already allocated")
	}
	return nil
}

// keepLocked is holdLocked for a node port.
func (s *Services) keepLocked(a *Attempt, port int32) {
	s.opening[port]++
	a.OnDone(func(bool) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.opening[port]--; s.opening[port] == 0 {
			delete(s.opening, port)
		}
	})
}
