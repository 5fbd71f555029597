package clienttest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"sampan/cluster/client"
)

// Suite is what every client.Client must do, wherever its objects are. make
// returns one that may do everything, on a server that has no objects. A read
// may be older than the last write: the suite waits until a watch has it.
func Suite(t *testing.T, make func(t *testing.T) client.Client) {
	for _, c := range []struct {
		it    string
		check func(s *suite)
	}{
		{"gives what is there, and NotFound for the rest", reads},
		{"lists by namespace, name, labels and index, in order", lists},
		{"watches: all there is, Synced, then every change with the state before", watches},
		{"shows objects that begin and stop to match as added and deleted", matches},
		{"refuses an update of another state, and takes one of any", updates},
		{"patches", patches},
		{"deletes only what the preconditions name", deletes},
		{"acts by a subresource of another kind", acts},
		{"chooses a name", names},
		{"ends a watch with either context", ends},
	} {
		t.Run(c.it, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // for what hangs
			t.Cleanup(cancel)
			c.check(&suite{T: t, Client: make(t), ctx: ctx})
		})
	}
}

type suite struct {
	*testing.T
	client.Client
	ctx context.Context
}

func (s *suite) configMap(namespace, name string, data map[string]string, labels ...string) *corev1.ConfigMap {
	s.Helper()
	m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Data: data}
	for _, l := range labels {
		m.Labels = map[string]string{"app": l}
	}
	return made(s, m)
}

func (s *suite) pod(name, node string) *corev1.Pod {
	s.Helper()
	return made(s, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "c", Image: "i"}}}})
}

// made creates an object and waits until it can be read.
func made[T client.Typed](s *suite, obj T) T {
	s.Helper()
	out, err := client.Create(s.ctx, s.Client, obj)
	if err != nil {
		s.Fatal(err)
	}
	settled(s, out)
	return out
}

// settled waits until reads show obj.
func settled[T client.Typed](s *suite, obj T) {
	s.Helper()
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	seen := false
	err := client.Follow(ctx, s.Client, client.Query{Namespace: obj.GetNamespace()}, func(c client.Change[T]) {
		if c.Type != client.Synced && c.Type != client.Deleted && c.Object.GetName() == obj.GetName() &&
			c.Object.GetResourceVersion() == obj.GetResourceVersion() {
			seen = true
			cancel()
		}
	})
	if !seen {
		s.Fatalf("%s is not seen: %v", obj.GetName(), err)
	}
}

func reads(s *suite) {
	want := s.configMap("default", "a", map[string]string{"k": "v"})
	got, err := client.Get[*corev1.ConfigMap](s.ctx, s, "default", "a")
	if err != nil || got.UID != want.UID || got.Data["k"] != "v" {
		s.Errorf("got %v, %v", got, err)
	}
	for _, missing := range []types.NamespacedName{{Namespace: "default", Name: "b"}, {Namespace: "other", Name: "a"}} {
		if _, err := client.Get[*corev1.ConfigMap](s.ctx, s, missing.Namespace, missing.Name); !apierrors.IsNotFound(err) {
			s.Errorf("%v: %v, want not found", missing, err)
		}
	}
	if _, err := client.Create(s.ctx, s.Client, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "a"}}); !apierrors.IsAlreadyExists(err) {
		s.Errorf("made twice: %v, want already exists", err)
	}
}

func lists(s *suite) {
	s.configMap("z", "a", nil, "web")
	s.configMap("default", "b", nil, "web")
	s.configMap("default", "a", nil)
	s.pod("here", "n1")
	s.pod("there", "n2")
	for _, c := range []struct {
		q    client.Query
		want []string
	}{
		{client.Query{}, []string{"default/a", "default/b", "z/a"}},
		{client.Query{Namespace: "default"}, []string{"default/a", "default/b"}},
		{client.Query{Namespace: "default", Name: "b"}, []string{"default/b"}},
		{client.Query{Labels: labels.SelectorFromSet(labels.Set{"app": "web"})}, []string{"default/b", "z/a"}},
		{client.Query{Namespace: "empty"}, nil},
	} {
		all, err := client.List[*corev1.ConfigMap](s.ctx, s, c.q)
		var got []string
		for _, m := range all {
			got = append(got, m.Namespace+"/"+m.Name)
		}
		if err != nil || !slices.Equal(got, c.want) {
			s.Errorf("%+v: %v, %v, want %v", c.q, got, err, c.want)
		}
	}
	pods, err := client.List[*corev1.Pod](s.ctx, s, client.Query{Index: "spec.nodeName", Value: "n1"})
	if err != nil || len(pods) != 1 || pods[0].Name != "here" {
		s.Errorf("by index: %v, %v", pods, err)
	}
	if _, err := s.List(s.ctx, client.KindOf[*corev1.Pod](s), client.Query{Index: "spec.nonsense"}); err == nil {
		s.Error("an index that there is none of was no error")
	}
}

// told is a watch as text, one event at a time.
type told struct {
	*suite
	w     client.Watcher
	queue []client.Event
}

func (s *suite) watch(q client.Query) *told {
	s.Helper()
	w, err := s.Watch(s.ctx, client.KindOf[*corev1.ConfigMap](s), q)
	if err != nil {
		s.Fatal(err)
	}
	return &told{suite: s, w: w}
}

func (t *told) expect(want ...string) {
	t.Helper()
	for _, w := range want {
		for len(t.queue) == 0 {
			var err error
			if t.queue, err = t.w.Next(t.ctx); err != nil {
				t.Fatalf("waiting for %q: %v", w, err)
			}
		}
		e := t.queue[0]
		t.queue = t.queue[1:]
		if got := describe(e); got != w {
			t.Fatalf("got %q, want %q", got, w)
		}
	}
}

func describe(e client.Event) string {
	if e.Type == client.Synced {
		return "synced"
	}
	value := func(m *corev1.ConfigMap) string { return m.Name + "=" + m.Data["k"] }
	text := [...]string{client.Added: "added ", client.Modified: "modified ", client.Deleted: "deleted "}[e.Type] + value(e.Object.(*corev1.ConfigMap))
	if e.Old != nil {
		text += " was " + value(e.Old.(*corev1.ConfigMap))
	}
	return text
}

func (s *suite) set(m *corev1.ConfigMap, value string) *corev1.ConfigMap {
	s.Helper()
	m = m.DeepCopy()
	m.Data = map[string]string{"k": value}
	out, err := client.Update(s.ctx, s.Client, m)
	if err != nil {
		s.Fatal(err)
	}
	return out
}

func watches(s *suite) {
	s.configMap("default", "b", map[string]string{"k": "1"})
	a := s.configMap("default", "a", map[string]string{"k": "1"})
	first := s.watch(client.Query{Namespace: "default"})
	first.expect("added a=1", "added b=1", "synced")
	s.configMap("other", "x", nil)
	s.set(a, "2")
	first.expect("modified a=2 was a=1")
	if err := client.Delete[*corev1.ConfigMap](s.ctx, s.Client, "default", "a", nil); err != nil {
		s.Fatal(err)
	}
	s.configMap("default", "c", nil)
	first.expect("deleted a=2 was a=2", "added c=")
	s.watch(client.Query{Namespace: "default"}).expect("added b=1", "added c=", "synced")
	s.watch(client.Query{Namespace: "default", Name: "c"}).expect("added c=", "synced")
}

func matches(s *suite) {
	m := s.configMap("default", "a", map[string]string{"k": "1"})
	w := s.watch(client.Query{Labels: labels.SelectorFromSet(labels.Set{"app": "web"})})
	w.expect("synced")
	m = m.DeepCopy()
	m.Labels = map[string]string{"app": "web"}
	m = s.set(m, "2")
	w.expect("added a=2")
	m = m.DeepCopy()
	m.Labels = nil
	s.set(m, "3")
	// The last state is the one in which it still matched.
	w.expect("deleted a=2 was a=2")
}

func updates(s *suite) {
	old := s.configMap("default", "a", map[string]string{"k": "1"})
	s.set(old, "2")
	stale := old.DeepCopy()
	if _, err := client.Update(s.ctx, s.Client, stale); !apierrors.IsConflict(err) {
		s.Errorf("an update of an old state: %v, want a conflict", err)
	}
	any := old.DeepCopy()
	any.ResourceVersion = ""
	any.Data = map[string]string{"k": "3"}
	if got, err := client.Update(s.ctx, s.Client, any); err != nil || got.Data["k"] != "3" {
		s.Errorf("an update of any state: %v, %v", got, err)
	}
	gone := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "gone"}}
	if _, err := client.Update(s.ctx, s.Client, gone); !apierrors.IsNotFound(err) {
		s.Errorf("an update of nothing: %v, want not found", err)
	}
	p := s.pod("p", "n1").DeepCopy()
	p.Status.Phase, p.Labels = corev1.PodRunning, map[string]string{"app": "web"}
	p.Spec.Containers[0].Image = "other"
	got, err := client.UpdateStatus(s.ctx, s.Client, p)
	if err != nil || got.Status.Phase != corev1.PodRunning || got.Spec.Containers[0].Image != "i" {
		s.Errorf("an update of the status: %v, %v", got, err)
	}
}

func patches(s *suite) {
	s.configMap("default", "a", map[string]string{"k": "1", "l": "1"})
	k := client.KindOf[*corev1.ConfigMap](s)
	obj, err := s.Patch(s.ctx, k, client.Patch{Namespace: "default", Name: "a", Type: types.MergePatchType, Data: []byte(`{"data":{"k":"2","l":null}}`)})
	if err != nil {
		s.Fatal(err)
	}
	if m := obj.(*corev1.ConfigMap); m.Data["k"] != "2" || len(m.Data) != 1 {
		s.Errorf("got %v", m.Data)
	}
	_, err = s.Patch(s.ctx, k, client.Patch{Namespace: "default", Name: "b", Type: types.MergePatchType, Data: []byte(`{}`)})
	if !apierrors.IsNotFound(err) {
		s.Errorf("a patch of nothing: %v, want not found", err)
	}
}

func deletes(s *suite) {
	m := s.configMap("default", "a", nil)
	wrong := types.UID("11111111-1111-1111-1111-111111111111")
	err := client.Delete[*corev1.ConfigMap](s.ctx, s.Client, "default", "a", &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &wrong}})
	if !apierrors.IsConflict(err) {
		s.Errorf("another's UID: %v, want a conflict", err)
	}
	opts := &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &m.UID}}
	if err := client.Delete[*corev1.ConfigMap](s.ctx, s.Client, "default", "a", opts); err != nil {
		s.Error(err)
	}
	if opts.Kind != "" {
		s.Error("the options were written to")
	}
	if err := client.Delete[*corev1.ConfigMap](s.ctx, s.Client, "default", "a", nil); !apierrors.IsNotFound(err) {
		s.Errorf("twice: %v, want not found", err)
	}
}

func acts(s *suite) {
	p := s.pod("p", "")
	k := client.KindOf[*corev1.Pod](s)
	to := &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "p"}, Target: corev1.ObjectReference{Kind: "Node", Name: "n1"}}
	if _, err := s.Act(s.ctx, k, "default", "p", "binding", to); err != nil {
		s.Fatal(err)
	}
	w, err := s.Watch(s.ctx, k, client.Query{Index: "spec.nodeName", Value: "n1"})
	if err != nil {
		s.Fatal(err)
	}
	for {
		events, err := w.Next(s.ctx)
		if err != nil {
			s.Fatal(err)
		}
		for _, e := range events {
			if e.Object != nil && e.Object.GetUID() == p.UID && e.Type != client.Deleted {
				return
			}
		}
	}
}

func names(s *suite) {
	a, err := client.Create(s.ctx, s.Client, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", GenerateName: "web-"}})
	if err != nil {
		s.Fatal(err)
	}
	if len(a.Name) != len("web-")+5 || a.Name[:4] != "web-" {
		s.Errorf("the name is %q", a.Name)
	}
}

func ends(s *suite) {
	ctx, cancel := context.WithCancelCause(s.ctx)
	w, err := s.Watch(ctx, client.KindOf[*corev1.ConfigMap](s), client.Query{})
	if err != nil {
		s.Fatal(err)
	}
	(&told{suite: s, w: w}).expect("synced")
	short, stop := context.WithCancel(s.ctx)
	stop()
	if _, err := w.Next(short); !errors.Is(err, context.Canceled) {
		s.Errorf("Next with a context that ended: %v", err)
	}
	s.configMap("default", "a", nil)
	(&told{suite: s, w: w}).expect("added a=")
	cancel(fmt.Errorf("enough"))
	if _, err := w.Next(s.ctx); !errors.Is(err, context.Canceled) {
		s.Errorf("Next of a watch whose context ended: %v", err)
	}
}
