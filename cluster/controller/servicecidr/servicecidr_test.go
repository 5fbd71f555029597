package servicecidr_test

import (
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/client"
	"sampan/cluster/controller/controllertest"
	"sampan/cluster/controller/servicecidr"
	"sampan/cluster/kind"
	"sampan/cluster/kind/core"
	"sampan/cluster/kind/networking"
)

func world(t *testing.T, objs ...kind.Object) controllertest.World {
	w := controllertest.New(t, kind.NewTable(core.Kinds(), networking.Kinds()), objs...)
	w.Validate = false
	w.Start(servicecidr.New(servicecidr.Config{Client: w, Log: slog.New(slog.DiscardHandler)}))
	synctest.Wait()
	return w
}

func service(name string, ips ...string) *corev1.Service {
	return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP, ClusterIP: ips[0], ClusterIPs: ips}}
}

func address(ip, of string, allocated bool) *networkingv1.IPAddress {
	a := &networkingv1.IPAddress{ObjectMeta: metav1.ObjectMeta{Name: ip},
		Spec: networkingv1.IPAddressSpec{ParentRef: &networkingv1.ParentReference{Resource: "services", Namespace: "default", Name: of}}}
	if allocated {
		a.Labels = map[string]string{networkingv1.LabelManagedBy: networking.Allocator}
	}
	return a
}

func cidr(name string, ranges ...string) *networkingv1.ServiceCIDR {
	return &networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: ranges}}
}

// owners are the addresses that there are and whose they are.
func owners(w controllertest.World) string {
	var all []string
	for _, a := range controllertest.All[*networkingv1.IPAddress](w) {
		all = append(all, a.Name+"="+a.Spec.ParentRef.Name)
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func TestAddressesFollowTheirServices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := world(t, service("a", "10.96.0.1", "fd00::1"), service("none", "None"),
			address("10.96.0.9", "gone", true), address("10.96.0.8", "gone", false))
		check := func(it, want string) {
			t.Helper()
			synctest.Wait()
			if got := owners(w); got != want {
				t.Errorf("%s: addresses %s, want %s", it, got, want)
			}
		}
		check("at first those are there that services have, and users' own", "10.96.0.1=a 10.96.0.8=gone fd00::1=a")
		six := controllertest.Get[*networkingv1.IPAddress](w, "", "fd00::1")
		if six.Labels[networkingv1.LabelIPAddressFamily] != "IPv6" || six.Labels[networkingv1.LabelManagedBy] != "ipallocator.k8s.io" {
			t.Errorf("labels %v", six.Labels)
		}
		w.Put(service("b", "10.96.0.2"))
		check("a new service", "10.96.0.1=a 10.96.0.2=b 10.96.0.8=gone fd00::1=a")
		w.Drop(networking.IPAddress(), "", "10.96.0.2")
		check("somebody deletes one", "10.96.0.1=a 10.96.0.2=b 10.96.0.8=gone fd00::1=a")
		external := service("b", "")
		external.Spec.Type, external.Spec.ClusterIPs = corev1.ServiceTypeExternalName, nil
		w.Put(external)
		check("a service that needs none any more", "10.96.0.1=a 10.96.0.8=gone fd00::1=a")
		w.Drop(core.Service(), "default", "a")
		check("a service that goes", "10.96.0.8=gone")
		w.Put(service("c", "10.96.0.8"))
		check("one that a user keeps", "10.96.0.8=gone")
		w.Drop(networking.IPAddress(), "", "10.96.0.8")
		check("and keeps no more", "10.96.0.8=c")
		before := len(w.Actions())
		time.Sleep(time.Hour)
		if after := len(w.Actions()); after != before {
			t.Errorf("%d writes in an hour in which nothing happened", after-before)
		}
	})
}

func ready(c *networkingv1.ServiceCIDR) string {
	for _, cond := range c.Status.Conditions {
		if cond.Type == "Ready" {
			return string(cond.Status) + " " + cond.Reason
		}
	}
	return ""
}

func TestARangeStaysUntilItsAddressesAreElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := world(t, cidr("kubernetes", "10.96.0.0/16"), cidr("more", "10.1.0.0/24"), service("a", "10.1.0.5"))
		get := func(name string) *networkingv1.ServiceCIDR {
			synctest.Wait()
			return controllertest.Get[*networkingv1.ServiceCIDR](w, "", name)
		}
		for _, name := range []string{"kubernetes", "more"} {
			if c := get(name); ready(c) != "True " || !slices.Contains(c.Finalizers, "networking.k8s.io/service-cidr-finalizer") {
				t.Fatalf("%s: ready %q, finalizers %v", name, ready(c), c.Finalizers)
			}
		}
		if err := client.Delete[*networkingv1.ServiceCIDR](t.Context(), w, "", "more", nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if c := get("more"); ready(c) != "False Terminating" {
			t.Errorf("a range with an address in use: ready %q", ready(c))
		}
		w.Put(cidr("wider", "10.1.0.0/16"))
		synctest.Wait()
		exists := func() bool {
			return slices.ContainsFunc(controllertest.All[*networkingv1.ServiceCIDR](w), func(c *networkingv1.ServiceCIDR) bool { return c.Name == "more" })
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if exists() {
			t.Error("a range inside another one stays")
		}
	})
}

func TestAFreeRangeGoesAfterAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := world(t, cidr("more", "10.1.0.0/24"), service("a", "10.96.0.5"), service("b", "10.1.0.7"))
		if err := client.Delete[*networkingv1.ServiceCIDR](t.Context(), w, "", "more", nil); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		w.Drop(core.Service(), "default", "b")
		synctest.Wait()
		exists := func() bool { return len(controllertest.All[*networkingv1.ServiceCIDR](w)) > 0 }
		time.Sleep(8 * time.Second)
		synctest.Wait()
		if !exists() {
			t.Error("it went while a service might still be about to take an address of it")
		}
		time.Sleep(4 * time.Second)
		synctest.Wait()
		if exists() {
			t.Error("it stays although nobody needs it")
		}
	})
}
