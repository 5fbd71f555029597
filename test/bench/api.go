package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

const (
	ballast   = 20_000 // objects that are there in the second half
	batch     = 1_000  // objects that are created, read and changed
	watchers  = 100
	updates   = 500
	apiRounds = 2
)

// api measures both API servers with clients that share the machine with
// them: what the clients need of the cores is part of the times, and not of
// the CPU times.
func api(ctx context.Context, b *bench) error {
	sides, closeSides, err := b.openSides(ctx)
	defer func() {
		if err := closeSides(); err != nil {
			fmt.Fprintln(os.Stderr, "bench: clean up:", err)
		}
	}()
	if err != nil {
		return err
	}
	for _, level := range []int{0, ballast} {
		if level > 0 {
			if err := b.load(ctx, sides, level); err != nil {
				return err
			}
		}
		for _, as := range []struct{ name, contentType string }{{"JSON", asJSON}, {"protobuf", asProtobuf}} {
			t := &trial{rows: b.rows(fmt.Sprintf(", %s, %d objects", as.name, level)), as: as.contentType, level: level}
			for round := range apiRounds {
				for _, s := range sides {
					runtime.GC() // what one leaves is not the next one's
					if err := t.round(ctx, s, round); err != nil {
						return errors.Join(err, ctx.Err())
					}
				}
			}
		}
	}
	return nil
}

// load makes objects that stay, and measures what they cost in memory.
func (b *bench) load(ctx context.Context, sides []*side, n int) error {
	created := b.row(fmt.Sprintf("create %d ConfigMaps of 1 kB in a row, protobuf", n), "/s", moreIsBetter).goal(1500)
	each := b.row("memory for each of them, RSS", "kB", lessIsBetter)
	all := b.row("memory of the control plane with them, RSS", "MB", lessIsBetter)
	for _, s := range sides {
		before := memoryOf(s.pids)
		profiled := s.ours.profile(ctx, "create", 4)
		bodies, err := configMaps(n, func(i int) string { return fmt.Sprintf("ballast-%05d", i) }, asProtobuf)
		if err != nil {
			return err
		}
		wall, cpu, err := s.send(ctx, asProtobuf, n, func(i int) request {
			return request{method: "POST", path: inNamespace("kube-public"), body: bodies[i]}
		})
		<-profiled
		if err != nil {
			return err
		}
		created.add(s.who, float64(n)/wall.Seconds(), milliseconds(cpu))
		after := memoryOf(s.pids)
		each.add(s.who, (after.rss-before.rss)/float64(n)/1e3, -1)
		all.add(s.who, after.rss/megabyte, -1)
	}
	return nil
}

// trial is one row for each verb, filled round by round.
type trial struct {
	rows
	as    string
	level int
}

// configMap is an object of about 1 kB, whose data no other has: what equal
// objects share is not to be measured.
func configMap(name string) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": "bench"}},
		Data:       map[string]string{"a": name + strings.Repeat("0123456789abcdef", 28), "b": name + strings.Repeat("fedcba9876543210", 28)},
	}
}

// configMaps are n of them as bodies of requests.
func configMaps(n int, name func(i int) string, as string, more ...string) ([][]byte, error) {
	bodies := make([][]byte, n)
	for i := range bodies {
		m := configMap(name(i))
		for _, key := range more {
			m.Data[key] = "1"
		}
		var err error
		if bodies[i], err = encoded(m, as); err != nil {
			return nil, err
		}
	}
	return bodies, nil
}

func inNamespace(namespace string) string { return "/api/v1/namespaces/" + namespace + "/configmaps" }

func (t *trial) round(ctx context.Context, s *side, round int) error {
	name := func(i int) string { return fmt.Sprintf("load-%d-%05d", round, i) }
	bodies, err := configMaps(batch, name, t.as)
	if err != nil {
		return err
	}
	all := inNamespace("default")
	for _, v := range []struct {
		name string
		n    int
		of   func(i int) request
	}{
		{"create", batch, func(i int) request { return request{method: "POST", path: all, body: bodies[i]} }},
		{"get", 2 * batch, func(i int) request { return request{method: "GET", path: all + "/" + name(i%batch)} }},
		{"patch", batch / 2, func(i int) request {
			return request{method: "PATCH", path: all + "/" + name(i), contentType: string(types.MergePatchType),
				body: fmt.Appendf(nil, `{"data":{"patched":"%d"}}`, i)}
		}},
		{"apply", batch / 2, func(i int) request {
			return request{method: "PATCH", path: all + "/" + name(i) + "?fieldManager=bench&force=true", contentType: string(types.ApplyYAMLPatchType),
				body: fmt.Appendf(nil, `{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":%q,"namespace":"default"},"data":{"applied":"%d"}}`, name(i), i)}
		}},
	} {
		profiled := s.ours.profile(ctx, v.name+t.suffix, 1)
		wall, cpu, err := s.send(ctx, t.as, v.n, v.of)
		<-profiled
		if err != nil {
			return fmt.Errorf("%s: %w", v.name, err)
		}
		t.of(v.name, "/s", moreIsBetter).add(s.who, float64(v.n)/wall.Seconds(), milliseconds(cpu))
	}
	for _, step := range []func(context.Context, *side) error{t.list, t.fanOut, t.clear} {
		if err := step(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// list measures until the last byte is here; to decode it is the client's work.
// The first has a row of its own: who lists again may get what was made before.
func (t *trial) list(ctx context.Context, s *side) error {
	namespace, what := "default", fmt.Sprintf("list of %d", batch)
	if t.level > 0 {
		namespace, what = "kube-public", "list of all"
	}
	for i := range 4 {
		row := what
		if i > 0 {
			row += " again"
		}
		before, began := s.spent(), time.Now()
		if err := s.wires[t.as][0].do(ctx, request{method: "GET", path: inNamespace(namespace)}); err != nil {
			return err
		}
		t.of(row, "ms", lessIsBetter).add(s.who, milliseconds(time.Since(began)), milliseconds(s.spent()-before))
	}
	return nil
}

// fanOut measures until the last of all watchers has heard of the last update.
func (t *trial) fanOut(ctx context.Context, s *side) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	wires := s.wires[t.as]
	list, err := s.clients[t.as][0].CoreV1().ConfigMaps("default").List(ctx, metav1.ListOptions{Limit: updates})
	if err != nil {
		return err
	}
	bodies, err := configMaps(updates, func(i int) string { return list.Items[i].Name }, t.as, "new")
	if err != nil {
		return err
	}
	heard := make(chan error, watchers)
	for i := range watchers {
		w := wires[i%clients]
		body, err := w.open(ctx, request{method: "GET", path: inNamespace("default") + "?watch=1&resourceVersion=" + list.ResourceVersion})
		if err != nil {
			return err
		}
		defer body.Close()
		go func() { heard <- w.hear(body, updates) }()
	}
	profiled := s.ours.profile(ctx, "watch"+t.suffix, 3)
	before, began := s.spent(), time.Now()
	if _, _, err = s.send(ctx, t.as, updates, func(i int) request {
		return request{method: "PUT", path: inNamespace("default") + "/" + list.Items[i].Name, body: bodies[i]}
	}); err != nil {
		return err
	}
	r := t.of("100 watchers × 500 updates, all heard", "s", lessIsBetter)
	for range watchers {
		if err := <-heard; err != nil {
			<-profiled
			r.fail(s.who, fmt.Errorf("%s: %w", s.who, err)) // a server may end the watch of a client that is slow
			return nil
		}
	}
	r.add(s.who, time.Since(began).Seconds(), milliseconds(s.spent()-before))
	<-profiled
	return nil
}

// clear removes what the round has made.
func (t *trial) clear(ctx context.Context, s *side) error {
	before, began := s.spent(), time.Now()
	err := s.clients[t.as][0].CoreV1().ConfigMaps("default").DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "app=bench"})
	if err == nil {
		t.of(fmt.Sprintf("deletecollection of %d", batch), "ms", lessIsBetter).add(s.who, milliseconds(time.Since(began)), milliseconds(s.spent()-before))
	}
	return err
}
