package routes

import (
	"net/netip"
	"reflect"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/internal/netlink"
)

func node(name, pods string, ips ...string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.NodeSpec{PodCIDR: pods}}
	n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: name}}
	for _, ip := range ips {
		n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: ip})
	}
	return n
}

func route(to, via string) netlink.Route {
	return netlink.Route{Dst: netip.MustParsePrefix(to), Via: netip.MustParseAddr(via)}
}

func TestWanted(t *testing.T) {
	for _, c := range []struct {
		it    string
		nodes []*corev1.Node
		want  []netlink.Route
	}{
		{it: "has a route to each other node, none to itself",
			nodes: []*corev1.Node{node("me", "10.244.0.0/24", "10.9.0.1"), node("b", "10.244.1.0/24", "10.9.0.2"), node("c", "10.244.2.0/24", "10.9.0.3")},
			want:  []netlink.Route{route("10.244.1.0/24", "10.9.0.2"), route("10.244.2.0/24", "10.9.0.3")}},
		{it: "waits for a node's range and address",
			nodes: []*corev1.Node{node("b", "", "10.9.0.2"), node("c", "10.244.2.0/24")}},
		{it: "takes the first IPv4 address",
			nodes: []*corev1.Node{node("b", "10.244.1.0/24", "fd00::2", "10.9.0.2", "10.8.0.2")},
			want:  []netlink.Route{route("10.244.1.0/24", "10.9.0.2")}},
		{it: "leaves ranges alone that are not of pods",
			nodes: []*corev1.Node{node("b", "10.9.0.0/24", "10.9.0.2"), node("c", "0.0.0.0/0", "10.9.0.3"), node("d", "10.244.0.0/16", "10.9.0.4")}},
		{it: "gives a range that two claim to the first by name",
			nodes: []*corev1.Node{node("c", "10.244.1.0/24", "10.9.0.3"), node("b", "10.244.1.0/24", "10.9.0.2")},
			want:  []netlink.Route{route("10.244.1.0/24", "10.9.0.2")}},
		{it: "does not send its own range elsewhere, if it was first",
			nodes: []*corev1.Node{node("me", "10.244.1.0/24", "10.9.0.1"), node("z", "10.244.1.0/24", "10.9.0.2")}},
	} {
		t.Run(c.it, func(t *testing.T) {
			if got := wanted(c.nodes, "me", netip.MustParsePrefix("10.244.0.0/16")); !reflect.DeepEqual(got, c.want) {
				t.Errorf("got  %v\nwant %v", got, c.want)
			}
		})
	}
}

func TestDifferReplacesARouteWhoseGatewayChanged(t *testing.T) {
	have := []netlink.Route{route("10.244.1.0/24", "10.9.0.2"), route("10.244.2.0/24", "10.9.0.3"), route("10.244.3.0/24", "10.9.0.4")}
	want := []netlink.Route{route("10.244.1.0/24", "10.9.0.2"), route("10.244.2.0/24", "10.9.0.30"), route("10.244.4.0/24", "10.9.0.5")}
	gone, come := differ(have, want)
	if !reflect.DeepEqual(gone, have[2:]) || !reflect.DeepEqual(come, want[1:]) {
		t.Errorf("gone %v, come %v", gone, come)
	}
}
