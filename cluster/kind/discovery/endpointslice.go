package discovery

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	netutils "k8s.io/utils/net"

	"sampan/cluster/kind"
)

// EndpointSlice holds some of the addresses behind a service.
func EndpointSlice() *kind.Kind {
	return kind.Declare(kind.Of[discoveryv1.EndpointSlice]{
		GVK:       discoveryv1.SchemeGroupVersion.WithKind("EndpointSlice"),
		Plural:    "endpointslices",
		Rechecked: true,
		Default:   defaultSlice,
		Drop:      dropTopology,
		Validate:  validateSlice,
		Warn:      warnSlice,
		Ignored:   kind.Paths("", SliceGaps),
		Spec:      func(s *discoveryv1.EndpointSlice) any { return sliceSpec(s) },
		Columns: []kind.Column[discoveryv1.EndpointSlice]{
			{Name: "AddressType", Description: discoveryv1.EndpointSlice{}.SwaggerDoc()["addressType"],
				Cell: func(s *discoveryv1.EndpointSlice, _ time.Time) any { return string(s.AddressType) }},
			{Name: "Ports", Description: discoveryv1.EndpointSlice{}.SwaggerDoc()["ports"],
				Cell: func(s *discoveryv1.EndpointSlice, _ time.Time) any { return portsCell(s.Ports) }},
			{Name: "Endpoints", Description: discoveryv1.EndpointSlice{}.SwaggerDoc()["endpoints"],
				Cell: func(s *discoveryv1.EndpointSlice, _ time.Time) any { return addressesCell(s.Endpoints) }},
			kind.Age[discoveryv1.EndpointSlice](),
		},
		Indexes: map[string]func(*discoveryv1.EndpointSlice) []string{
			// By the service's name alone: queries name the namespace as well.
			discoveryv1.LabelServiceName: func(s *discoveryv1.EndpointSlice) []string {
				if name := s.Labels[discoveryv1.LabelServiceName]; name != "" {
					return []string{name}
				}
				return nil
			},
		},
	})
}

// sliceSpec is what a change of bumps the generation: a slice has no spec.
func sliceSpec(s *discoveryv1.EndpointSlice) any {
	return struct {
		Labels      map[string]string
		AddressType discoveryv1.AddressType
		Endpoints   []discoveryv1.Endpoint
		Ports       []discoveryv1.EndpointPort
	}{s.Labels, s.AddressType, s.Endpoints, s.Ports}
}

func defaultSlice(s *discoveryv1.EndpointSlice) {
	for i := range s.Ports {
		p := &s.Ports[i]
		if p.Name == nil {
			p.Name = new(string)
		}
		if p.Protocol == nil {
			tcp := corev1.ProtocolTCP
			p.Protocol = &tcp
		}
	}
}

// dropTopology takes away what only v1beta1 can say. Endpoints that are as they
// were keep it; of others the node is kept that it named.
func dropTopology(s, old *discoveryv1.EndpointSlice) {
	nodes := map[string]bool{}
	if old != nil {
		if kind.Equal(s.Endpoints, old.Endpoints) {
			return
		}
		for _, e := range old.Endpoints {
			nodes[e.DeprecatedTopology[corev1.LabelHostname]] = true
		}
	}
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		node, named := e.DeprecatedTopology[corev1.LabelHostname]
		if named && e.NodeName == nil && nodes[node] && len(kind.DNSSubdomain(node, nil)) == 0 {
			e.NodeName = &node
		}
		e.DeprecatedTopology = nil
	}
}

// Upstream's limits.
const (
	maxAddresses    = 100
	maxPorts        = 20000
	maxEndpoints    = 1000
	maxTopologyKeys = 16
	maxZoneHints    = 8
	maxNodeHints    = 8
)

func validateSlice(s, old *discoveryv1.EndpointSlice) (errs field.ErrorList) {
	path := field.NewPath("addressType")
	switch s.AddressType {
	case "":
		errs = append(errs, field.Required(path, ""))
	case discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6, discoveryv1.AddressTypeFQDN:
	default:
		errs = append(errs, field.NotSupported(path, s.AddressType,
			[]discoveryv1.AddressType{discoveryv1.AddressTypeFQDN, discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6}))
	}
	if old != nil {
		errs = append(errs, kind.Declared(s.AddressType, old.AddressType, path)...)
	}
	if wrong := endpoints(s, field.NewPath("endpoints")); old == nil || len(wrong) > 0 && !kind.Equal(s.Endpoints, old.Endpoints) {
		errs = append(errs, wrong...)
	}
	return append(errs, ports(s.Ports, field.NewPath("ports"))...)
}

func endpoints(s *discoveryv1.EndpointSlice, path *field.Path) (errs field.ErrorList) {
	if len(s.Endpoints) > maxEndpoints {
		return field.ErrorList{field.TooMany(path, len(s.Endpoints), maxEndpoints).WithOrigin("maxItems")}
	}
	for i := range s.Endpoints {
		e, path := &s.Endpoints[i], path.Index(i)
		addresses := path.Child("addresses")
		if len(e.Addresses) == 0 {
			errs = append(errs, field.Required(addresses, ""))
		} else if len(e.Addresses) > maxAddresses {
			errs = append(errs, field.TooMany(addresses, len(e.Addresses), maxAddresses))
		}
		for j, a := range e.Addresses {
			errs = append(errs, address(a, s.AddressType, addresses, j)...)
		}
		if e.NodeName != nil {
			errs = append(errs, kind.DNSSubdomain(*e.NodeName, path.Child("nodeName"))...)
		}
		if len(e.DeprecatedTopology) > maxTopologyKeys {
			errs = append(errs, field.TooMany(path.Child("deprecatedTopology"), len(e.DeprecatedTopology), maxTopologyKeys))
		}
		errs = append(errs, metav1validation.ValidateLabels(e.DeprecatedTopology, path.Child("deprecatedTopology"))...)
		if _, ok := e.DeprecatedTopology[corev1.LabelTopologyZone]; ok {
			errs = append(errs, field.InternalError(path.Child("deprecatedTopology").Key(corev1.LabelTopologyZone),
				fmt.Errorf("reserved key was not removed in conversion")))
		}
		if e.Hostname != nil {
			errs = append(errs, kind.DNSLabel(*e.Hostname, path.Child("hostname"))...)
		}
		if e.Hints != nil {
			errs = append(errs, hints(e.Hints, path.Child("hints"))...)
		}
	}
	return errs
}

// warnSlice names what is taken and should not be sent.
func warnSlice(s, old *discoveryv1.EndpointSlice) (texts []string) {
	if old == nil && s.AddressType == discoveryv1.AddressTypeFQDN {
		texts = append(texts, "spec.addressType: FQDN endpoints are deprecated")
	}
	if s.AddressType != discoveryv1.AddressTypeIPv4 && s.AddressType != discoveryv1.AddressTypeIPv6 {
		return texts
	}
	for i := range s.Endpoints {
		for j, a := range s.Endpoints[i].Addresses {
			texts = append(texts, validation.GetWarningsForIP(field.NewPath("endpoints").Index(i).Child("addresses").Index(j), a)...)
		}
	}
	return texts
}

// address checks the address at index i of a list.
func address(a string, t discoveryv1.AddressType, list *field.Path, i int) field.ErrorList {
	six := t == discoveryv1.AddressTypeIPv6
	switch t {
	case discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6:
	case discoveryv1.AddressTypeFQDN:
		return validation.IsFullyQualifiedDomainName(list.Index(i), a)
	default:
		return nil
	}
	errs := validation.IsValidIP(list.Index(i), a)
	if len(errs) > 0 {
		return errs
	}
	switch {
	case six && !netutils.IsIPv6String(a):
		errs = append(errs, field.Invalid(list, a, "must be an IPv6 address")) // of the list, as upstream says
	case !six && !netutils.IsIPv4String(a):
		errs = append(errs, field.Invalid(list, a, "must be an IPv4 address"))
	}
	return append(errs, kind.UsableIP(a, list.Index(i))...)
}

func hints(h *discoveryv1.EndpointHints, path *field.Path) (errs field.ErrorList) {
	zones := path.Child("forZones")
	if len(h.ForZones) > maxZoneHints {
		return field.ErrorList{field.TooMany(zones, len(h.ForZones), maxZoneHints)}
	}
	seen := map[string]bool{}
	for i, z := range h.ForZones {
		if seen[z.Name] {
			errs = append(errs, field.Duplicate(zones.Index(i).Child("name"), z.Name))
			continue
		}
		seen[z.Name] = true
		errs = append(errs, kind.LabelValue(z.Name, zones.Index(i).Child("name"))...)
	}
	nodes := path.Child("forNodes")
	if len(h.ForNodes) > maxNodeHints {
		return append(errs, field.TooMany(nodes, len(h.ForNodes), maxNodeHints))
	}
	seen = map[string]bool{}
	for i, n := range h.ForNodes {
		if seen[n.Name] {
			errs = append(errs, field.Duplicate(nodes.Index(i).Child("name"), n.Name))
			continue
		}
		seen[n.Name] = true
		errs = append(errs, kind.DNSSubdomain(n.Name, nodes.Index(i).Child("name"))...)
	}
	return errs
}

func ports(all []discoveryv1.EndpointPort, path *field.Path) (errs field.ErrorList) {
	if len(all) > maxPorts {
		return field.ErrorList{field.TooMany(path, len(all), maxPorts)}
	}
	seen := map[string]bool{}
	for i := range all {
		p, path := &all[i], path.Index(i)
		if p.Name == nil {
			errs = append(errs, field.Required(path.Child("name"), ""))
		} else {
			if *p.Name != "" {
				errs = append(errs, kind.DNSLabel(*p.Name, path.Child("name"))...)
			}
			if seen[*p.Name] {
				errs = append(errs, field.Duplicate(path.Child("name"), *p.Name))
			}
			seen[*p.Name] = true
		}
		if p.Protocol == nil {
			errs = append(errs, field.Required(path.Child("protocol"), ""))
		} else {
			errs = append(errs, kind.Protocol(*p.Protocol, path.Child("protocol"))...)
		}
		if p.Port != nil {
			errs = append(errs, kind.Port(*p.Port, path.Child("port"))...)
		}
		if p.AppProtocol != nil {
			errs = append(errs, kind.QualifiedName(*p.AppProtocol, path.Child("appProtocol"))...)
		}
	}
	return errs
}

// most is how many ports or addresses a cell shows.
const most = 3

func portsCell(all []discoveryv1.EndpointPort) string {
	if len(all) == 0 {
		return "<unset>"
	}
	var shown []string
	more := 0
	for i, p := range all {
		if len(shown) >= most {
			more = len(all) - i
			break
		}
		port := "*"
		if p.Port != nil {
			port = strconv.Itoa(int(*p.Port))
		} else if p.Name != nil {
			port = *p.Name
		}
		shown = append(shown, port)
	}
	return list(shown, more)
}

func addressesCell(all []discoveryv1.Endpoint) string {
	if len(all) == 0 {
		return "<unset>"
	}
	var flat []string
	for i := range all {
		flat = append(flat, all[i].Addresses...)
	}
	shown := flat[:min(most, len(flat))]
	return list(slices.Clone(shown), len(flat)-len(shown))
}

func list(shown []string, more int) string {
	text := strings.Join(shown, ",")
	if more > 0 {
		text += fmt.Sprintf(" + %d more...", more)
	}
	return text
}
