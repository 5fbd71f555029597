package flow

import (
	"math"
	"slices"

	flowv1 "k8s.io/api/flowcontrol/v1"
)

// bounds are a level's part of the server's seats, as its configuration says.
type bounds struct {
	nominal int // its share of all seats
	least   int // what is left to it when it has lent all it lends
	most    int // with all it may borrow
	wide    int // seats that one request of it may take at most
}

// maxWide is the most seats that one request takes, whatever its level.
const maxWide = 10

// divide gives each level its share of total seats. The shares are rounded up,
// so they may be a little more than total together.
func divide(total int, levels map[string]*flowv1.PriorityLevelConfiguration) map[string]bounds {
	var sum float64
	for _, l := range levels {
		shares, _, _ := common(l)
		sum += float64(shares)
	}
	all := make(map[string]bounds, len(levels))
	for name, l := range levels {
		shares, lends, borrows := common(l)
		var b bounds
		if sum > 0 {
			b.nominal = int(math.Ceil(float64(total) * float64(shares) / sum))
		}
		b.least = b.nominal - int(math.Round(float64(b.nominal)*float64(lends)/100))
		b.most = b.nominal + total
		if borrows != nil {
			b.most = b.nominal + int(math.Round(float64(b.nominal)*float64(*borrows)/100))
		}
		b.wide = maxWide
		if q := queuing(l); q != nil {
			// One request must not take so much that the others of its level starve.
			b.wide = int(min(maxWide, max(1, min(math.Ceil(float64(b.nominal)*0.15), float64(int32(b.nominal)/q.HandSize)))))
		}
		all[name] = b
	}
	return all
}

// common is what levels that are exempt and levels that are limited both have.
func common(l *flowv1.PriorityLevelConfiguration) (shares, lends int32, borrows *int32) {
	value := func(p *int32, unset int32) int32 {
		if p == nil {
			return unset
		}
		return *p
	}
	if x := l.Spec.Exempt; x != nil {
		return value(x.NominalConcurrencyShares, 0), value(x.LendablePercent, 0), nil
	}
	if x := l.Spec.Limited; x != nil {
		return value(x.NominalConcurrencyShares, 30), value(x.LendablePercent, 0), x.BorrowingLimitPercent
	}
	return 0, 0, nil
}

func queuing(l *flowv1.PriorityLevelConfiguration) *flowv1.QueuingConfiguration {
	if l.Spec.Limited == nil || l.Spec.Limited.LimitResponse.Type != flowv1.LimitResponseTypeQueue {
		return nil
	}
	return l.Spec.Limited.LimitResponse.Queuing
}

// sound says whether l can be used. (Upstream: queueSetCompleterForPL.)
func sound(l *flowv1.PriorityLevelConfiguration) bool {
	exempt := l.Spec.Type == flowv1.PriorityLevelEnablementExempt
	switch {
	case exempt != (l.Name == flowv1.PriorityLevelConfigurationNameExempt), exempt != (l.Spec.Exempt != nil), exempt == (l.Spec.Limited != nil):
		return false
	case exempt:
		return true
	}
	q := queuing(l)
	if l.Spec.Limited.LimitResponse.Type != flowv1.LimitResponseTypeQueue {
		return l.Spec.Limited.LimitResponse.Queuing == nil
	}
	return q != nil && q.Queues > 0 && q.HandSize > 0 && q.HandSize <= q.Queues && q.HandSize <= maxHand && q.QueueLengthLimit > 0
}

// wish is what a level would like to have, for lend.
type wish struct {
	exempt bool
	bounds
	peak     int     // the most seats it could have used since the last time
	smoothed float64 // and about how many it uses
}

// lend says how many seats each level has for the next while: those that lend
// give what they do not use to those that could use more. frac is the fraction
// of its wish that each gets which no bound holds. (KEP-1040, "Dispatching",
// and upstream's updateBorrowingLocked.)
func lend(wishes []wish) (seats []int, frac float64) {
	seats = make([]int, len(wishes))
	var left, leastSum, lowSum int
	for i, w := range wishes {
		left += w.nominal
		if w.exempt {
			seats[i] = max(w.least, w.peak)
			left -= seats[i]
			continue
		}
		leastSum += w.least
		lowSum += w.low()
	}
	switch {
	case left <= leastSum:
		for i, w := range wishes {
			if !w.exempt {
				seats[i] = w.least
			}
		}
		return seats, 0
	case left <= lowSum:
		part := float64(left-leastSum) / float64(lowSum-leastSum)
		for i, w := range wishes {
			if !w.exempt {
				seats[i] = w.least + int(math.Round(float64(w.low()-w.least)*part))
			}
		}
		return seats, 0
	}
	frac = fraction(float64(left), wishes)
	for i, w := range wishes {
		if !w.exempt {
			seats[i] = int(math.Round(w.at(frac)))
		}
	}
	return seats, frac
}

// low is what a level has at least: what it could use just now, but no more
// than its share and no less than what it does not lend.
func (w wish) low() int { return max(w.least, min(w.nominal, w.peak)) }

// target avoids zero, for fractions of it.
func (w wish) target() float64 { return max(float64(w.low()), w.smoothed, 0.001) }

// at is what the level gets if everybody gets the fraction f of their target.
func (w wish) at(f float64) float64 {
	return max(float64(w.low()), min(float64(w.most), f*w.target()))
}

// fraction finds f such that the seats of all at f are total. The sum grows
// with f, straight between the points where a level meets one of its bounds.
func fraction(total float64, wishes []wish) float64 {
	var points []float64
	for _, w := range wishes {
		if !w.exempt {
			points = append(points, float64(w.low())/w.target(), float64(w.most)/w.target())
		}
	}
	slices.Sort(points)
	sum := func(f float64) (s float64) {
		for _, w := range wishes {
			if !w.exempt {
				s += w.at(f)
			}
		}
		return s
	}
	var before, had float64
	for i, p := range points {
		have := sum(p)
		if have >= total {
			if i == 0 || have == had {
				return p
			}
			return before + (p-before)*(total-had)/(have-had)
		}
		before, had = p, have
	}
	return before // all have all they may
}
