package main

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

const (
	clients  = 32
	objects  = 5000
	watchers = 100
	updates  = 500
)

// load measures the API with clients that share this machine with it: what
// they need of the two cores is part of the figures.
func load(ctx context.Context, b *bench) error {
	for _, as := range []struct{ name, contentType string }{{"JSON", asJSON}, {"protobuf", asProtobuf}} {
		if err := b.reset(ctx); err != nil {
			return err
		}
		if err := b.up(ctx); err != nil {
			return err
		}
		l := &loader{bench: b, as: as.name}
		for range clients {
			c, err := b.client(as.contentType)
			if err != nil {
				return err
			}
			// The connection is made before anything is measured.
			if _, err := c.CoreV1().Namespaces().Get(ctx, "default", metav1.GetOptions{}); err != nil {
				return err
			}
			l.clients = append(l.clients, c)
		}
		for _, step := range []func(context.Context) error{l.create, l.get, l.list, l.fanOut} {
			runtime.GC() // what one step leaves is not the next one's
			if err := step(ctx); err != nil {
				return err
			}
		}
		s, err := b.status(ctx)
		if err != nil {
			return err
		}
		b.add("memory with 5,000 objects of 1 kB, RSS", "MB", none, float64(s.All.RSS)/megabyte)
	}
	return nil
}

type loader struct {
	*bench
	as      string
	clients []*kubernetes.Clientset
}

func name(i int) string { return fmt.Sprintf("load-%05d", i) }

// configMap is an object of about 1 kB.
func configMap(i int) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: name(i), Labels: map[string]string{"app": "bench", "shard": fmt.Sprint(i % 100)}},
		Data:       map[string]string{"a": strings.Repeat("0123456789abcdef", 28), "b": strings.Repeat("fedcba9876543210", 28)},
	}
}

// spread runs op n times, shared out over all clients, and returns how long
// each took and all together, and the program's time per operation.
func (l *loader) spread(ctx context.Context, n int, op func(c *kubernetes.Clientset, i int) error) (each []float64, all, cpu time.Duration, err error) {
	s, err := l.status(ctx)
	if err != nil {
		return nil, 0, 0, err
	}
	before, err := costOf(s.PID)
	if err != nil {
		return nil, 0, 0, err
	}
	each = make([]float64, n)
	var next atomic.Int64
	var failed atomic.Pointer[error]
	var wg sync.WaitGroup
	began := time.Now()
	for _, c := range l.clients {
		wg.Go(func() {
			for failed.Load() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				began := time.Now()
				if err := op(c, i); err != nil {
					failed.Store(&err)
				}
				each[i] = milliseconds(time.Since(began))
			}
		})
	}
	wg.Wait()
	all = time.Since(began)
	if e := failed.Load(); e != nil {
		return nil, 0, 0, *e
	}
	after, err := costOf(s.PID)
	return each, all, (after.cpu - before.cpu) / time.Duration(n), err
}

func (l *loader) rate(verb string, g goal, n int, each []float64, all, cpu time.Duration) {
	l.add(fmt.Sprintf("%s, 32 clients, %s", verb, l.as), "/s", g, float64(n)/all.Seconds())
	l.add("  each", "ms", none, each...)
	l.add("  the program's CPU for each", "ms", none, milliseconds(cpu))
}

func (l *loader) create(ctx context.Context) error {
	profiled := l.keepCPU(ctx, "create."+l.as, 2)
	each, all, cpu, err := l.spread(ctx, objects, func(c *kubernetes.Clientset, i int) error {
		_, err := c.CoreV1().ConfigMaps("default").Create(ctx, configMap(i), metav1.CreateOptions{})
		return err
	})
	<-profiled
	if err != nil {
		return err
	}
	l.rate("create 5,000 ConfigMaps", atLeast(1500), objects, each, all, cpu)
	return nil
}

func (l *loader) get(ctx context.Context) error {
	each, all, cpu, err := l.spread(ctx, objects, func(c *kubernetes.Clientset, i int) error {
		_, err := c.CoreV1().ConfigMaps("default").Get(ctx, name(i), metav1.GetOptions{})
		return err
	})
	if err != nil {
		return err
	}
	l.rate("get", none, objects, each, all, cpu)
	return nil
}

// list measures until the last byte is here; to decode is the client's work.
func (l *loader) list(ctx context.Context) error {
	var each []float64
	for range 10 {
		began := time.Now()
		body, err := l.clients[0].CoreV1().RESTClient().Get().Namespace("default").Resource("configmaps").Stream(ctx)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, body)
		body.Close()
		if err != nil {
			return err
		}
		each = append(each, milliseconds(time.Since(began)))
	}
	l.add("list 5,000 ConfigMaps, "+l.as, "ms", none, each...)
	return nil
}

// fanOut measures until the last of all watchers has heard of the last update.
func (l *loader) fanOut(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	list, err := l.clients[0].CoreV1().ConfigMaps("default").List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		return err
	}
	heard := make(chan error, watchers)
	for i := range watchers {
		w, err := l.clients[i%clients].CoreV1().ConfigMaps("default").Watch(ctx, metav1.ListOptions{ResourceVersion: list.ResourceVersion})
		if err != nil {
			return err
		}
		defer w.Stop()
		go func() {
			n := 0
			for e := range w.ResultChan() {
				if m, ok := e.Object.(*corev1.ConfigMap); ok && m.Data["new"] != "" {
					n++
				}
				if n == updates {
					heard <- nil
					return
				}
			}
			heard <- fmt.Errorf("a watch ended after %d of %d events", n, updates)
		}()
	}
	began := time.Now()
	_, all, _, err := l.spread(ctx, updates, func(c *kubernetes.Clientset, i int) error {
		m := configMap(i)
		m.Data["new"] = "1"
		_, err := c.CoreV1().ConfigMaps("default").Update(ctx, m, metav1.UpdateOptions{})
		return err
	})
	if err != nil {
		return err
	}
	for range watchers {
		if err := <-heard; err != nil {
			return err
		}
	}
	l.add("100 watchers × 500 updates, all heard, "+l.as, "s", none, time.Since(began).Seconds())
	l.add("  updates acknowledged", "s", none, all.Seconds())
	return nil
}
