package bootstrap

import (
	"errors"

	"sampan/cluster/api"
	"sampan/cluster/auth"
	"sampan/cluster/flow"
	"sampan/internal/fault"
)

// Limits are what clients of the API may ask of it.
type Limits struct {
	api.Limits      // Flow is the program's own
	Unsorted   bool // no priority and fairness: so many requests at once, whoever sends them
}

// openFlow makes priority and fairness, as the API's own identity: the objects
// that every cluster has are its to keep, as upstream's are.
func (r *running) openFlow() error {
	l := &r.cfg.Limits
	seats := 0
	if l.Reading != 0 || l.Writing != 0 {
		reading, writing := l.Reading, l.Writing
		if reading == 0 {
			reading = 400
		}
		if writing == 0 {
			writing = 200
		}
		if seats = max(reading, 0) + max(writing, 0); seats == 0 && !l.Unsorted {
			return &fault.Error{Class: fault.Invalid, Op: "set up priority and fairness",
				Err: errors.New("--max-requests-inflight and --max-mutating-requests-inflight together are the seats, of which there are none"),
				Fix: "give at least one, or say --enable-priority-and-fairness=false"}
		}
	}
	var err error
	if r.flow, err = flow.New(flow.Config{Objects: r.verbs.As(auth.Server()), Seats: seats, Log: r.log}); err != nil {
		return err
	}
	if !l.Unsorted {
		l.Flow = r.flow
	}
	return nil
}
