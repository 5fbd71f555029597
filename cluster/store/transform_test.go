package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sampan/cluster/kind"
	"sampan/cluster/store"
	"sampan/internal/fault"
)

// cipher is a Transformer that writes its first key in front of the value
// turned over, and reads those with one of its keys.
type cipher struct {
	changed chan struct{}

	mu   sync.Mutex // guards all below
	keys []string
}

func newCipher(keys ...string) *cipher {
	return &cipher{keys: keys, changed: make(chan struct{}, 1)}
}

func (c *cipher) use(keys ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keys = keys
	c.changed <- struct{}{}
}

func turn(data []byte) []byte {
	data = bytes.Clone(data)
	slices.Reverse(data)
	return data
}

func (c *cipher) Seal(_ context.Context, resource schema.GroupResource, _ string, data []byte) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if resource.Resource != "configmaps" {
		return data, nil
	}
	return append([]byte("k8s:enc:"+c.keys[0]+":"), turn(data)...), nil
}

func (c *cipher) Open(_ context.Context, resource schema.GroupResource, key string, stored []byte) ([]byte, bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if resource.Resource != "configmaps" {
		return stored, false, nil
	}
	for i, k := range c.keys {
		if rest, ok := bytes.CutPrefix(stored, []byte("k8s:enc:"+k+":")); ok {
			return turn(rest), i > 0, nil
		}
	}
	return nil, false, fmt.Errorf("no key fits %s", key)
}

func (c *cipher) Changed() <-chan struct{} { return c.changed }

// raw reads what etcd has.
func raw(t *testing.T, endpoint, key string) string {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	resp, err := c.Get(ctx, key)
	if err != nil || len(resp.Kvs) != 1 {
		t.Fatalf("etcd has %v under %s, error %v", resp, key, err)
	}
	return string(resp.Kvs[0].Value)
}

func with(endpoint string, c *cipher) func(*store.Config) {
	return func(config *store.Config) {
		config.Dir, config.Endpoints = "", []string{endpoint}
		if c != nil {
			config.Transformer = c
		}
	}
}

func TestWhatIsStoredIsSealed(t *testing.T) {
	t.Parallel()

	endpoint := etcdElsewhere(t)
	s := open(t, "", with(endpoint, newCipher("a")))
	create(t, s, "x", "hidden")
	if got := raw(t, endpoint, "/registry/configmaps/default/x"); !strings.HasPrefix(got, "k8s:enc:a:") || strings.Contains(got, "hidden") {
		t.Errorf("etcd has %q", got)
	}
	again := open(t, "", with(endpoint, newCipher("b", "a")))
	if o, ok := again.Get(cm("x")); !ok || show(&store.Event{Object: o}) != "added x=hidden" {
		t.Errorf("the next store reads %v", o)
	}
}

func TestAWriteThatChangesNothingBringsTheNewKey(t *testing.T) {
	t.Parallel()

	endpoint := etcdElsewhere(t)
	c := newCipher("a")
	s := open(t, "", with(endpoint, c))
	create(t, s, "x", "1")
	create(t, s, "y", "1")
	itself := func(o kind.Object) (kind.Object, error) { return o, nil }
	for name, nothing := range map[string]func(kind.Object) (kind.Object, error){"x": itself, "y": set("1")} {
		update := func() string {
			o, err := s.Update(ctx, cm(name), nothing)
			if err != nil {
				t.Fatal(err)
			}
			return o.GetResourceVersion()
		}
		first := update()
		if again := update(); again != first {
			t.Errorf("%s was written with the key that it has already", name)
		}
	}
	c.use("b", "a")
	for name, nothing := range map[string]func(kind.Object) (kind.Object, error){"x": itself, "y": set("1")} {
		if _, err := s.Update(ctx, cm(name), nothing); err != nil {
			t.Fatal(err)
		}
		if got := raw(t, endpoint, "/registry/configmaps/default/"+name); !strings.HasPrefix(got, "k8s:enc:b:") {
			t.Errorf("%s is still stored as %q", name, got)
		}
	}
}

func TestWithoutItsKeyAnObjectIsNeitherThereNorGone(t *testing.T) {
	t.Parallel()

	dir := t.TempDir()
	s := open(t, dir, func(c *store.Config) { c.Transformer = newCipher("a") })
	before := create(t, s, "x", "1").GetResourceVersion()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	c := newCipher("b")
	s = open(t, dir, func(config *store.Config) { config.Transformer = c })

	const path = "/registry/configmaps/default/x"
	unreadable := func(what string, err error) {
		t.Helper()
		var u *store.Unreadable
		if !errors.As(err, &u) || u.Path() != path || !strings.Contains(err.Error(), "no key fits "+path) || !strings.Contains(err.Error(), "--encryption-provider-config") {
			t.Errorf("%s: error %v", what, err)
		}
	}
	if o, ok := s.Get(cm("x")); ok {
		t.Errorf("get returns %v", o)
	}
	unreadable("get", s.Unreadable(cm("x")))
	_, err := s.Update(ctx, cm("x"), set("2"))
	unreadable("update", err)
	_, err = s.Delete(ctx, cm("x"), nil)
	unreadable("delete", err)
	if _, err := s.Create(ctx, cm("x"), configMap("x", "2")); fault.ClassOf(err) != fault.Exists {
		t.Errorf("create: error %v, want that it exists", err)
	}
	var all store.UnreadableObjects
	if _, err := s.List(configMaps, store.ListOptions{}); !errors.As(err, &all) || !strings.Contains(err.Error(), path) {
		t.Errorf("list: error %v", err)
	}
	if _, err := s.List(configMaps, store.ListOptions{Namespace: "other"}); err != nil {
		t.Errorf("list of another namespace: %v", err)
	}
	if _, err := s.List(pods, store.ListOptions{}); err != nil {
		t.Errorf("list of another kind: %v", err)
	}

	w := watch(t, s, configMaps, store.WatchOptions{})
	c.use("b", "a")
	expires(t, w)
	if o, ok := s.Get(cm("x")); !ok || o.GetResourceVersion() != before || s.Unreadable(cm("x")) != nil {
		t.Errorf("with the key back it is %v", o)
	}
	if l, err := s.List(configMaps, store.ListOptions{}); err != nil || l.Count() != 1 {
		t.Errorf("list: %v, error %v", l, err)
	}
	if _, err := s.Update(ctx, cm("x"), set("2")); err != nil {
		t.Error(err)
	}
}

func TestWhatAnotherWritesWithAnUnknownKeyEndsWatches(t *testing.T) {
	t.Parallel()

	endpoint := etcdElsewhere(t)
	c := newCipher("a")
	s, other := open(t, "", with(endpoint, c)), open(t, "", with(endpoint, newCipher("b", "a")))
	create(t, s, "x", "1")
	w := watch(t, s, configMaps, store.WatchOptions{})
	if _, err := other.Update(ctx, cm("x"), set("2")); err != nil {
		t.Fatal(err)
	}
	expires(t, w)
	if _, err := s.List(configMaps, store.ListOptions{}); err == nil {
		t.Error("a list is taken for whole")
	}
	w = watch(t, s, configMaps, store.WatchOptions{})
	c.use("a", "b")
	expires(t, w)
	if o, ok := s.Get(cm("x")); !ok || show(&store.Event{Object: o}) != "added x=2" {
		t.Errorf("with the key it is %v", o)
	}
}

// expires waits until a watch says that it has to begin anew.
func expires(t *testing.T, w *store.Cursor) {
	t.Helper()
	var expired *store.Expired
	for _, _, err := w.Next(); !errors.As(err, &expired); _, _, err = w.Next() {
		if err != nil {
			t.Fatalf("watch: %v", err)
		}
		<-w.More()
	}
}

func TestOnlyWhatCannotBeReadIsDiscarded(t *testing.T) {
	t.Parallel()

	endpoint := etcdElsewhere(t)
	create(t, open(t, "", with(endpoint, newCipher("a"))), "lost", "1")
	s := open(t, "", with(endpoint, newCipher("b")))
	create(t, s, "good", "1")
	var readable *store.Readable
	if err := s.Discard(ctx, cm("good"), false); !errors.As(err, &readable) {
		t.Errorf("of what can be read: error %v", err)
	}
	if err := s.Discard(ctx, cm("none"), false); fault.ClassOf(err) != fault.NotFound {
		t.Errorf("of nothing: error %v", err)
	}
	if err := s.Discard(ctx, cm("lost"), true); err != nil || s.Unreadable(cm("lost")) == nil {
		t.Errorf("a dry run says %v and leaves %v", err, s.Unreadable(cm("lost")))
	}
	if err := s.Discard(ctx, cm("lost"), false); err != nil {
		t.Fatal(err)
	}
	if l, err := s.List(configMaps, store.ListOptions{}); err != nil || l.Count() != 1 {
		t.Errorf("then a list is %v, error %v", l, err)
	}
}

func TestEncryptedDataWithoutAConfigurationIsNotTakenForDamaged(t *testing.T) {
	t.Parallel()

	dir := t.TempDir()
	s := open(t, dir, func(c *store.Config) { c.Transformer = newCipher("a") })
	create(t, s, "x", "1")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	if _, err := s.List(configMaps, store.ListOptions{}); err == nil || !strings.Contains(err.Error(), "identity transformer tried to read encrypted data") {
		t.Errorf("error %v", err)
	}
}
