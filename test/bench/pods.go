package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// pods measures how fast pods come and go, as a client sees it: ours beside
// upstream's control plane with a kubelet on containerd.
func pods(ctx context.Context, b *bench) (err error) {
	first := b.row("first pod Running after its creation", "ms", lessIsBetter).goal(1000)
	later := b.row("later pod Running after its creation", "ms", lessIsBetter).goal(300)
	gone := b.row("pod gone after its deletion", "ms", lessIsBetter)
	rows := []*row{first, later, gone}

	p := b.platform()
	defer func() { err = errors.Join(err, p.reset()) }()
	if err := p.up(ctx); err != nil {
		return err
	}
	archive, err := b.guestArchive()
	if err != nil {
		return err
	}
	if _, err := p.call(ctx, "load", "-q", "-i", archive); err != nil {
		return err
	}
	all := []*crew{{who: ours, platform: p}}
	if all[0].client, err = clientOf(p.kubeconfig(), asProtobuf, rest.NoWarnings{}); err != nil {
		return err
	}
	k, missing := b.openKubelet(ctx, archive)
	defer k.close()
	if missing == nil {
		c := &crew{who: "kubelet"}
		if c.client, err = clientOf(k.upstream.kubeconfig(), asProtobuf, rest.NoWarnings{}); err != nil {
			return err
		}
		all = append(all, c)
	}
	for i, c := range all {
		up, err := c.first(ctx)
		switch {
		case err == nil:
			defer c.stop()
			first.add(c.who, milliseconds(up), -1)
		case i == 0:
			return err
		default:
			missing, all = err, all[:1]
		}
	}
	for i := range 10 {
		for _, c := range all {
			before := spent()
			up, down, err := c.one(ctx, "one-"+strconv.Itoa(i))
			if err != nil {
				return fmt.Errorf("%s: %w", c.who, err)
			}
			later.add(c.who, milliseconds(up), milliseconds(spent()-before))
			gone.add(c.who, milliseconds(down), -1)
		}
	}
	for _, n := range []int{10, 50} {
		up := b.row(fmt.Sprintf("%d pods at once, last Running", n), "ms", lessIsBetter)
		down := b.row(fmt.Sprintf("%d pods deleted at once, last gone", n), "ms", lessIsBetter)
		rows = append(rows, up, down)
		for _, c := range all {
			before, profiled := spent(), c.platform.profile(ctx, fmt.Sprintf("pods %d", n), 2)
			took, err := c.many(ctx, n)
			cpu := spent() - before
			<-profiled
			if err == nil {
				up.add(c.who, milliseconds(took), milliseconds(cpu)/float64(n))
				before = spent()
				took, err = c.none(ctx)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", c.who, err)
			}
			down.add(c.who, milliseconds(took), milliseconds(spent()-before)/float64(n))
		}
	}
	rolled := b.row("rolling update of 10 replicas, until all are new and ready", "s", lessIsBetter)
	rows = append(rows, rolled)
	for _, c := range all {
		took, err := c.roll(ctx)
		if err != nil {
			rolled.fail(c.who, err)
			continue
		}
		rolled.add(c.who, took.Seconds(), -1)
	}
	rows = append(rows, b.programmed(ctx, p, k, missing)...)
	if missing != nil {
		for _, r := range rows {
			r.fail("kubelet", missing)
		}
	}
	return nil
}

// programmed measures services on ours and, if its node is there, upstream's.
func (b *bench) programmed(ctx context.Context, p *platform, k *kubelet, missing error) []*row {
	sides := []*side{{who: ours, kubeconfig: p.kubeconfig(), ours: p}}
	if s, err := p.status(ctx); err == nil {
		sides[0].pids = []int{s.PID}
	}
	if missing == nil {
		s := &side{who: "kubelet", kubeconfig: k.upstream.kubeconfig()}
		if err := k.startProxy(); err != nil {
			fmt.Fprintln(os.Stderr, "bench: kube-proxy:", err)
		} else {
			s.pids = append(k.upstream.pids(), k.proxy.pid(), k.kubelet.pid())
		}
		sides = append(sides, s)
	}
	for _, s := range sides {
		if err := s.connect(ctx); err != nil {
			r := b.row("services", "s", lessIsBetter)
			r.fail(s.who, err)
			return []*row{r}
		}
	}
	return b.services(ctx, sides)
}

// crew starts and stops pods of the guest in the default namespace and learns
// of them by one watch.
type crew struct {
	who      string
	platform *platform // of ours
	client   *kubernetes.Clientset
	stop     func()

	mu      sync.Mutex // guards all below
	seen    map[string]moment
	changed chan struct{} // closed and replaced when seen changes
	over    error         // why the watch ended
}

// moment is when the watch told what of a pod.
type moment struct{ running, gone time.Time }

// open waits until the node takes pods and begins to watch them.
func (w *crew) open(ctx context.Context) error {
	if err := w.ready(ctx); err != nil {
		return err
	}
	w.seen, w.changed = map[string]moment{}, make(chan struct{})
	watched, err := w.client.CoreV1().Pods("default").Watch(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	done := make(chan struct{})
	go func() { defer close(done); w.listen(watched) }()
	w.stop = func() { watched.Stop(); <-done }
	return nil
}

// first starts the first pod, and deletes it.
func (w *crew) first(ctx context.Context) (up time.Duration, err error) {
	if err := w.open(ctx); err != nil {
		return 0, err
	}
	if up, _, err = w.one(ctx, "first"); err != nil {
		w.stop()
	}
	return up, err
}

// ready waits until the default service account exists and the node is ready.
func (w *crew) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	accounts, err := w.client.CoreV1().ServiceAccounts("default").Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=default"})
	if err != nil {
		return err
	}
	defer accounts.Stop()
	if _, ok := <-accounts.ResultChan(); !ok {
		return fmt.Errorf("no default service account: %w", context.Cause(ctx))
	}
	nodes, err := w.client.CoreV1().Nodes().Watch(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	defer nodes.Stop()
	last := "there is none"
	for e := range nodes.ResultChan() {
		n, ok := e.Object.(*corev1.Node)
		if !ok {
			continue
		}
		for _, c := range n.Status.Conditions {
			if c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue && len(n.Spec.Taints) == 0 {
				return nil
			}
			if c.Type == corev1.NodeReady {
				last = c.Message
			}
		}
	}
	return fmt.Errorf("the node is not ready: %s", last)
}

func (w *crew) listen(watched watch.Interface) {
	for e := range watched.ResultChan() {
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
func (w *crew) wait(ctx context.Context, done func(map[string]moment) bool) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
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

func guestContainer() corev1.Container {
	return corev1.Container{Name: "guest", Image: guestImage, ImagePullPolicy: corev1.PullIfNotPresent}
}

func (w *crew) create(ctx context.Context, name string) error {
	// A process that is told to stop before it listens does not hear it: as
	// the first of its namespace it has no default action.
	grace := int64(2)
	_, err := w.client.CoreV1().Pods("default").Create(ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PodSpec{TerminationGracePeriodSeconds: &grace, Containers: []corev1.Container{guestContainer()}}}, metav1.CreateOptions{})
	return err
}

// one starts a pod and deletes it, and says how long each took.
func (w *crew) one(ctx context.Context, name string) (up, down time.Duration, err error) {
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
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen[name].running.Sub(began), w.seen[name].gone.Sub(ended), nil
}

// many starts n pods at once and says how long it took until the last ran.
func (w *crew) many(ctx context.Context, n int) (time.Duration, error) {
	name := func(i int) string { return fmt.Sprintf("of-%d-%d", n, i) }
	began := time.Now()
	if err := inParallel(n, n, func(i int) error { return w.create(ctx, name(i)) }); err != nil {
		return 0, err
	}
	var last time.Time
	err := w.wait(ctx, func(s map[string]moment) bool {
		for i := range n {
			at := s[name(i)].running
			if at.IsZero() {
				return false
			}
			if at.After(last) {
				last = at
			}
		}
		return true
	})
	return last.Sub(began), err
}

// none deletes all pods and says how long the last one took.
func (w *crew) none(ctx context.Context) (time.Duration, error) {
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

// roll makes a deployment, changes its template, and says how long it takes
// until all replicas are of the new template and available, and no other is
// left.
func (w *crew) roll(ctx context.Context) (time.Duration, error) {
	const replicas = 10
	ctx, cancel := context.WithTimeout(ctx, 90*time.Second)
	defer cancel()
	n, grace, labels := int32(replicas), int64(2), map[string]string{"app": "rolls"}
	api := w.client.AppsV1().Deployments("default")
	d, err := api.Create(ctx, &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "rolls"}, Spec: appsv1.DeploymentSpec{
		Replicas: &n, Selector: &metav1.LabelSelector{MatchLabels: labels},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels},
			Spec: corev1.PodSpec{TerminationGracePeriodSeconds: &grace, Containers: []corev1.Container{guestContainer()}}}}}, metav1.CreateOptions{})
	if err != nil {
		return 0, err
	}
	defer func() {
		if err := api.Delete(context.WithoutCancel(ctx), "rolls", metav1.DeleteOptions{}); err != nil {
			fmt.Fprintln(os.Stderr, "bench: clean up:", err)
		}
	}()
	events, err := api.Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=rolls"})
	if err != nil {
		return 0, err
	}
	defer events.Stop()
	settled := func(generation int64) error {
		for e := range events.ResultChan() {
			d, ok := e.Object.(*appsv1.Deployment)
			if !ok {
				return fmt.Errorf("watch: %v", e.Object)
			}
			s := d.Status
			if s.ObservedGeneration >= generation && s.UpdatedReplicas == n && s.AvailableReplicas == n && s.Replicas == n {
				return nil
			}
		}
		return fmt.Errorf("the rollout takes too long: %w", context.Cause(ctx))
	}
	if err := settled(d.Generation); err != nil {
		return 0, err
	}
	began := time.Now()
	d, err = api.Patch(ctx, "rolls", "application/strategic-merge-patch+json",
		[]byte(`{"spec":{"template":{"metadata":{"annotations":{"bench":"2"}}}}}`), metav1.PatchOptions{})
	if err == nil {
		err = settled(d.Generation)
	}
	return time.Since(began), err
}
