package admission

import (
	"net/netip"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"sampan/cluster/client/clienttest"
	"sampan/cluster/kind"
	"sampan/cluster/kind/core"
	"sampan/cluster/request"
)

func TestARangeGivesEveryAddressOnce(t *testing.T) {
	for _, c := range []struct {
		prefix, first, last string
		size                int
	}{
		{"10.96.0.0/24", "10.96.0.1", "10.96.0.254", 254},
		{"10.96.0.0/16", "10.96.0.1", "10.96.255.254", 65534},
		{"10.96.0.7/29", "10.96.0.1", "10.96.0.6", 6},
		{"fd00::/112", "fd00::1", "fd00::ffff", 65535},
		{"fd00::/64", "fd00::1", "fd00::ffff", 65535},
	} {
		r, err := newAddresses(netip.MustParsePrefix(c.prefix))
		if err != nil {
			t.Fatal(err)
		}
		if r.pool.size != c.size || r.at(0).String() != c.first || r.at(c.size-1).String() != c.last {
			t.Errorf("%s: %d addresses from %v to %v, want %d from %s to %s",
				c.prefix, r.pool.size, r.at(0), r.at(r.pool.size-1), c.size, c.first, c.last)
		}
		for n := range r.pool.size {
			if !r.prefix.Contains(r.at(n)) {
				t.Fatalf("%s: address %d is %v", c.prefix, n, r.at(n))
			}
		}
	}
	if _, err := newAddresses(netip.MustParsePrefix("10.0.0.0/30")); err == nil {
		t.Error("a range of four addresses is accepted")
	}
}

func TestAPoolLeavesItsFirstNumbersForLast(t *testing.T) {
	p := pool{size: 40, static: band(40, 16, 16, 256), reserved: 1}
	taken := map[int]bool{}
	var order []int
	for {
		n, err := p.choose(func(n int) bool { return !taken[n] })
		if err != nil {
			break
		}
		taken[n] = true
		order = append(order, n)
	}
	if len(order) != 39 || taken[0] {
		t.Fatalf("%d numbers given, the reserved one %v; want 39 and false", len(order), taken[0])
	}
	if early := slices.Min(order[:24]); early < 16 {
		t.Errorf("%d was given while there were others", early)
	}
}

func TestTwoFamiliesGiveTwoAddresses(t *testing.T) {
	kinds := kind.NewTable(core.Kinds())
	s, err := NewServices(clienttest.New(t, kinds), []netip.Prefix{netip.MustParsePrefix("10.96.0.0/24"), netip.MustParsePrefix("fd00::/112")}, PortRange{30000, 32767})
	if err != nil {
		t.Fatal(err)
	}
	allocate := func(spec corev1.ServiceSpec) corev1.ServiceSpec {
		svc := &corev1.Service{Spec: spec}
		k := core.Service()
		k.Default(svc)
		a := &Attempt{Request: request.Request{Kind: k, GVK: k.GVK}, Operation: Create, Object: svc}
		if err := s.Allocate(t.Context(), a); err != nil {
			t.Error(err)
		}
		a.Done(true)
		return svc.Spec
	}
	prefer, single := corev1.IPFamilyPolicyPreferDualStack, corev1.IPFamilyPolicySingleStack
	both := allocate(corev1.ServiceSpec{IPFamilyPolicy: &prefer})
	if len(both.ClusterIPs) != 2 || !slices.Equal(both.IPFamilies, []corev1.IPFamily{"IPv4", "IPv6"}) || both.ClusterIP != both.ClusterIPs[0] {
		t.Errorf("dual stack: %v %v %v", both.ClusterIP, both.ClusterIPs, both.IPFamilies)
	}
	six := allocate(corev1.ServiceSpec{IPFamilyPolicy: &single, IPFamilies: []corev1.IPFamily{"IPv6"}})
	if len(six.ClusterIPs) != 1 || !netip.MustParsePrefix("fd00::/112").Contains(netip.MustParseAddr(six.ClusterIP)) {
		t.Errorf("IPv6 only: %v", six.ClusterIPs)
	}
	if len(s.pending) != 0 || len(s.opening) != 0 {
		t.Errorf("held after the write: %v %v", s.pending, s.opening)
	}
}
