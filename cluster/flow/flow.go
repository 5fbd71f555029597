// Package flow decides which requests to the API wait for which: API priority
// and fairness (KEP-1040). FlowSchemas say which flow a request belongs to,
// PriorityLevelConfigurations how many seats the flows of a level have
// together. Flows that want more than there is wait in queues of their own, so
// that one that asks a lot does not make the others wait.
//
// flow knows no HTTP, and nobody but remote clients takes part: see
// docs/decisions/049-who-waits.md.
package flow

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	flowv1 "k8s.io/api/flowcontrol/v1"

	"sampan/cluster/client"
	"sampan/cluster/kind/flowcontrol"
	"sampan/internal/fault"
)

// Config is what a Flow needs.
type Config struct {
	// Objects reads FlowSchemas and PriorityLevelConfigurations, and writes the
	// status of the former and those of both that every cluster has. Nil: only
	// the two that can't be changed are there, and Run must not be called.
	Objects client.Client
	Seats   int // of all levels together; default 600, upstream's 400 and 200
	Log     *slog.Logger
}

// Flow classifies requests and gives them seats. It is safe for concurrent use.
type Flow struct {
	cfg   Config
	rules atomic.Pointer[[]*schema] // in the order in which they are asked
	next  atomic.Int64              // when seats are lent anew, in nanoseconds

	mu      sync.Mutex // taken before any level's; guards all below
	levels  map[string]*level
	objects objects // what the rules were made of
	frac    float64
}

// schema is a FlowSchema and where its requests go.
type schema struct {
	*flowv1.FlowSchema
	uid   []string
	level *level
	tally *tally
}

// New returns a Flow that has the mandatory objects alone, until Run has read
// others.
func New(cfg Config) (*Flow, error) {
	if cfg.Seats == 0 {
		cfg.Seats = 600
	}
	if cfg.Seats < 0 {
		return nil, &fault.Error{Class: fault.Invalid, Op: "set up priority and fairness", Fix: "give at least one seat"}
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	f := &Flow{cfg: cfg, levels: map[string]*level{}}
	f.configure(objects{})
	return f, nil
}

// objects is the configuration as the API has it.
type objects struct {
	schemas []*flowv1.FlowSchema
	levels  []*flowv1.PriorityLevelConfiguration
}

// complete sorts out what cannot be used, adds what must be there, and puts the
// schemas in the order in which they are asked.
func (o objects) complete() (schemas []*flowv1.FlowSchema, levels map[string]*flowv1.PriorityLevelConfiguration) {
	levels = map[string]*flowv1.PriorityLevelConfiguration{}
	for _, l := range o.levels {
		if sound(l) {
			levels[l.Name] = l
		}
	}
	for _, l := range flowcontrol.Levels() {
		if flowcontrol.Mandatory(l.Name) && levels[l.Name] == nil {
			levels[l.Name] = l
		}
	}
	var exempt, catchAll *flowv1.FlowSchema
	for _, s := range o.schemas {
		switch {
		case levels[s.Spec.PriorityLevelConfiguration.Name] == nil:
			continue
		case s.Name == flowv1.FlowSchemaNameExempt:
			exempt = s
		case s.Name == flowv1.FlowSchemaNameCatchAll:
			catchAll = s
		}
		schemas = append(schemas, s)
	}
	slices.SortFunc(schemas, flowcontrol.ByPrecedence)
	for _, s := range flowcontrol.Schemas() {
		switch {
		case s.Name == flowv1.FlowSchemaNameExempt && exempt == nil:
			schemas = slices.Insert(schemas, 0, s)
		case s.Name == flowv1.FlowSchemaNameCatchAll && catchAll == nil:
			schemas = append(schemas, s)
		}
	}
	return schemas, levels
}

// configure puts o to work.
func (f *Flow) configure(o objects) {
	now := time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.objects = o
	f.configureLocked(now)
}

func (f *Flow) configureLocked(now time.Time) {
	schemas, specs := f.objects.complete()
	for name, l := range f.levels {
		if specs[name] != nil {
			continue
		}
		l.mu.Lock()
		if l.gone = true; l.idleLocked() {
			delete(f.levels, name)
		} else {
			specs[name] = l.spec // until those who use it have gone
		}
		l.mu.Unlock()
	}
	all := divide(f.cfg.Seats, specs)
	for name, spec := range specs {
		l := f.levels[name]
		fresh := l == nil
		if fresh {
			l = newLevel(name, now)
			f.levels[name] = l
		}
		l.mu.Lock()
		if spec != l.spec {
			l.configureLocked(spec)
		}
		l.bounds = all[name]
		if fresh {
			l.seats = l.nominal - (l.nominal-l.least)/2
		}
		l.mu.Unlock()
	}
	rules := make([]*schema, len(schemas))
	for i, s := range schemas {
		l := f.levels[s.Spec.PriorityLevelConfiguration.Name]
		rules[i] = &schema{FlowSchema: s, uid: []string{string(s.UID)}, level: l, tally: l.tallyOf(s.Name)}
	}
	f.rules.Store(&rules)
	for _, l := range f.levels {
		l.forget(rules)
	}
	f.balanceLocked(now)
}

// reap lets a level go that nobody uses any more.
func (f *Flow) reap() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.configureLocked(time.Now())
}

// balance lends seats anew if it is time.
func (f *Flow) balance(now time.Time) {
	next := f.next.Load()
	if now.UnixNano() < next || !f.next.CompareAndSwap(next, now.Add(period).UnixNano()) {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.balanceLocked(now)
}

func (f *Flow) balanceLocked(now time.Time) {
	f.next.Store(now.Add(period).UnixNano())
	levels := make([]*level, 0, len(f.levels))
	wishes := make([]wish, 0, len(f.levels))
	for _, l := range f.levels {
		l.mu.Lock()
		w := wish{exempt: l.exempt, bounds: l.bounds}
		w.peak, w.smoothed = l.demand.look(now)
		l.targets = w.target()
		l.mu.Unlock()
		levels, wishes = append(levels, l), append(wishes, w)
	}
	seats, frac := lend(wishes)
	f.frac = frac
	for i, l := range levels {
		l.resize(seats[i], now)
	}
}

// Begin classifies r and waits for its turn until ctx ends, or for as long as
// wait. ok says that it may execute; the Turn must be ended then. Else it is
// rejected.
func (f *Flow) Begin(ctx context.Context, r Request, wait time.Duration) (t *Turn, ok bool) {
	now := time.Now()
	f.balance(now)
	s := f.classify(&r)
	t = &Turn{request: r, schema: s, level: s.level, tally: s.tally, flows: f, seats: 1}
	t.flow = distinguisher(s.FlowSchema, &r)
	s.level.mu.Lock()
	wide, exempt := s.level.wide, s.level.exempt
	t.levelUID = s.level.uid
	s.level.mu.Unlock()
	if r.Objects != nil && !exempt {
		t.seats = estimate(r.Objects(), wide)
	}
	if s.level.enter(t, now) != "" {
		return t, false
	}
	if t.may == nil {
		return t, true
	}
	return t, f.await(ctx, t, now.Add(wait))
}

// objectsPerSeat is how many objects of a list are the work of one seat.
const objectsPerSeat = 100

func estimate(objects, wide int) int {
	return max(1, min(wide, (objects+objectsPerSeat-1)/objectsPerSeat))
}

func (f *Flow) classify(r *Request) *schema {
	rules := *f.rules.Load()
	for _, s := range rules {
		if matches(s.FlowSchema, r) {
			return s
		}
	}
	// Every user is in one of the two groups that catch-all is for; should one
	// not be, that is where they belong.
	at := slices.IndexFunc(rules, func(s *schema) bool { return s.Name == flowv1.FlowSchemaNameCatchAll })
	return rules[at]
}

// await is where requests wait. Somebody has to lend seats anew when nobody
// comes or goes: those who wait do.
func (f *Flow) await(ctx context.Context, t *Turn, until time.Time) bool {
	timer := time.NewTimer(0)
	if !timer.Stop() {
		<-timer.C
	}
	defer timer.Stop()
	for {
		now := time.Now()
		if !now.Before(until) {
			return !t.level.giveUp(t, true, now)
		}
		timer.Reset(min(until.Sub(now), max(time.Duration(f.next.Load()-now.UnixNano()), time.Millisecond)))
		select {
		case <-t.may:
			return true
		case <-ctx.Done():
			return !t.level.giveUp(t, false, time.Now())
		case <-timer.C:
			f.balance(time.Now())
		}
	}
}
