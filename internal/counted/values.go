package counted

import (
	"fmt"
	"io"
	"slices"
	"sync/atomic"
	"time"
)

// Scale is what values are counted by: upper bounds, ascending.
type Scale struct {
	at     []float64 // as they are shown
	bounds []int64   // as they are counted
	unit   float64   // how many of what is counted make one of what is shown
}

// Seconds is a scale for durations, which Values take in nanoseconds.
func Seconds(at ...float64) *Scale { return newScale(float64(time.Second), at) }

// Bytes is a scale for sizes.
func Bytes(at ...float64) *Scale { return newScale(1, at) }

func newScale(unit float64, at []float64) *Scale {
	s := &Scale{at: at, unit: unit}
	for _, v := range at {
		s.bounds = append(s.bounds, int64(v*unit))
	}
	return s
}

// Values counts values by a scale, for any number of goroutines: a search and
// two atomic additions.
type Values struct {
	scale *Scale
	under []atomic.Int64 // by the first bound that is not less; the last: none is
	sum   atomic.Int64
}

// Values that nobody has counted yet.
func (s *Scale) Values() *Values {
	return &Values{scale: s, under: make([]atomic.Int64, len(s.bounds)+1)}
}

// Add counts v, nanoseconds or bytes.
func (v *Values) Add(value int64) {
	i, _ := slices.BinarySearch(v.scale.bounds, value)
	v.under[i].Add(1)
	v.sum.Add(value)
}

// Histogram is what was counted so far. While values are added its sum may be
// ahead of its count.
func (v *Values) Histogram() Histogram {
	h := Histogram{At: v.scale.at, Under: make([]int64, len(v.scale.at))}
	for i := range v.under {
		n := v.under[i].Load()
		h.Count += n
		if i < len(h.Under) {
			h.Under[i] = n
		}
	}
	h.Sum = float64(v.sum.Load()) / v.scale.unit
	return h
}

// Histogram is how many values there were, and how large they were.
type Histogram struct {
	At    []float64 // upper bounds
	Under []int64   // for each of At, the values that are no larger, but larger than the one before
	Count int64
	Sum   float64
}

// Plus is both together. They are of one scale.
func (h Histogram) Plus(other Histogram) Histogram {
	if h.Count == 0 {
		return other
	}
	sum := Histogram{At: h.At, Under: slices.Clone(h.Under), Count: h.Count + other.Count, Sum: h.Sum + other.Sum}
	for i, n := range other.Under {
		sum.Under[i] += n
	}
	return sum
}

// Buckets are, for each bound, the values that are no larger.
func (h Histogram) Buckets() map[float64]uint64 {
	all, sum := map[float64]uint64{}, uint64(0)
	for i, at := range h.At {
		sum += uint64(h.Under[i])
		all[at] = sum
	}
	return all
}

// Write writes the lines of h in the format of Prometheus. The labels are
// written as they are.
func (h Histogram) Write(w io.Writer, name, labels string) {
	sum := int64(0)
	for i, at := range h.At {
		sum += h.Under[i]
		fmt.Fprintf(w, "%s_bucket{%s,le=\"%g\"} %d\n", name, labels, at, sum)
	}
	fmt.Fprintf(w, "%s_bucket{%s,le=\"+Inf\"} %d\n%s_sum{%s} %g\n%s_count{%s} %d\n", name, labels, h.Count, name, labels, h.Sum, name, labels, h.Count)
}
