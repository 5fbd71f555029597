package main

import (
	"encoding/json"
	"errors"
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
		f := figure{values: c.values}
		f.settle()
		if f.Median != c.median || f.Low != c.low || f.High != c.high || f.N != len(c.values) {
			t.Errorf("%s: got %+v, want median %v from %v to %v", c.it, f, c.median, c.low, c.high)
		}
	}
}

func TestTimeOfCPUIsAveraged(t *testing.T) {
	f := figure{values: []float64{1, 1, 1, 1}, cpu: []float64{0, 10, 0, 10}}
	f.settle()
	if f.CPU != 5 {
		t.Errorf("steps of 10 ms: got %v, want their mean, 5", f.CPU)
	}
}

func TestRatiosSayHowMuchBetterOursIs(t *testing.T) {
	for _, c := range []struct {
		it         string
		better     direction
		ours, peer float64
		want       float64
	}{
		{"of a time, the peer's by ours", lessIsBetter, 20, 200, 10},
		{"of a time that is longer, below 1", lessIsBetter, 200, 20, 0.1},
		{"of a rate, ours by the peer's", moreIsBetter, 3000, 1000, 3},
		{"of a rate that is lower, below 1", moreIsBetter, 500, 1000, 0.5},
		{"of nothing, nothing", lessIsBetter, 0, 20, 0},
	} {
		b := &bench{}
		r := b.row("x", "ms", c.better)
		r.add("peer", c.peer, -1) // the order in which they were measured does not matter
		r.add(ours, c.ours, -1)
		b.report.summarize()
		if r.Figures[0].Who != ours || r.Figures[0].Ratio != 0 || r.Figures[1].Ratio != c.want {
			t.Errorf("%s: got %+v, want ours first and the peer's ratio %v", c.it, r.Figures, c.want)
		}
	}
}

func TestWhatWasNotMeasuredHasNoFigure(t *testing.T) {
	b := &bench{part: "pods"}
	r := b.row("pod Running", "ms", lessIsBetter)
	r.add(ours, 50, -1)
	r.add("kubelet", 900, -1)
	r.fail("kubelet", errors.New("kubelet does not start: no such flag\nusage: …"))
	next := b.row("pod gone", "ms", lessIsBetter)
	next.fail("kubelet", errors.New("kubelet does not start: no such flag"))
	b.report.summarize()
	if f := r.Figures[1]; f.N != 0 || f.Median != 0 || f.Ratio != 0 {
		t.Errorf("got %+v, want no figure of a peer that broke", f)
	}
	var out strings.Builder
	b.report.print(&out)
	for _, want := range []string{"not measured: kubelet does not start: no such flag\n", "not measured: as above\n"} {
		if strings.Count(out.String(), want) != 1 {
			t.Errorf("%q should stand once in\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "900") {
		t.Errorf("a figure of a peer that broke stands in\n%s", out.String())
	}
}

func TestGoalsAreBounds(t *testing.T) {
	for _, c := range []struct {
		it          string
		better      direction
		bound, ours float64
		want        string
	}{
		{"is met below what is allowed", lessIsBetter, 95, 80, "met"},
		{"is met at what is allowed", lessIsBetter, 95, 95, "met"},
		{"is missed above what is allowed", lessIsBetter, 95, 96, "MISSED"},
		{"is met above what is asked", moreIsBetter, 1500, 1600, "met"},
		{"is missed below what is asked", moreIsBetter, 1500, 1400, "MISSED"},
		{"says nothing without a goal", lessIsBetter, 0, 5, ""},
	} {
		b := &bench{}
		r := b.row("x", "ms", c.better).goal(c.bound)
		r.add(ours, c.ours, -1)
		b.report.summarize()
		if got := r.met(); got != c.want {
			t.Errorf("%s: got %q, want %q", c.it, got, c.want)
		}
	}
}

func TestTheEndsOfTheTableAreNamed(t *testing.T) {
	b := &bench{}
	for _, c := range []struct {
		name string
		peer float64
	}{{"middle", 20}, {"best", 100}, {"worst", 5}} {
		r := b.row(c.name, "ms", lessIsBetter)
		r.add(ours, 10, -1)
		r.add("peer", c.peer, -1)
	}
	b.report.summarize()
	best, worst := b.report.ends(1)
	if len(best) != 1 || best[0] != "best beside peer ×10" || len(worst) != 1 || worst[0] != "worst beside peer ×0.50" {
		t.Errorf("got %q and %q", best, worst)
	}
	if _, worst = b.report.ends(2); worst[0] != "worst beside peer ×0.50" {
		t.Errorf("got %q, want the worst first", worst)
	}
}

func TestTheReportIsReadableByPrograms(t *testing.T) {
	b := &bench{part: "engine"}
	b.row("run --rm true", "ms", lessIsBetter).add(ours, 21, 15)
	b.report.summarize()
	data, err := json.Marshal(b.report)
	if err != nil {
		t.Fatal(err)
	}
	var back report
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	if f := back.Rows[0].Figures[0]; back.Rows[0].Part != "engine" || f.Who != ours || f.Median != 21 || f.CPU != 15 || f.N != 1 {
		t.Errorf("got %+v from %s", f, data)
	}
}

func TestTheTableForTheDocsHasALineForEachRow(t *testing.T) {
	b := &bench{part: "engine"}
	r := b.row("run", "ms", lessIsBetter).goal(25)
	r.add(ours, 20, 10)
	r.add("docker", 200, -1)
	r.add("docker", 400, -1)
	r.fail("podman", errors.New("no | podman"))
	b.report.summarize()
	var out strings.Builder
	b.report.markdown(&out)
	want := "| run | ms | 20 (10 ms) goal ≤ 25 | docker 300 (200 – 400) **×15**; podman not measured: no / podman | "
	if !strings.Contains(out.String(), want) {
		t.Errorf("got\n%s\nwant a line\n%s", out.String(), want)
	}
}

func TestUnknownPartsAreRefused(t *testing.T) {
	if _, err := choose("engine,nothing"); err == nil || !strings.Contains(err.Error(), `"nothing"`) {
		t.Errorf("got %v, want an error that names the part", err)
	}
	chosen, err := choose("api, engine")
	if err != nil || len(chosen) != 2 || chosen[0].name != "engine" {
		t.Errorf("got %v, %v, want engine and api in their order", chosen, err)
	}
	if all, err := choose(""); err != nil || len(all) != len(parts()) {
		t.Errorf("got %v, %v, want all parts", all, err)
	}
}

func TestManyThingsAreDoneSomeAtATime(t *testing.T) {
	done := make([]bool, 50)
	if err := inParallel(len(done), 8, func(i int) error { done[i] = true; return nil }); err != nil {
		t.Fatal(err)
	}
	for i, ok := range done {
		if !ok {
			t.Errorf("%d was left out", i)
		}
	}
	broken := errors.New("broken")
	if err := inParallel(50, 8, func(i int) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("got %v, want what the first said, and no wait for hands that have left", err)
	}
}
