package flow

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// The dumps are pages below /debug/api_priority_and_fairness, in upstream's
// form (apf_controller_debug.go).

// row has the columns as upstream puts them apart.
func row(w io.Writer, columns ...any) {
	for i, c := range columns {
		if i > 0 {
			fmt.Fprint(w, ",\t")
		}
		fmt.Fprint(w, c)
	}
	fmt.Fprintln(w)
}

func header(w io.Writer, columns string) {
	fmt.Fprintln(w, strings.Join(strings.Fields(columns), ",\t"))
}

// each calls show for every level, held, in the order of their names.
func (f *Flow) each(w io.Writer, show func(w io.Writer, l *level)) {
	table := tabwriter.NewWriter(w, 8, 0, 1, ' ', 0)
	defer table.Flush()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(f.levels)) {
		func() {
			l := f.levels[name]
			l.mu.Lock()
			defer l.mu.Unlock()
			show(table, l)
		}()
	}
}

// DumpLevels has a line for each level.
func (f *Flow) DumpLevels(w io.Writer) {
	first := true
	f.each(w, func(w io.Writer, l *level) {
		if first {
			header(w, "PriorityLevelName ActiveQueues IsIdle IsQuiescing WaitingRequests ExecutingRequests DispatchedRequests RejectedRequests TimedoutRequests CancelledRequests")
			first = false
		}
		active := 0
		for i := range l.queues {
			if len(l.queues[i].waiting) > 0 {
				active++
			}
		}
		row(w, l.name, active, l.idleLocked(), l.gone, l.waiting, l.executing.count, l.dispatched, l.rejected, l.timedOut, l.cancelled)
	})
}

// DumpQueues has a line for each queue.
func (f *Flow) DumpQueues(w io.Writer) {
	first := true
	f.each(w, func(w io.Writer, l *level) {
		if first {
			header(w, "PriorityLevelName Index PendingRequests ExecutingRequests SeatsInUse NextDispatchR InitialSeatsSum MaxSeatsSum TotalWorkSum")
			first = false
		}
		for i := range max(l.count, len(l.queues)) {
			var q queue
			if i < len(l.queues) {
				q = l.queues[i]
			}
			row(w, l.name, i, len(q.waiting), q.executing, q.seats, seconds(q.start), q.asked, q.asked, seconds(float64(q.asked)*service))
		}
	})
}

func seconds(v float64) string { return strconv.FormatFloat(v, 'f', 8, 64) + "ss" }

// DumpRequests has a line for each request; details adds who sent it and what
// it asks for.
func (f *Flow) DumpRequests(w io.Writer, details bool) {
	first := true
	f.each(w, func(w io.Writer, l *level) {
		if first {
			columns := "PriorityLevelName FlowSchemaName QueueIndex RequestIndexInQueue FlowDistingsher ArriveTime InitialSeats FinalSeats AdditionalLatency StartTime"
			if details {
				columns += " UserName Verb APIPath Namespace Name APIVersion Resource SubResource"
			}
			header(w, columns)
			first = false
		}
		show := func(t *Turn, at int) {
			columns := []any{l.name, t.schema.Name, t.queue, at, t.flow, t.arrived.UTC().Format(time.RFC3339Nano),
				t.seats, 0, time.Duration(0), t.began.UTC().Format(time.RFC3339Nano)}
			if r := &t.request; details {
				version := r.Version
				if r.Group != "" {
					version = r.Group + "/" + r.Version
				}
				columns = append(columns, r.User.Name, r.Verb, r.Path, r.Namespace, r.Name, version, r.Resource, r.Subresource)
			}
			row(w, columns...)
		}
		for i := range l.queues {
			for at, t := range l.queues[i].waiting {
				show(t, at)
			}
		}
		for t := l.executing.first; t != nil; t = t.after {
			show(t, -1)
		}
	})
}
