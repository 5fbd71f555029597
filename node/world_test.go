package node

import (
	"context"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/client"
	"sampan/cluster/client/clienttest"
	"sampan/node/pod/podtest"
	"sampan/node/resource"
)

// world is a node with its API and its runtime, in a bubble of fake time.
type world struct {
	t       *testing.T
	api     *clienttest.Fake
	runtime *podtest.Runtime
	dir     string
	cgroups groups
	stop    func()
}

// groups are control groups by name.
type groups map[string]resource.Limits

var groupsLock sync.Mutex

func (g groups) Make(path string, l resource.Limits) error {
	groupsLock.Lock()
	defer groupsLock.Unlock()
	g[path] = l
	return nil
}

func (g groups) Remove(_ context.Context, paths ...string) error {
	groupsLock.Lock()
	defer groupsLock.Unlock()
	for _, p := range paths {
		delete(g, p)
	}
	return nil
}

// start runs an agent; calling it again after stop is a restart of the program.
func (w *world) start() {
	w.t.Helper()
	a, err := New(Config{Client: w.api, Runtime: w.runtime, NodeName: "n1", StateDir: w.dir,
		Addresses:  []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.168.1.1"}},
		ClusterDNS: []string{"10.96.0.10"}, Cgroups: w.cgroups, Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		if err := a.Run(ctx); err != nil {
			w.t.Error(err)
		}
	})
	w.stop = func() { cancel(); done.Wait() }
	synctest.Wait()
}

func inWorld(t *testing.T, r *podtest.Runtime, test func(w *world)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		if r.Images == nil {
			r.Images = []string{"app:1"}
		}
		w := &world{t: t, api: clienttest.New(t, clienttest.Kinds()), runtime: r, dir: dir, cgroups: groups{}}
		w.start()
		test(w)
		w.stop()
		if shared := w.api.Shared(); len(shared) > 0 {
			t.Errorf("shared objects were written to: %s", shared)
		}
	})
}

func aPod(name string, change ...func(*corev1.Pod)) *corev1.Pod {
	grace := int64(30)
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: corev1.PodSpec{
		NodeName: "n1", RestartPolicy: corev1.RestartPolicyAlways, TerminationGracePeriodSeconds: &grace,
		Containers: []corev1.Container{{Name: "app", Image: "app:1", ImagePullPolicy: corev1.PullIfNotPresent}}}}
	for _, c := range change {
		c(p)
	}
	return p
}

func (w *world) create(p *corev1.Pod) {
	w.t.Helper()
	if _, err := client.Create(context.Background(), w.api, p); err != nil {
		w.t.Fatal(err)
	}
	synctest.Wait()
}

func (w *world) delete(name string, grace int64) {
	w.t.Helper()
	if err := client.Delete[*corev1.Pod](context.Background(), w.api, "default", name, &metav1.DeleteOptions{GracePeriodSeconds: &grace}); err != nil {
		w.t.Fatal(err)
	}
	synctest.Wait()
}

func (w *world) after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// pod returns a pod, nil if there is none.
func (w *world) pod(name string) *corev1.Pod {
	p, err := client.Get[*corev1.Pod](context.Background(), w.api, "default", name)
	if err != nil {
		return nil
	}
	return p
}

// events lists the events of a pod as "Reason message xCOUNT".
func (w *world) events() []string {
	all, err := client.List[*corev1.Event](context.Background(), w.api, client.Query{})
	if err != nil {
		w.t.Fatal(err)
	}
	var lines []string
	for _, e := range all {
		lines = append(lines, e.Reason+": "+e.Message)
	}
	return lines
}

func (w *world) said(text string) {
	w.t.Helper()
	if !slices.ContainsFunc(w.events(), func(e string) bool { return strings.Contains(e, text) }) {
		w.t.Errorf("no event says %q:\n%s", text, strings.Join(w.events(), "\n"))
	}
}

func condition(p *corev1.Pod, t corev1.PodConditionType) corev1.PodCondition {
	for _, c := range p.Status.Conditions {
		if c.Type == t {
			return c
		}
	}
	return corev1.PodCondition{}
}

func changing(calls []string) []string {
	var all []string
	for _, c := range calls {
		if !strings.HasPrefix(c, "ImageStatus") {
			all = append(all, c)
		}
	}
	return all
}
