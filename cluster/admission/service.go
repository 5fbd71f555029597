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
	"k8s.io/apimachinery/pkg/api/validation/path"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/client"
	"sampan/cluster/kind/core"
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
	if err := s.portsLocked(a, svc, old, look); err != nil {
		return err
	}
	return s.healthPortLocked(a, svc, old, look)
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

// families settles which address families svc is of, in upstream's order: what
// is wrong with the addresses that it names is said alone.
func (s *Services) families(svc, old *corev1.Service) (errs field.ErrorList) {
	spec, at := &svc.Spec, field.NewPath("spec")
	if spec.Type == corev1.ServiceTypeExternalName || sameTwoFamilies(svc, old) {
		return nil
	}
	alone := spec.ClusterIP == corev1.ClusterIPNone && len(spec.Selector) == 0 // its endpoints are anybody's
	if spec.IPFamilyPolicy == nil {
		policy := corev1.IPFamilyPolicySingleStack
		if alone {
			policy = corev1.IPFamilyPolicyRequireDualStack
		}
		spec.IPFamilyPolicy = &policy
		if old != nil && old.Spec.IPFamilyPolicy != nil {
			spec.IPFamilyPolicy = old.Spec.IPFamilyPolicy
		}
	}
	if errs := core.ServiceAddresses(svc); len(errs) > 0 {
		return errs
	}
	policy, single := at.Child("ipFamilyPolicy"), *spec.IPFamilyPolicy == corev1.IPFamilyPolicySingleStack
	refused := func(why string) { errs = append(errs, field.Invalid(policy, spec.IPFamilyPolicy, why)) }
	if old != nil && single {
		if len(spec.ClusterIPs) > 1 && slices.Equal(spec.ClusterIPs, old.Spec.ClusterIPs) {
			spec.ClusterIPs = spec.ClusterIPs[:1:1]
		}
		if len(spec.IPFamilies) > 1 && slices.Equal(spec.IPFamilies, old.Spec.IPFamilies) {
			spec.IPFamilies = spec.IPFamilies[:1:1]
		}
	} else if old != nil {
		if len(spec.ClusterIPs) == 1 && len(old.Spec.ClusterIPs) == 2 && spec.ClusterIPs[0] == old.Spec.ClusterIPs[0] {
			refused("must be 'SingleStack' to release the secondary cluster IP")
		}
		if len(spec.IPFamilies) == 1 && len(old.Spec.IPFamilies) == 2 && spec.IPFamilies[0] == old.Spec.IPFamilies[0] {
			refused("must be 'SingleStack' to release the secondary IP family")
		}
	}
	if single && len(spec.ClusterIPs) == 2 {
		refused("must be 'RequireDualStack' or 'PreferDualStack' when multiple cluster IPs are specified")
	}
	if single && len(spec.IPFamilies) == 2 {
		refused("must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified")
	}
	for i, ip := range spec.ClusterIPs {
		addr, err := netip.ParseAddr(ip)
		if err != nil || i < len(spec.IPFamilies) {
			continue // "None", or said
		}
		if f := familyOf(addr); s.rangeOf(f) != nil {
			spec.IPFamilies = append(slices.Clip(spec.IPFamilies), f)
		} else {
			errs = append(errs, field.Invalid(at.Child("clusterIPs").Index(i), spec.ClusterIPs, fmt.Sprintf("%s is not configured on this cluster", f)))
		}
	}
	if len(errs) > 0 {
		return errs
	}
	first := familyOf(s.ranges[0].prefix.Addr())
	if alone {
		if len(spec.IPFamilies) == 0 {
			spec.IPFamilies = []corev1.IPFamily{first}
		}
		if !single {
			spec.IPFamilies = bothFamilies(spec.IPFamilies)
		}
		return nil
	}
	if *spec.IPFamilyPolicy == corev1.IPFamilyPolicyRequireDualStack && len(s.ranges) < 2 {
		refused("this cluster is not configured for dual-stack services")
	}
	for i, f := range spec.IPFamilies {
		if s.rangeOf(f) == nil {
			errs = append(errs, field.Invalid(at.Child("ipFamilies").Index(i), f, "not configured on this cluster"))
		}
	}
	if len(errs) > 0 {
		return errs
	}
	if len(spec.IPFamilies) == 0 {
		spec.IPFamilies = []corev1.IPFamily{first}
	}
	if !single && len(s.ranges) == 2 {
		spec.IPFamilies = bothFamilies(spec.IPFamilies)
	}
	return nil
}

// sameTwoFamilies is true for a service that prefers two families, as before:
// it stays as it is when the cluster gets another.
func sameTwoFamilies(svc, old *corev1.Service) bool {
	if old == nil || svc.Spec.Type != old.Spec.Type {
		return false
	}
	prefers := func(s *corev1.Service) bool {
		return s.Spec.IPFamilyPolicy != nil && *s.Spec.IPFamilyPolicy == corev1.IPFamilyPolicyPreferDualStack
	}
	return prefers(svc) && prefers(old) &&
		slices.Equal(svc.Spec.ClusterIPs, old.Spec.ClusterIPs) && slices.Equal(svc.Spec.IPFamilies, old.Spec.IPFamilies)
}

// bothFamilies adds the other family to one.
func bothFamilies(have []corev1.IPFamily) []corev1.IPFamily {
	if len(have) != 1 {
		return have
	}
	if have[0] == corev1.IPv4Protocol {
		return []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
	}
	return []corev1.IPFamily{corev1.IPv6Protocol, corev1.IPv4Protocol}
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
	if len(spec.ClusterIPs) > 0 && spec.ClusterIPs[0] == corev1.ClusterIPNone {
		return nil
	}
	given := 0 // what a service has stays, or the rules of Services say what is wrong with the change
	if old != nil && old.Spec.Type != corev1.ServiceTypeExternalName {
		if given = len(old.Spec.ClusterIPs); given > 0 && old.Spec.ClusterIPs[0] == corev1.ClusterIPNone {
			return nil
		}
	}
	for i, f := range spec.IPFamilies {
		if i < given {
			continue
		}
		if why := parent(svc.Name); why != nil {
			return refuse(a, svc, field.ErrorList{field.Invalid(field.NewPath("spec", "clusterIPs"), append(slices.Clip(spec.ClusterIPs), ""),
				"failed to allocate IP: "+apierrors.NewInvalid(networkingv1.SchemeGroupVersion.WithKind("IPAddress").GroupKind(),
					s.rangeOf(f).prefix.Addr().Next().String(), why).Error())})
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
			spec.ClusterIPs = append(slices.Clip(spec.ClusterIPs), addr.String())
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
	if given == 0 && len(spec.ClusterIPs) > 0 {
		spec.ClusterIP = spec.ClusterIPs[0]
	}
	return nil
}

// parent says what is wrong with a Service's name for the IPAddress that names
// it. Upstream makes that first, and finds no more if it cannot.
func parent(name string) (errs field.ErrorList) {
	at := field.NewPath("spec", "parentRef", "name")
	if name == "" {
		return field.ErrorList{field.Required(at, "")}
	}
	for _, msg := range path.ValidatePathSegmentName(name, false) {
		errs = append(errs, field.Invalid(at, name, msg))
	}
	return errs
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
	if !core.OpensPorts(svc) {
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
		// A new service with one port twice is refused for the node port it has twice.
		if n := byPort[p.Port]; n != 0 && (old == nil || !slices.Contains(used[n], p.Protocol)) {
			p.NodePort = n
		} else {
			n, err := s.freePortLocked(had, look)
			if err != nil {
				return apierrors.NewInternalError(fmt.Errorf("failed to allocate a nodePort: %w", err))
			}
			p.NodePort = n
			s.keepLocked(a, p.NodePort)
			had[p.NodePort] = true
		}
		byPort[p.Port] = p.NodePort
		used[p.NodePort] = append(used[p.NodePort], p.Protocol)
	}
	return nil
}

// freePortLocked chooses a node port that nobody has, nor svc by now.
func (s *Services) freePortLocked(had map[int32]bool, look func() (*inUse, error)) (int32, error) {
	u, err := look()
	if err != nil {
		return 0, err
	}
	size := int(s.ports.Last-s.ports.First) + 1
	n, err := pool{size: size, static: band(size, 16, 32, 128)}.choose(func(n int) bool {
		port := s.ports.First + int32(n)
		return !u.ports[port] && s.opening[port] == 0 && !had[port]
	})
	return s.ports.First + int32(n), err
}

// healthPortLocked gives svc the node port at which load balancers ask for its
// pods, if it needs one and has had none.
func (s *Services) healthPortLocked(a *Attempt, svc, old *corev1.Service, look func() (*inUse, error)) error {
	if !core.ChecksHealth(svc) || old != nil && core.ChecksHealth(old) {
		return nil
	}
	had := map[int32]bool{}
	for _, p := range svc.Spec.Ports {
		had[p.NodePort] = true
	}
	wanted := svc.Spec.HealthCheckNodePort
	if wanted != 0 {
		err := s.openLocked(wanted, look)
		if err == nil && had[wanted] {
			err = errors.New("provided port is already allocated")
		}
		if err != nil {
			return apierrors.NewInternalError(fmt.Errorf("failed to allocate requested HealthCheck NodePort %v: %w", wanted, err))
		}
	} else {
		n, err := s.freePortLocked(had, look)
		if err != nil {
			return apierrors.NewInternalError(fmt.Errorf("failed to allocate a HealthCheck NodePort %v: %w", wanted, err))
		}
		svc.Spec.HealthCheckNodePort = n
	}
	s.keepLocked(a, svc.Spec.HealthCheckNodePort)
	return nil
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
