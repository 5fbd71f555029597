package store_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/kind"
	"sampan/cluster/store"
)

// jsonCodec stores objects as JSON: what the bytes are is not the store's
// business.
type jsonCodec struct{}

func (jsonCodec) Encode(_ *kind.Kind, obj kind.Object) ([]byte, error) { return json.Marshal(obj) }

func (jsonCodec) Decode(k *kind.Kind, data []byte) (kind.Object, error) {
	obj := k.New()
	return obj, json.Unmarshal(data, obj)
}

// protoCodec stores objects as upstream does, but for the envelope; for
// figures.
type protoCodec struct{}

type protoObject interface {
	kind.Object
	Marshal() ([]byte, error)
	Unmarshal([]byte) error
}

func (protoCodec) Encode(_ *kind.Kind, obj kind.Object) ([]byte, error) {
	return obj.(protoObject).Marshal()
}

func (protoCodec) Decode(k *kind.Kind, data []byte) (kind.Object, error) {
	obj := k.New().(protoObject)
	return obj, obj.Unmarshal(data)
}

var (
	configMaps = kind.Declare(kind.Of[corev1.ConfigMap]{
		GVK: corev1.SchemeGroupVersion.WithKind("ConfigMap"), Plural: "configmaps"})
	pods = kind.Declare(kind.Of[corev1.Pod]{
		GVK: corev1.SchemeGroupVersion.WithKind("Pod"), Plural: "pods",
		Indexes: map[string]func(*corev1.Pod) []string{
			"spec.nodeName": func(p *corev1.Pod) []string { return []string{p.Spec.NodeName} }},
	})
	namespaces = kind.Declare(kind.Of[corev1.Namespace]{
		GVK: corev1.SchemeGroupVersion.WithKind("Namespace"), Plural: "namespaces", Cluster: true})
	services = kind.Declare(kind.Of[corev1.Service]{
		GVK: corev1.SchemeGroupVersion.WithKind("Service"), Plural: "services", Prefix: "services/specs"})
	events = kind.Declare(kind.Of[corev1.Event]{
		GVK: corev1.SchemeGroupVersion.WithKind("Event"), Plural: "events", TTL: time.Second})
)

func table() *kind.Table {
	return kind.NewTable([]*kind.Kind{configMaps, pods, namespaces, services, events})
}

var ctx = context.Background()

// open returns a store on dir that is closed at the end of the test, and then
// checks that nobody wrote to a shared object.
func open(t testing.TB, dir string, change ...func(*store.Config)) *store.Store {
	t.Helper()
	c := store.Config{Dir: dir, Kinds: table(), Codec: jsonCodec{}, Log: logTo(t), CheckShared: true}
	for _, f := range change {
		f(&c)
	}
	s, err := store.Open(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	closed := sync.OnceFunc(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(closed)
	return s
}

// logTo makes a logger that shows what etcd and the store complain about.
func logTo(t testing.TB) *slog.Logger {
	l := &testLog{t: t}
	t.Cleanup(l.stop)
	return slog.New(slog.NewTextHandler(l, nil))
}

type testLog struct {
	mu sync.Mutex
	t  testing.TB
}

func (l *testLog) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.t != nil {
		l.t.Log(strings.TrimSpace(string(line)))
	}
	return len(line), nil
}

func (l *testLog) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.t = nil
}

func configMap(name, value string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Data: map[string]string{"v": value}}
}

func cm(name string) store.Key {
	return store.Key{Kind: configMaps, Namespace: "default", Name: name}
}

// set makes the value of a ConfigMap what is said.
func set(value string) func(kind.Object) (kind.Object, error) {
	return func(current kind.Object) (kind.Object, error) {
		next := current.DeepCopyObject().(*corev1.ConfigMap)
		next.Data = map[string]string{"v": value}
		return next, nil
	}
}

func create(t testing.TB, s *store.Store, name, value string) kind.Object {
	t.Helper()
	obj, err := s.Create(ctx, cm(name), configMap(name, value))
	if err != nil {
		t.Fatal(err)
	}
	return obj
}

// read waits until n events have come, and prints each as
// "added a=1", "modified a=2 (1)", "deleted a=2 (2)".
func read(t testing.TB, c *store.Cursor, n int) []string {
	t.Helper()
	var got []string
	limit := time.After(10 * time.Second)
	for len(got) < n {
		select {
		case <-c.More():
		case <-limit:
			t.Fatalf("%d events came, want %d: %q", len(got), n, got)
		}
		events, _, err := c.Next()
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			got = append(got, show(e))
		}
	}
	return got
}

func show(e *store.Event) string {
	value := func(o kind.Object) string {
		switch o := o.(type) {
		case *corev1.ConfigMap:
			return o.Data["v"]
		case *corev1.Pod:
			return o.Spec.NodeName
		}
		return ""
	}
	s := fmt.Sprintf("%s %s=%s", [...]string{"added", "modified", "deleted"}[e.Type], e.Object.GetName(), value(e.Object))
	if e.Old != nil {
		s += " (" + value(e.Old) + ")"
	}
	return s
}
