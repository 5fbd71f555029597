package flow

import (
	"math"
	"time"
)

// period is how often seats are lent anew, while there are requests.
const period = 10 * time.Second

// decay is how much of a level's former demand counts in the next period: half
// of it is forgotten after 5 minutes. Upstream's figure.
const decay = 0.977

// demand is how many seats a level could use, over time.
type demand struct {
	at       time.Time // of the last change, or the last look
	since    time.Time // the last look
	now      float64
	peak     float64
	sum      float64 // of now, over the time since
	squares  float64 // of now squared
	smoothed float64
	average  float64 // of the last period, for metrics
	spread   float64
}

func (d *demand) set(at time.Time, seats int) {
	d.pass(at)
	d.now = float64(seats)
	d.peak = max(d.peak, d.now)
}

func (d *demand) pass(at time.Time) {
	if took := at.Sub(d.at).Seconds(); took > 0 {
		d.sum += d.now * took
		d.squares += d.now * d.now * took
		d.at = at
	}
}

// look ends a period: it returns the highest demand in it, and about how much
// there is. Where nothing has changed for several periods, nobody has looked:
// what they would have seen is made up for.
func (d *demand) look(at time.Time) (peak int, smoothed float64) {
	d.pass(at)
	took := at.Sub(d.since)
	if took <= 0 {
		return int(d.peak), d.smoothed
	}
	d.average = d.sum / took.Seconds()
	d.spread = math.Sqrt(max(0, d.squares/took.Seconds()-d.average*d.average))
	envelope := d.average + d.spread
	d.smoothed = max(envelope, envelope+(d.smoothed-envelope)*math.Pow(decay, took.Seconds()/period.Seconds()))
	if took >= 2*period {
		d.peak = d.now
	}
	peak = int(math.Round(d.peak))
	d.peak, d.sum, d.squares, d.since = d.now, 0, 0, at
	return peak, d.smoothed
}
