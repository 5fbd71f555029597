// Package admission decides whether, and in which form, a write may happen:
// what no single kind can know, because it depends on other objects or on who
// asks. A plugin is one file: it changes the object (Mutator), refuses it
// (Reviewer), or both.
//
// admission reads other objects through a client.Reader. It knows no store
// and no HTTP; the verbs call it at the places where upstream does.
package admission

import (
	"context"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"sampan/cluster/kind"
	"sampan/cluster/request"
)

// Operation is what is about to happen to an object.
type Operation string

const (
	Create  Operation = "CREATE"
	Update  Operation = "UPDATE"
	Delete  Operation = "DELETE"
	Connect Operation = "CONNECT"
)

// Attempt is one write under way. A write that lost a race is tried again
// with a new Attempt.
type Attempt struct {
	Request   request.Request // Subresource, User and DryRun are here
	Operation Operation
	Object    kind.Object    // the object as it would be stored, the hub; a Mutator may change it. Nil on Delete
	Old       kind.Object    // what is stored, shared; nil on Create
	Body      runtime.Object // Connect and subresources with a body of their own: that body; else nil
	Options   *metav1.DeleteOptions

	done   []func(stored bool)
	repeat bool
	second bool
	notes  map[any]any
}

// Repeat has all mutators run once more, because one has let others change the
// object: each may have to look again. (Upstream: reinvocation.) It counts in the
// first round only.
func (a *Attempt) Repeat() { a.repeat = true }

// Second says whether the mutators run for the second time.
func (a *Attempt) Second() bool { return a.second }

// Keep keeps note for the plugin that asks with the same key, until the
// attempt is over.
func (a *Attempt) Keep(key, note any) {
	if a.notes == nil {
		a.notes = map[any]any{}
	}
	a.notes[key] = note
}

// Note returns what was kept, nil if nothing was.
func (a *Attempt) Note(key any) any { return a.notes[key] }

// OnDone has f called once when the attempt is over. stored says whether the
// write is in the store; it is false after an error, a dry run, or a lost
// race. Plugins that reserve something give it back here.
func (a *Attempt) OnDone(f func(stored bool)) { a.done = append(a.done, f) }

// Done calls what OnDone collected, latest first. Whoever made the Attempt
// calls it; a second call does nothing.
func (a *Attempt) Done(stored bool) {
	for i := len(a.done) - 1; i >= 0; i-- {
		a.done[i](stored)
	}
	a.done = nil
}

// Mutator may change a.Object, before the kind validates it. An error refuses
// the write: upstream's StatusError where there is one.
type Mutator interface {
	Mutate(ctx context.Context, a *Attempt) error
}

// Allocator gives an object what only one object may have: a cluster address,
// a node port. It runs when the object is otherwise as it will be stored, just
// before the kind validates it, and takes back with OnDone what is not stored.
type Allocator interface {
	Allocate(ctx context.Context, a *Attempt) error
}

// Reviewer may refuse a write, after the kind has validated it. It changes
// nothing.
type Reviewer interface {
	Review(ctx context.Context, a *Attempt) error
}

// Member is a plugin of a Chain under the name by which it is measured; without
// one it is not.
type Member struct {
	Name   string
	Plugin any
}

// Chain is admission as a list of plugins, each a Mutator, an Allocator, a
// Reviewer, or several of these, called in order. The zero value admits everything.
type Chain struct {
	mutators   runs[Mutator]
	allocators []Allocator
	reviewers  runs[Reviewer]

	mutating, reviewing *timer
}

// NewChain returns the chain of plugins in the order given. A plugin that is
// none of these is a mistake in the program: NewChain panics.
func NewChain(plugins ...any) *Chain {
	all := make([]Member, 0, len(plugins))
	for _, p := range plugins {
		all = append(all, Member{Plugin: p})
	}
	return NewMeasuredChain(nil, all...)
}

// NewMeasuredChain is NewChain for plugins that are measured, unless metrics
// are nil. Each Metrics is for one chain.
func NewMeasuredChain(metrics *Metrics, plugins ...Member) *Chain {
	c := &Chain{mutating: metrics.step(admit), reviewing: metrics.step(validate)}
	for _, p := range plugins {
		m, mutates := p.Plugin.(Mutator)
		l, allocates := p.Plugin.(Allocator)
		r, reviews := p.Plugin.(Reviewer)
		if mutates {
			c.mutators.add(m, p.Name, admit, metrics)
		}
		if allocates {
			c.allocators = append(c.allocators, l)
		}
		if reviews {
			c.reviewers.add(r, p.Name, validate, metrics)
		}
		if !mutates && !allocates && !reviews {
			panic("admission: a plugin that neither mutates nor allocates nor reviews")
		}
	}
	return c
}

// Mutate calls the mutators until one refuses, twice if one wants it.
func (c *Chain) Mutate(ctx context.Context, a *Attempt) error {
	if c == nil {
		return nil
	}
	for {
		if err := through(ctx, a, c.mutators, c.mutating, Mutator.Mutate); err != nil {
			return err
		}
		if a.second || !a.repeat {
			return nil
		}
		a.second = true
	}
}

// through calls plugins until one refuses, and measures how long they take.
func through[P any](ctx context.Context, a *Attempt, plugins runs[P], whole *timer, do func(P, context.Context, *Attempt) error) (err error) {
	var began time.Time
	if whole != nil {
		began = time.Now()
	}
	var now time.Duration
	for _, r := range plugins {
		last := 0
		for i, p := range r.plugins {
			last = i
			if err = do(p, ctx, a); err != nil {
				break
			}
		}
		if whole != nil {
			was := now
			now = time.Since(began)
			r.took(a.Operation, now-was, last, err)
		}
		if err != nil {
			break
		}
	}
	whole.took(a.Operation, now, err)
	return err
}

// Allocate calls the allocators until one refuses.
func (c *Chain) Allocate(ctx context.Context, a *Attempt) error {
	if c == nil {
		return nil
	}
	for _, l := range c.allocators {
		if err := l.Allocate(ctx, a); err != nil {
			return err
		}
	}
	return nil
}

// Review calls the reviewers until one refuses.
func (c *Chain) Review(ctx context.Context, a *Attempt) error {
	if c == nil {
		return nil
	}
	return through(ctx, a, c.reviewers, c.reviewing, Reviewer.Review)
}
