package networking_test

import (
	"slices"
	"testing"

	"sampan/cluster/kind/kindtest"
	"sampan/cluster/kind/networking"
)

func TestIngressRules(t *testing.T) {
	k := networking.Ingress()
	kindtest.Check(t, k, []kindtest.Rule{
		{Rule: "a default is enough", New: `{spec: {defaultBackend: {service: {name: s, port: {number: 80}}}}}`},
		{Rule: "something goes somewhere", New: `{spec: {}}`, Want: []string{"spec: Invalid value: null: either `defaultBackend` or `rules` must be specified"}},
		{Rule: "a service has a port", New: `{spec: {defaultBackend: {service: {name: s}}}}`, Want: []string{"spec.defaultBackend: Required value: port name or number is required"}},
		{Rule: "hosts have names", New: `{spec: {rules: [{host: 1.2.3.4}]}}`, Want: []string{`spec.rules[0].host: Invalid value: "1.2.3.4": must be a DNS name, not an IP address`}},
		{Rule: "paths are matched somehow", New: `{spec: {rules: [{http: {paths: [{path: /a, backend: {service: {name: s, port: {name: http}}}}]}}]}}`, Want: []string{
			"spec.rules[0].http.paths[0].pathType: Required value: pathType must be specified"}},
		{Rule: "paths lead forwards", New: `{spec: {rules: [{http: {paths: [{path: /a/../b, pathType: Prefix, backend: {service: {name: s, port: {name: http}}}}]}}]}}`, Want: []string{
			`spec.rules[0].http.paths[0].path: Invalid value: "/a/../b": must not contain '/../'`}},
		{Rule: "one class", New: `{metadata: {annotations: {kubernetes.io/ingress.class: a}}, spec: {ingressClassName: b, rules: [{host: "*.a.b"}]}}`, Want: []string{
			"annotations.kubernetes.io/ingress.class: Invalid value: \"a\": must match `ingressClassName` when both are specified"}},
	})
	i := kindtest.Create(t, k, `{metadata: {name: i}, spec: {ingressClassName: c, tls: [{}], rules: [{host: a.b}, {host: c.d}, {host: e.f}, {host: g.h}]}}`)
	if got, want := kindtest.Row(k, i), []any{"i", "c", "a.b,c.d,e.f + 1 more...", "", "80, 443", "<unknown>"}; !slices.Equal(got, want) {
		t.Errorf("row %q, want %q", got, want)
	}
	if k.Prefix != "ingress" {
		t.Errorf("kept below %q", k.Prefix)
	}
}

func TestIngressClassRules(t *testing.T) {
	k := networking.IngressClass()
	kindtest.Check(t, k, []kindtest.Rule{
		{Rule: "a controller is enough", New: `{spec: {controller: a.b/c}}`},
		{Rule: "parameters of the cluster have no namespace", New: `{spec: {controller: a.b/c, parameters: {kind: K, name: n, namespace: x}}}`, Want: []string{
			"spec.parameters.namespace: Forbidden: `parameters.scope` is set to 'Cluster'"}},
		{Rule: "it stays with its controller", Old: `{spec: {controller: a.b/c}}`, New: `{spec: {controller: a.b/d}}`, Want: []string{
			`spec.controller: Invalid value: "a.b/d": field is immutable`}},
	})
	c := kindtest.Create(t, k, `{metadata: {name: c, annotations: {ingressclass.kubernetes.io/is-default-class: "true"}}, spec: {controller: a.b/c, parameters: {apiGroup: g, kind: K, name: nn}}}`)
	if got, want := kindtest.Row(k, c), []any{"c (default)", "a.b/c", "K.g/nn", "<unknown>"}; !slices.Equal(got, want) {
		t.Errorf("row %q, want %q", got, want)
	}
}

func TestNetworkPolicyRules(t *testing.T) {
	kindtest.Check(t, networking.NetworkPolicy(), []kindtest.Rule{
		{Rule: "nothing is everything", New: `{spec: {}}`},
		{Rule: "ports run upwards", New: `{spec: {ingress: [{ports: [{port: 80, endPort: 70}, {port: http, endPort: 80}]}]}}`, Want: []string{
			"spec.ingress[0].ports[0].endPort: Invalid value: 70: must be greater than or equal to `port`",
			"spec.ingress[0].ports[1].endPort: Invalid value: 80: may not be specified when `port` is non-numeric"}},
		{Rule: "a peer is somebody", New: `{spec: {egress: [{to: [{}, {podSelector: {}, ipBlock: {cidr: 10.0.0.0/8}}]}]}}`, Want: []string{
			"spec.egress[0].to[0]: Required value: must specify a peer", "spec.egress[0].to[1]: Forbidden: may not specify both ipBlock and another peer"}},
		{Rule: "exceptions are inside", New: `{spec: {egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16, 11.0.0.0/16]}}]}]}}`, Want: []string{
			"spec.egress[0].to[0].ipBlock.except[1]: Invalid value: \"11.0.0.0/16\": must be a strict subset of `cidr`"}},
	})
}

func TestAddressRules(t *testing.T) {
	k := networking.IPAddress()
	kindtest.Check(t, k, []kindtest.Rule{
		{Rule: "somebody has it", New: `{spec: {}}`, Want: []string{"spec.parentRef: Required value"}},
		{Rule: "and keeps it", Old: `{spec: {parentRef: {resource: services, name: a}}}`, New: `{spec: {parentRef: {resource: services, name: b}}}`, Want: []string{
			`spec.parentRef: Invalid value: null: field is immutable`}},
	})
	if msgs := k.ValidateName("10.0.0.01", false); len(msgs) != 1 {
		t.Errorf("a name that is no address: %q", msgs)
	}
	a := kindtest.Read(t, k, `{metadata: {name: 10.0.0.1}, spec: {parentRef: {resource: services, namespace: default, name: a}}}`)
	if got, want := kindtest.Row(k, a), []any{"10.0.0.1", "services/default/a", "<unknown>"}; !slices.Equal(got, want) {
		t.Errorf("row %q, want %q", got, want)
	}
	kindtest.Check(t, networking.ServiceCIDR(), []kindtest.Rule{
		{Rule: "one of each family", New: `{spec: {cidrs: [10.0.0.0/16, "fd00::/112"]}}`},
		{Rule: "no two of one", New: `{spec: {cidrs: [10.0.0.0/16, 10.1.0.0/16]}}`, Want: []string{
			`spec.cidrs: Invalid value: ["10.0.0.0/16","10.1.0.0/16"]: may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64`}},
		{Rule: "the other family may come later", Old: `{spec: {cidrs: [10.0.0.0/16]}}`, New: `{spec: {cidrs: [10.0.0.0/16, "fd00::/112"]}}`},
		{Rule: "the first stays", Old: `{spec: {cidrs: [10.0.0.0/16]}}`, New: `{spec: {cidrs: [10.1.0.0/16]}}`, Want: []string{`spec.cidrs[0]: Invalid value: "10.1.0.0/16": field is immutable`}},
	})
}
