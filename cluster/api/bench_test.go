package api_test

import (
	"fmt"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// BenchmarkCreateConfigMaps is upstream's figure in docs: 32 clients of their
// own connection each, client and server on the same machine.
func BenchmarkCreateConfigMaps(b *testing.B) {
	for _, contentType := range []string{"application/json", protobuf} {
		b.Run(contentType, func(b *testing.B) {
			w := newWorld(b)
			const clients = 32
			var cs []*kubernetes.Clientset
			for range clients {
				config := w.config(contentType)
				c, err := kubernetes.NewForConfig(config)
				if err != nil {
					b.Fatal(err)
				}
				cs = append(cs, c)
			}
			var next atomic.Int64
			var all sync.WaitGroup
			b.ReportAllocs()
			b.ResetTimer()
			for _, c := range cs {
				all.Go(func() {
					for {
						n := next.Add(1)
						if n > int64(b.N) {
							return
						}
						_, err := c.CoreV1().ConfigMaps("default").Create(b.Context(), &corev1.ConfigMap{
							ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("c%d", n)}, Data: map[string]string{"a": "b", "c": "d"}}, metav1.CreateOptions{})
						if err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			all.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "creates/s")
		})
	}
}

func BenchmarkGet(b *testing.B) {
	w := newWorld(b)
	w.put(1, 100)
	c := w.admin()
	b.ReportAllocs()
	for b.Loop() {
		if code, _, body := w.do(c, "GET", "/api/v1/namespaces/shop/configmaps/c000", ""); code != 200 {
			b.Fatal(body)
		}
	}
}

func BenchmarkList(b *testing.B) {
	w := newWorld(b)
	w.put(2000, 100)
	for _, accept := range []string{"application/json", protobuf, asTable} {
		b.Run(accept, func(b *testing.B) {
			c := w.admin()
			b.ReportAllocs()
			for b.Loop() {
				if code, _, _ := w.do(c, "GET", "/api/v1/namespaces/shop/configmaps", "", "Accept", accept); code != 200 {
					b.Fatal(code)
				}
			}
		})
	}
}

// BenchmarkIdleWatch reports the memory, of server and client together, of a
// watch on a connection of its own that nothing happens on.
func BenchmarkIdleWatch(b *testing.B) {
	w := newWorld(b)
	config := w.admin().Transport.(*http.Transport).TLSClientConfig
	memory := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc + m.StackInuse
	}
	before := memory()
	for range b.N {
		t := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}
		resp, err := (&http.Client{Transport: t}).Get(w.url + "/api/v1/configmaps?watch=1")
		if err != nil || resp.StatusCode != http.StatusOK {
			b.Fatal(err)
		}
		b.Cleanup(func() { resp.Body.Close(); t.CloseIdleConnections() })
	}
	b.ReportMetric(float64(memory()-before)/float64(b.N), "B/watch")
}
