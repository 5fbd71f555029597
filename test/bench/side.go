package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// side is one control plane with its clients.
type side struct {
	who        string
	kubeconfig string
	pids       []int
	ours       *platform // of our side
	clients    map[string][]*kubernetes.Clientset
	wires      map[string][]*wire     // as many, for what is measured by the request
	ignored    atomic.Pointer[string] // what the server said it does not act on, last
}

// clients that work at the same time, each with a connection of its own.
const clients = 32

// openSides starts our platform and upstream's control plane, both on no
// state. What close ends is also what was started before an error.
func (b *bench) openSides(ctx context.Context, manager ...string) (sides []*side, close func() error, err error) {
	p := b.platform()
	var u *upstream
	close = func() error {
		u.close()
		return p.reset()
	}
	if err := p.up(ctx); err != nil {
		return nil, close, err
	}
	s, err := p.status(ctx)
	if err != nil {
		return nil, close, err
	}
	sides = append(sides, &side{who: ours, kubeconfig: p.kubeconfig(), pids: []int{s.PID}, ours: p})
	if u, err = b.openUpstream(ctx, manager...); err != nil {
		b.row("upstream's control plane", "", lessIsBetter).fail("upstream", err)
	} else {
		sides = append(sides, &side{who: "upstream", kubeconfig: u.kubeconfig(), pids: u.pids()})
	}
	for _, s := range sides {
		if err := s.connect(ctx); err != nil {
			return nil, close, err
		}
	}
	return sides, close, nil
}

// connect makes the clients, and their connections before anything is
// measured.
func (s *side) connect(ctx context.Context) error {
	if err := usable(ctx, s.kubeconfig); err != nil {
		return err
	}
	s.clients, s.wires = map[string][]*kubernetes.Clientset{}, map[string][]*wire{}
	for _, as := range []string{asJSON, asProtobuf} {
		for range clients {
			w, err := wireOf(s.kubeconfig, as, s)
			if err != nil {
				return err
			}
			if err := w.do(ctx, request{method: "GET", path: "/api/v1/namespaces/default"}); err != nil {
				return err
			}
			s.wires[as] = append(s.wires[as], w)
			c, err := clientOf(s.kubeconfig, as, s)
			if err != nil {
				return err
			}
			if _, err := c.CoreV1().Namespaces().Get(ctx, "default", metav1.GetOptions{}); err != nil {
				return err
			}
			s.clients[as] = append(s.clients[as], c)
		}
	}
	return nil
}

// HandleWarningHeader keeps what makes a figure worth nothing: that the server
// takes a field and does nothing with it.
func (s *side) HandleWarningHeader(_ int, _ string, text string) {
	if strings.Contains(text, "not acted on") {
		s.ignored.Store(&text)
	}
}

func (s *side) spent() (sum time.Duration) {
	for _, pid := range s.pids {
		own, _ := ticks(pid)
		sum += own
	}
	return sum
}

// send sends n requests, shared out over all wires, and returns how long all
// took together and what the server spent for each.
func (s *side) send(ctx context.Context, as string, n int, of func(i int) request) (all, cpu time.Duration, err error) {
	return share(s, s.wires[as], n, func(w *wire, i int) error { return w.do(ctx, of(i)) })
}

// spread is send for what a client of client-go does.
func (s *side) spread(as string, n int, op func(c *kubernetes.Clientset, i int) error) (all, cpu time.Duration, err error) {
	return share(s, s.clients[as], n, op)
}

func share[C any](s *side, by []C, n int, op func(c C, i int) error) (all, cpu time.Duration, err error) {
	before := s.spent()
	var next atomic.Int64
	var failed atomic.Pointer[error]
	var wg sync.WaitGroup
	began := time.Now()
	for _, c := range by {
		wg.Go(func() {
			for failed.Load() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := op(c, i); err != nil {
					failed.Store(&err)
				}
			}
		})
	}
	wg.Wait()
	all = time.Since(began)
	if e := failed.Load(); e != nil {
		return 0, 0, fmt.Errorf("%s: %w", s.who, *e)
	}
	return all, (s.spent() - before) / time.Duration(n), nil
}
