package job

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func TestIndexesAsText(t *testing.T) {
	for _, c := range []struct {
		it, text string
		n        int
		want     string
		count    int
	}{
		{"nothing", "", 5, "", 0},
		{"single ones", "0,2", 5, "0,2", 2},
		{"two in a row are not a range", "1-2", 5, "1,2", 2},
		{"three in a row are", "1,2,3", 5, "1-3", 3},
		{"beyond the end is left out", "1-9,12", 5, "1-4", 4},
		{"what cannot be read is left out", "x,1,2-y,3", 5, "1,3", 2},
	} {
		t.Run(c.it, func(t *testing.T) {
			got := parseIndexes(c.text, c.n)
			if got.String() != c.want || got.count() != c.count {
				t.Errorf("%q with %d, want %q with %d", got, got.count(), c.want, c.count)
			}
		})
	}
}

// A set of spans does what a set of numbers does.
func TestIndexesAreASet(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	const n = 40
	for range 2000 {
		var a, b []int
		for i := range n {
			if r.IntN(3) == 0 {
				a = append(a, i)
			}
			if r.IntN(3) == 0 {
				b = append(b, i)
			}
		}
		x, y := indexes(nil).withEach(a), indexes(nil).withEach(b)
		both := x.with(y...)
		shared := 0
		for i := range n {
			inA, inB := slices.Contains(a, i), slices.Contains(b, i)
			if inA && inB {
				shared++
			}
			if x.has(i) != inA || both.has(i) != (inA || inB) {
				t.Fatalf("%v with %v: %d is wrong", x, y, i)
			}
		}
		if x.shared(y) != shared || x.count() != len(a) || both.count() != len(a)+len(b)-shared {
			t.Fatalf("%v and %v share %d, want %d", x, y, x.shared(y), shared)
		}
		if again := parseIndexes(both.String(), n); again.String() != both.String() {
			t.Fatalf("%v read again is %v", both, again)
		}
		var absent []int
		for i := range n {
			if !slices.Contains(a, i) && len(absent) < 5 {
				absent = append(absent, i)
			}
		}
		if got := x.missing(5, n); !slices.Equal(got, absent) {
			t.Fatalf("%v lacks %v, want %v", x, got, absent)
		}
	}
}
