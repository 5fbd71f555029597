package store_test

import (
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"sampan/cluster/kind"
	"sampan/cluster/store"
)

// etcdElsewhere runs an etcd behind a socket and returns its endpoint.
func etcdElsewhere(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	c := embed.NewConfig()
	c.Dir = filepath.Join(dir, "data")
	c.ListenPeerUrls = nil
	c.ListenClientUrls = []url.URL{{Scheme: "unix", Path: filepath.Join(dir, "s")}}
	c.TickMs, c.ElectionMs = 20, 100
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	e, err := embed.StartEtcd(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	<-e.Server.ReadyNotify()
	return "unix://" + filepath.Join(dir, "s")
}

func TestTwoStoresOnOneEtcdSeeEachOther(t *testing.T) {
	t.Parallel()

	endpoint := etcdElsewhere(t)
	elsewhere := func(c *store.Config) { c.Dir, c.Endpoints = "", []string{endpoint} }
	a, b := open(t, "", elsewhere), open(t, "", elsewhere)

	w := watch(t, b, configMaps, store.WatchOptions{})
	create(t, a, "x", "1")
	if _, err := b.Update(ctx, cm("x"), set("2")); err != nil { // b may not have seen it yet
		t.Fatal(err)
	}
	if _, err := a.Update(ctx, cm("x"), set("3")); err != nil { // a may still have the first
		t.Fatal(err)
	}
	if _, err := b.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	want := []string{"added x=1", "modified x=2 (1)", "modified x=3 (2)"}
	if got := read(t, w, 3); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestStoresWithPrefixesOfTheirOwnShareAnEtcd(t *testing.T) {
	t.Parallel()

	endpoint := etcdElsewhere(t)
	with := func(prefix string) func(*store.Config) {
		return func(c *store.Config) { c.Dir, c.Endpoints, c.Prefix = "", []string{endpoint}, prefix }
	}
	a, b := open(t, "", with("/registry")), open(t, "", with("other/cluster/"))
	watched := watch(t, a, configMaps, store.WatchOptions{})
	create(t, b, "x", "b")
	create(t, a, "x", "a")
	if _, err := b.Update(ctx, cm("x"), set("b2")); err != nil {
		t.Fatal(err)
	}
	if got, want := read(t, watched, 1), []string{"added x=a"}; !slices.Equal(got, want) {
		t.Errorf("one store's watch told %q, want %q", got, want)
	}
	for path, want := range map[string]string{"/registry/configmaps/default/x": `"a"`, "/other/cluster/configmaps/default/x": `"b2"`} {
		if got := raw(t, endpoint, path); !strings.Contains(got, want) {
			t.Errorf("%s is %q, want %s", path, got, want)
		}
	}
	if _, err := a.Delete(ctx, cm("x"), nil); err != nil {
		t.Fatal(err)
	}
	again := open(t, "", with("/other/cluster")) // written otherwise, the same
	for name, s := range map[string]*store.Store{"a store that goes on": b, "a store that starts": again} {
		if _, err := s.Sync(ctx); err != nil {
			t.Fatal(err)
		}
		l, err := s.List(configMaps, store.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for o := range l.All() {
			got = append(got, show(&store.Event{Object: o}))
		}
		if want := []string{"added x=b2"}; !slices.Equal(got, want) {
			t.Errorf("%s has %q, want %q", name, got, want)
		}
	}
}

func TestSyncIsNotHeldUpByKeysOfOthers(t *testing.T) {
	t.Parallel()

	endpoint := etcdElsewhere(t)
	s := open(t, "", func(c *store.Config) { c.Dir, c.Endpoints = "", []string{endpoint} })
	other, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	put, err := other.Put(ctx, "/another/program", "x")
	if err != nil {
		t.Fatal(err)
	}
	if now, err := s.Sync(ctx); err != nil || now < put.Header.Revision {
		t.Errorf("Sync came to %d, %v; etcd is at %d", now, err, put.Header.Revision)
	}
}

func TestAChangeThatIsNoneIsComparedWithEtcdWhenOthersWrite(t *testing.T) {
	t.Parallel()

	endpoint := etcdElsewhere(t)
	elsewhere := func(c *store.Config) { c.Dir, c.Endpoints = "", []string{endpoint} }
	a, b := open(t, "", elsewhere), open(t, "", elsewhere)
	create(t, a, "x", "1")
	for range 50 {
		if _, err := a.Update(ctx, cm("x"), set("2")); err != nil {
			t.Fatal(err)
		}
		// What b has may still be "1": it must not take that for done.
		if _, err := b.Update(ctx, cm("x"), func(o kind.Object) (kind.Object, error) { return set("1")(o) }); err != nil {
			t.Fatal(err)
		}
		if _, err := a.Sync(ctx); err != nil {
			t.Fatal(err)
		}
		l, err := a.List(configMaps, store.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for o := range l.All() {
			if got := show(&store.Event{Object: o}); got != "added x=1" {
				t.Fatalf("%s after both wrote, want the last write", got)
			}
		}
	}
}
