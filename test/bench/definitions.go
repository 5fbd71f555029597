package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset/typed/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"
)

const (
	definers = 8 // clients that make definitions at the same time
	// rested is when the program has given back what a burst needed.
	rested = 45 * time.Second
)

// definitions measures what custom resources cost: many definitions, on one
// control plane after the other, because upstream's needs the memory for
// itself, and a tenth of them there.
func definitions(ctx context.Context, b *bench) error {
	t := definitionTrial{b.rows("")}
	p := b.platform()
	err := errors.Join(func() error {
		if err := p.up(ctx); err != nil {
			return err
		}
		s, err := p.status(ctx)
		if err != nil {
			return err
		}
		own := &side{who: ours, kubeconfig: p.kubeconfig(), pids: []int{s.PID}, ours: p}
		if err := t.measure(ctx, own, b.definitions); err != nil {
			return err
		}
		return ctx.Err()
	}(), p.reset())
	if err != nil || b.alone {
		return err
	}
	u, err := b.openUpstream(ctx)
	defer u.close()
	if err != nil {
		b.row("upstream's control plane", "", lessIsBetter).fail("upstream", err)
		return ctx.Err()
	}
	fewer := max(1, b.definitions/10)
	return t.measure(ctx, &side{who: fmt.Sprintf("upstream, %d", fewer), kubeconfig: u.kubeconfig(), pids: u.pids()}, fewer)
}

// definitionTrial has a row for each thing measured, which all sides fill.
type definitionTrial struct{ rows }

// definer is a side with clients for definitions.
type definer struct {
	*side
	definitionTrial
	n       int // definitions
	made    int // those and more, for their numbers
	api     *apiextensions.ApiextensionsV1Client
	objects *dynamic.DynamicClient
	plain   *http.Client // for documents
	url     string
}

func (t definitionTrial) measure(ctx context.Context, s *side, n int) (err error) {
	if err := s.connect(ctx); err != nil {
		return err
	}
	d := &definer{side: s, definitionTrial: t, n: n, made: n}
	cfg, err := configOf(s.kubeconfig, asJSON)
	if err != nil {
		return err
	}
	cfg.WarningHandler = rest.NoWarnings{}
	if d.api, err = apiextensions.NewForConfig(cfg); err != nil {
		return err
	}
	if d.objects, err = dynamic.NewForConfig(cfg); err != nil {
		return err
	}
	if d.plain, err = rest.HTTPClientFor(cfg); err != nil {
		return err
	}
	d.url = cfg.Host
	for _, step := range []func(context.Context) error{d.define, d.published, d.idle, d.commands, d.use, d.restart, d.remove} {
		if err := step(ctx); err != nil {
			return fmt.Errorf("%s: %w", s.who, err)
		}
	}
	return nil
}

// each runs op for the numbers up to n, by several clients at once.
func each(n int, op func(i int) error) error {
	var next atomic.Int64
	var all sync.WaitGroup
	errs := make([]error, definers)
	for w := range definers {
		all.Go(func() {
			for errs[w] == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				errs[w] = op(i)
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// define makes all definitions and waits until each is established.
func (d *definer) define(ctx context.Context) error {
	before, heap := d.holds(), d.heap(ctx)
	w, err := d.api.CustomResourceDefinitions().Watch(ctx, metav1.ListOptions{LabelSelector: "app=bench"})
	if err != nil {
		return err
	}
	defer w.Stop()
	cpu, began := d.spent(), time.Now()
	profiled := d.ours.profile(ctx, "define", 10)
	failed := make(chan error, 1)
	go func() {
		failed <- each(d.n, func(i int) error {
			_, err := d.api.CustomResourceDefinitions().Create(ctx, definitionNumber(i), metav1.CreateOptions{})
			return err
		})
	}()
	for done := map[string]bool{}; len(done) < d.n; {
		select {
		case e, ok := <-w.ResultChan():
			if !ok {
				return errors.New("the watch of definitions ended")
			}
			if c, ok := e.Object.(*apiextensionsv1.CustomResourceDefinition); ok && established(c) {
				done[c.Name] = true
			}
		case err := <-failed:
			if err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	took, used := time.Since(began), d.spent()-cpu
	<-profiled
	n := float64(d.n)
	d.of("make definitions in a row, until the last is established, each", "ms", lessIsBetter).add(d.who, milliseconds(took)/n, milliseconds(used)/n)
	if err := d.grown(ctx, "a definition", before, heap); err != nil {
		return err
	}
	return d.ours.keepHeap(ctx, "defined")
}

func (p *platform) keepHeap(ctx context.Context, name string) error {
	if p == nil {
		return nil
	}
	return p.keep(ctx, name+".heap", "/debug/pprof/heap?gc=1")
}

// grown says how much memory there is more than before, for each definition.
func (d *definer) grown(ctx context.Context, what string, before held, heap float64) error {
	if err := pause(ctx, rested); err != nil {
		return err
	}
	n, now := float64(d.n), d.holds()
	d.of("memory for "+what+", RSS", "kB", lessIsBetter).goal(500).add(d.who, (now.rss-before.rss)/n/1e3, -1)
	d.of("memory for "+what+", in no file", "kB", lessIsBetter).goal(500).add(d.who, (now.anonymous-before.anonymous)/n/1e3, -1)
	d.of("memory for "+what+", heap of the API server", "kB", lessIsBetter).goal(500).add(d.who, (d.heap(ctx)-heap)/n/1e3, -1) // collects garbage
	return nil
}

// holds is what all processes have in memory now. The database's file, which
// etcd maps, is in its RSS.
func (d *definer) holds() held {
	return held{rss: memoryOf(d.pids).rss, anonymous: anonymousOf(d.pids)}
}

var heapAlloc = regexp.MustCompile(`(?m)^# HeapAlloc = (\d+)$`)

// heap is what the API server's heap has after a collection of garbage.
func (d *definer) heap(ctx context.Context) float64 {
	text, err := d.clients[asJSON][0].CoreV1().RESTClient().Get().RequestURI("/debug/pprof/heap?gc=1&debug=1").Do(ctx).Raw()
	if err != nil {
		return 0
	}
	found := heapAlloc.FindSubmatch(text)
	if found == nil {
		return 0
	}
	bytes, _ := strconv.ParseFloat(string(found[1]), 64)
	return bytes
}

func established(c *apiextensionsv1.CustomResourceDefinition) bool {
	for _, have := range c.Status.Conditions {
		if have.Type == apiextensionsv1.Established {
			return have.Status == apiextensionsv1.ConditionTrue
		}
	}
	return false
}

// one makes one more definition and waits until it is established.
func (d *definer) one(ctx context.Context) (number int, err error) {
	number = d.made
	d.made++
	c := definitionNumber(number)
	w, err := d.api.CustomResourceDefinitions().Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + c.Name})
	if err != nil {
		return 0, err
	}
	defer w.Stop()
	if _, err := d.api.CustomResourceDefinitions().Create(ctx, c, metav1.CreateOptions{}); err != nil {
		return 0, err
	}
	for e := range w.ResultChan() {
		if c, ok := e.Object.(*apiextensionsv1.CustomResourceDefinition); ok && established(c) {
			return number, nil
		}
	}
	return 0, errors.Join(errors.New("the watch of a definition ended"), ctx.Err())
}

// idle measures doing nothing, and what the documents have left in memory.
func (d *definer) idle(ctx context.Context) error {
	if err := pause(ctx, rested); err != nil {
		return err
	}
	d.of("memory with all definitions, documents read before, RSS", "MB", lessIsBetter).add(d.who, memoryOf(d.pids).rss/megabyte, -1)
	before, began := costOf(d.pids), time.Now()
	if err := pause(ctx, podWindow); err != nil {
		return err
	}
	after, took := costOf(d.pids), time.Since(began)
	d.of("idle with all definitions: CPU", "% of a core", lessIsBetter).goal(0.5).add(d.who, 100*float64(after.cpu-before.cpu)/float64(took), -1)
	d.of("idle with all definitions: wake-ups", "/s", lessIsBetter).add(d.who, float64(after.wakeups-before.wakeups)/took.Seconds(), -1)
	return nil
}

// commands measures kubectl, the same for all sides. Its own CPU time counts.
func (d *definer) commands(ctx context.Context) error {
	last := d.n - 1
	obj := customResource(last, "by-command")
	text, err := yaml.Marshal(obj.Object)
	if err != nil {
		return err
	}
	file := filepath.Join(d.dir, "widget.yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return err
	}
	resource := resourceOf(last).GroupResource().String()
	client := &platform{sampan: d.bench.sampan, dir: filepath.Join(d.dir, "client")}
	for _, c := range []struct {
		name string
		cold bool
		args []string
	}{
		{"kubectl api-resources, nothing known", true, []string{"api-resources", "-o", "name"}},
		{"kubectl get crds", false, []string{"get", "crds"}},
		{"kubectl explain of the last", false, []string{"explain", resource + ".spec", "--recursive"}},
		{"kubectl create of the last", false, []string{"create", "-f", file}},
		{"kubectl apply of the last", false, []string{"apply", "-f", file}},
		{"kubectl apply --server-side of the last", false, []string{"apply", "--server-side", "--force-conflicts", "-f", file}},
		{"kubectl get of the last", false, []string{"get", resource}},
		{"kubectl get of the last, nothing known", true, []string{"get", resource}},
		{"kubectl delete of the last", false, []string{"delete", "-f", file}},
	} {
		cache := filepath.Join(d.dir, "discovery")
		if c.cold {
			if err := os.RemoveAll(cache); err != nil {
				return err
			}
		}
		before, began := spent(), time.Now()
		if _, err := client.call(ctx, append([]string{"kubectl", "--kubeconfig", d.kubeconfig, "--cache-dir", cache}, c.args...)...); err != nil {
			return err
		}
		d.of(c.name, "ms", lessIsBetter).add(d.who, milliseconds(time.Since(began)), milliseconds(spent()-before))
	}
	return os.RemoveAll(filepath.Join(d.dir, "discovery"))
}

// use makes a custom resource of each definition, then reads and follows each
// kind by one client for a while.
func (d *definer) use(ctx context.Context) error {
	before, heap := d.holds(), d.heap(ctx)
	cpu, began := d.spent(), time.Now()
	profiled := d.ours.profile(ctx, "use", 10)
	err := each(d.n, func(i int) error {
		_, err := d.objects.Resource(resourceOf(i)).Namespace("default").Create(ctx, customResource(i, "one"), metav1.CreateOptions{})
		return err
	})
	if err != nil {
		return err
	}
	<-profiled
	took, used := time.Since(began), d.spent()-cpu
	n := float64(d.n)
	d.of("create the first object of each definition, each", "ms", lessIsBetter).add(d.who, milliseconds(took)/n, milliseconds(used)/n)
	watching, stop := context.WithCancel(ctx)
	defer stop()
	var all sync.WaitGroup
	defer all.Wait()
	defer stop()
	err = each(d.n, func(i int) error {
		of := d.objects.Resource(resourceOf(i)).Namespace("default")
		list, err := of.List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		w, err := of.Watch(watching, metav1.ListOptions{ResourceVersion: list.GetResourceVersion(), AllowWatchBookmarks: true})
		if err != nil {
			return err
		}
		all.Go(func() {
			defer w.Stop()
			for range w.ResultChan() {
			}
		})
		return nil
	})
	if err != nil {
		return err
	}
	if err := d.grown(ctx, "a definition in use: one object, one watcher", before, heap); err != nil {
		return err
	}
	return d.ours.keepHeap(ctx, "in-use")
}

// restart measures a start with all definitions in the store, of ours alone.
func (d *definer) restart(ctx context.Context) error {
	if d.ours == nil {
		return nil
	}
	r := d.of("start with all definitions, until the API answers", "s", lessIsBetter)
	for range 3 {
		if _, err := d.ours.call(ctx, "down"); err != nil {
			return err
		}
		before, began := spent(), time.Now()
		if err := d.ours.up(ctx); err != nil {
			return err
		}
		r.add(d.who, time.Since(began).Seconds(), milliseconds(spent()-before))
	}
	s, err := d.ours.status(ctx)
	if err != nil {
		return err
	}
	d.pids = []int{s.PID}
	if err := pause(ctx, rested); err != nil {
		return err
	}
	d.of("memory after a start with all definitions, RSS", "MB", lessIsBetter).add(d.who, d.holds().rss/megabyte, -1)
	d.of("memory after a start with all definitions, in no file", "MB", lessIsBetter).add(d.who, d.holds().anonymous/megabyte, -1)
	if err := d.ours.keepHeap(ctx, "restarted"); err != nil {
		return err
	}
	return d.connect(ctx)
}

// remove deletes all definitions and waits until none is left.
func (d *definer) remove(ctx context.Context) error {
	all := d.api.CustomResourceDefinitions()
	cpu, began := d.spent(), time.Now()
	profiled := d.ours.profile(ctx, "remove", 10)
	err := each(d.made, func(i int) error { return all.Delete(ctx, definitionNumber(i).Name, metav1.DeleteOptions{}) })
	for left := 1; err == nil && left > 0; {
		var text []byte
		if text, err = d.api.RESTClient().Get().Resource("customresourcedefinitions").Param("labelSelector", "app=bench").
			SetHeader("Accept", "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1").Do(ctx).Raw(); err != nil {
			break
		}
		var list metav1.PartialObjectMetadataList
		if err = json.Unmarshal(text, &list); err == nil {
			left = len(list.Items)
			err = pause(ctx, 50*time.Millisecond)
		}
	}
	if err != nil {
		return err
	}
	took, used := time.Since(began), d.spent()-cpu
	n := float64(d.made)
	<-profiled
	d.of("delete all definitions with their objects, until the last is gone, each", "ms", lessIsBetter).add(d.who, milliseconds(took)/n, milliseconds(used)/n)
	if err := pause(ctx, rested); err != nil {
		return err
	}
	d.of("memory when all definitions are gone, RSS", "MB", lessIsBetter).add(d.who, memoryOf(d.pids).rss/megabyte, -1)
	return d.ours.keepHeap(ctx, "removed")
}
