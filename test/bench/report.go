package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// report is all figures of one run.
type report struct {
	Date    time.Time `json:"date"`
	Kernel  string    `json:"kernel"`
	CPUs    int       `json:"cpus"`
	Load    float64   `json:"loadAverage"` // of one minute, at the start
	Figures []figure  `json:"figures"`
}

// figure is one thing that was measured, n times.
type figure struct {
	Part   string  `json:"part"`
	Name   string  `json:"name"`
	Unit   string  `json:"unit"`
	Goal   float64 `json:"goal,omitempty"` // none if 0
	Least  bool    `json:"least,omitempty"`
	Median float64 `json:"median"`
	Low    float64 `json:"low"`
	High   float64 `json:"high"`
	N      int     `json:"n"`
	Load   float64 `json:"loadAverage"`
}

// goal is the bound of a figure: at most, or at least.
type goal struct {
	bound float64
	least bool
}

var none goal

func atMost(x float64) goal  { return goal{bound: x} }
func atLeast(x float64) goal { return goal{bound: x, least: true} }

// met tells whether a figure's median keeps to its goal.
func (f figure) met() string {
	switch {
	case f.Goal == 0:
		return ""
	case f.Least == (f.Median >= f.Goal) || f.Median == f.Goal:
		return "met"
	}
	return "MISSED"
}

func newReport() report {
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	return report{Date: time.Now().UTC().Truncate(time.Second), Kernel: strings.TrimSpace(string(kernel)),
		CPUs: runtime.NumCPU(), Load: loadAverage()}
}

// loadAverage is that of one minute; see proc_loadavg(5).
func loadAverage() float64 {
	data, _ := os.ReadFile("/proc/loadavg")
	first, _, _ := strings.Cut(string(data), " ")
	x, _ := strconv.ParseFloat(first, 64)
	return x
}

// add puts a figure into the report.
func (b *bench) add(name, unit string, g goal, values ...float64) {
	f := summarize(values)
	f.Part, f.Name, f.Unit, f.Goal, f.Least, f.Load = b.part, name, unit, g.bound, g.least, loadAverage()
	b.report.Figures = append(b.report.Figures, f)
}

// summarize returns the median and the ends of values.
func summarize(values []float64) (f figure) {
	if len(values) == 0 {
		return f
	}
	v := slices.Sorted(slices.Values(values))
	f.N, f.Low, f.High = len(v), v[0], v[len(v)-1]
	f.Median = (v[(len(v)-1)/2] + v[len(v)/2]) / 2
	return f
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func (r *report) print(w io.Writer) {
	fmt.Fprintf(w, "Sampan on Linux %s, %d CPUs, %s, load average %.2f at the start\n\n",
		r.Kernel, r.CPUs, r.Date.Format(time.DateOnly), r.Load)
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "FIGURE\tGOAL\tMEDIAN\tFROM\tTO\tN\tUNIT\tLOAD\t")
	part := ""
	for _, f := range r.Figures {
		if f.Part != part {
			part = f.Part
			fmt.Fprintf(t, "%s\t\t\t\t\t\t\t\t\n", part)
		}
		bound, low, high := "", "", ""
		if f.Goal != 0 {
			bound = "≤ " + short(f.Goal)
			if f.Least {
				bound = "≥ " + short(f.Goal)
			}
		}
		if f.N > 1 {
			low, high = short(f.Low), short(f.High)
		}
		fmt.Fprintf(t, "  %s\t%s\t%s\t%s\t%s\t%d\t%s\t%.1f\t%s\n", f.Name, bound, short(f.Median), low, high, f.N, f.Unit, f.Load, f.met())
	}
	_ = t.Flush()
}

// short writes a number with about three digits.
func short(x float64) string {
	switch {
	case x >= 100 || x == float64(int64(x)):
		return strconv.FormatFloat(x, 'f', 0, 64)
	case x >= 10:
		return strconv.FormatFloat(x, 'f', 1, 64)
	}
	return strconv.FormatFloat(x, 'f', 2, 64)
}
