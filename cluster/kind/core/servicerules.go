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
	return len(s.Spec.ClusterIPs) > 0 && s.Spec.ClusterIPs[0] == headless || s.Spec.ClusterIP == headless
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
		errs = append(errs, kind.OneOfIfSet(*d, spec.Child("trafficDistribution"), corev1.ServiceTrafficDistributionPreferClose,
			corev1.ServiceTrafficDistributionPreferSameNode, corev1.ServiceTrafficDistributionPreferSameZone)...)
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
		for i, p := range s.Spec.Ports {
			if p.Port == 10250 { // a load balancer here would publish the node's API
				errs = append(errs, field.Invalid(ports.Index(i), p.Port, "may not expose port 10250 externally since it is used by kubelet"))
			}
		}
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
			if !needsNodePort(s.Spec.Type) {
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
	ips := spec.Child("clusterIPs")
	if len(s.Spec.ClusterIPs) > 0 && s.Spec.ClusterIP != s.Spec.ClusterIPs[0] {
		errs = append(errs, field.Invalid(ips, s.Spec.ClusterIPs, "first value must match `clusterIP`"))
	}
	if len(s.Spec.ClusterIPs) > 2 {
		errs = append(errs, field.Invalid(ips, s.Spec.ClusterIPs, "may only hold up to 2 values"))
	}
	if s.Spec.Type != corev1.ServiceTypeExternalName {
		four, six := 0, 0
		for i, ip := range s.Spec.ClusterIPs {
			if ip == headless || ip == "" {
				if i > 0 || len(s.Spec.ClusterIPs) > 1 {
					errs = append(errs, field.Invalid(ips.Index(i), ip, "must be empty, 'None', or a valid IP address"))
				}
				continue
			}
			a, err := netip.ParseAddr(ip)
			if err != nil {
				errs = append(errs, validation.IsValidIP(ips.Index(i), ip)...)
				continue
			}
			if a.Is4() {
				four++
			} else {
				six++
			}
		}
		if four > 1 || six > 1 {
			errs = append(errs, field.Invalid(ips, s.Spec.ClusterIPs, "may specify no more than one IP for each IP family, i.e. [\"10.0.0.1\", \"2001:db8::1\"]"))
		}
		errs = append(errs, families(s, spec)...)
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

func families(s *corev1.Service, spec *field.Path) (errs field.ErrorList) {
	path := spec.Child("ipFamilies")
	seen := map[corev1.IPFamily]bool{}
	for i, f := range s.Spec.IPFamilies {
		errs = append(errs, kind.OneOf(f, path.Index(i), corev1.IPv4Protocol, corev1.IPv6Protocol)...)
		if seen[f] {
			errs = append(errs, field.Duplicate(path.Index(i), f))
		}
		seen[f] = true
	}
	if p := s.Spec.IPFamilyPolicy; p != nil {
		errs = append(errs, kind.OneOf(*p, spec.Child("ipFamilyPolicy"), corev1.IPFamilyPolicyPreferDualStack,
			corev1.IPFamilyPolicyRequireDualStack, corev1.IPFamilyPolicySingleStack)...)
		if *p == corev1.IPFamilyPolicySingleStack {
			if len(s.Spec.IPFamilies) > 1 {
				errs = append(errs, field.Invalid(path, s.Spec.IPFamilies, "may only hold 1 value when `ipFamilyPolicy` is 'SingleStack'"))
			}
			if len(s.Spec.ClusterIPs) > 1 {
				errs = append(errs, field.Invalid(spec.Child("clusterIPs"), s.Spec.ClusterIPs, "may only hold 1 value when `ipFamilyPolicy` is 'SingleStack'"))
			}
		}
	}
	for i, ip := range s.Spec.ClusterIPs {
		a, err := netip.ParseAddr(ip)
		if err != nil || i >= len(s.Spec.IPFamilies) {
			continue
		}
		if f := s.Spec.IPFamilies[i]; a.Is4() != (f == corev1.IPv4Protocol) {
			want := "IPv4"
			if f == corev1.IPv6Protocol {
				want = "IPv6"
			}
			errs = append(errs, field.Invalid(spec.Child("clusterIPs").Index(i), ip, fmt.Sprintf("expected an %s value as indicated by `ipFamilies[%d]`", want, i)))
		}
	}
	return errs
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
	ranges := spec.Child("loadBalancerSourceRanges")
	if len(s.Spec.LoadBalancerSourceRanges) > 0 && !lb {
		errs = append(errs, field.Forbidden(ranges, "may only be used when `type` is 'LoadBalancer'"))
	}
	for i, r := range s.Spec.LoadBalancerSourceRanges {
		if _, err := netip.ParsePrefix(strings.TrimSpace(r)); err != nil {
			errs = append(errs, field.Invalid(ranges.Index(i), r, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"))
		}
	}
	switch a := s.Spec.AllocateLoadBalancerNodePorts; {
	case a != nil && !lb:
		errs = append(errs, field.Forbidden(spec.Child("allocateLoadBalancerNodePorts"), "may only be used when `type` is 'LoadBalancer'"))
	case a == nil && lb:
		errs = append(errs, field.Required(spec.Child("allocateLoadBalancerNodePorts"), ""))
	}
	if c := s.Spec.LoadBalancerClass; c != nil {
		if !lb {
			errs = append(errs, field.Forbidden(spec.Child("loadBalancerClass"), "may only be used when `type` is 'LoadBalancer'"))
		}
		errs = append(errs, kind.QualifiedName(*c, spec.Child("loadBalancerClass"))...)
	}
	return errs
}

func serviceChange(s, old *corev1.Service, spec *field.Path) (errs field.ErrorList) {
	// A cluster address is given once and stays as long as the type has one.
	if hasClusterIP(old.Spec.Type) && hasClusterIP(s.Spec.Type) && len(old.Spec.ClusterIPs) > 0 && old.Spec.ClusterIPs[0] != "" {
		now := ""
		if len(s.Spec.ClusterIPs) > 0 {
			now = s.Spec.ClusterIPs[0]
		}
		if now != old.Spec.ClusterIPs[0] {
			errs = append(errs, field.Invalid(spec.Child("clusterIPs").Index(0), now, "may not change once set"))
		}
	}
	if len(old.Spec.IPFamilies) > 0 && len(s.Spec.IPFamilies) > 0 && hasClusterIP(old.Spec.Type) && hasClusterIP(s.Spec.Type) &&
		s.Spec.IPFamilies[0] != old.Spec.IPFamilies[0] {
		errs = append(errs, field.Invalid(spec.Child("ipFamilies").Index(0), s.Spec.IPFamilies[0], "may not change once set"))
	}
	bothLB := s.Spec.Type == corev1.ServiceTypeLoadBalancer && old.Spec.Type == corev1.ServiceTypeLoadBalancer
	if bothLB && !kind.Equal(s.Spec.LoadBalancerClass, old.Spec.LoadBalancerClass) {
		errs = append(errs, field.Invalid(spec.Child("loadBalancerClass"), s.Spec.LoadBalancerClass, "may not change once set"))
	}
	return errs
}

func validateServiceStatus(s, _ *corev1.Service) (errs field.ErrorList) {
	path := field.NewPath("status", "loadBalancer", "ingress")
	if s.Spec.Type != corev1.ServiceTypeLoadBalancer && len(s.Status.LoadBalancer.Ingress) > 0 {
		errs = append(errs, field.Forbidden(path, "may only be used when `spec.type` is \"LoadBalancer\""))
	}
	for i, in := range s.Status.LoadBalancer.Ingress {
		path := path.Index(i)
		if in.IP != "" {
			errs = append(errs, validation.IsValidIP(path.Child("ip"), in.IP)...)
		}
		if in.IPMode != nil {
			if in.IP == "" {
				errs = append(errs, field.Forbidden(path.Child("ipMode"), "may not be specified when `ip` is not set"))
			}
			errs = append(errs, kind.OneOfIfSet(*in.IPMode, path.Child("ipMode"), corev1.LoadBalancerIPModeVIP, corev1.LoadBalancerIPModeProxy)...)
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
func warnService(s, old *corev1.Service) (texts []string) {
	if old != nil && slices.Equal(s.Spec.ExternalIPs, old.Spec.ExternalIPs) && s.Spec.LoadBalancerIP == old.Spec.LoadBalancerIP {
		return nil
	}
	if s.Spec.Type == corev1.ServiceTypeExternalName && len(s.Spec.ExternalIPs) > 0 {
		texts = append(texts, fmt.Sprintf("spec.externalIPs is ignored when spec.type is %q", corev1.ServiceTypeExternalName))
	}
	if isHeadless(s) {
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
	return texts
}
