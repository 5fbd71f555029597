package store_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/kind"
	"sampan/cluster/store"
	"sampan/internal/fault"
)

func TestAWriterReadsWhatItWrote(t *testing.T) {
	t.Parallel()

	s := open(t, t.TempDir())
	made := create(t, s, "a", "1")
	if got, ok := s.Get(cm("a")); !ok || got != made {
		t.Errorf("Get after Create: %v, want the same pointer as Create returned", got)
	}
	if rv := made.GetResourceVersion(); rv != strconv.FormatInt(s.Revision(), 10) {
		t.Errorf("resourceVersion %q, store is at %d", rv, s.Revision())
	}
	next, err := s.Update(ctx, cm("a"), set("2"))
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := s.Get(cm("a")); got != next || got.(*corev1.ConfigMap).Data["v"] != "2" {
		t.Errorf("Get after Update: %v", got)
	}
	last, err := s.Delete(ctx, cm("a"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if last.GetResourceVersion() <= next.GetResourceVersion() {
		t.Errorf("deleted at %s, want the revision of the deletion", last.GetResourceVersion())
	}
	if _, ok := s.Get(cm("a")); ok {
		t.Error("still there after Delete")
	}
}

func TestWritesSayWhatIsInTheWay(t *testing.T) {
	t.Parallel()

	s := open(t, t.TempDir())
	create(t, s, "a", "1")
	_, err := s.Create(ctx, cm("a"), configMap("a", "2"))
	if fault.ClassOf(err) != fault.Exists {
		t.Errorf("create twice: %v", err)
	}
	if _, err = s.Update(ctx, cm("b"), set("2")); fault.ClassOf(err) != fault.NotFound {
		t.Errorf("update of nothing: %v", err)
	}
	if _, err = s.Delete(ctx, cm("b"), nil); fault.ClassOf(err) != fault.NotFound {
		t.Errorf("delete of nothing: %v", err)
	}
	refused := errors.New("refused")
	if _, err = s.Delete(ctx, cm("a"), func(kind.Object) error { return refused }); err != refused {
		t.Errorf("refused delete: %v", err)
	}
}

func TestAChangeThatChangesNothingWritesNothing(t *testing.T) {
	t.Parallel()

	s := open(t, t.TempDir())
	made := create(t, s, "a", "1")
	before := s.Revision()
	for _, change := range []func(kind.Object) (kind.Object, error){
		set("1"), func(o kind.Object) (kind.Object, error) { return o, nil },
	} {
		if got, err := s.Update(ctx, cm("a"), change); err != nil || got != made {
			t.Errorf("got %v, %v; want the current object", got, err)
		}
	}
	if s.Revision() != before {
		t.Errorf("revision went from %d to %d", before, s.Revision())
	}
}

func TestALostRaceIsTriedAgain(t *testing.T) {
	t.Parallel()

	s := open(t, t.TempDir())
	create(t, s, "a", "1")
	calls := 0
	_, err := s.Update(ctx, cm("a"), func(current kind.Object) (kind.Object, error) {
		calls++
		if calls == 1 {
			if _, err := s.Update(ctx, cm("a"), set("faster")); err != nil {
				t.Fatal(err)
			}
		}
		return set(current.(*corev1.ConfigMap).Data["v"] + "+")(current)
	})
	if got, _ := s.Get(cm("a")); err != nil || calls != 2 || got.(*corev1.ConfigMap).Data["v"] != "faster+" {
		t.Errorf("%v after %d calls, %v", got, calls, err)
	}
}

func TestRequestsToEtcdAreCounted(t *testing.T) {
	t.Parallel()

	s := open(t, t.TempDir())
	counts := func() string {
		var all []string
		for _, r := range s.Requests(configMaps) {
			if h := r.Times; len(h.At) != 23 || h.At[0] != 0.005 || h.At[22] != 60 || h.Sum <= 0 || r.Errors > 0 {
				t.Errorf("%+v", r)
			}
			all = append(all, fmt.Sprint(r.Operation, " ", r.Times.Count))
		}
		return strings.Join(all, ", ")
	}
	if got := counts(); got != "" {
		t.Errorf("at first: %s", got)
	}
	create(t, s, "a", "1")
	was := s.Revision()
	if _, err := s.Update(ctx, cm("a"), set("2")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Update(ctx, cm("a"), set("2")); err != nil { // changes nothing
		t.Fatal(err)
	}
	if _, err := s.ListAt(ctx, configMaps, was, store.ListOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Delete(ctx, cm("a"), nil); err != nil {
		t.Fatal(err)
	}
	if got, want := counts(), "list 1, create 1, update 1, delete 1"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := s.Requests(pods); len(got) > 0 {
		t.Errorf("nobody asked for pods: %v", got)
	}
	ended, stop := context.WithCancel(ctx)
	stop()
	if _, err := s.Create(ended, cm("b"), configMap("b", "1")); err == nil {
		t.Fatal("written although nobody waits")
	}
	if got := s.Requests(configMaps)[1]; got.Errors != 1 || got.Times.Count != 2 {
		t.Errorf("one that failed: %+v", got)
	}
}

func TestFurtherOperationsHappenTogetherOrNotAtAll(t *testing.T) {
	t.Parallel()

	s := open(t, t.TempDir())
	service := func(name string) (store.Key, *corev1.Service) {
		return store.Key{Kind: services, Namespace: "default", Name: name},
			&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
	}
	web, obj := service("web")
	if _, err := s.Create(ctx, web, obj, store.Op{Key: cm("ip"), Object: configMap("ip", "web")}); err != nil {
		t.Fatal(err)
	}
	ip, ok := s.Get(cm("ip"))
	have, _ := s.Get(web)
	if !ok || ip.GetResourceVersion() != have.GetResourceVersion() {
		t.Errorf("written as %v and %v, want one revision", have, ip)
	}
	other, obj := service("other")
	_, err := s.Create(ctx, other, obj, store.Op{Key: cm("ip"), Object: configMap("ip", "other")})
	var failed *store.OpFailed
	if !errors.As(err, &failed) || failed.Op.Key != cm("ip") {
		t.Errorf("the same address twice: %v", err)
	}
	if _, ok := s.Get(other); ok {
		t.Error("the service was made without its address")
	}
	if _, err := s.Delete(ctx, web, nil, store.Op{Key: cm("ip"), Revision: store.AnyRevision}); err != nil {
		t.Fatal(err)
	}
	if _, ok := s.Get(cm("ip")); ok {
		t.Error("the address outlived its service")
	}
}

func TestTransactCreatesOrUpdates(t *testing.T) {
	t.Parallel()

	s := open(t, t.TempDir())
	add := func(current kind.Object) (kind.Object, []store.Op, error) {
		if current == nil {
			return configMap("a", "1"), nil, nil
		}
		next, err := set(current.(*corev1.ConfigMap).Data["v"] + "1")(current)
		return next, nil, err
	}
	for range 2 {
		if _, err := s.Transact(ctx, cm("a"), add); err != nil {
			t.Fatal(err)
		}
	}
	if got, _ := s.Get(cm("a")); got.(*corev1.ConfigMap).Data["v"] != "11" {
		t.Errorf("got %v", got)
	}
}

func TestListsAreInOrderAndStayAsTheyWere(t *testing.T) {
	t.Parallel()

	s := open(t, t.TempDir())
	for _, n := range []string{"b", "a", "c"} {
		for _, ns := range []string{"x", "x-y", "a"} {
			k := store.Key{Kind: pods, Namespace: ns, Name: n}
			p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: n}, Spec: corev1.PodSpec{NodeName: n}}
			if _, err := s.Create(ctx, k, p); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range []struct {
		it    string
		opts  store.ListOptions
		want  []string
		count int
	}{
		{"all, as etcd orders its keys", store.ListOptions{},
			[]string{"a/a", "a/b", "a/c", "x-y/a", "x-y/b", "x-y/c", "x/a", "x/b", "x/c"}, 9},
		{"one namespace", store.ListOptions{Namespace: "x"}, []string{"x/a", "x/b", "x/c"}, 3},
		{"a namespace that is not", store.ListOptions{Namespace: "m"}, nil, 0},
		{"a page", store.ListOptions{Limit: 2}, []string{"a/a", "a/b"}, 9},
		{"the next page", store.ListOptions{Limit: 2, AfterNamespace: "a", AfterName: "b"}, []string{"a/c", "x-y/a"}, 7},
		{"after an object that is gone", store.ListOptions{AfterNamespace: "x-y", AfterName: "bb"}, []string{"x-y/c", "x/a", "x/b", "x/c"}, 4},
		{"a page of a namespace", store.ListOptions{Namespace: "x-y", AfterNamespace: "x-y", AfterName: "a"}, []string{"x-y/b", "x-y/c"}, 2},
		{"by index", store.ListOptions{Index: "spec.nodeName", Value: "b"}, []string{"a/b", "x-y/b", "x/b"}, 3},
		{"by index in a namespace", store.ListOptions{Index: "spec.nodeName", Value: "b", Namespace: "x"}, []string{"x/b"}, 1},
	} {
		for _, from := range []string{"cache", "etcd"} {
			l, err := s.List(pods, c.opts)
			if err == nil && from == "etcd" && c.opts.Index == "" {
				revision := s.Revision()
				if _, err := s.Transact(ctx, cm("moves"), func(kind.Object) (kind.Object, []store.Op, error) {
					return configMap("moves", c.it), nil, nil // the revision above is of the past now
				}); err != nil {
					t.Fatal(err)
				}
				l, err = s.ListAt(ctx, pods, revision, c.opts)
			}
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for o := range l.All() {
				got = append(got, o.GetNamespace()+"/"+o.GetName())
			}
			if !slices.Equal(got, c.want) || l.Count() != c.count || len(l.Slice()) != len(c.want) {
				t.Errorf("%s, from %s: %q, count %d; want %q, count %d", c.it, from, got, l.Count(), c.want, c.count)
			}
		}
	}
	before, err := s.List(pods, store.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Delete(ctx, store.Key{Kind: pods, Namespace: "x", Name: "a"}, nil); err != nil {
		t.Fatal(err)
	}
	if before.Count() != 9 {
		t.Errorf("a list taken before a delete has %d objects, want 9", before.Count())
	}
	if _, err := s.List(pods, store.ListOptions{Index: "nonsense"}); err == nil {
		t.Error("an unknown index gave no error")
	}
}

func TestPagesAreOfOneRevision(t *testing.T) {
	t.Parallel()

	for _, keep := range []bool{true, false} {
		t.Run(fmt.Sprint("kept ", keep), func(t *testing.T) {
			s := open(t, t.TempDir())
			for i := range 5 {
				create(t, s, fmt.Sprint("a", i), "1")
			}
			first, err := s.List(configMaps, store.ListOptions{Limit: 2, Keep: keep})
			if err != nil {
				t.Fatal(err)
			}
			create(t, s, "a2b", "later")
			if _, err := s.Delete(ctx, cm("a3"), nil); err != nil {
				t.Fatal(err)
			}
			rest, err := s.ListAt(ctx, configMaps, first.Revision, store.ListOptions{AfterNamespace: "default", AfterName: "a1", Limit: 2})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for o := range rest.All() {
				got = append(got, o.GetName())
			}
			if want := []string{"a2", "a3"}; !slices.Equal(got, want) || rest.Count() != 3 {
				t.Errorf("second page %q of %d, want %q of 3", got, rest.Count(), want)
			}
		})
	}
}

func TestACompactedRevisionIsExpired(t *testing.T) {
	t.Parallel()

	s := open(t, t.TempDir())
	create(t, s, "a", "1")
	old := s.Revision()
	create(t, s, "b", "1")
	if err := s.Compact(ctx, s.Revision()); err != nil {
		t.Fatal(err)
	}
	var expired *store.Expired
	if _, err := s.ListAt(ctx, configMaps, old, store.ListOptions{}); !errors.As(err, &expired) || expired.Revision != old {
		t.Errorf("got %v, want Expired", err)
	}
}

func TestCompactionRunsWhileThereIsHistory(t *testing.T) {
	t.Parallel()

	s := open(t, t.TempDir(), func(c *store.Config) { c.CompactEvery = 20 * time.Millisecond })
	create(t, s, "a", "1")
	old := s.Revision()
	var expired *store.Expired
	for deadline := time.Now().Add(10 * time.Second); ; {
		if _, err := s.Update(ctx, cm("a"), set(time.Now().String())); err != nil {
			t.Fatal(err)
		}
		if _, err := s.ListAt(ctx, configMaps, old, store.ListOptions{}); errors.As(err, &expired) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the history was never compacted")
		}
	}
}

func TestObjectsWithATimeToLiveGo(t *testing.T) {
	t.Parallel()

	s := open(t, t.TempDir())
	c, err := s.Watch(events, store.WatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, n := range []string{"a", "b"} {
		e := &corev1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: n}}
		if _, err := s.Create(ctx, store.Key{Kind: events, Namespace: "default", Name: n}, e); err != nil {
			t.Fatal(err)
		}
	}
	got := read(t, c, 4)
	slices.Sort(got[2:])
	if want := []string{"added a=", "added b=", "deleted a= ()", "deleted b= ()"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestSyncComesToTheCurrentRevision(t *testing.T) {
	t.Parallel()

	s := open(t, t.TempDir())
	create(t, s, "a", "1")
	if got, err := s.Sync(ctx); err != nil || got != s.Revision() {
		t.Errorf("Sync: %d, %v", got, err)
	}
	short, stop := context.WithTimeout(ctx, 10*time.Millisecond)
	defer stop()
	if err := s.WaitFor(short, s.Revision()+1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waiting for the future: %v", err)
	}
	done := make(chan error)
	go func() { done <- s.WaitFor(ctx, s.Revision()+1) }()
	create(t, s, "b", "1")
	create(t, s, "c", "1")
	if err := <-done; err != nil {
		t.Errorf("waiting for the next revision: %v", err)
	}
}

func TestKindsComeAndGo(t *testing.T) {
	t.Parallel()

	dir := t.TempDir()
	s := open(t, dir)
	key := store.Key{Kind: namespaces, Name: "x"}
	if _, err := s.Create(ctx, key, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "x"}}); err != nil {
		t.Fatal(err)
	}
	s.Remove(namespaces)
	if _, ok := s.Get(key); ok {
		t.Error("an object of a removed kind is still there")
	}
	if _, err := s.List(namespaces, store.ListOptions{}); fault.ClassOf(err) != fault.NotFound {
		t.Errorf("a list of a removed kind: %v", err)
	}
	if err := s.Add(ctx, namespaces); err != nil {
		t.Fatal(err)
	}
	if _, ok := s.Get(key); !ok {
		t.Error("the kind came back without its object")
	}
}

func TestASecondStoreOnTheSameDirectoryIsRefused(t *testing.T) {
	t.Parallel()

	dir := t.TempDir()
	s := open(t, dir)
	_, err := store.Open(ctx, store.Config{Dir: dir, Kinds: table(), Codec: jsonCodec{}})
	if fault.ClassOf(err) != fault.Unavailable {
		t.Errorf("got %v, want unavailable", err)
	}
	create(t, s, "a", "1") // the first one is as it was
}

func TestWritersOfTheSameBytesEachGetTheirOwnRevision(t *testing.T) {
	t.Parallel()

	s := open(t, t.TempDir())
	create(t, s, "a", "0")
	for round := range 100 {
		var racing sync.WaitGroup
		revisions := make([]string, 4)
		for i := range revisions {
			racing.Go(func() {
				want := configMap("a", fmt.Sprint(round)) // offered again after a lost race
				obj, err := s.Update(ctx, cm("a"), func(kind.Object) (kind.Object, error) { return want, nil })
				if err != nil {
					t.Error(err)
					return
				}
				revisions[i] = obj.GetResourceVersion()
			})
		}
		racing.Wait()
		now, _ := s.Get(cm("a"))
		for _, r := range revisions {
			if r != now.GetResourceVersion() {
				t.Fatalf("round %d: writers got revisions %q, the object is at %s: one wrote, and the others changed nothing",
					round, revisions, now.GetResourceVersion())
			}
		}
	}
}
