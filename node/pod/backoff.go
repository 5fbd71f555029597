package pod

import "time"

// Backoff is a delay that doubles with each failure, from 10 s to 5 min, and
// starts over after 10 min of peace.
type Backoff struct {
	Delay   time.Duration
	Updated time.Time
}

const (
	firstBackoff = 10 * time.Second
	maxBackoff   = 300 * time.Second
)

// Until is when a failure at that time may be followed by another try; a
// time in the past means now.
func (b Backoff) Until(failed time.Time) time.Time {
	if b.Delay == 0 || b.expired(failed) {
		return failed
	}
	return failed.Add(b.Delay)
}

// Next is the back-off after one more failure at that time.
func (b Backoff) Next(failed, now time.Time) Backoff {
	if b.Delay == 0 || b.expired(failed) {
		return Backoff{Delay: firstBackoff, Updated: now}
	}
	return Backoff{Delay: min(2*b.Delay, maxBackoff), Updated: now}
}

func (b Backoff) expired(at time.Time) bool { return at.Sub(b.Updated) > 2*maxBackoff }
