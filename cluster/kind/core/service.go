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
	if old == nil {
		syncClusterIPs(s)
		return
	}
	defer func() { syncClusterIPs(s); dropByType(s, old) }()
	if s.Spec.ClusterIP != old.Spec.ClusterIP && len(s.Spec.ClusterIPs) > 0 && slices.Equal(s.Spec.ClusterIPs, old.Spec.ClusterIPs) {
		// A client that knows one field changed it: the other follows.
		s.Spec.ClusterIPs = slices.Clone(s.Spec.ClusterIPs)
		if s.Spec.ClusterIPs[0] = s.Spec.ClusterIP; s.Spec.ClusterIP == "" {
			s.Spec.ClusterIPs = nil
		}
	}
	if s.Spec.Type == corev1.ServiceTypeExternalName || old.Spec.Type == corev1.ServiceTypeExternalName {
		return
	}
	if s.Spec.ClusterIP == "" && len(s.Spec.ClusterIPs) == 0 {
		s.Spec.ClusterIP = old.Spec.ClusterIP
		s.Spec.ClusterIPs = slices.Clone(old.Spec.ClusterIPs)
	}
	if s.Spec.ClusterIP == old.Spec.ClusterIP && len(s.Spec.ClusterIPs) == 0 {
		s.Spec.ClusterIPs = slices.Clone(old.Spec.ClusterIPs)
	}
	if len(s.Spec.IPFamilies) == 0 {
		s.Spec.IPFamilies = slices.Clone(old.Spec.IPFamilies)
	}
	if s.Spec.IPFamilyPolicy == nil {
		s.Spec.IPFamilyPolicy = old.Spec.IPFamilyPolicy
	}
	if needsNodePort(s.Spec.Type) && needsNodePort(old.Spec.Type) {
		keepNodePorts(s, old)
	}
	if s.Spec.Type == corev1.ServiceTypeLoadBalancer && s.Spec.HealthCheckNodePort == 0 &&
		s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal {
		s.Spec.HealthCheckNodePort = old.Spec.HealthCheckNodePort
	}
}

// keepNodePorts gives ports that name no node port the one they had.
func keepNodePorts(s, old *corev1.Service) {
	type portKey struct {
		protocol corev1.Protocol
		port     int32
	}
	had, used := map[portKey]int32{}, map[int32]bool{}
	for _, p := range old.Spec.Ports {
		had[portKey{p.Protocol, p.Port}] = p.NodePort
	}
	for _, p := range s.Spec.Ports {
		used[p.NodePort] = true
	}
	for i := range s.Spec.Ports {
		p := &s.Spec.Ports[i]
		if n := had[portKey{p.Protocol, p.Port}]; p.NodePort == 0 && n != 0 && !used[n] {
			p.NodePort, used[n] = n, true
		}
	}
}

// syncClusterIPs makes the singular field and the first of the plural agree:
// whichever the user gave counts.
func syncClusterIPs(s *corev1.Service) {
	switch {
	case s.Spec.ClusterIP == "" && len(s.Spec.ClusterIPs) > 0:
		s.Spec.ClusterIP = s.Spec.ClusterIPs[0]
	case s.Spec.ClusterIP != "" && len(s.Spec.ClusterIPs) == 0:
		s.Spec.ClusterIPs = []string{s.Spec.ClusterIP}
	}
}

// dropByType removes, when the type changes, what the old type had brought
// and the user left as it was (KEP-1672 has upstream's table).
func dropByType(s, old *corev1.Service) {
	now, was := &s.Spec, &old.Spec
	if now.Type == was.Type {
		return
	}
	if !hasClusterIP(now.Type) && hasClusterIP(was.Type) && slices.Equal(now.ClusterIPs, was.ClusterIPs) {
		now.ClusterIP, now.ClusterIPs = "", nil
	}
	if !hasClusterIP(now.Type) && hasClusterIP(was.Type) {
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
