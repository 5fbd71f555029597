package main

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
)

// runs measures a container that starts, ends at once and is removed.
func runs(ctx context.Context, b *bench) error {
	if err := b.fresh(ctx); err != nil {
		return err
	}
	for _, c := range []struct {
		network string
		goal    goal
	}{{"default", atMost(25)}, {"none", none}, {"host", none}} {
		var all []float64
		for i := range 32 {
			began := time.Now()
			if _, err := b.call(ctx, "run", "--rm", "--network", c.network, guestImage, "true"); err != nil {
				return err
			}
			if i >= 2 { // files are in memory now
				all = append(all, milliseconds(time.Since(began)))
			}
		}
		b.add("run --rm true, network "+c.network, "ms", c.goal, all...)
	}
	return nil
}

// pods measures how fast pods come and go, as a client sees it.
func pods(ctx context.Context, b *bench) error {
	var first []float64
	for range 3 {
		w, err := b.workload(ctx)
		if err != nil {
			return err
		}
		up, _, err := w.one(ctx, "first")
		if err != nil {
			return err
		}
		first = append(first, milliseconds(up))
		w.stop()
	}
	b.add("first pod Running after its creation", "ms", atMost(1000), first...)

	w, err := b.workload(ctx)
	if err != nil {
		return err
	}
	defer w.stop()
	if _, _, err := w.one(ctx, "warm"); err != nil {
		return err
	}
	var later, gone []float64
	for i := range 20 {
		up, down, err := w.one(ctx, "one-"+strconv.Itoa(i))
		if err != nil {
			return err
		}
		later, gone = append(later, milliseconds(up)), append(gone, milliseconds(down))
	}
	b.add("later pod Running after its creation", "ms", atMost(300), later...)
	b.add("pod gone after its deletion", "ms", none, gone...)
	for _, n := range []int{10, 50} {
		profiled := b.keepCPU(ctx, fmt.Sprintf("pods.%d", n), 2)
		each, all, err := w.many(ctx, n)
		<-profiled
		if err != nil {
			return err
		}
		b.add(fmt.Sprintf("%d pods at once, each Running", n), "ms", none, each...)
		b.add(fmt.Sprintf("%d pods at once, last Running", n), "ms", none, milliseconds(all))
		if n == 50 {
			s, err := b.status(ctx)
			if err != nil {
				return err
			}
			b.add("memory with 50 pods, RSS", "MB", none, float64(s.All.RSS)/megabyte)
			b.add("  of it private", "MB", none, float64(s.All.Private)/megabyte)
			b.add("  of it the program's, RSS", "MB", none, float64(s.Program.RSS)/megabyte)
		}
		down, err := w.none(ctx)
		if err != nil {
			return err
		}
		b.add(fmt.Sprintf("%d pods deleted at once, last gone", n), "ms", none, milliseconds(down))
	}
	return nil
}

// monitors measures what watches over a pod.
func monitors(ctx context.Context, b *bench) error {
	w, err := b.workload(ctx)
	if err != nil {
		return err
	}
	defer w.stop()
	for _, n := range []int{1, 20} {
		if _, _, err := w.many(ctx, n); err != nil {
			return err
		}
		s, err := b.status(ctx)
		if err != nil {
			return err
		}
		if s.Monitors.Processes != n {
			return fmt.Errorf("%d pods have %d monitors", n, s.Monitors.Processes)
		}
		b.add(fmt.Sprintf("private memory of a monitor, of %d", n), "MB", atMost(1), float64(s.Monitors.Private)/megabyte/float64(n))
		if _, err := w.none(ctx); err != nil {
			return err
		}
	}
	return nil
}

// workload starts and stops pods of the guest in the default namespace and
// learns of them by one watch.
type workload struct {
	client *kubernetes.Clientset
	watch  watch.Interface
	stop   func()

	mu      sync.Mutex // guards all below
	seen    map[string]moment
	changed chan struct{} // closed and replaced when seen changes
	over    error         // why the watch ended
}

// moment is when the watch told what of a pod.
type moment struct{ running, gone time.Time }

// workload starts the program anew and waits until its node takes pods.
func (b *bench) workload(ctx context.Context) (*workload, error) {
	if err := b.fresh(ctx); err != nil {
		return nil, err
	}
	c, err := b.client(asProtobuf)
	if err != nil {
		return nil, err
	}
	if err := ready(ctx, c); err != nil {
		return nil, err
	}
	w := &workload{client: c, seen: map[string]moment{}, changed: make(chan struct{})}
	if w.watch, err = c.CoreV1().Pods("default").Watch(ctx, metav1.ListOptions{}); err != nil {
		return nil, err
	}
	done := make(chan struct{})
	go func() { defer close(done); w.listen() }()
	w.stop = func() { w.watch.Stop(); <-done }
	return w, nil
}

// ready waits until the default service account exists and the node is ready.
func ready(ctx context.Context, c *kubernetes.Clientset) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	accounts, err := c.CoreV1().ServiceAccounts("default").Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=default"})
	if err != nil {
		return err
	}
	defer accounts.Stop()
	if _, ok := <-accounts.ResultChan(); !ok {
		return fmt.Errorf("no default service account: %w", context.Cause(ctx))
	}
	nodes, err := c.CoreV1().Nodes().Watch(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	defer nodes.Stop()
	for e := range nodes.ResultChan() {
		n, ok := e.Object.(*corev1.Node)
		if !ok {
			continue
		}
		for _, c := range n.Status.Conditions {
			if c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue && len(n.Spec.Taints) == 0 {
				return nil
			}
		}
	}
	return fmt.Errorf("the node is not ready: %w", context.Cause(ctx))
}

func (w *workload) listen() {
	for e := range w.watch.ResultChan() {
		now := time.Now()
		p, ok := e.Object.(*corev1.Pod)
		w.mu.Lock()
		if !ok {
			w.over = fmt.Errorf("the watch ends: %v", e.Object)
		} else {
			m := w.seen[p.Name]
			if m.running.IsZero() && p.Status.Phase == corev1.PodRunning {
				m.running = now
			}
			if e.Type == watch.Deleted {
				m.gone = now
			}
			w.seen[p.Name] = m
		}
		close(w.changed)
		w.changed = make(chan struct{})
		w.mu.Unlock()
	}
}

// wait returns when done says so of what was seen.
func (w *workload) wait(ctx context.Context, done func(map[string]moment) bool) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		w.mu.Lock()
		ok, err, changed := done(w.seen), w.over, w.changed
		w.mu.Unlock()
		if ok || err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("wait for pods: %w", ctx.Err())
		}
	}
}

func (w *workload) create(ctx context.Context, name string) error {
	// A process that is told to stop before it listens does not hear it: as
	// the first of its namespace it has no default action.
	grace := int64(2)
	_, err := w.client.CoreV1().Pods("default").Create(ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PodSpec{TerminationGracePeriodSeconds: &grace,
			Containers: []corev1.Container{{Name: "guest", Image: guestImage}}},
	}, metav1.CreateOptions{})
	return err
}

// one starts a pod and deletes it, and says how long each took.
func (w *workload) one(ctx context.Context, name string) (up, down time.Duration, err error) {
	began := time.Now()
	if err = w.create(ctx, name); err != nil {
		return 0, 0, err
	}
	if err = w.wait(ctx, func(s map[string]moment) bool { return !s[name].running.IsZero() }); err != nil {
		return 0, 0, err
	}
	ended := time.Now()
	if err = w.client.CoreV1().Pods("default").Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
		return 0, 0, err
	}
	if err = w.wait(ctx, func(s map[string]moment) bool { return !s[name].gone.IsZero() }); err != nil {
		return 0, 0, err
	}
	return w.seen[name].running.Sub(began), w.seen[name].gone.Sub(ended), nil
}

// many starts n pods at once and says how long each and all took.
func (w *workload) many(ctx context.Context, n int) (each []float64, all time.Duration, err error) {
	errs := make(chan error, n)
	name := func(i int) string { return fmt.Sprintf("of-%d-%d", n, i) }
	created := make([]time.Time, n)
	began := time.Now()
	for i := range n {
		go func() {
			created[i] = time.Now()
			errs <- w.create(ctx, name(i))
		}()
	}
	for range n {
		if err := <-errs; err != nil {
			return nil, 0, err
		}
	}
	err = w.wait(ctx, func(s map[string]moment) bool {
		for i := range n {
			if s[name(i)].running.IsZero() {
				return false
			}
		}
		return true
	})
	if err != nil {
		return nil, 0, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range n {
		m := w.seen[name(i)]
		each = append(each, milliseconds(m.running.Sub(created[i])))
		all = max(all, m.running.Sub(began))
	}
	return each, all, nil
}

// none deletes all pods and says how long the last one took.
func (w *workload) none(ctx context.Context) (time.Duration, error) {
	began := time.Now()
	if err := w.client.CoreV1().Pods("default").DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
		return 0, err
	}
	err := w.wait(ctx, func(s map[string]moment) bool {
		for _, m := range s {
			if m.gone.IsZero() {
				return false
			}
		}
		return true
	})
	return time.Since(began), err
}
