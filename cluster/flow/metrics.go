package flow

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"time"
)

// tally counts the requests of one schema at one level, under the level's lock.
type tally struct {
	waiting, waitingSeats int
	executing, seats      int
	dispatched            int
	rejected              map[string]int // by reason
	waited, refused       histogram
	regular, watches      histogram
	length, estimated     histogram
}

// Upstream's buckets.
var (
	durations = []float64{0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30}
	lengths   = []float64{0, 10, 25, 50, 100, 250, 500, 1000}
	widths    = []float64{1, 2, 4, 8, 16, 32, 64, 100}
)

func newTally() *tally {
	return &tally{waited: histogram{at: durations}, refused: histogram{at: durations}, regular: histogram{at: durations},
		watches: histogram{at: durations}, length: histogram{at: lengths}, estimated: histogram{at: widths}}
}

func (t *tally) reject(why string) {
	if t.rejected == nil {
		t.rejected = map[string]int{}
	}
	t.rejected[why]++
}

// took is the histogram of durations that a turn belongs to.
func (t *tally) took(turn *Turn) *histogram {
	if turn.request.Verb == "watch" {
		return &t.watches
	}
	return &t.regular
}

// histogram counts values by upper bounds.
type histogram struct {
	at    []float64
	under []int // made when first needed
	count int
	sum   float64
}

func (h *histogram) add(v float64) {
	if h.under == nil {
		h.under = make([]int, len(h.at))
	}
	h.count++
	h.sum += v
	if i, _ := slices.BinarySearch(h.at, v); i < len(h.at) {
		h.under[i]++
	}
}

func (h *histogram) write(w io.Writer, name, labels string) {
	if h.count == 0 {
		return
	}
	sum := 0
	for i, at := range h.at {
		sum += h.under[i]
		fmt.Fprintf(w, "%s_bucket{%s,le=\"%g\"} %d\n", name, labels, at, sum)
	}
	fmt.Fprintf(w, "%s_bucket{%s,le=\"+Inf\"} %d\n%s_sum{%s} %g\n%s_count{%s} %d\n", name, labels, h.count, name, labels, h.sum, name, labels, h.count)
}

// tallyOf returns the tally of a schema at l.
func (l *level) tallyOf(schema string) *tally {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.tallies[schema]
	if t == nil {
		t = newTally()
		l.tallies[schema] = t
	}
	return t
}

// forget drops the tallies of schemas that have gone and that nothing is
// counted in.
func (l *level) forget(rules []*schema) {
	l.mu.Lock()
	defer l.mu.Unlock()
	maps.DeleteFunc(l.tallies, func(name string, t *tally) bool {
		return t.executing == 0 && t.waiting == 0 && !slices.ContainsFunc(rules, func(s *schema) bool { return s.tally == t })
	})
}

// seen is a level at one moment.
type seen struct {
	*level
	schemas []string
}

// WriteMetrics writes apiserver_flowcontrol_*, in the Prometheus text format.
func (f *Flow) WriteMetrics(w io.Writer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	var all []seen
	for _, name := range slices.Sorted(maps.Keys(f.levels)) {
		l := f.levels[name]
		l.mu.Lock()
		defer l.mu.Unlock()
		l.passLocked(now)
		all = append(all, seen{l, slices.Sorted(maps.Keys(l.tallies))})
	}
	head := func(name, typ, help string) string {
		name = "apiserver_flowcontrol_" + name
		fmt.Fprintf(w, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, typ)
		return name
	}
	byLevel := func(name, help string, value func(*level) float64) {
		name = head(name, "gauge", help)
		for _, l := range all {
			fmt.Fprintf(w, "%s{priority_level=%q} %g\n", name, l.name, value(l.level))
		}
	}
	bySchema := func(name, typ, help string, value func(t *tally, name, labels string)) {
		name = head(name, typ, help)
		for _, l := range all {
			for _, s := range l.schemas {
				value(l.tallies[s], name, fmt.Sprintf("flow_schema=%q,priority_level=%q", s, l.name))
			}
		}
	}
	number := func(value func(*tally) int) func(*tally, string, string) {
		return func(t *tally, name, labels string) { fmt.Fprintf(w, "%s{%s} %d\n", name, labels, value(t)) }
	}
	bySchema("rejected_requests_total", "counter", "Number of requests rejected by API Priority and Fairness subsystem", func(t *tally, name, labels string) {
		for _, why := range slices.Sorted(maps.Keys(t.rejected)) {
			fmt.Fprintf(w, "%s{%s,reason=%q} %d\n", name, labels, why, t.rejected[why])
		}
	})
	bySchema("dispatched_requests_total", "counter", "Number of requests executed by API Priority and Fairness subsystem", number(func(t *tally) int { return t.dispatched }))
	bySchema("current_inqueue_requests", "gauge", "Number of requests currently pending in queues of the API Priority and Fairness subsystem", number(func(t *tally) int { return t.waiting }))
	bySchema("current_inqueue_seats", "gauge", "Number of seats currently pending in queues of the API Priority and Fairness subsystem", number(func(t *tally) int { return t.waitingSeats }))
	bySchema("current_executing_requests", "gauge", "Number of requests in initial (for a WATCH) or any (for a non-WATCH) execution stage in the API Priority and Fairness subsystem", number(func(t *tally) int { return t.executing }))
	bySchema("current_executing_seats", "gauge", "Concurrency (number of seats) occupied by the currently executing (initial stage for a WATCH, any stage otherwise) requests in the API Priority and Fairness subsystem", number(func(t *tally) int { return t.seats }))
	bySchema("request_wait_duration_seconds", "histogram", "Length of time a request spent waiting in its queue", func(t *tally, name, labels string) {
		t.refused.write(w, name, `execute="false",`+labels)
		t.waited.write(w, name, `execute="true",`+labels)
	})
	bySchema("request_execution_seconds", "histogram", "Duration of initial stage (for a WATCH) or any (for a non-WATCH) stage of request execution in the API Priority and Fairness subsystem", func(t *tally, name, labels string) {
		t.regular.write(w, name, labels+`,type="regular"`)
		t.watches.write(w, name, labels+`,type="watch"`)
	})
	bySchema("request_queue_length_after_enqueue", "histogram", "Length of queue in the API Priority and Fairness subsystem, as seen by each request after it is enqueued", func(t *tally, name, labels string) {
		t.length.write(w, name, labels)
	})
	bySchema("work_estimated_seats", "histogram", "Number of estimated seats (maximum of initial and final seats) associated with requests in API Priority and Fairness", func(t *tally, name, labels string) {
		t.estimated.write(w, name, labels)
	})
	byLevel("nominal_limit_seats", "Nominal number of execution seats configured for each priority level", func(l *level) float64 { return float64(l.nominal) })
	byLevel("lower_limit_seats", "Configured lower bound on number of execution seats available to each priority level", func(l *level) float64 { return float64(l.least) })
	byLevel("upper_limit_seats", "Configured upper bound on number of execution seats available to each priority level", func(l *level) float64 { return float64(l.most) })
	byLevel("current_limit_seats", "current derived number of execution seats available to each priority level", func(l *level) float64 { return float64(l.seats) })
	byLevel("demand_seats_high_watermark", "High watermark, over last adjustment period, of demand_seats", func(l *level) float64 { return l.demand.peak })
	byLevel("demand_seats_average", "Time-weighted average, over last adjustment period, of demand_seats", func(l *level) float64 { return l.demand.average })
	byLevel("demand_seats_stdev", "Time-weighted standard deviation, over last adjustment period, of demand_seats", func(l *level) float64 { return l.demand.spread })
	byLevel("demand_seats_smoothed", "Smoothed seat demands", func(l *level) float64 { return l.demand.smoothed })
	byLevel("target_seats", "Seat allocation targets", func(l *level) float64 { return l.targets })
	byLevel("current_r", "R(time of last change)", func(l *level) float64 { return l.virtual })
	fmt.Fprintf(w, "%s %g\n", head("seat_fair_frac", "gauge", "Fair fraction of server's concurrency to allocate to each priority level that can use it"), f.frac)
}
