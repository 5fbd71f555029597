package store_test

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/kind"
	"sampan/cluster/store"
)

func quick(c *store.Config) { c.CheckShared, c.Codec = false, protoCodec{} }

func BenchmarkCreateBy32Writers(b *testing.B) {
	s := open(b, b.TempDir(), quick)
	var next atomic.Int64
	b.ReportAllocs()
	b.ResetTimer()
	var running sync.WaitGroup
	for range 32 {
		running.Go(func() {
			for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
				create(b, s, fmt.Sprint("n", i), "value")
			}
		})
	}
	running.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "writes/s")
}

func BenchmarkUpdateByOneWriter(b *testing.B) {
	s := open(b, b.TempDir(), quick)
	create(b, s, "a", "1")
	b.ResetTimer()
	for i := range b.N {
		if _, err := s.Update(ctx, cm("a"), set(fmt.Sprint(i, "x"))); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkList5000(b *testing.B) {
	s := open(b, b.TempDir(), quick)
	fill(b, s, 5000)
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		l, err := s.List(pods, store.ListOptions{})
		if err != nil || len(l.Slice()) != 5000 {
			b.Fatal(err)
		}
	}
}

func BenchmarkGet(b *testing.B) {
	s := open(b, b.TempDir(), quick)
	fill(b, s, 5000)
	k := store.Key{Kind: pods, Namespace: "default", Name: "pod-2500"}
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		if _, ok := s.Get(k); !ok {
			b.Fatal("gone")
		}
	}
}

// BenchmarkFanOut is one write and its event at each of 100 cursors.
func BenchmarkFanOut100(b *testing.B) {
	s := open(b, b.TempDir(), quick)
	create(b, s, "a", "1")
	var seen sync.WaitGroup
	stop := make(chan struct{})
	for range 100 {
		c := watch(b, s, configMaps, store.WatchOptions{})
		go func() {
			for {
				select {
				case <-c.More():
				case <-stop:
					return
				}
				events, _, err := c.Next()
				if err != nil {
					return
				}
				for range events {
					seen.Done()
				}
			}
		}()
	}
	b.ResetTimer()
	for i := range b.N {
		seen.Add(100)
		if _, err := s.Update(ctx, cm("a"), set(fmt.Sprint(i, "x"))); err != nil {
			b.Fatal(err)
		}
		seen.Wait()
	}
	close(stop)
}

// BenchmarkStart is Open of a store with 10,000 pods.
func BenchmarkStart10000(b *testing.B) {
	dir := b.TempDir()
	s := open(b, dir, quick)
	fill(b, s, 10_000)
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	for range b.N {
		s := open(b, dir, quick)
		b.StopTimer()
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

// BenchmarkMemoryPerPod reports heap bytes per pod in a store that has just
// been opened; the log has 100 events then.
func BenchmarkMemoryPerPod(b *testing.B) {
	dir := b.TempDir()
	s := open(b, dir, quick)
	const n = 10_000
	fill(b, s, n)
	if err := s.Compact(ctx, s.Revision()); err != nil {
		b.Fatal(err)
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	for range b.N {
		before := heap()
		s = open(b, dir, quick)
		b.ReportMetric(float64(heap()-before)/n, "B/pod")
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
	data, err := protoCodec{}.Encode(pods, somePod("pod"))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(len(data)), "encoded-B/pod")
}

func fill(b *testing.B, s *store.Store, n int) {
	b.Helper()
	var next atomic.Int64
	var running sync.WaitGroup
	for range 32 {
		running.Go(func() {
			for i := next.Add(1); i <= int64(n); i = next.Add(1) {
				p := somePod(fmt.Sprintf("pod-%d", i))
				if _, err := s.Create(ctx, store.Key{Kind: pods, Namespace: "default", Name: p.GetName()}, p); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	running.Wait()
}

// somePod is a pod as a Deployment's is after it runs.
func somePod(name string) kind.Object {
	yes := true
	meta := metav1.ObjectMeta{Namespace: "default", Name: name, GenerateName: "pod-", UID: "0f9a3c5e-6b3b-4a5e-9d8e-000000000000",
		Labels:          map[string]string{"app": "web", "pod-template-hash": "5d4b7f9c6"},
		OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "web-5d4b7f9c6", UID: "a", Controller: &yes}},
	}
	condition := func(typ corev1.PodConditionType) corev1.PodCondition {
		return corev1.PodCondition{Type: typ, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Unix(1, 0)}
	}
	return &corev1.Pod{ObjectMeta: meta,
		Spec: corev1.PodSpec{NodeName: "node-1", ServiceAccountName: "default", RestartPolicy: corev1.RestartPolicyAlways,
			Containers: []corev1.Container{{Name: "web", Image: "example/web:1", Env: []corev1.EnvVar{{Name: "A", Value: "b"}},
				VolumeMounts: []corev1.VolumeMount{{Name: "kube-api-access", MountPath: "/var/run/secrets/kubernetes.io/serviceaccount"}}}},
			Volumes: []corev1.Volume{{Name: "kube-api-access", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{}}}},
		},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "10.0.0.1", HostIP: "192.0.2.1",
			Conditions: []corev1.PodCondition{condition(corev1.PodScheduled), condition(corev1.PodReady),
				condition(corev1.ContainersReady), condition(corev1.PodInitialized)},
			ContainerStatuses: []corev1.ContainerStatus{{Name: "web", Ready: true, Image: "example/web:1", ContainerID: "sampan://0123456789abcdef"}},
		}}
}
