package batch

import (
	"fmt"
	"strconv"
	"strings"
)

// span is the indexes from first to last.
type span struct{ first, last int32 }

// parseIndexes reads a list such as "1,3-5,7", in order and below completions.
func parseIndexes(text string, completions int32) (all []span, err error) {
	if text == "" {
		return nil, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		s, err := parseSpan(part, completions)
		if err != nil {
			return nil, err
		}
		if n := len(all); n > 0 && all[n-1].last >= s.first {
			return nil, fmt.Errorf("non-increasing order, previous: %d, current: %d", all[n-1].last, s.first)
		}
		all = append(all, s)
	}
	return all, nil
}

func parseSpan(text string, completions int32) (s span, err error) {
	parts := strings.Split(text, "-")
	if len(parts) > 2 {
		return s, fmt.Errorf("the fragment %q violates the requirement that an index interval can have at most two parts separated by '-'", text)
	}
	if s.first, err = parseIndex(parts[0], completions); err != nil {
		return s, err
	}
	s.last = s.first
	if len(parts) == 2 {
		if s.last, err = parseIndex(parts[1], completions); err == nil && s.first >= s.last {
			err = fmt.Errorf("non-increasing order, previous: %d, current: %d", s.first, s.last)
		}
	}
	return s, err
}

func parseIndex(text string, completions int32) (int32, error) {
	n, err := strconv.Atoi(text)
	switch {
	case err != nil:
		return 0, fmt.Errorf("cannot convert string to integer for index: %q", text)
	case n >= int(completions):
		return 0, fmt.Errorf("too large index: %q", text)
	}
	return int32(n), nil
}

func size(all []span) (n int32) {
	for _, s := range all {
		n += s.last - s.first + 1
	}
	return n
}

// overlap returns the first index that is in both lists.
func overlap(a, b []span) (index int32, ok bool) {
	for len(a) > 0 && len(b) > 0 {
		switch {
		case a[0].first <= b[0].last && b[0].first <= a[0].last:
			return max(a[0].first, b[0].first), true
		case a[0].first <= b[0].first:
			a = a[1:]
		default:
			b = b[1:]
		}
	}
	return 0, false
}
