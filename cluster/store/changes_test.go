package store_test

import "testing"

func TestChangesAreSeenWhenAWriteReturns(t *testing.T) {
	t.Parallel()

	s := open(t, t.TempDir())
	of, other := s.Changes(configMaps), s.Changes(pods, namespaces)
	seen, still := of(), other()
	changed := func(what string) {
		t.Helper()
		if n := of(); n == seen {
			t.Errorf("%s was not seen", what)
		} else {
			seen = n
		}
		if other() != still {
			t.Errorf("%s was seen by those who look at other kinds", what)
		}
	}
	create(t, s, "a", "1")
	changed("a create")
	if _, err := s.Update(ctx, cm("a"), set("2")); err != nil {
		t.Fatal(err)
	}
	changed("an update")
	if _, err := s.Delete(ctx, cm("a"), nil); err != nil {
		t.Fatal(err)
	}
	changed("a delete")
	if of() != seen {
		t.Error("a change was seen twice")
	}
}
