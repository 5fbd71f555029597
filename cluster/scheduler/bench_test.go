package scheduler

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"sampan/cluster/client"
	"sampan/cluster/client/clienttest"
	"sampan/cluster/kind"
	"sampan/cluster/kind/core"
)

// sizes are the clusters measured; upstream's scheduler-perf has the last two.
var sizes = []int{100, 1000, 5000}

// big is a node in one of three zones that never gets full.
func big(i int) *corev1.Node {
	return node(fmt.Sprintf("n%04d", i), func(n *corev1.Node) {
		n.Labels[corev1.LabelTopologyZone] = fmt.Sprint("zone", i%3)
		n.Status.Allocatable[corev1.ResourcePods] = resource.MustParse("1000000")
		n.Status.Allocatable[corev1.ResourceCPU] = resource.MustParse("100000")
		n.Status.Allocatable[corev1.ResourceMemory] = resource.MustParse("100Ti")
	})
}

func labelled(key, value string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		if p.Labels == nil {
			p.Labels = map[string]string{}
		}
		p.Labels[key] = value
	}
}

// What it costs to find a node for one pod, of a few sorts.
func BenchmarkPlace(b *testing.B) {
	sorts := []struct {
		name string
		with func(i int) []func(*corev1.Pod)
		kin  bool
	}{
		{"plain", func(int) []func(*corev1.Pod) { return nil }, false},
		{"of-a-service", func(i int) []func(*corev1.Pod) {
			return []func(*corev1.Pod){labelled("app", fmt.Sprint("a", i%50))}
		}, true},
		{"spread", func(i int) []func(*corev1.Pod) {
			return []func(*corev1.Pod){labelled("app", "a"), spreads("kubernetes.io/hostname", 1000, corev1.DoNotSchedule, "app", "a")}
		}, false},
		{"apart", func(i int) []func(*corev1.Pod) {
			app := fmt.Sprint("a", i/50)
			return []func(*corev1.Pod){labelled("app", app), apart("kubernetes.io/hostname", "app", app)}
		}, false},
	}
	for _, size := range sizes {
		for _, sort := range sorts {
			b.Run(fmt.Sprintf("%s/%d", sort.name, size), func(b *testing.B) {
				s := NewSnapshot(nil, nil)
				for i := range size {
					s.SetNode(big(i))
				}
				r := rand.New(rand.NewPCG(1, 1))
				plugins, from := Plugins(), 0
				b.ResetTimer()
				for i := range b.N {
					p := NewPod(pod(fmt.Sprint(i), append(sort.with(i), asks("cpu", "1m"), asks("memory", "1"))...))
					if sort.kin {
						p.Kin = labels.SelectorFromSet(p.Labels)
					}
					var got Placement
					if got, from = Place(p, s, plugins, from, r); got.Node == "" {
						b.Fatal(got.Message())
					}
					s.SetPod(p, got.Node)
				}
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "pods/s")
			})
		}
	}
}

// How many pods a second the whole scheduler binds, over a client in memory.
func BenchmarkScheduler(b *testing.B) {
	for _, size := range sizes {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			fake := clienttest.New(nil, kind.NewTable(core.Kinds()))
			for i := range size {
				fake.Put(big(i))
			}
			for i := range b.N {
				p := pod(fmt.Sprintf("p%07d", i), asks("cpu", "1m"), asks("memory", "1"))
				p.UID = types.UID(p.Name)
				fake.Put(p)
			}
			ctx, cancel := context.WithCancel(b.Context())
			done := make(chan error, 1)
			b.ResetTimer()
			go func() { done <- New(Config{Client: fake, Log: slog.New(slog.DiscardHandler)}).Run(ctx) }()
			bound := 0
			all, stop := context.WithCancel(ctx)
			err := client.Follow(all, fake, client.Query{}, func(c client.Change[*corev1.Pod]) {
				if c.Object != nil && c.Object.Spec.NodeName != "" {
					if bound++; bound == b.N {
						stop()
					}
				}
			})
			b.StopTimer()
			stop()
			cancel()
			if err := <-done; err != nil {
				b.Error(err)
			}
			if err != nil || bound < b.N {
				b.Fatalf("%d of %d bound: %v", bound, b.N, err)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "pods/s")
		})
	}
}
