package flow

import "time"

// Turn is a request that was classified: it has seats until End is called, or
// was rejected. Its methods are safe for one goroutine.
type Turn struct {
	request Request
	schema  *schema
	level   *level
	tally   *tally
	seats   int
	flow    string
	queue   int           // -1: none
	may     chan struct{} // closed when a turn that waited may go; nil: it did not wait
	arrived time.Time
	began   time.Time
	virtual float64 // when it arrived
	retry   int
	ended   bool

	before, after *Turn // in its level's list of those that execute
	flows         *Flow
	levelUID      []string
}

// SchemaUID and LevelUID say what the request was classified as, as the values
// of a header. They are shared.
func (t *Turn) SchemaUID() []string { return t.schema.uid }

// LevelUID is SchemaUID's sibling.
func (t *Turn) LevelUID() []string { return t.levelUID }

// RetryAfter is in how many seconds a rejected client may come again.
func (t *Turn) RetryAfter() int { return max(1, t.retry) }

// End gives the seats back. Further calls do nothing.
func (t *Turn) End() {
	if t.ended {
		return
	}
	t.ended = true
	now := time.Now()
	if t.level.leave(t, now) {
		t.flows.reap()
	}
	t.flows.balance(now)
}

// turns is a list that its members are part of.
type turns struct {
	first *Turn
	count int
}

func (l *turns) add(t *Turn) {
	if t.after = l.first; t.after != nil {
		t.after.before = t
	}
	l.first = t
	l.count++
}

func (l *turns) remove(t *Turn) {
	if t.before != nil {
		t.before.after = t.after
	} else {
		l.first = t.after
	}
	if t.after != nil {
		t.after.before = t.before
	}
	t.before, t.after = nil, nil
	l.count--
}
