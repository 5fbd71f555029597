package main

import (
	"cmp"
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

// ours is the contender that the others are compared with.
const ours = "sampan"

// report is all figures of one run.
type report struct {
	Date   time.Time `json:"date"`
	Kernel string    `json:"kernel"`
	CPUs   int       `json:"cpus"`
	Load   float64   `json:"loadAverage"` // of one minute, at the start
	Rows   []*row    `json:"rows"`
}

// row is one thing that was measured, of each contender.
type row struct {
	Part    string   `json:"part"`
	Name    string   `json:"name"`
	Unit    string   `json:"unit"`
	More    bool     `json:"moreIsBetter,omitempty"`
	Goal    float64  `json:"goal,omitempty"` // of ours; none if 0
	Load    float64  `json:"loadAverage"`
	Figures []figure `json:"figures"` // ours first, if it was measured
}

// figure is what one contender needed.
type figure struct {
	Who    string  `json:"who"`
	Median float64 `json:"median"`
	Low    float64 `json:"low"`
	High   float64 `json:"high"`
	N      int     `json:"n"`
	CPU    float64 `json:"cpuMilliseconds,omitempty"` // for each operation
	// Ratio says how many times better ours is; below 1 it is worse. It is 0 in
	// ours, and where there is nothing to compare.
	Ratio float64 `json:"oursIsBetterBy,omitempty"`
	// Problem is why there is no figure.
	Problem string `json:"problem,omitempty"`

	values, cpu []float64
}

// direction says which way a figure gets better.
type direction bool

const (
	lessIsBetter direction = false
	moreIsBetter direction = true
)

func newReport() report {
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	return report{Date: time.Now().UTC().Truncate(time.Second), Kernel: strings.TrimSpace(string(kernel)),
		CPUs: runtime.NumCPU(), Load: loadAverage()}
}

// row begins a row of the table.
func (b *bench) row(name, unit string, better direction) *row {
	r := &row{Part: b.part, Name: name, Unit: unit, More: bool(better), Load: loadAverage()}
	b.Rows = append(b.Rows, r)
	return r
}

// rows are the rows of a part by name, for contenders that come to them in turn.
type rows struct {
	*bench
	suffix string // of every name
	known  map[string]*row
}

func (b *bench) rows(suffix string) rows { return rows{b, suffix, map[string]*row{}} }

func (r rows) of(name, unit string, better direction) *row {
	if r.known[name] == nil {
		r.known[name] = r.row(name+r.suffix, unit, better)
	}
	return r.known[name]
}

func (r *row) goal(bound float64) *row {
	r.Goal = bound
	return r
}

// add puts a value of a contender into the row; cpu is that of one operation
// in milliseconds, and negative if it was not measured.
func (r *row) add(who string, value, cpu float64) {
	f := r.figure(who)
	f.values = append(f.values, value)
	if cpu >= 0 {
		f.cpu = append(f.cpu, cpu)
	}
}

// fail says why a contender has no figure.
func (r *row) fail(who string, err error) {
	first, _, _ := strings.Cut(strings.TrimSpace(err.Error()), "\n")
	r.figure(who).Problem = first
}

func (r *row) figure(who string) *figure {
	i := slices.IndexFunc(r.Figures, func(f figure) bool { return f.Who == who })
	if i < 0 {
		i = len(r.Figures)
		r.Figures = append(r.Figures, figure{Who: who})
	}
	return &r.Figures[i]
}

// summarize makes medians and ratios of all that was measured.
func (r *report) summarize() {
	for _, row := range r.Rows {
		for i := range row.Figures {
			row.Figures[i].settle()
		}
		slices.SortStableFunc(row.Figures, func(a, b figure) int {
			return cmp.Compare(order(a.Who), order(b.Who))
		})
		for i := range row.Figures {
			row.Figures[i].Ratio = row.ratio(row.Figures[i])
		}
	}
}

func order(who string) int {
	if who == ours {
		return 0
	}
	return 1
}

// settle takes the median of the values, and the mean of the CPU times: their
// steps are coarse, and the mean of many is finer than any of them.
func (f *figure) settle() {
	f.N = len(f.values)
	if f.Problem != "" || f.N == 0 {
		f.N = 0
		return
	}
	v := slices.Sorted(slices.Values(f.values))
	f.Low, f.High = v[0], v[len(v)-1]
	f.Median = (v[(len(v)-1)/2] + v[len(v)/2]) / 2
	var sum float64
	for _, c := range f.cpu {
		sum += c
	}
	if len(f.cpu) > 0 {
		f.CPU = sum / float64(len(f.cpu))
	}
}

func (r *row) ratio(peer figure) float64 {
	we := r.Figures[0]
	if peer.Who == ours || we.Who != ours || we.N == 0 || peer.N == 0 || we.Median <= 0 || peer.Median <= 0 {
		return 0
	}
	if r.More {
		return we.Median / peer.Median
	}
	return peer.Median / we.Median
}

// met tells whether our median keeps to its goal.
func (r *row) met() string {
	we := r.Figures[0]
	switch {
	case r.Goal == 0 || we.Who != ours || we.N == 0:
		return ""
	case r.More == (we.Median >= r.Goal) || we.Median == r.Goal:
		return "met"
	}
	return "MISSED"
}

func (r *report) print(w io.Writer) {
	fmt.Fprintf(w, "Sampan and its peers on Linux %s, %d CPUs, %s, load average %.2f at the start\n",
		r.Kernel, r.CPUs, r.Date.Format(time.DateOnly), r.Load)
	fmt.Fprintf(w, "RATIO: how many times better ours is than this peer; below 1 it is worse. CPU: ms for each operation, where that was measured.\n\n")
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "FIGURE\tOF\tMEDIAN\tFROM – TO\tN\tCPU\tUNIT\tRATIO\tGOAL\tLOAD")
	part, said := "", map[string]bool{}
	for _, row := range r.Rows {
		if row.Part != part {
			part = row.Part
			fmt.Fprintf(t, "%s\t\t\t\t\t\t\t\t\t\n", strings.ToUpper(part))
		}
		name, load := row.Name, fmt.Sprintf("%.1f", row.Load)
		for _, f := range row.Figures {
			bound, ratio, spread, cpu := "", "", "", ""
			if f.Who == ours && row.Goal != 0 {
				bound = "≤ "
				if row.More {
					bound = "≥ "
				}
				bound += short(row.Goal) + " " + row.met()
			}
			if f.Ratio != 0 {
				ratio = "×" + short(f.Ratio)
			}
			if f.N > 1 {
				spread = short(f.Low) + " – " + short(f.High)
			}
			if f.CPU > 0 {
				cpu = short(f.CPU)
			}
			if f.Problem != "" || f.N == 0 {
				if key := f.Who + f.Problem; said[key] {
					f.Problem = "as above"
				} else {
					said[key] = true
				}
				fmt.Fprintf(t, "  %s\t%s\t–\t\t\t\t\t\t\t%s\tnot measured: %s\n", name, f.Who, load, f.Problem)
			} else {
				fmt.Fprintf(t, "  %s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\t%s\t%s\n", name, f.Who, short(f.Median), spread, f.N, cpu, row.Unit, ratio, bound, load)
			}
			name, load = "", ""
		}
	}
	_ = t.Flush()
	best, worst := r.ends(3)
	fmt.Fprintf(w, "\nLargest wins: %s\nWorst: %s\n", strings.Join(best, "; "), strings.Join(worst, "; "))
}

// ends names the rows where ours does best and worst beside a peer.
func (r *report) ends(n int) (best, worst []string) {
	type end struct {
		text  string
		ratio float64
	}
	var all []end
	for _, row := range r.Rows {
		for _, f := range row.Figures {
			if f.Ratio > 0 {
				all = append(all, end{fmt.Sprintf("%s beside %s ×%s", row.Name, f.Who, short(f.Ratio)), f.Ratio})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b end) int { return cmp.Compare(b.ratio, a.ratio) })
	for i := range min(n, len(all)) {
		best = append(best, all[i].text)
		worst = append(worst, all[len(all)-1-i].text)
	}
	return best, worst
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

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
