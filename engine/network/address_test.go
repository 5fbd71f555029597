package network

import (
	"net/netip"
	"testing"
)

func TestAddressesAreReusedLate(t *testing.T) {
	subnet := netip.MustParsePrefix("10.1.2.0/29") // .2 to .6 can be given
	for _, c := range []struct {
		it   string
		last string
		held []string
		want string // empty: none is left
	}{
		{it: "begins after the range's first two", want: "10.1.2.2"},
		{it: "goes on after the last one given, though earlier ones are free", last: "10.1.2.4", want: "10.1.2.5"},
		{it: "goes round at the end and leaves out the broadcast address", last: "10.1.2.6", want: "10.1.2.2"},
		{it: "passes over what is held", last: "10.1.2.2", held: []string{"10.1.2.3", "10.1.2.4"}, want: "10.1.2.5"},
		{it: "ignores a last one of another range", last: "10.9.9.9", want: "10.1.2.2"},
		{it: "says when none is left", held: []string{"10.1.2.2", "10.1.2.3", "10.1.2.4", "10.1.2.5", "10.1.2.6"}},
	} {
		held := map[string]string{}
		for _, ip := range c.held {
			held[ip] = "somebody"
		}
		got, ok := free(subnet, c.last, held)
		if ok != (c.want != "") || ok && got.String() != c.want {
			t.Errorf("%s: got %v, %v; want %q", c.it, got, ok, c.want)
		}
	}
}

func TestAnOwnerKeepsItsAddressAndGivesItBack(t *testing.T) {
	n, err := New(Config{Dir: t.TempDir(), Subnet: netip.MustParsePrefix("10.1.2.0/29")})
	if err != nil {
		t.Fatal(err)
	}
	first, err := n.take(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	if again, err := n.take(t.Context(), "a"); err != nil || again != first {
		t.Errorf("asked again: got %v, %v; want %v", again, err, first)
	}
	other, err := n.take(t.Context(), "b")
	if err != nil || other == first {
		t.Errorf("another owner: got %v, %v", other, err)
	}
	if err := n.Detach(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if err := n.Collect(t.Context(), func(id string) bool { return id == "b" }); err != nil {
		t.Fatal(err)
	}
	if held, err := n.held(); err != nil || len(held) != 1 || held[other.String()] != "b" {
		t.Errorf("held: got %v, %v; want b's only", held, err)
	}
}
