package nodeipam

import (
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func node(name string, pods ...string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.NodeSpec{PodCIDRs: pods}}
	if len(pods) > 0 {
		n.Spec.PodCIDR = pods[0]
	}
	return n
}

func TestChoose(t *testing.T) {
	cfg := Config{Range: netip.MustParsePrefix("10.244.0.0/22"), Bits: 24,
		Fixed: map[string]netip.Prefix{"first": netip.MustParsePrefix("10.244.0.0/24")}}
	for _, c := range []struct {
		it    string
		nodes []*corev1.Node
		want  string // empty: nothing to do
		none  bool
	}{
		{it: "gives a range after the last in use", nodes: []*corev1.Node{node("first", "10.244.0.0/24"), node("me")}, want: "10.244.1.0/24"},
		{it: "keeps what is fixed for a node that is not there yet", nodes: []*corev1.Node{node("me")}, want: "10.244.1.0/24"},
		{it: "gives a range that became free last", nodes: []*corev1.Node{node("b", "10.244.2.0/24"), node("me")}, want: "10.244.3.0/24"},
		{it: "goes round", nodes: []*corev1.Node{node("b", "10.244.3.0/24"), node("me")}, want: "10.244.1.0/24"},
		{it: "leaves a node alone that has one", nodes: []*corev1.Node{node("me", "10.244.9.0/24")}},
		{it: "does nothing for a node that is gone", nodes: []*corev1.Node{node("b")}},
		{it: "says when none is left", nodes: []*corev1.Node{node("a", "10.244.1.0/24"), node("b", "10.244.2.0/24"), node("c", "10.244.3.0/24"), node("me")}, none: true},
		{it: "goes around ranges of another length", nodes: []*corev1.Node{node("a", "10.244.2.0/23"), node("me")}, want: "10.244.1.0/24"},
		{it: "does not mind ranges from elsewhere", nodes: []*corev1.Node{node("a", "192.168.0.0/24", "fd00::/64"), node("me")}, want: "10.244.1.0/24"},
	} {
		t.Run(c.it, func(t *testing.T) {
			n, got, ok := choose(c.nodes, "me", cfg)
			switch {
			case c.none:
				if n == nil || ok {
					t.Errorf("got %v, %v, want none left", got, ok)
				}
			case c.want == "":
				if n != nil {
					t.Errorf("got %v, want nothing to do", got)
				}
			case n == nil || !ok || got.String() != c.want:
				t.Errorf("got %v, %v, want %s", got, ok, c.want)
			}
		})
	}
	if _, got, ok := choose([]*corev1.Node{node("first"), node("b", "10.244.1.0/24")}, "first", cfg); !ok || got != cfg.Fixed["first"] {
		t.Errorf("the fixed one: %v, %v", got, ok)
	}
}
