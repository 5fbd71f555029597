package admission

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/client/clienttest"
	"sampan/cluster/kind"
	"sampan/cluster/kind/core"
	"sampan/cluster/kind/networking"
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
		r := newAddresses(netip.MustParsePrefix(c.prefix), 1)
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
	if _, err := NewServices(nil, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/30")}, PortRange{30000, 32767}); err == nil {
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
	kinds := kind.NewTable(core.Kinds(), networking.Kinds())
	s, err := NewServices(clienttest.New(t, kinds), []netip.Prefix{netip.MustParsePrefix("10.96.0.0/24"), netip.MustParsePrefix("fd00::/112")}, PortRange{30000, 32767})
	if err != nil {
		t.Fatal(err)
	}
	allocate := func(spec corev1.ServiceSpec) corev1.ServiceSpec {
		svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Spec: spec}
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

func TestUsersRangesGiveAddressesToo(t *testing.T) {
	ready := []metav1.Condition{{Type: networkingv1.ServiceCIDRConditionReady, Status: metav1.ConditionTrue}}
	cidr := func(name, text string, conditions []metav1.Condition) *networkingv1.ServiceCIDR {
		return &networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{text}},
			Status: networkingv1.ServiceCIDRStatus{Conditions: conditions}}
	}
	leaving := cidr("leaving", "10.3.0.0/24", ready)
	leaving.DeletionTimestamp, leaving.Finalizers = &metav1.Time{Time: time.Unix(1, 0)}, []string{"a/b"}
	kept := func(ip string, labels map[string]string) *networkingv1.IPAddress {
		return &networkingv1.IPAddress{ObjectMeta: metav1.ObjectMeta{Name: ip, Labels: labels}}
	}
	s, err := NewServices(clienttest.New(t, kind.NewTable(core.Kinds(), networking.Kinds()),
		cidr("kubernetes", "10.96.0.0/29", ready), cidr("more", "10.1.0.0/29", ready), cidr("six", "fd00::/120", ready), cidr("later", "10.2.0.0/24", nil), leaving,
		kept("10.1.0.3", nil), kept("10.1.0.4", map[string]string{networkingv1.LabelManagedBy: networking.Allocator})),
		[]netip.Prefix{netip.MustParsePrefix("10.96.0.0/29")}, PortRange{30000, 32767})
	if err != nil {
		t.Fatal(err)
	}
	allocate := func(ip string) (string, error) {
		svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Spec: corev1.ServiceSpec{ClusterIP: ip}}
		if ip != "" {
			svc.Spec.ClusterIPs = []string{ip} // as the kind prepares it
		}
		k := core.Service()
		k.Default(svc)
		a := &Attempt{Request: request.Request{Kind: k, GVK: k.GVK}, Operation: Create, Object: svc}
		err := s.Allocate(t.Context(), a) // and the attempt is never over: the address stays taken
		return svc.Spec.ClusterIP, err
	}
	for range 6 {
		if ip, err := allocate(""); err != nil || !strings.HasPrefix(ip, "10.96.") {
			t.Errorf("got %s, %v; the first range has addresses left", ip, err)
		}
	}
	if ip, err := allocate("10.1.0.4"); err != nil {
		t.Errorf("an address that only its object says a service has is not given on request: %s, %v", ip, err)
	}
	for _, c := range []struct{ it, ip, want string }{
		{"one that a user keeps", "10.1.0.3", "provided IP is already allocated"},
		{"one that was given", "10.1.0.4", "provided IP is already allocated"},
		{"one of a range that is not ready", "10.2.0.3", "the provided network does not match the current range"},
		{"one of a range that is being deleted", "10.3.0.3", "the provided network does not match the current range"},
		{"the name of a range", "10.1.0.0", "is not in the valid range"},
	} {
		if _, err := allocate(c.ip); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", c.it, err, c.want)
		}
	}
	for range 4 {
		if ip, err := allocate(""); err != nil || !strings.HasPrefix(ip, "10.1.") {
			t.Errorf("got %s, %v; the first range is full, the second is not", ip, err)
		}
	}
	if ip, err := allocate(""); err == nil {
		t.Errorf("got %s although both ranges are full", ip)
	}
}
