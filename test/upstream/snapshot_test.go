package upstream

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

func client(t *testing.T, cfg *rest.Config) *kubernetes.Clientset {
	t.Helper()
	c, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// put makes a ConfigMap.
func put(t *testing.T, cfg *rest.Config, name string) *corev1.ConfigMap {
	t.Helper()
	c, err := client(t, cfg).CoreV1().ConfigMaps("default").Create(context.Background(),
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func has(t *testing.T, cfg *rest.Config, name string) bool {
	t.Helper()
	_, err := client(t, cfg).CoreV1().ConfigMaps("default").Get(context.Background(), name, metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		t.Fatal(err)
	}
	return err == nil
}

// utl runs upstream's tool.
func utl(t *testing.T, args ...string) string {
	t.Helper()
	c := exec.Command("/proc/self/exe", args...)
	c.Env = append(os.Environ(), asVariable+"=etcdutl")
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("etcdutl %v: %v\n%s", args, err, out)
	}
	return string(out)
}

func TestSnapshotsAreEtcds(t *testing.T) {
	dir := t.TempDir()
	o := ours{t, filepath.Join(dir, "ours")}
	our := o.up()
	put(t, our, "before")
	file := filepath.Join(dir, "snapshot")
	o.call("snapshot", "save", file)
	last := put(t, our, "after")

	// etcd's tool reads ours, and its etcd runs on it.
	if out := utl(t, "snapshot", "status", file, "-w", "json"); !strings.Contains(out, `"totalKey"`) {
		t.Errorf("etcdutl says %s", out)
	}
	data := filepath.Join(dir, "etcd")
	utl(t, "snapshot", "restore", file, "--data-dir", data)
	server := startEtcd(t, dir, data)
	api, cfg := kubeAPIServer(t, dir)
	if !has(t, cfg, "before") || has(t, cfg, "after") {
		t.Error("upstream's server on our snapshot does not have what it had")
	}
	put(t, cfg, "theirs")

	// We restore one of etcd's, and revisions do not go back.
	theirs := filepath.Join(dir, "theirs")
	r, err := dial(t).Snapshot(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(theirs)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(f, r); err != nil {
		t.Fatal(err)
	}
	f.Close()
	api.stop()
	server.stop()
	o.call("down", "--stop-pods")
	o.call("snapshot", "restore", "--force", theirs)
	our = o.up()
	if !has(t, our, "before") || !has(t, our, "theirs") || has(t, our, "after") {
		t.Error("ours on a snapshot of etcd's does not have what it had")
	}
	if now := put(t, our, "new"); len(now.ResourceVersion) <= len(last.ResourceVersion) {
		t.Errorf("the resource version is %s after the restore, and was %s", now.ResourceVersion, last.ResourceVersion)
	}
	w, err := client(t, our).CoreV1().ConfigMaps("default").Watch(context.Background(), metav1.ListOptions{ResourceVersion: last.ResourceVersion})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	select {
	case e := <-w.ResultChan():
		if err := apierrors.FromObject(e.Object); e.Type != watch.Error || !apierrors.IsResourceExpired(err) && !apierrors.IsGone(err) {
			t.Errorf("a watch from before the restore shows %+v, want that it is too old", e)
		}
	case <-time.After(time.Minute):
		t.Error("a watch from before the restore waits for what will not come")
	}
}
