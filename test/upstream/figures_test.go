package upstream

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/rest"
)

// figuresVariable asks for TestFigures, which takes a minute or two: how many
// pods there are to be.
const figuresVariable = "UPSTREAM_FIGURES"

// TestFigures measures what a stored pod costs in memory on both sides, and
// how long ours takes to start with them. It holds both to nothing: figures
// are for a quiet machine.
func TestFigures(t *testing.T) {
	n, err := strconv.Atoi(os.Getenv(figuresVariable))
	if err != nil {
		t.Skip("it is asked for with " + figuresVariable + "=10000")
	}
	dir := t.TempDir()
	data := filepath.Join(dir, "etcd")
	server := startEtcd(t, dir, data, "--snapshot-count=5000")
	api, cfg := kubeAPIServer(t, dir)
	before := heap(t, cfg)
	pods(t, cfg, n)
	after := heap(t, cfg)
	list, err := client(t, cfg).CoreV1().Pods("default").List(context.Background(), metav1.ListOptions{Limit: 1})
	if err != nil {
		t.Fatal(err)
	}
	size := len(mustMarshal(t, &list.Items[0]))
	t.Logf("kube-apiserver: %.1f kB of heap for each of %d pods (%d bytes encoded)", float64(after-before)/float64(n)/1e3, n, size)
	api.stop()
	server.stop()

	empty := ours{t, filepath.Join(dir, "empty")}
	none := heap(t, empty.up())
	empty.call("down")
	o := ours{t, filepath.Join(dir, "ours")}
	copyTree(t, data, o.store())
	began := time.Now()
	our := o.up()
	first := time.Since(began)
	full := heap(t, our)
	t.Logf("ours: %.1f kB of heap for each", float64(full-none)/float64(n)/1e3)
	o.call("down")
	began = time.Now()
	o.up()
	t.Logf("ours: up in %.2f s on upstream's data, %.2f s again", first.Seconds(), time.Since(began).Seconds())
}

func mustMarshal(t *testing.T, p *corev1.Pod) []byte {
	t.Helper()
	data, err := p.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// heap is what a server's heap has after a collection.
func heap(t *testing.T, cfg *rest.Config) int64 {
	t.Helper()
	cfg = plain(rest.CopyConfig(cfg))
	cfg.APIPath = "/"
	c, err := rest.UnversionedRESTClientFor(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r, err := c.Get().AbsPath("/debug/pprof/heap").Param("gc", "1").Param("debug", "1").Stream(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), "\n# HeapAlloc = ")
	line, _, _ := strings.Cut(rest, "\n")
	size, err := strconv.ParseInt(line, 10, 64)
	if !ok || err != nil {
		t.Fatalf("no HeapAlloc in the profile: %v", err)
	}
	return size
}

// pods makes pods as a Deployment's are, on a node that is not there.
func pods(t *testing.T, cfg *rest.Config, n int) {
	t.Helper()
	var all sync.WaitGroup
	next := make(chan int)
	for range 16 {
		c := client(t, cfg)
		all.Go(func() {
			for i := range next {
				if _, err := c.CoreV1().Pods("default").Create(context.Background(), pod(i), metav1.CreateOptions{}); err != nil {
					t.Error(err)
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

func pod(i int) *corev1.Pod {
	yes := true
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("web-5d4b7f9c6-%05d", i), GenerateName: "web-5d4b7f9c6-",
			Labels:          map[string]string{"app": "web", "pod-template-hash": "5d4b7f9c6"},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "web-5d4b7f9c6", UID: "0f9a3c5e-6b3b-4a5e-9d8e-000000000000", Controller: &yes}}},
		Spec: corev1.PodSpec{NodeName: "absent", Containers: []corev1.Container{{Name: "web", Image: "example/web:1",
			Env:            []corev1.EnvVar{{Name: "MODE", Value: "production"}},
			Ports:          []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}},
			ReadinessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/healthz", Port: intstr.FromString("http")}}},
			VolumeMounts:   []corev1.VolumeMount{{Name: "data", MountPath: "/data"}}}},
			Volumes: []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}},
	}
}
