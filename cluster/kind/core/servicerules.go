package core

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
)

const headless = corev1.ClusterIPNone

func isHeadless(s *corev1.Service) bool {
	return len(s.Spec.ClusterIPs) == 1 && s.Spec.ClusterIPs[0] == headless
}

func validateService(s, old *corev1.Service) (errs field.ErrorList) {
	spec := field.NewPath("spec")
	errs = append(errs, serviceType(s, spec)...)
	errs = append(errs, servicePorts(s, spec.Child("ports"))...)
	errs = append(errs, metav1validation.ValidateLabels(s.Spec.Selector, spec.Child("selector"))...)
	errs = append(errs, sessionAffinity(&s.Spec, spec)...)
	errs = append(errs, serviceAddresses(s, spec)...)
	errs = append(errs, trafficPolicies(s, spec)...)
	errs = append(errs, loadBalancer(s, spec)...)
	if d := s.Spec.TrafficDistribution; d != nil {
		// In upstream's order, which is not the alphabet's.
		known := []string{corev1.ServiceTrafficDistributionPreferClose, corev1.ServiceTrafficDistributionPreferSameZone, corev1.ServiceTrafficDistributionPreferSameNode}
		if *d != "" && !slices.Contains(known, *d) {
			errs = append(errs, field.NotSupported(spec.Child("trafficDistribution"), *d, known))
		}
	}
	if old != nil {
		errs = append(errs, serviceChange(s, old, spec)...)
	}
	return errs
}

func serviceType(s *corev1.Service, spec *field.Path) (errs field.ErrorList) {
	none := isHeadless(s)
	ports := spec.Child("ports")
	if len(s.Spec.Ports) == 0 && !none && s.Spec.Type != corev1.ServiceTypeExternalName {
		errs = append(errs, field.Required(ports, ""))
	}
	switch s.Spec.Type {
	case corev1.ServiceTypeLoadBalancer:
		if none {
			errs = append(errs, field.Invalid(spec.Child("clusterIPs").Index(0), headless, "may not be set to 'None' for LoadBalancer services"))
		}
	case corev1.ServiceTypeNodePort:
		if none {
			errs = append(errs, field.Invalid(spec.Child("clusterIPs").Index(0), headless, "may not be set to 'None' for NodePort services"))
		}
	case corev1.ServiceTypeExternalName:
		if len(s.Spec.ClusterIPs) > 0 {
			errs = append(errs, field.Forbidden(spec.Child("clusterIPs"), "may not be set for ExternalName services"))
		}
		if len(s.Spec.IPFamilies) > 0 {
			errs = append(errs, field.Forbidden(spec.Child("ipFamilies"), "may not be set for ExternalName services"))
		}
		if s.Spec.IPFamilyPolicy != nil {
			errs = append(errs, field.Forbidden(spec.Child("ipFamilyPolicy"), "may not be set for ExternalName services"))
		}
		// A trailing dot names the root; the rest is a subdomain.
		if name := strings.TrimSuffix(s.Spec.ExternalName, "."); name != "" {
			errs = append(errs, kind.DNSSubdomain(name, spec.Child("externalName"))...)
		} else {
			errs = append(errs, field.Required(spec.Child("externalName"), ""))
		}
	case corev1.ServiceTypeClusterIP:
	case "":
		errs = append(errs, field.Required(spec.Child("type"), ""))
	default:
		errs = append(errs, field.NotSupported(spec.Child("type"), s.Spec.Type, []corev1.ServiceType{
			corev1.ServiceTypeClusterIP, corev1.ServiceTypeExternalName, corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeNodePort}))
	}
	return errs
}

func servicePorts(s *corev1.Service, path *field.Path) (errs field.ErrorList) {
	names := map[string]bool{}
	type number struct {
		protocol corev1.Protocol
		port     int32
	}
	numbers, nodePorts := map[number]bool{}, map[number]bool{}
	for i := range s.Spec.Ports {
		p, path := &s.Spec.Ports[i], path.Index(i)
		switch {
		case p.Name == "" && len(s.Spec.Ports) > 1:
			errs = append(errs, field.Required(path.Child("name"), ""))
		case p.Name != "":
			errs = append(errs, kind.DNSLabel(p.Name, path.Child("name"))...)
			if names[p.Name] {
				errs = append(errs, field.Duplicate(path.Child("name"), p.Name))
			}
			names[p.Name] = true
		}
		errs = append(errs, kind.Port(p.Port, path.Child("port"))...)
		errs = append(errs, kind.Protocol(p.Protocol, path.Child("protocol"))...)
		errs = append(errs, kind.PortNumOrName(p.TargetPort, path.Child("targetPort"))...)
		if p.AppProtocol != nil {
			errs = append(errs, kind.QualifiedName(*p.AppProtocol, path.Child("appProtocol"))...)
		}
		if p.NodePort != 0 {
			if s.Spec.Type == corev1.ServiceTypeClusterIP {
				errs = append(errs, field.Forbidden(path.Child("nodePort"), "may not be used when `type` is 'ClusterIP'"))
			}
			key := number{p.Protocol, p.NodePort}
			if nodePorts[key] {
				errs = append(errs, field.Duplicate(path.Child("nodePort"), p.NodePort))
			}
			nodePorts[key] = true
		}
		key := number{p.Protocol, p.Port}
		if numbers[key] {
			errs = append(errs, field.Duplicate(path, corev1.ServicePort{Protocol: p.Protocol, Port: p.Port}))
		}
		numbers[key] = true
	}
	return errs
}

func sessionAffinity(s *corev1.ServiceSpec, spec *field.Path) (errs field.ErrorList) {
	path := spec.Child("sessionAffinity")
	switch s.SessionAffinity {
	case "":
		errs = append(errs, field.Required(path, ""))
	case corev1.ServiceAffinityNone:
		if s.SessionAffinityConfig != nil {
			errs = append(errs, field.Forbidden(spec.Child("sessionAffinityConfig"),
				fmt.Sprintf("must not be set when session affinity is %s", corev1.ServiceAffinityNone)))
		}
	case corev1.ServiceAffinityClientIP:
		path := spec.Child("sessionAffinityConfig")
		const day = 86400
		switch c := s.SessionAffinityConfig; {
		case c == nil:
			errs = append(errs, field.Required(path, fmt.Sprintf("when session affinity type is %s", corev1.ServiceAffinityClientIP)))
		case c.ClientIP == nil:
			errs = append(errs, field.Required(path.Child("clientIP"), fmt.Sprintf("when session affinity type is %s", corev1.ServiceAffinityClientIP)))
		case c.ClientIP.TimeoutSeconds == nil:
			errs = append(errs, field.Required(path.Child("clientIP", "timeoutSeconds"), fmt.Sprintf("when session affinity type is %s", corev1.ServiceAffinityClientIP)))
		case *c.ClientIP.TimeoutSeconds <= 0 || *c.ClientIP.TimeoutSeconds > day:
			errs = append(errs, field.Invalid(path.Child("clientIP", "timeoutSeconds"), *c.ClientIP.TimeoutSeconds,
				fmt.Sprintf("must be greater than 0 and less than %d", day)))
		}
	default:
		errs = append(errs, field.NotSupported(path, s.SessionAffinity,
			[]corev1.ServiceAffinity{corev1.ServiceAffinityClientIP, corev1.ServiceAffinityNone}))
	}
	return errs
}

func serviceAddresses(s *corev1.Service, spec *field.Path) (errs field.ErrorList) {
	if s.Spec.Type != corev1.ServiceTypeExternalName {
		errs = clusterIPs(s, spec)
	}
	for i, ip := range s.Spec.ExternalIPs {
		path := spec.Child("externalIPs").Index(i)
		if msgs := validation.IsValidIP(path, ip); len(msgs) > 0 {
			errs = append(errs, msgs...)
			continue
		}
		errs = append(errs, kind.UsableIP(ip, path)...)
	}
	return errs
}

// ServiceAddresses checks the addresses in the cluster and their families. No
// address is given to a service of which something of it is wrong.
func ServiceAddresses(s *corev1.Service) field.ErrorList {
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		return nil
	}
	return clusterIPs(s, field.NewPath("spec"))
}

// clusterIPs checks the addresses in the cluster and their families.
func clusterIPs(s *corev1.Service, spec *field.Path) (errs field.ErrorList) {
	path, families := spec.Child("clusterIPs"), spec.Child("ipFamilies")
	ips := s.Spec.ClusterIPs
	switch {
	case s.Spec.ClusterIP == "" && len(ips) > 0:
		errs = append(errs, field.Invalid(path, ips, "must be empty when `clusterIP` is not specified"))
	case s.Spec.ClusterIP != "" && len(ips) == 0:
		errs = append(errs, field.Required(path, ""))
	case s.Spec.ClusterIP != "" && ips[0] != s.Spec.ClusterIP:
		errs = append(errs, field.Invalid(path, ips, "first value must match `clusterIP`"))
	}
	seen := map[corev1.IPFamily]bool{}
	for i, f := range s.Spec.IPFamilies {
		if f != corev1.IPv4Protocol && f != corev1.IPv6Protocol {
			errs = append(errs, field.NotSupported(families.Index(i), f, []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}))
		}
		if seen[f] {
			errs = append(errs, field.Duplicate(families.Index(i), f))
		}
		seen[f] = true
	}
	if p := s.Spec.IPFamilyPolicy; p != nil {
		errs = append(errs, kind.OneOf(*p, spec.Child("ipFamilyPolicy"), corev1.IPFamilyPolicyPreferDualStack,
			corev1.IPFamilyPolicyRequireDualStack, corev1.IPFamilyPolicySingleStack)...)
	}
	valid, six := true, 0
	for i, ip := range ips {
		if i == 0 && ip == headless {
			if len(ips) > 1 {
				valid = false
				errs = append(errs, field.Invalid(path, ips, "'None' must be the first and only value"))
			}
			continue
		}
		bad := validation.IsValidIP(path.Index(i), ip)
		valid = valid && len(bad) == 0
		errs = append(errs, bad...)
		if isIPv6(ip) {
			six++
		}
	}
	if len(ips) > 2 {
		errs = append(errs, field.Invalid(path, ips, "may only hold up to 2 values"))
	}
	if !valid {
		return errs
	}
	if len(ips) > 1 && (six == 0 || six == len(ips)) {
		errs = append(errs, field.Invalid(path, ips, "may specify no more than one IP for each IP family"))
	}
	for i := 0; i < min(len(ips), len(s.Spec.IPFamilies)) && !isHeadless(s); i++ {
		switch f := s.Spec.IPFamilies[i]; {
		case f == corev1.IPv4Protocol && isIPv6(ips[i]):
			errs = append(errs, field.Invalid(path.Index(i), ips[i], fmt.Sprintf("expected an IPv4 value as indicated by `ipFamilies[%v]`", i)))
		case f == corev1.IPv6Protocol && !isIPv6(ips[i]):
			errs = append(errs, field.Invalid(path.Index(i), ips[i], fmt.Sprintf("expected an IPv6 value as indicated by `ipFamilies[%v]`", i)))
		}
	}
	return errs
}

func isIPv6(ip string) bool {
	a, err := netip.ParseAddr(ip)
	return err == nil && a.Is6()
}

func trafficPolicies(s *corev1.Service, spec *field.Path) (errs field.ErrorList) {
	path := spec.Child("externalTrafficPolicy")
	policy := s.Spec.ExternalTrafficPolicy
	switch {
	case !external(s) && policy != "":
		errs = append(errs, field.Invalid(path, policy, "may only be set for externally-accessible services"))
	case external(s):
		errs = append(errs, kind.OneOf(policy, path, corev1.ServiceExternalTrafficPolicyCluster, corev1.ServiceExternalTrafficPolicyLocal)...)
	}
	healthCheck := s.Spec.Type == corev1.ServiceTypeLoadBalancer && policy == corev1.ServiceExternalTrafficPolicyLocal
	if !healthCheck && s.Spec.HealthCheckNodePort != 0 {
		errs = append(errs, field.Invalid(spec.Child("healthCheckNodePort"), s.Spec.HealthCheckNodePort,
			"may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"))
	}
	if healthCheck && s.Spec.HealthCheckNodePort != 0 {
		errs = append(errs, kind.Port(s.Spec.HealthCheckNodePort, spec.Child("healthCheckNodePort"))...)
	}
	if p := s.Spec.InternalTrafficPolicy; p != nil {
		errs = append(errs, kind.OneOf(*p, spec.Child("internalTrafficPolicy"), corev1.ServiceInternalTrafficPolicyCluster, corev1.ServiceInternalTrafficPolicyLocal)...)
	} else if hasClusterIP(s.Spec.Type) {
		errs = append(errs, field.Required(spec.Child("internalTrafficPolicy"), ""))
	}
	return errs
}

func loadBalancer(s *corev1.Service, spec *field.Path) (errs field.ErrorList) {
	lb := s.Spec.Type == corev1.ServiceTypeLoadBalancer
	ranges := spec.Child("LoadBalancerSourceRanges") // sic
	if len(s.Spec.LoadBalancerSourceRanges) > 0 && !lb {
		errs = append(errs, field.Forbidden(ranges, "may only be used when `type` is 'LoadBalancer'"))
	}
	for i, r := range s.Spec.LoadBalancerSourceRanges {
		errs = append(errs, validation.IsValidCIDR(ranges.Index(i), strings.TrimSpace(r))...)
	}
	switch a := s.Spec.AllocateLoadBalancerNodePorts; {
	case a != nil && !lb:
		errs = append(errs, field.Forbidden(spec.Child("allocateLoadBalancerNodePorts"), "may only be used when `type` is 'LoadBalancer'"))
	case a == nil && lb:
		errs = append(errs, field.Required(field.NewPath("allocateLoadBalancerNodePorts"), ""))
	}
	if c := s.Spec.LoadBalancerClass; c != nil {
		if lb {
			errs = append(errs, kind.QualifiedName(*c, spec.Child("loadBalancerClass"))...)
		} else {
			errs = append(errs, field.Forbidden(spec.Child("loadBalancerClass"), "may only be used when `type` is 'LoadBalancer'"))
		}
	}
	return errs
}

// serviceChange: the first address and family are given once, and stay as
// long as the service has any. A second one may come and go.
func serviceChange(s, old *corev1.Service, spec *field.Path) (errs field.ErrorList) {
	if s.Spec.Type != corev1.ServiceTypeExternalName && old.Spec.Type != corev1.ServiceTypeExternalName {
		errs = append(errs, addressChange(s, old, spec)...)
	}
	bothLB := s.Spec.Type == corev1.ServiceTypeLoadBalancer && old.Spec.Type == corev1.ServiceTypeLoadBalancer
	if bothLB && !kind.Equal(s.Spec.LoadBalancerClass, old.Spec.LoadBalancerClass) {
		errs = append(errs, field.Invalid(spec.Child("loadBalancerClass"), s.Spec.LoadBalancerClass, "may not change once set"))
	}
	local := corev1.ServiceExternalTrafficPolicyLocal
	if bothLB && s.Spec.ExternalTrafficPolicy == local && old.Spec.ExternalTrafficPolicy == local &&
		s.Spec.HealthCheckNodePort != old.Spec.HealthCheckNodePort {
		errs = append(errs, field.Forbidden(spec.Child("healthCheckNodePort"), "field is immutable"))
	}
	return errs
}

func addressChange(s, old *corev1.Service, spec *field.Path) (errs field.ErrorList) {
	if isHeadless(s) && isHeadless(old) {
		return nil
	}
	single := s.Spec.IPFamilyPolicy != nil && *s.Spec.IPFamilyPolicy == corev1.IPFamilyPolicySingleStack
	path, now, was := spec.Child("clusterIPs"), s.Spec.ClusterIPs, old.Spec.ClusterIPs
	switch {
	case len(now) == 0 && len(was) > 0:
		errs = append(errs, field.Invalid(path.Index(0), now, "primary clusterIP can not be unset"))
	case len(now) == len(was):
		for i := range now {
			if now[i] != was[i] {
				errs = append(errs, field.Invalid(path.Index(i), now, "may not change once set"))
			}
		}
	case len(was) > 0 && now[0] != was[0]:
		errs = append(errs, field.Invalid(path.Index(0), now, "may not change once set"))
	}
	if len(now) == 1 && len(was) > 1 && !single {
		errs = append(errs, field.Invalid(spec.Child("ipFamilyPolicy"), s.Spec.IPFamilyPolicy, "must be set to 'SingleStack' when releasing the secondary clusterIP"))
	}
	if isHeadless(s) != isHeadless(old) {
		return errs
	}
	fpath, f, of := spec.Child("ipFamilies"), s.Spec.IPFamilies, old.Spec.IPFamilies
	if len(f) > 0 && len(of) > 0 && f[0] != of[0] || len(f) == 2 && len(of) == 2 && f[1] != of[1] {
		errs = append(errs, field.Invalid(fpath.Index(0), f, "may not change once set"))
	}
	if len(f) == 0 && len(of) > 0 && len(now) == 0 {
		errs = append(errs, field.Invalid(fpath.Index(0), f, "primary ipFamily can not be unset"))
	}
	if len(f) == 1 && len(of) > 1 && !single {
		errs = append(errs, field.Invalid(spec.Child("ipFamilyPolicy"), s.Spec.IPFamilyPolicy, "must be set to 'SingleStack' when releasing the secondary ipFamily"))
	}
	return errs
}

func validateServiceStatus(s, _ *corev1.Service) (errs field.ErrorList) {
	path := field.NewPath("status", "loadBalancer", "ingress")
	if s.Spec.Type != corev1.ServiceTypeLoadBalancer && len(s.Status.LoadBalancer.Ingress) > 0 {
		errs = append(errs, field.Forbidden(path, "may only be used when `spec.type` is 'LoadBalancer'"))
	}
	for i, in := range s.Status.LoadBalancer.Ingress {
		if s.Spec.Type != corev1.ServiceTypeLoadBalancer {
			break
		}
		path := path.Index(i)
		if in.IP != "" {
			errs = append(errs, validation.IsValidIP(path.Child("ip"), in.IP)...)
		}
		if in.IPMode != nil {
			if in.IP == "" {
				errs = append(errs, field.Forbidden(path.Child("ipMode"), "may not be specified when `ip` is not set"))
			}
			errs = append(errs, kind.OneOfIfSet(*in.IPMode, path.Child("ipMode"), corev1.LoadBalancerIPModeProxy, corev1.LoadBalancerIPModeVIP)...)
		} else if in.IP != "" {
			errs = append(errs, field.Required(path.Child("ipMode"), "must be specified when `ip` is set"))
		}
		if in.Hostname != "" {
			errs = append(errs, kind.DNSSubdomain(in.Hostname, path.Child("hostname"))...)
			if _, err := netip.ParseAddr(in.Hostname); err == nil {
				errs = append(errs, field.Invalid(path.Child("hostname"), in.Hostname, "must be a DNS name, not an IP address"))
			}
		}
	}
	return errs
}

// warnService names what is legal and probably not meant.
func warnService(s, _ *corev1.Service) (texts []string) {
	spec := field.NewPath("spec")
	if _, ok := s.Annotations[corev1.DeprecatedAnnotationTopologyAwareHints]; ok {
		texts = append(texts, fmt.Sprintf("annotation %s is deprecated, please use %s instead",
			corev1.DeprecatedAnnotationTopologyAwareHints, corev1.AnnotationTopologyMode))
	}
	if s.Spec.ClusterIP != "" && s.Spec.ClusterIP != headless {
		for i, ip := range s.Spec.ClusterIPs {
			texts = append(texts, validation.GetWarningsForIP(spec.Child("clusterIPs").Index(i), ip)...)
		}
	}
	none := s.Spec.Type == corev1.ServiceTypeClusterIP && s.Spec.ClusterIP == headless
	if none {
		if s.Spec.LoadBalancerIP != "" {
			texts = append(texts, "spec.loadBalancerIP is ignored for headless services")
		}
		if len(s.Spec.ExternalIPs) > 0 {
			texts = append(texts, "spec.externalIPs is ignored for headless services")
		}
		if s.Spec.SessionAffinity != corev1.ServiceAffinityNone {
			texts = append(texts, "spec.SessionAffinity is ignored for headless services")
		}
	}
	for i, ip := range s.Spec.ExternalIPs {
		texts = append(texts, validation.GetWarningsForIP(spec.Child("externalIPs").Index(i), ip)...)
	}
	if len(s.Spec.ExternalIPs) > 0 && !none && s.Spec.Type != corev1.ServiceTypeExternalName {
		texts = append(texts, "spec.externalIPs is deprecated and may no longer be implemented in some clusters")
	}
	if ip := s.Spec.LoadBalancerIP; ip != "" {
		texts = append(texts, validation.GetWarningsForIP(spec.Child("loadBalancerIP"), ip)...)
	}
	for i, r := range s.Spec.LoadBalancerSourceRanges {
		texts = append(texts, validation.GetWarningsForCIDR(spec.Child("loadBalancerSourceRanges").Index(i), r)...)
	}
	if s.Spec.Type == corev1.ServiceTypeExternalName && len(s.Spec.ExternalIPs) > 0 {
		texts = append(texts, fmt.Sprintf("spec.externalIPs is ignored when spec.type is %q", corev1.ServiceTypeExternalName))
	}
	if s.Spec.Type != corev1.ServiceTypeExternalName && s.Spec.ExternalName != "" {
		texts = append(texts, fmt.Sprintf("spec.externalName is ignored when spec.type is not %q", corev1.ServiceTypeExternalName))
	}
	if d := s.Spec.TrafficDistribution; d != nil && *d == corev1.ServiceTrafficDistributionPreferClose {
		texts = append(texts, fmt.Sprintf("spec.trafficDistribution: %q is deprecated; use %q",
			corev1.ServiceTrafficDistributionPreferClose, corev1.ServiceTrafficDistributionPreferSameZone))
	}
	return texts
}
