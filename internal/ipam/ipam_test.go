package ipam_test

import (
	"fmt"
	"net/netip"
	"testing"

	"sampan/internal/fault"
	"sampan/internal/ipam"
)

func TestPool(t *testing.T) {
	ctx := t.Context()
	pool := ipam.Pool{Dir: t.TempDir() + "/p", Range: netip.MustParsePrefix("10.9.0.0/29")}
	take := func(owner, want string) {
		t.Helper()
		ip, err := pool.Take(ctx, owner)
		if err != nil || ip.String() != want {
			t.Fatalf("%s got %v, %v; want %s", owner, ip, err, want)
		}
	}
	take("a", "10.9.0.2")
	take("b", "10.9.0.3")
	take("a", "10.9.0.2") // the same again, as after a crash
	if err := pool.Release(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	take("c", "10.9.0.4") // a's address is reused late
	if err := pool.Pass(netip.MustParseAddr("10.9.0.5")); err != nil {
		t.Fatal(err)
	}
	take("d", "10.9.0.6")
	take("e", "10.9.0.2")
	if _, err := pool.Take(ctx, "f"); fault.ClassOf(err) != fault.Unavailable {
		t.Fatalf("a full pool gave %v, want unavailable", err)
	}
	owned, err := pool.Owned()
	if err != nil || len(owned) != 4 {
		t.Fatalf("owned %v, %v; want b, c, d, e", owned, err)
	}
	if err := pool.Release(ctx, "nobody"); err != nil {
		t.Fatal(err)
	}
}

func TestManyAtOnceGetAddressesOfTheirOwn(t *testing.T) {
	pool := ipam.Pool{Dir: t.TempDir(), Range: netip.MustParsePrefix("10.9.0.0/24")}
	got := make(chan netip.Addr)
	for i := range 50 {
		go func() {
			ip, err := pool.Take(t.Context(), fmt.Sprint(i))
			if err != nil {
				t.Error(err)
			}
			got <- ip
		}()
	}
	seen := map[netip.Addr]bool{}
	for range 50 {
		ip := <-got
		if seen[ip] {
			t.Errorf("%v was given twice", ip)
		}
		seen[ip] = true
	}
}
