package store

import "testing"

func TestADefragmentationHasToPay(t *testing.T) {
	const mb = 1 << 20
	for _, c := range []struct {
		it               string
		size, used, room int64
		pays             bool
	}{
		{"mostly free, and much of it", 200 * mb, 20 * mb, 1000 * mb, true},
		{"little is free", 200 * mb, 180 * mb, 1000 * mb, false},
		{"half is free, but writes would wait long for it", 200 * mb, 101 * mb, 1000 * mb, false},
		{"small all in all", 30 * mb, 1 * mb, 1000 * mb, false},
		{"no room for the copy", 200 * mb, 20 * mb, 39 * mb, false},
	} {
		if got := pays(c.size, c.used, c.room); got != c.pays {
			t.Errorf("%s: got %t", c.it, got)
		}
	}
}
