package store_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"sampan/cluster/kind"
	"sampan/cluster/store"
	"sampan/internal/fault"
)

// done is one acknowledged write of a simulation.
type done struct {
	revision int64
	name     string
	value    string // empty: deleted
}

// TestAnySequenceOfWritesIsInTheLogInTheCacheAndInEtcd has goroutines write at
// random, and compares with a model that is a map.
func TestAnySequenceOfWritesIsInTheLogInTheCacheAndInEtcd(t *testing.T) {
	t.Parallel()

	for _, writers := range []int{1, 8, 32} {
		t.Run(fmt.Sprintf("%d writers", writers), func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir)
			start := s.Revision()
			var mu sync.Mutex
			var acknowledged []done
			var running sync.WaitGroup
			for w := range writers {
				running.Go(func() {
					for _, d := range simulate(t, s, rand.New(rand.NewPCG(uint64(w), 7)), 1600/writers) {
						mu.Lock()
						acknowledged = append(acknowledged, d)
						mu.Unlock()
					}
				})
			}
			running.Wait()
			slices.SortFunc(acknowledged, func(a, b done) int { return int(a.revision - b.revision) })
			model := map[string]string{}
			var want []string
			for _, d := range acknowledged {
				old, had := model[d.name]
				switch {
				case d.value == "":
					want = append(want, fmt.Sprintf("deleted %s=%s (%s)", d.name, old, old))
					delete(model, d.name)
					continue
				case had:
					want = append(want, fmt.Sprintf("modified %s=%s (%s)", d.name, d.value, old))
				default:
					want = append(want, fmt.Sprintf("added %s=%s", d.name, d.value))
				}
				model[d.name] = d.value
			}
			c := watch(t, s, configMaps, store.WatchOptions{Since: start})
			if got := read(t, c, len(want)); !slices.Equal(got, want) {
				t.Errorf("the log differs from the %d acknowledged writes", len(want))
			}
			same(t, s, model)
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			same(t, open(t, dir), model)
		})
	}
}

// simulate writes at random and returns what was acknowledged.
func simulate(t *testing.T, s *store.Store, r *rand.Rand, steps int) (all []done) {
	for range steps {
		d := done{name: fmt.Sprint("n", r.IntN(20)), value: strconv.FormatUint(r.Uint64(), 36)}
		var obj kind.Object
		var err error
		switch r.IntN(4) {
		case 0:
			obj, err = s.Create(ctx, cm(d.name), configMap(d.name, d.value))
		case 1:
			d.value = ""
			obj, err = s.Delete(ctx, cm(d.name), nil)
		default:
			obj, err = s.Update(ctx, cm(d.name), set(d.value))
		}
		if class := fault.ClassOf(err); class == fault.Exists || class == fault.NotFound {
			continue
		}
		if err != nil {
			t.Error(err)
			return all
		}
		d.revision, _ = strconv.ParseInt(obj.GetResourceVersion(), 10, 64)
		if now := s.Revision(); now < d.revision {
			t.Errorf("a write at %d returned when the cache was at %d", d.revision, now)
		}
		all = append(all, d)
	}
	return all
}

func same(t *testing.T, s *store.Store, model map[string]string) {
	t.Helper()
	l, err := s.List(configMaps, store.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for o := range l.All() {
		got[o.GetName()] = o.(*corev1.ConfigMap).Data["v"]
	}
	if fmt.Sprint(got) != fmt.Sprint(model) {
		t.Errorf("the cache has %v, want %v", got, model)
	}
}
