package counted_test

import (
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"sampan/internal/counted"
)

func TestValues(t *testing.T) {
	v := counted.Seconds(0.001, 0.5).Values()
	var all sync.WaitGroup
	for _, d := range []time.Duration{0, time.Millisecond, time.Millisecond + 1, 500 * time.Millisecond, 2 * time.Second} {
		all.Go(func() { v.Add(int64(d)) })
	}
	all.Wait()
	h := v.Histogram()
	if h.Count != 5 || h.Under[0] != 2 || h.Under[1] != 2 || h.Sum < 2.502 || h.Sum > 2.5021 {
		t.Errorf("counted %+v", h)
	}
	if got, want := h.Buckets(), map[float64]uint64{0.001: 2, 0.5: 4}; !maps.Equal(got, want) {
		t.Errorf("buckets %v, want %v", got, want)
	}
}

func TestPlus(t *testing.T) {
	scale := counted.Bytes(10, 20)
	a, b := scale.Values(), scale.Values()
	a.Add(5)
	b.Add(5)
	b.Add(15)
	b.Add(100)
	one, other := a.Histogram(), b.Histogram()
	sum := counted.Histogram{}.Plus(one).Plus(other)
	if sum.Count != 4 || sum.Under[0] != 2 || sum.Under[1] != 1 || sum.Sum != 125 {
		t.Errorf("together %+v", sum)
	}
	if one.Count != 1 || one.Under[0] != 1 {
		t.Errorf("one of them changed: %+v", one)
	}
}

func TestWriteHistogram(t *testing.T) {
	v := counted.Bytes(1024, 2048).Values()
	v.Add(1000)
	v.Add(5000)
	var got strings.Builder
	v.Histogram().Write(&got, "sizes", `of="x"`)
	want := "sizes_bucket{of=\"x\",le=\"1024\"} 1\nsizes_bucket{of=\"x\",le=\"2048\"} 1\nsizes_bucket{of=\"x\",le=\"+Inf\"} 2\n" +
		"sizes_sum{of=\"x\"} 6000\nsizes_count{of=\"x\"} 2\n"
	if got.String() != want {
		t.Errorf("%s\nwant\n%s", got.String(), want)
	}
}
