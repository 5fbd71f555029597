package core

import (
	"cmp"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
)

// Endpoints are the addresses behind a service, in the old form that
// EndpointSlice replaces.
func Endpoints() *kind.Kind {
	return kind.Declare(kind.Of[corev1.Endpoints]{
		GVK:            corev1.SchemeGroupVersion.WithKind("Endpoints"),
		Plural:         "endpoints",
		Rechecked:      true,
		Singular:       "endpoints",
		Short:          []string{"ep"},
		Prefix:         "services/endpoints",
		CreateOnUpdate: true,
		Default:        defaultEndpoints,
		Validate:       validateEndpoints,
		Warn: func(_, _ *corev1.Endpoints) []string {
			return []string{"v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"}
		},
		Columns: []kind.Column[corev1.Endpoints]{
			{Name: "Endpoints", Description: corev1.Endpoints{}.SwaggerDoc()["subsets"],
				Cell: func(e *corev1.Endpoints, _ time.Time) any { return endpointsCell(e) }},
			kind.Age[corev1.Endpoints](),
		},
	})
}

func defaultEndpoints(e *corev1.Endpoints) {
	for i := range e.Subsets {
		for j := range e.Subsets[i].Ports {
			p := &e.Subsets[i].Ports[j]
			p.Protocol = cmp.Or(p.Protocol, corev1.ProtocolTCP)
		}
	}
}

func validateEndpoints(obj, old *corev1.Endpoints) (errs field.ErrorList) {
	subsets := field.NewPath("subsets")
	// Upstream checks subsets again only if they changed.
	if old != nil && slices.EqualFunc(obj.Subsets, old.Subsets, func(a, b corev1.EndpointSubset) bool {
		return kind.Equal(&a, &b)
	}) {
		return nil
	}
	for i := range obj.Subsets {
		errs = append(errs, endpointSubset(&obj.Subsets[i], subsets.Index(i))...)
	}
	return errs
}

func endpointSubset(s *corev1.EndpointSubset, path *field.Path) (errs field.ErrorList) {
	if len(s.Addresses) == 0 && len(s.NotReadyAddresses) == 0 {
		errs = append(errs, field.Required(path, "must specify `addresses` or `notReadyAddresses`"))
	}
	check := func(all []corev1.EndpointAddress, path *field.Path) {
		for i := range all {
			errs = append(errs, endpointAddress(&all[i], path.Index(i))...)
		}
	}
	check(s.Addresses, path.Child("addresses"))
	check(s.NotReadyAddresses, path.Child("notReadyAddresses"))
	for i := range s.Ports {
		p, path := &s.Ports[i], path.Child("ports").Index(i)
		if len(s.Ports) > 1 && p.Name == "" {
			errs = append(errs, field.Required(path.Child("name"), ""))
		} else if p.Name != "" {
			errs = append(errs, kind.DNSLabel(p.Name, path.Child("name"))...)
		}
		for _, msg := range utilvalidation.IsValidPortNum(int(p.Port)) {
			errs = append(errs, field.Invalid(path.Child("port"), p.Port, msg))
		}
		errs = append(errs, kind.Protocol(p.Protocol, path.Child("protocol"))...)
		if p.AppProtocol != nil {
			errs = append(errs, kind.QualifiedName(*p.AppProtocol, path.Child("appProtocol"))...)
		}
	}
	return errs
}

func endpointAddress(a *corev1.EndpointAddress, path *field.Path) (errs field.ErrorList) {
	errs = append(errs, utilvalidation.IsValidIP(path.Child("ip"), a.IP)...)
	if a.Hostname != "" {
		errs = append(errs, kind.DNSLabel(a.Hostname, path.Child("hostname"))...)
	}
	if a.NodeName != nil {
		for _, msg := range validation.NameIsDNSSubdomain(*a.NodeName, false) {
			errs = append(errs, field.Invalid(path.Child("nodeName"), *a.NodeName, msg))
		}
	}
	return append(errs, kind.UsableIP(a.IP, path.Child("ip"))...)
}

// endpointsCell lists the first three addresses, as upstream does.
func endpointsCell(e *corev1.Endpoints) string {
	const most = 3
	if len(e.Subsets) == 0 {
		return "<none>"
	}
	var shown []string
	count := 0
	for i := range e.Subsets {
		s := &e.Subsets[i]
		if len(s.Ports) == 0 { // a headless service without ports
			for _, a := range s.Addresses {
				if count++; count <= most {
					shown = append(shown, a.IP)
				}
			}
			continue
		}
		for j := range s.Ports {
			for _, a := range s.Addresses {
				if count++; count <= most {
					shown = append(shown, net.JoinHostPort(a.IP, strconv.Itoa(int(s.Ports[j].Port))))
				}
			}
		}
	}
	text := strings.Join(shown, ",")
	if count > most {
		text += fmt.Sprintf(" + %d more...", count-most)
	}
	return cmp.Or(text, "<none>")
}
