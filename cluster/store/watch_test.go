package store_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/kind"
	"sampan/cluster/store"
)

func watch(t testing.TB, s *store.Store, k *kind.Kind, opts store.WatchOptions) *store.Cursor {
	t.Helper()
	c, err := s.Watch(k, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestAWatchSeesEveryChangeWithWhatWasBefore(t *testing.T) {
	t.Parallel()

	s := open(t, t.TempDir())
	create(t, s, "before", "0")
	c := watch(t, s, configMaps, store.WatchOptions{})
	create(t, s, "a", "1")
	if _, err := s.Update(ctx, cm("a"), set("2")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Delete(ctx, cm("a"), nil); err != nil {
		t.Fatal(err)
	}
	want := []string{"added a=1", "modified a=2 (1)", "deleted a=2 (2)"}
	if got := read(t, c, 3); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if _, upTo, err := c.Next(); err != nil || upTo != s.Revision() {
		t.Errorf("complete up to %d, %v; want %d", upTo, err, s.Revision())
	}
}

func TestWatchersShareEventsAndTheirEncoding(t *testing.T) {
	t.Parallel()

	s := open(t, t.TempDir())
	a, b := watch(t, s, configMaps, store.WatchOptions{}), watch(t, s, configMaps, store.WatchOptions{})
	made := create(t, s, "a", "1")
	first, _, err := a.Next()
	if err != nil {
		t.Fatal(err)
	}
	second, _, err := b.Next()
	if err != nil {
		t.Fatal(err)
	}
	if len(first) != 1 || len(second) != 1 || first[0] != second[0] || first[0].Object != made {
		t.Fatalf("got %v and %v, want one shared event of the object that was written", first, second)
	}
	calls := 0
	encode := func() []byte { calls++; return []byte("x") }
	for range 3 {
		first[0].Encoded("json", encode)
	}
	if second[0].Encoded("json", encode); calls != 1 {
		t.Errorf("encoded %d times, want once", calls)
	}
	if second[0].Encoded("yaml", encode); calls != 2 {
		t.Errorf("encoded %d times for two forms, want 2", calls)
	}
}

func TestAWatchByIndexIsWokenForItsObjectsOnly(t *testing.T) {
	t.Parallel()

	s := open(t, t.TempDir())
	c := watch(t, s, pods, store.WatchOptions{Index: "spec.nodeName", Value: "n1"})
	<-c.More() // a new cursor always has one look
	put := func(name, node string) {
		t.Helper()
		k := store.Key{Kind: pods, Namespace: "default", Name: name}
		if _, err := s.Transact(ctx, k, func(kind.Object) (kind.Object, []store.Op, error) {
			return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
				Spec: corev1.PodSpec{NodeName: node}}, nil, nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	start := s.Revision()
	put("other", "n2")
	select {
	case <-c.More():
		t.Error("woken for a pod of another node")
	default:
	}
	put("mine", "")
	put("mine", "n1")
	put("mine", "n2")
	want := []string{"modified mine=n1 ()", "modified mine=n2 (n1)"}
	if got := read(t, c, 2); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	late := watch(t, s, pods, store.WatchOptions{Since: start, Index: "spec.nodeName", Value: "n1"})
	if got := read(t, late, 2); !slices.Equal(got, want) {
		t.Errorf("resumed: got %q, want %q", got, want)
	}
}

func TestAWatchResumesOrIsToldThatItCannot(t *testing.T) {
	t.Parallel()

	s := open(t, t.TempDir(), func(c *store.Config) { c.Window = store.Window{Min: 3, Max: 5} })
	revisions := map[int]int64{}
	slow := watch(t, s, configMaps, store.WatchOptions{})
	for i := range 10 {
		create(t, s, fmt.Sprint("a", i), "1")
		revisions[i] = s.Revision()
	}
	c := watch(t, s, configMaps, store.WatchOptions{Since: revisions[6]})
	if got := read(t, c, 3); !slices.Equal(got, []string{"added a7=1", "added a8=1", "added a9=1"}) {
		t.Errorf("resumed with %q", got)
	}
	var expired *store.Expired
	if _, err := s.Watch(configMaps, store.WatchOptions{Since: revisions[2]}); !errors.As(err, &expired) {
		t.Errorf("a watch of the far past: %v", err)
	} else if want := fmt.Sprintf("too old resource version: %d (%d)", revisions[2], revisions[4]); err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
	if _, _, err := slow.Next(); !errors.As(err, &expired) {
		t.Errorf("a cursor that was too slow: %v, want Expired", err)
	}
}

func TestAWatchOfTheFutureWaitsForIt(t *testing.T) {
	t.Parallel()

	s := open(t, t.TempDir())
	c := watch(t, s, configMaps, store.WatchOptions{Since: s.Revision() + 1})
	create(t, s, "skipped", "1")
	create(t, s, "seen", "1")
	if got := read(t, c, 1); got[0] != "added seen=1" {
		t.Errorf("got %q", got)
	}
}

func TestTheLogShrinksAfterABurst(t *testing.T) {
	t.Parallel()

	s := open(t, t.TempDir(), func(c *store.Config) { c.Window = store.Window{Min: 2, Max: 100, Age: time.Millisecond} })
	start := s.Revision()
	var expired *store.Expired
	for i := range 5 {
		create(t, s, fmt.Sprint("a", i), "1")
	}
	limit := time.After(10 * time.Second)
	for {
		if c, err := s.Watch(configMaps, store.WatchOptions{Since: start}); errors.As(err, &expired) {
			return
		} else if err == nil {
			c.Close()
		}
		select {
		case <-limit:
			t.Fatal("the log kept all events")
		default:
		}
	}
}

func TestListAndWatchLeaveNoGap(t *testing.T) {
	t.Parallel()

	s := open(t, t.TempDir())
	stop, over := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				create(t, s, fmt.Sprintf("a%05d", i), "1")
			}
		}
	}()
	for range 20 {
		l, c, err := s.ListAndWatch(configMaps, store.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf("added a%05d=1", l.Count())
		if got := read(t, c, 1); got[0] != want {
			t.Errorf("after a list of %d the first event is %q, want %q", l.Count(), got[0], want)
		}
		c.Close()
	}
	close(stop)
	<-over
}

func TestARestartResumesWatchesWithoutGapOrRepeat(t *testing.T) {
	t.Parallel()

	dir := t.TempDir()
	s, err := store.Open(ctx, store.Config{Dir: dir, Kinds: table(), Codec: jsonCodec{}})
	if err != nil {
		t.Fatal(err)
	}
	create(t, s, "a", "1")
	since := s.Revision()
	create(t, s, "b", "1")
	if _, err := s.Update(ctx, cm("a"), set("2")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Delete(ctx, cm("b"), nil); err != nil {
		t.Fatal(err)
	}
	c := watch(t, s, configMaps, store.WatchOptions{Since: since})
	before := read(t, c, 3)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	<-s.Done()
	if _, _, err := c.Next(); err == nil || s.Err() == nil {
		t.Error("a cursor of a closed store gives no error")
	}
	s = open(t, dir)
	after := read(t, watch(t, s, configMaps, store.WatchOptions{Since: since}), 3)
	if !slices.Equal(before, after) {
		t.Errorf("resumed with %q, want %q", after, before)
	}
	if events, _, err := watch(t, s, configMaps, store.WatchOptions{Since: s.Revision()}).Next(); err != nil || len(events) != 0 {
		t.Errorf("a watch from the end: %d events, %v", len(events), err)
	}
}

func TestHistoryThatWasCompactedIsNotResumedAfterARestart(t *testing.T) {
	t.Parallel()

	dir := t.TempDir()
	s, err := store.Open(ctx, store.Config{Dir: dir, Kinds: table(), Codec: jsonCodec{}})
	if err != nil {
		t.Fatal(err)
	}
	create(t, s, "a", "1")
	old := s.Revision()
	create(t, s, "b", "1")
	compacted := s.Revision()
	create(t, s, "c", "1")
	if err := s.Compact(ctx, compacted); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	var expired *store.Expired
	if _, err := s.Watch(configMaps, store.WatchOptions{Since: old}); !errors.As(err, &expired) {
		t.Errorf("from before the compaction: %v, want Expired", err)
	}
	if got := read(t, watch(t, s, configMaps, store.WatchOptions{Since: compacted}), 1); got[0] != "added c=1" {
		t.Errorf("from the compaction on: %q", got)
	}
}

func TestADamagedObjectDoesNotStopTheOthers(t *testing.T) {
	t.Parallel()

	dir := t.TempDir()
	s, err := store.Open(ctx, store.Config{Dir: dir, Kinds: table(), Codec: damaging{}})
	if err != nil {
		t.Fatal(err)
	}
	create(t, s, "a", "1")
	create(t, s, "damaged", "1")
	create(t, s, "damaged-badly", "1")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, func(c *store.Config) { c.Codec = panicking{} })
	l, err := s.List(configMaps, store.ListOptions{})
	if err != nil || l.Count() != 1 {
		t.Errorf("%d objects, %v; want the one that can be decoded", l.Count(), err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// damaging writes what cannot be read for objects of that name.
type damaging struct{ jsonCodec }

func (d damaging) Encode(k *kind.Kind, obj kind.Object) ([]byte, error) {
	if strings.HasPrefix(obj.GetName(), "damaged") {
		return []byte("{" + strings.TrimPrefix(obj.GetName(), "damaged")), nil
	}
	return d.jsonCodec.Encode(k, obj)
}

// panicking is a decoder that does not survive some bytes.
type panicking struct{ jsonCodec }

func (p panicking) Decode(k *kind.Kind, data []byte) (kind.Object, error) {
	if string(data) == "{-badly" {
		panic("index out of range")
	}
	return p.jsonCodec.Decode(k, data)
}

func TestAWriteToASharedObjectIsFound(t *testing.T) {
	t.Parallel()

	s, err := store.Open(ctx, store.Config{Dir: t.TempDir(), Kinds: table(), Codec: jsonCodec{}, CheckShared: true})
	if err != nil {
		t.Fatal(err)
	}
	create(t, s, "a", "1").(*corev1.ConfigMap).Data["v"] = "written to"
	if err := s.Close(); err == nil || !strings.Contains(err.Error(), "default/a") {
		t.Errorf("got %v, want an error that names the object", err)
	}
}
