package store_test

import (
	"runtime"
	"sync"
	"testing"
	"time"

	"sampan/cluster/store"
)

// BenchmarkResident is what a pod costs in memory, as it was written and after
// a start. One round says it all: -benchtime 1x.
func BenchmarkResident(b *testing.B) {
	const n = 10_000
	for range b.N {
		c := store.Config{Dir: b.TempDir(), Kinds: table(), Codec: protoCodec{}, Log: logTo(b)}
		empty, began := heap(), time.Now()
		for _, phase := range []string{"written", "read"} {
			s, err := store.Open(ctx, c)
			if err != nil {
				b.Fatal(err)
			}
			if phase == "written" {
				createReplicas(b, s, n)
			}
			b.ReportMetric(time.Since(began).Seconds(), "s-until-"+phase)
			b.ReportMetric(float64(heap()-empty)/n, "B/"+phase)
			if err := s.Close(); err != nil {
				b.Fatal(err)
			}
			began = time.Now()
		}
	}
}

// createReplicas makes pods as the API does: each is decoded from bytes.
func createReplicas(b testing.TB, s *store.Store, n int) {
	var all sync.WaitGroup
	next := make(chan int)
	for range 16 {
		all.Go(func() {
			for i := range next {
				data, err := protoCodec{}.Encode(pods, store.Replica(i))
				if err != nil {
					b.Error(err)
				}
				p, err := protoCodec{}.Decode(pods, data)
				if err != nil {
					b.Error(err)
				}
				if _, err := s.Create(ctx, store.Key{Kind: pods, Namespace: "default", Name: p.GetName()}, p); err != nil {
					b.Error(err)
				}
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	all.Wait()
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
