package core

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	"sampan/cluster/kind"
)

// Service is one address for a changing set of pods. Which cluster address and
// node ports it gets is admission's business: they come from cluster-wide
// pools.
func Service() *kind.Kind {
	return kind.Declare(kind.Of[corev1.Service]{
		GVK:            corev1.SchemeGroupVersion.WithKind("Service"),
		Plural:         "services",
		ReturnDeleted:  true,
		Short:          []string{"svc"},
		Categories:     []string{"all"},
		Prefix:         "services/specs",
		CreateOnUpdate: true,
		Default:        defaultService,
		Prepare:        prepareService,
		Validate:       validateService,
		ValidateName:   validation.NameIsDNSLabel, // since 1.36 (KEP-5311)
		Warn:           warnService,
		Ignored:        kind.Paths("", ServiceGaps),
		Parts: map[string]kind.Part[corev1.Service]{
			"status": {
				Take:         func(dst, src *corev1.Service) { dst.Status = src.Status },
				WithMetadata: true,
				Validate:     validateServiceStatus,
			},
		},
		Columns: []kind.Column[corev1.Service]{
			{Name: "Type", Description: corev1.ServiceSpec{}.SwaggerDoc()["type"],
				Cell: func(s *corev1.Service, _ time.Time) any { return string(s.Spec.Type) }},
			{Name: "Cluster-IP", Description: corev1.ServiceSpec{}.SwaggerDoc()["clusterIP"],
				Cell: func(s *corev1.Service, _ time.Time) any { return clusterIPCell(s) }},
			{Name: "External-IP", Description: corev1.ServiceSpec{}.SwaggerDoc()["externalIPs"],
				Cell: func(s *corev1.Service, _ time.Time) any { return externalIPCell(s) }},
			{Name: "Port(s)", Description: corev1.ServiceSpec{}.SwaggerDoc()["ports"],
				Cell: func(s *corev1.Service, _ time.Time) any { return servicePortsCell(s) }},
			kind.Age[corev1.Service](),
			{Name: "Selector", Priority: 1, Description: corev1.ServiceSpec{}.SwaggerDoc()["selector"],
				Cell: func(s *corev1.Service, _ time.Time) any { return selectorCell(s.Spec.Selector) }},
		},
		Fields: map[string]func(*corev1.Service) string{
			"spec.clusterIP": func(s *corev1.Service) string { return s.Spec.ClusterIP },
			"spec.type":      func(s *corev1.Service) string { return string(s.Spec.Type) },
		},
	})
}

func defaultService(s *corev1.Service) {
	spec := &s.Spec
	spec.SessionAffinity = cmp.Or(spec.SessionAffinity, corev1.ServiceAffinityNone)
	switch spec.SessionAffinity {
	case corev1.ServiceAffinityNone:
		spec.SessionAffinityConfig = nil
	case corev1.ServiceAffinityClientIP:
		c := spec.SessionAffinityConfig
		if c == nil || c.ClientIP == nil || c.ClientIP.TimeoutSeconds == nil {
			seconds := corev1.DefaultClientIPServiceAffinitySeconds
			spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: &seconds}}
		}
	}
	spec.Type = cmp.Or(spec.Type, corev1.ServiceTypeClusterIP)
	for i := range spec.Ports {
		p := &spec.Ports[i]
		p.Protocol = cmp.Or(p.Protocol, corev1.ProtocolTCP)
		if p.TargetPort == intstr.FromInt32(0) || p.TargetPort == intstr.FromString("") {
			p.TargetPort = intstr.FromInt32(p.Port)
		}
	}
	if external(s) && spec.ExternalTrafficPolicy == "" {
		spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyCluster
	}
	if spec.InternalTrafficPolicy == nil && hasClusterIP(spec.Type) {
		all := corev1.ServiceInternalTrafficPolicyCluster
		spec.InternalTrafficPolicy = &all
	}
	if spec.Type == corev1.ServiceTypeLoadBalancer {
		if spec.AllocateLoadBalancerNodePorts == nil {
			yes := true
			spec.AllocateLoadBalancerNodePorts = &yes
		}
		for i := range s.Status.LoadBalancer.Ingress {
			if in := &s.Status.LoadBalancer.Ingress[i]; in.IP != "" && in.IPMode == nil {
				vip := corev1.LoadBalancerIPModeVIP
				in.IPMode = &vip
			}
		}
	}
	// On create only upstream's allocator settles these; a service without
	// a cluster address has nothing to allocate. See admission.
	if s.UID != "" && spec.ClusterIP != "" && len(spec.ClusterIPs) == 0 { // from the store
		spec.ClusterIPs = []string{spec.ClusterIP}
	}
}

func hasClusterIP(t corev1.ServiceType) bool {
	return t == corev1.ServiceTypeClusterIP || needsNodePort(t)
}

func needsNodePort(t corev1.ServiceType) bool {
	return t == corev1.ServiceTypeNodePort || t == corev1.ServiceTypeLoadBalancer
}

// external is true for a service that is reached from outside the cluster.
func external(s *corev1.Service) bool {
	return needsNodePort(s.Spec.Type) || s.Spec.Type == corev1.ServiceTypeClusterIP && len(s.Spec.ExternalIPs) > 0
}

// prepareService carries over what a client of the first days, or one that
// only changes the type, does not repeat.
func prepareService(s, old *corev1.Service) {
	now := &s.Spec
	if old == nil {
		if now.ClusterIP != "" && len(now.ClusterIPs) == 0 {
			now.ClusterIPs = []string{now.ClusterIP} // who knows both fields sets both
		}
		return
	}
	defer dropByType(s, old)
	was := &old.Spec
	named := now.Type != corev1.ServiceTypeExternalName && was.Type != corev1.ServiceTypeExternalName
	if named {
		now.ClusterIP = cmp.Or(now.ClusterIP, was.ClusterIP)
		if len(now.ClusterIPs) == 0 {
			now.ClusterIPs = slices.Clone(was.ClusterIPs)
		}
		if len(now.IPFamilies) == 0 {
			now.IPFamilies = slices.Clone(was.IPFamilies)
		}
		if now.IPFamilyPolicy == nil {
			now.IPFamilyPolicy = was.IPFamilyPolicy
		}
	}
	if now.ClusterIP == was.ClusterIP && len(now.ClusterIPs) == 0 {
		now.ClusterIPs = slices.Clone(was.ClusterIPs)
	}
	if now.ClusterIP != was.ClusterIP && slices.Equal(now.ClusterIPs, was.ClusterIPs) {
		// A client that knows one field changed it: the other follows.
		if now.ClusterIPs = []string{now.ClusterIP}; now.ClusterIP == "" {
			now.ClusterIPs = nil
		}
	}
	if OpensPorts(s) && OpensPorts(old) {
		keepNodePorts(s, old)
	}
	if ChecksHealth(s) && ChecksHealth(old) && now.HealthCheckNodePort == 0 {
		now.HealthCheckNodePort = was.HealthCheckNodePort
	}
}

// OpensPorts says whether a service is reached at ports of the nodes' own
// addresses.
func OpensPorts(s *corev1.Service) bool {
	switch s.Spec.Type {
	case corev1.ServiceTypeNodePort:
		return true
	case corev1.ServiceTypeLoadBalancer:
		return s.Spec.AllocateLoadBalancerNodePorts == nil || *s.Spec.AllocateLoadBalancerNodePorts
	}
	return false
}

// ChecksHealth says whether a service has a node port at which a load balancer
// asks which nodes have its pods.
func ChecksHealth(s *corev1.Service) bool {
	return s.Spec.Type == corev1.ServiceTypeLoadBalancer && s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
}

// keepNodePorts gives ports that name no node port the one they had, by their
// names.
func keepNodePorts(s, old *corev1.Service) {
	had, taken := map[string]int32{}, map[int32]bool{}
	for _, p := range old.Spec.Ports {
		had[p.Name] = p.NodePort
	}
	for _, p := range s.Spec.Ports {
		taken[p.NodePort] = true
	}
	for i := range s.Spec.Ports {
		if p := &s.Spec.Ports[i]; p.NodePort == 0 && !taken[had[p.Name]] {
			p.NodePort = had[p.Name]
		}
	}
}

// dropByType removes, when the type changes, what the old type had brought
// and the user left as it was (KEP-1672 has upstream's table).
func dropByType(s, old *corev1.Service) {
	now, was := &s.Spec, &old.Spec
	if now.Type == was.Type {
		return
	}
	elsewhere := now.Type == corev1.ServiceTypeExternalName && was.Type != corev1.ServiceTypeExternalName
	if elsewhere && slices.Equal(now.ClusterIPs, was.ClusterIPs) {
		now.ClusterIP, now.ClusterIPs = "", nil
	}
	if elsewhere {
		if slices.Equal(now.IPFamilies, was.IPFamilies) {
			now.IPFamilies = nil
		}
		if kind.Equal(now.IPFamilyPolicy, was.IPFamilyPolicy) {
			now.IPFamilyPolicy = nil
		}
		if kind.Equal(now.InternalTrafficPolicy, was.InternalTrafficPolicy) {
			now.InternalTrafficPolicy = nil
		}
	}
	if !needsNodePort(now.Type) && needsNodePort(was.Type) {
		had := map[int32]bool{}
		for _, p := range was.Ports {
			had[p.NodePort] = true
		}
		for i := range now.Ports {
			if had[now.Ports[i].NodePort] {
				now.Ports[i].NodePort = 0
			}
		}
	}
	if !external(s) && external(old) && now.ExternalTrafficPolicy == was.ExternalTrafficPolicy {
		now.ExternalTrafficPolicy = ""
	}
	if now.Type != corev1.ServiceTypeLoadBalancer && was.Type == corev1.ServiceTypeLoadBalancer {
		if now.HealthCheckNodePort == was.HealthCheckNodePort {
			now.HealthCheckNodePort = 0
		}
		if kind.Equal(now.AllocateLoadBalancerNodePorts, was.AllocateLoadBalancerNodePorts) {
			now.AllocateLoadBalancerNodePorts = nil
		}
		if kind.Equal(now.LoadBalancerClass, was.LoadBalancerClass) {
			now.LoadBalancerClass = nil
		}
		s.Status.LoadBalancer = corev1.LoadBalancerStatus{}
	}
	if now.Type != corev1.ServiceTypeExternalName && was.Type == corev1.ServiceTypeExternalName && now.ExternalName == was.ExternalName {
		now.ExternalName = ""
	}
}

func clusterIPCell(s *corev1.Service) string {
	if len(s.Spec.ClusterIPs) > 0 {
		return cmp.Or(s.Spec.ClusterIPs[0], "<none>")
	}
	return "<none>"
}

func externalIPCell(s *corev1.Service) string {
	switch s.Spec.Type {
	case corev1.ServiceTypeExternalName:
		return cmp.Or(s.Spec.ExternalName, "<none>")
	case corev1.ServiceTypeLoadBalancer:
		var all []string
		for _, in := range s.Status.LoadBalancer.Ingress {
			if a := cmp.Or(in.IP, in.Hostname); a != "" {
				all = append(all, a)
			}
		}
		slices.Sort(all)
		all = append(slices.Compact(all), s.Spec.ExternalIPs...)
		if len(all) == 0 {
			return "<pending>"
		}
		return strings.Join(all, ",")
	case corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort:
		return cmp.Or(strings.Join(s.Spec.ExternalIPs, ","), "<none>")
	}
	return "<unknown>"
}

func servicePortsCell(s *corev1.Service) string {
	var all []string
	for _, p := range s.Spec.Ports {
		if p.NodePort > 0 {
			all = append(all, fmt.Sprintf("%d:%d/%s", p.Port, p.NodePort, p.Protocol))
		} else {
			all = append(all, fmt.Sprintf("%d/%s", p.Port, p.Protocol))
		}
	}
	return cmp.Or(strings.Join(all, ","), "<none>")
}

func selectorCell(selector map[string]string) string {
	return cmp.Or(labels.FormatLabels(selector), "<none>")
}
