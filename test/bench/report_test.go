package main

import (
	"strings"
	"testing"
)

func TestFiguresAreSummarizedByTheirMedian(t *testing.T) {
	for _, c := range []struct {
		it                string
		values            []float64
		median, low, high float64
	}{
		{"takes the middle one", []float64{9, 1, 2}, 2, 1, 9},
		{"takes the mean of the two in the middle", []float64{4, 1, 2, 9}, 3, 1, 9},
		{"takes the only one", []float64{7}, 7, 7, 7},
		{"takes nothing from nothing", nil, 0, 0, 0},
	} {
		f := summarize(c.values)
		if f.Median != c.median || f.Low != c.low || f.High != c.high || f.N != len(c.values) {
			t.Errorf("%s: got %+v, want median %v from %v to %v", c.it, f, c.median, c.low, c.high)
		}
	}
}

func TestGoalsAreBounds(t *testing.T) {
	for _, c := range []struct {
		it   string
		g    goal
		x    float64
		want string
	}{
		{"is met below what is allowed", atMost(95), 80, "met"},
		{"is met at what is allowed", atMost(95), 95, "met"},
		{"is missed above what is allowed", atMost(95), 96, "MISSED"},
		{"is met above what is asked", atLeast(1500), 1600, "met"},
		{"is met at what is asked", atLeast(1500), 1500, "met"},
		{"is missed below what is asked", atLeast(1500), 1400, "MISSED"},
		{"says nothing without a goal", none, 5, ""},
	} {
		b := &bench{}
		b.add("x", "ms", c.g, c.x)
		if got := b.report.Figures[0].met(); got != c.want {
			t.Errorf("%s: got %q, want %q", c.it, got, c.want)
		}
	}
}

func TestReportNamesEveryFigureOnce(t *testing.T) {
	b := &bench{part: "start"}
	b.add("up on no state", "s", atMost(1.5), 0.3, 0.4)
	b.part = "run"
	b.add("run --rm true", "ms", atMost(25), 30)
	var out strings.Builder
	b.report.print(&out)
	for _, want := range []string{"start\n", "up on no state", "run\n", "run --rm true", "≤ 1.50", "MISSED"} {
		if n := strings.Count(strings.ReplaceAll(out.String(), " \n", "\n"), want); n != 1 && !strings.Contains(want, "\n") {
			t.Errorf("%q stands %d times in\n%s", want, n, out.String())
		}
	}
}

func TestUnknownPartsAreRefused(t *testing.T) {
	if _, err := choose("start,nothing"); err == nil || !strings.Contains(err.Error(), `"nothing"`) {
		t.Errorf("got %v, want an error that names the part", err)
	}
	chosen, err := choose("api, start")
	if err != nil || len(chosen) != 2 || chosen[0].name != "start" {
		t.Errorf("got %v, %v, want start and api in their order", chosen, err)
	}
}
