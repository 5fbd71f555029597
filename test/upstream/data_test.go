package upstream

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/kubernetes/test/integration/etcd"
)

// both are the resources that both list: what one lists and the other does not
// is not a matter of the store.
func both(a, b map[schema.GroupVersionResource]metav1.APIResource) map[schema.GroupVersionResource]metav1.APIResource {
	c := maps.Clone(a)
	maps.DeleteFunc(c, func(gvr schema.GroupVersionResource, _ metav1.APIResource) bool { _, ok := b[gvr]; return !ok })
	return c
}

// revision is etcd's now.
func revision(t *testing.T) string {
	t.Helper()
	resp, err := dial(t).Get(context.Background(), "/registry/", clientv3.WithCountOnly())
	if err != nil {
		t.Fatal(err)
	}
	return strconv.FormatInt(resp.Header.Revision, 10)
}

func dial(t *testing.T) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{etcdURL}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestOursReadsWhatUpstreamWrote(t *testing.T) {
	dir := t.TempDir()
	data := filepath.Join(dir, "etcd")
	server := startEtcd(t, dir, data)
	api, cfg := kubeAPIServer(t, dir)
	examples(t, cfg)
	resources := served(t, cfg)
	at := revision(t)
	theirs := listed(t, cfg, resources, at)
	api.stop()
	server.stop()

	o := ours{t, filepath.Join(dir, "ours")}
	copyTree(t, data, o.store())
	our := o.up()
	common := both(resources, served(t, our))
	for gvr := range resources {
		if _, ok := common[gvr]; !ok {
			t.Logf("only upstream lists %s", gvr)
		}
	}
	for key := range theirs {
		gvr := keyResource(key)
		if _, ok := common[gvr]; !ok {
			delete(theirs, key)
		}
	}
	same(t, theirs, listed(t, our, common, at))
}

func TestUpstreamReadsWhatOursWrote(t *testing.T) {
	dir := t.TempDir()
	o := ours{t, filepath.Join(dir, "ours")}
	our := o.up()
	made := examples(t, our)
	resources := served(t, our)
	o.call("down")

	data := filepath.Join(dir, "etcd")
	copyTree(t, o.store(), data)
	startEtcd(t, dir, data)
	keys(t, made)
	at := revision(t)
	_, cfg := kubeAPIServer(t, dir)
	common := both(resources, served(t, cfg))
	theirs := listed(t, cfg, common, at)
	our = o.up()
	same(t, theirs, listed(t, our, common, at))
}

// newer are what ours stores in v1 already, where upstream stores the beta
// version for another release, for API servers that are older; upstream of
// this release reads v1 as well.
var newer = map[string]bool{
	"customresourcedefinitions.apiextensions.k8s.io":   true,
	"clustertrustbundles.certificates.k8s.io":          true,
	"podcertificaterequests.certificates.k8s.io":       true,
	"devicetaintrules.resource.k8s.io":                 true,
	"storageversionmigrations.storagemigration.k8s.io": true,
}

// keys checks that each example is where upstream's table has it, in the
// version that upstream stores.
func keys(t *testing.T, made map[schema.GroupVersionResource]etcd.StorageData) {
	t.Helper()
	c, stored := dial(t), 0
	for gvr, d := range made {
		resp, err := c.Get(context.Background(), d.ExpectedEtcdPath)
		if err != nil {
			t.Fatal(err)
		}
		if len(resp.Kvs) == 0 {
			t.Errorf("%s: nothing is stored at %s", gvr, d.ExpectedEtcdPath)
			continue
		}
		stored++
		value := resp.Kvs[0].Value
		var is metav1.TypeMeta
		if rest, ok := bytes.CutPrefix(value, []byte("k8s\x00")); ok {
			var u runtime.Unknown
			if err := u.Unmarshal(rest); err != nil {
				t.Errorf("%s: %v", gvr, err)
			}
			is = metav1.TypeMeta{APIVersion: u.APIVersion, Kind: u.Kind}
		} else if err := json.Unmarshal(value, &is); err != nil {
			t.Errorf("%s: %v", gvr, err)
		}
		want := d.ExpectedGVK
		if want == nil {
			gvk := gvr.GroupVersion().WithKind(is.Kind)
			want = &gvk
		}
		if is.GroupVersionKind() != *want && !newer[gvr.GroupResource().String()] {
			t.Errorf("%s is stored as %s, upstream stores %s", gvr, is.GroupVersionKind(), want)
		}
	}
	t.Logf("%d examples are where upstream stores them", stored)
}

func copyTree(t *testing.T, from, to string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cp", "-a", "--sparse=always", from, to).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}
