package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"
)

// step is one request of a case.
type step struct {
	request
	on    string // what it is about: METHOD resource/subresource
	needs bool   // the case ends if this is refused
}

// trial is one case: some requests that build on each other.
type trial struct {
	number int
	title  string
	steps  []step
	made   []string // paths of what may be left at the end
}

// runner runs cases against both sides.
type runner struct {
	options
	ours, theirs *side
	api          *api
	seeds        []*seed
	scenarios    []scenario
	fixed        []func(*maker) // cases that are the same for every seed, before all others
	report       *report
}

func newRunner(ctx context.Context, o options, known table, ours, theirs *side) (*runner, error) {
	r := &runner{options: o, ours: ours, theirs: theirs, report: &report{known: known, groups: map[string]*group{}}}
	var err error
	if r.api, err = readAPI(ctx, theirs); err != nil {
		return nil, err
	}
	if r.seeds, err = readSeeds(r.api); err != nil {
		return nil, err
	}
	r.scenarios, r.fixed = scenarios(), fixed(r.api)
	return r, nil
}

// namespaceOf is where a worker's objects are. Those that change what may be
// made in their namespace have one of their own.
func namespaceOf(worker int, kind string) string {
	switch kind {
	case "LimitRange", "ResourceQuota":
		return fmt.Sprintf("limits-%d", worker)
	}
	return fmt.Sprintf("differ-%d", worker)
}

// prepare makes what every case finds: namespaces with a service account, which
// a controller would make.
func (r *runner) prepare(ctx context.Context) error {
	for _, s := range []*side{r.ours, r.theirs} {
		for worker := range r.workers {
			for _, kind := range []string{"", "LimitRange"} {
				ns := namespaceOf(worker, kind)
				for _, object := range [][2]string{
					{"/api/v1/namespaces", `{"metadata":{"name":"` + ns + `"}}`},
					{"/api/v1/namespaces/" + ns + "/serviceaccounts", `{"metadata":{"name":"default"}}`},
				} {
					if err := until(ctx, func() error {
						a, err := s.send(ctx, request{method: "POST", path: object[0], body: object[1], header: contentType(jsonType)})
						if err == nil && a.status != http.StatusCreated && a.status != http.StatusConflict {
							err = fmt.Errorf("%s: POST %s: %d %s", s.name, object[0], a.status, a.body)
						}
						return err
					}); err != nil {
						return err
					}
				}
			}
		}
	}
	return nil
}

// run runs the cases, or the one that was asked for.
func (r *runner) run(ctx context.Context) error {
	if err := r.prepare(ctx); err != nil {
		return err
	}
	if r.only >= 0 {
		r.try(ctx, 0, r.only)
		return nil
	}
	numbers := make(chan int)
	var all sync.WaitGroup
	for worker := range r.workers {
		all.Go(func() {
			for n := range numbers {
				r.try(ctx, worker, n)
			}
		})
	}
	started := time.Now()
	for n := range r.cases {
		if ctx.Err() != nil || r.budget > 0 && time.Since(started) > r.budget {
			break
		}
		numbers <- n
	}
	close(numbers)
	all.Wait()
	return nil
}

// try runs a case.
func (r *runner) try(ctx context.Context, worker, number int) {
	t := r.make(worker, number)
	if t == nil || !r.match.MatchString(t.title) {
		return
	}
	r.report.mu.Lock()
	r.report.cases++
	r.report.mu.Unlock()
	here, there := newMemory(), newMemory()
	defer r.clear(ctx, t, here, there)
	for _, s := range t.steps {
		if ctx.Err() != nil {
			return
		}
		ours, theirs, err := r.both(ctx, s.request, here, there)
		r.report.mu.Lock()
		if r.report.requests++; err != nil && ctx.Err() == nil {
			r.report.errors = append(r.report.errors, fmt.Errorf("case %d: %s: %w", number, s.request, err))
		}
		r.report.mu.Unlock()
		if err != nil {
			return
		}
		here.learn(ours)
		there.learn(theirs)
		a, b := there.normal(theirs), here.normal(ours)
		all := compare(a, b)
		if r.only >= 0 {
			fmt.Printf("%s\n  upstream  %s\n  ours      %s\n", s.request, show(a), show(b))
		}
		r.report.add(number, t.title, s.on, s.request, all)
		if ours.status != theirs.status {
			return // what follows would differ for that alone
		}
		if s.needs && (ours.status >= 300 || theirs.status >= 300) {
			return
		}
	}
}

// both sends a request to both sides at once.
func (r *runner) both(ctx context.Context, q request, here, there memory) (ours, theirs answer, err error) {
	var other error
	var both sync.WaitGroup
	both.Go(func() { theirs, other = r.theirs.send(ctx, there.request(q)) })
	ours, err = r.ours.send(ctx, here.request(q))
	both.Wait()
	if err != nil {
		return ours, theirs, fmt.Errorf("ours: %w", err)
	}
	if other != nil {
		return ours, theirs, fmt.Errorf("upstream: %w", other)
	}
	return ours, theirs, nil
}

// clear takes away what a case has made, without comparing.
func (r *runner) clear(ctx context.Context, t *trial, here, there memory) {
	for _, path := range t.made {
		for _, x := range []struct {
			s *side
			m memory
		}{{r.ours, here}, {r.theirs, there}} {
			q := x.m.request(request{method: "DELETE", path: path, query: "gracePeriodSeconds=0&propagationPolicy=Background"})
			if strings.Contains(q.path, "$") {
				continue // it was never named
			}
			a, err := x.s.send(ctx, q)
			var left struct {
				Kind     string
				Metadata struct{ Finalizers []string }
			}
			if err != nil || a.status == http.StatusNotFound || json.Unmarshal(a.body, &left) != nil {
				continue
			}
			q.method, q.query = "PATCH", ""
			q.header = map[string]string{"Content-Type": mergePatch}
			q.body = `{"metadata":{"finalizers":null}}`
			if left.Kind != "Status" && len(left.Metadata.Finalizers) > 0 {
				_, _ = x.s.send(ctx, q)
			}
		}
	}
}

// make makes the case of a number: always the same for a seed.
func (r *runner) make(worker, number int) *trial {
	source := rand.New(rand.NewPCG(uint64(r.seed), uint64(number)))
	if number < len(r.fixed) {
		m := &maker{mutator: mutator{r.api, source}, trial: &trial{number: number}, namespace: namespaceOf(worker, "")}
		r.fixed[number](m)
		return m.trial
	}
	s := pick(source, r.seeds...)
	m := &maker{mutator: mutator{r.api, source}, trial: &trial{number: number}, seed: s, namespace: namespaceOf(worker, s.resource.kind)}
	m.obj, m.name = s.object(number, m.namespace)
	all := 0
	for _, sc := range r.scenarios {
		all += sc.weight
	}
	n := source.IntN(all)
	for _, sc := range r.scenarios {
		if n -= sc.weight; n < 0 {
			m.trial.title = s.resource.kind + ": " + sc.name
			sc.make(m)
			break
		}
	}
	return m.trial
}
