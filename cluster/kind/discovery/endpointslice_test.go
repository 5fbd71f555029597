package discovery_test

import (
	"slices"
	"strings"
	"testing"

	"sampan/cluster/kind/discovery"
	"sampan/cluster/kind/kindtest"
)

func TestEndpointSliceRules(t *testing.T) {
	kindtest.Check(t, discovery.EndpointSlice(), []kindtest.Rule{
		{Rule: "an address is enough", New: `{addressType: IPv4, endpoints: [{addresses: [10.0.0.1]}], ports: [{port: 80}]}`},
		{Rule: "the type is needed", New: `endpoints: []`, Want: []string{`addressType: Required value`}},
		{Rule: "the type stays", Old: `addressType: IPv4`, New: `addressType: IPv6`, Want: []string{`addressType: Invalid value: null: field is immutable`}},
		{Rule: "addresses are of the type", New: `{addressType: IPv4, endpoints: [{addresses: ["2001:db8::1"]}]}`, Want: []string{
			`endpoints[0].addresses: Invalid value: "2001:db8::1": must be an IPv4 address`}},
		{Rule: "an endpoint has an address", New: `{addressType: IPv4, endpoints: [{}]}`, Want: []string{
			`endpoints[0].addresses: Required value`}},
		{Rule: "nobody is unspecified", New: `{addressType: IPv4, endpoints: [{addresses: [0.0.0.0]}]}`, Want: []string{
			`endpoints[0].addresses[0]: Invalid value: "0.0.0.0": may not be unspecified (0.0.0.0)`}},
		{Rule: "port names are unique", New: `{addressType: IPv4, ports: [{port: 80},{port: 81}]}`, Want: []string{`ports[1].name: Duplicate value: ""`}},
		{Rule: "protocols are listed", New: `{addressType: IPv4, ports: [{port: 80, protocol: tcp}]}`, Want: []string{
			`ports[0].protocol: Unsupported value: "tcp": supported values: "SCTP", "TCP", "UDP"`}},
	})
}

func TestEndpointSliceRow(t *testing.T) {
	k := discovery.EndpointSlice()
	if got := strings.Join(kindtest.Header(k), " "); got != "Name AddressType Ports Endpoints Age" {
		t.Errorf("header %s", got)
	}
	obj := kindtest.Create(t, k, `{metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}, addressType: IPv4,
  endpoints: [{addresses: [10.0.0.1]},{addresses: [10.0.0.2]},{addresses: [10.0.0.3]},{addresses: [10.0.0.4]}], ports: [{port: 80},{name: all}]}`)
	if got := kindtest.Row(k, obj); !slices.Equal(got, []any{"web-1", "IPv4", "80,all", "10.0.0.1,10.0.0.2,10.0.0.3 + 1 more...", "<unknown>"}) {
		t.Errorf("row %q", got)
	}
	if got := k.Indexes["kubernetes.io/service-name"](obj); !slices.Equal(got, []string{"web"}) {
		t.Errorf("found by %q", got)
	}
}

func TestEndpointSliceWarnings(t *testing.T) {
	k := discovery.EndpointSlice()
	s := kindtest.Create(t, k, `{addressType: FQDN, endpoints: [{addresses: [a.example.com]}]}`)
	if got, want := k.Warn(s, nil), []string{"spec.addressType: FQDN endpoints are deprecated"}; !slices.Equal(got, want) {
		t.Errorf("a new slice of names: %q, want %q", got, want)
	}
	if got := k.Warn(s, s); len(got) != 0 {
		t.Errorf("an old one: %q", got)
	}
}
