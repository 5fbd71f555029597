package job

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// span is the indexes from first to last.
type span struct{ first, last int }

// indexes is a set of completion indexes: spans in order that do not touch. A
// job may have 100,000 of them, and its status has them as a short text.
type indexes []span

// parseIndexes reads the text of a status, "1,3-5,7". What is at or above n,
// or cannot be read, is left out: the job may have been made shorter, and a
// status may have been written by anybody.
func parseIndexes(text string, n int) (all indexes) {
	if text == "" {
		return nil
	}
	for part := range strings.SplitSeq(text, ",") {
		from, to, isRange := strings.Cut(part, "-")
		first, err := strconv.Atoi(from)
		if err != nil || first >= n {
			continue
		}
		last := first
		if isRange {
			if last, err = strconv.Atoi(to); err != nil {
				continue
			}
		}
		all = append(all, span{first, min(last, n-1)})
	}
	return all.with()
}

// with returns the set with more in it.
func (x indexes) with(more ...span) (all indexes) {
	sorted := append(slices.Clone(x), more...)
	slices.SortFunc(sorted, func(a, b span) int { return cmp.Compare(a.first, b.first) })
	for _, s := range sorted {
		if n := len(all); n > 0 && s.first <= all[n-1].last+1 {
			all[n-1].last = max(all[n-1].last, s.last)
		} else {
			all = append(all, s)
		}
	}
	return all
}

// withEach returns the set with single indexes in it.
func (x indexes) withEach(more []int) indexes {
	spans := make([]span, len(more))
	for i, n := range more {
		spans[i] = span{n, n}
	}
	return x.with(spans...)
}

func (x indexes) count() (n int) {
	for _, s := range x {
		n += s.last - s.first + 1
	}
	return n
}

func (x indexes) has(i int) bool {
	at, _ := slices.BinarySearchFunc(x, i, func(s span, i int) int { return cmp.Compare(s.last, i) })
	return at < len(x) && x[at].first <= i
}

// shared is how many indexes are in both sets.
func (x indexes) shared(other indexes) (n int) {
	for i, j := 0, 0; i < len(x) && j < len(other); {
		n += max(0, min(x[i].last, other[j].last)-max(x[i].first, other[j].first)+1)
		if x[i].last < other[j].last {
			i++
		} else {
			j++
		}
	}
	return n
}

// missing returns the first count indexes below n that are not in the set.
func (x indexes) missing(count, n int) (all []int) {
	next := 0
	for _, s := range append(slices.Clone(x), span{n, n}) {
		for ; next < min(s.first, n) && len(all) < count; next++ {
			all = append(all, next)
		}
		next = max(next, s.last+1)
	}
	return all
}

// String is the text of a status: "1,3-5,7", two in a row as "1,2".
func (x indexes) String() string {
	var b strings.Builder
	for _, s := range x {
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Itoa(s.first))
		switch s.last - s.first {
		case 0:
			continue
		case 1:
			b.WriteByte(',')
		default:
			b.WriteByte('-')
		}
		b.WriteString(strconv.Itoa(s.last))
	}
	return b.String()
}
