package api_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"

	"sampan/cluster/api"
	"sampan/cluster/auth"
	"sampan/cluster/client"
	"sampan/cluster/verb"
	"sampan/cluster/verb/verbtest"
)

func (w *world) configMap(name, value string) *corev1.ConfigMap {
	w.t.Helper()
	obj, err := client.Create(w.t.Context(), w.all, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}, Data: map[string]string{"v": value}})
	if err != nil {
		w.t.Fatal(err)
	}
	return obj
}

func TestWatchInBothEncodings(t *testing.T) {
	w := newWorld(t)
	w.configMap("first", "1")
	for _, contentType := range []string{"application/json", protobuf} {
		t.Run(contentType, func(t *testing.T) {
			c, err := kubernetes.NewForConfig(w.config(contentType))
			if err != nil {
				t.Fatal(err)
			}
			maps := c.CoreV1().ConfigMaps("shop")
			l, err := maps.List(t.Context(), metav1.ListOptions{})
			if err != nil {
				t.Fatal(err)
			}
			name := "late" + contentType[len(contentType)-1:]
			late := w.configMap(name, "1")
			late = late.DeepCopy()
			late.Data["v"] = "2"
			if late, err = client.Update(t.Context(), w.all, late); err != nil {
				t.Fatal(err)
			}
			if err := client.Delete[*corev1.ConfigMap](t.Context(), w.all, "shop", name, nil); err != nil {
				t.Fatal(err)
			}
			// Resumed from the list: all that happened since arrives, in order.
			got, err := maps.Watch(t.Context(), metav1.ListOptions{ResourceVersion: l.ResourceVersion})
			if err != nil {
				t.Fatal(err)
			}
			defer got.Stop()
			last := l.ResourceVersion
			for i, want := range []watch.EventType{watch.Added, watch.Modified, watch.Deleted} {
				e := <-got.ResultChan()
				cm, ok := e.Object.(*corev1.ConfigMap)
				if !ok || e.Type != want || cm.Name != name {
					t.Fatalf("event %d is %s of %v, want %s", i, e.Type, e.Object, want)
				}
				if len(cm.ResourceVersion) < len(last) || cm.ResourceVersion <= last && len(cm.ResourceVersion) == len(last) {
					t.Errorf("resourceVersion %s after %s", cm.ResourceVersion, last)
				}
				last = cm.ResourceVersion
			}
		})
	}
}

// lines opens a watch and returns its events one by one.
func (w *world) lines(path, accept string) func() map[string]any {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), "GET", w.url+path, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Accept", accept)
	resp, err := w.admin().Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != 200 {
		w.t.Fatalf("watch: %s", resp.Status)
	}
	s := bufio.NewScanner(resp.Body)
	s.Buffer(nil, 1<<20)
	return func() map[string]any {
		if !s.Scan() {
			return nil
		}
		var e map[string]any
		if err := json.Unmarshal(s.Bytes(), &e); err != nil {
			w.t.Fatalf("%v: %s", err, s.Text())
		}
		return e
	}
}

func TestWatchAsTable(t *testing.T) {
	w := newWorld(t)
	w.configMap("a", "1")
	w.configMap("b", "1")
	next := w.lines("/api/v1/namespaces/shop/configmaps?watch=1", asTable)
	for i, columns := range []int{3, 0} {
		e := next()
		table := e["object"].(map[string]any)
		headers, _ := table["columnDefinitions"].([]any) // null after the first, as upstream
		if table["kind"] != "Table" || len(table["rows"].([]any)) != 1 || len(headers) != columns {
			t.Errorf("event %d: %v, want %d columns and a row", i, e, columns)
		}
	}
}

func TestWatchAsMetadata(t *testing.T) {
	w := newWorld(t)
	w.configMap("a", "1")
	e := w.lines("/api/v1/watch/namespaces/shop/configmaps", asPartial)()
	obj := e["object"].(map[string]any)
	if e["type"] != "ADDED" || obj["kind"] != "PartialObjectMetadata" || obj["data"] != nil || obj["metadata"].(map[string]any)["name"] != "a" {
		t.Errorf("got %v", e)
	}
}

func TestWatchBookmarks(t *testing.T) {
	w := newWorld(t, func(c *api.Config) { c.BookmarkEvery = 10 * time.Millisecond })
	made := w.configMap("a", "1")
	next := w.lines("/api/v1/namespaces/shop/configmaps?watch=1&allowWatchBookmarks=true&resourceVersion="+made.ResourceVersion, "application/json")
	e := next()
	obj := e["object"].(map[string]any)
	meta := obj["metadata"].(map[string]any)
	if e["type"] != "BOOKMARK" || obj["kind"] != "ConfigMap" || obj["apiVersion"] != "v1" || meta["resourceVersion"] == "" || meta["name"] != nil {
		t.Errorf("got %v", e)
	}
}

func TestWatchListEndsWithABookmark(t *testing.T) {
	w := newWorld(t)
	w.configMap("a", "1")
	next := w.lines("/api/v1/namespaces/shop/configmaps?watch=1&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan", "application/json")
	if e := next(); e["type"] != "ADDED" {
		t.Errorf("first %v", e)
	}
	e := next()
	notes, _ := e["object"].(map[string]any)["metadata"].(map[string]any)["annotations"].(map[string]any)
	if e["type"] != "BOOKMARK" || notes["k8s.io/initial-events-end"] != "true" {
		t.Errorf("then %v", e)
	}
}

func TestWatchEnds(t *testing.T) {
	t.Run("after the time asked for", func(t *testing.T) {
		w := newWorld(t)
		for _, seconds := range []string{"1", "-1"} {
			if e := w.lines("/api/v1/configmaps?watch=1&timeoutSeconds="+seconds, "application/json")(); e != nil {
				t.Errorf("after %s s: got %v, want the end", seconds, e)
			}
		}
	})
	t.Run("when the server ends, and then Serve returns", func(t *testing.T) {
		w := newWorld(t)
		next := w.lines("/api/v1/configmaps?watch=1", "application/json")
		w.stop()
		if e := next(); e != nil {
			t.Errorf("got %v, want the end", e)
		}
		if err := w.end(); err != nil {
			t.Error(err)
		}
	})
}

func TestWatchOfWhatIsForgotten(t *testing.T) {
	var verbs *verb.API
	w := newWorld(t, func(c *api.Config) {
		verbs = verbtest.New(t, c.Kinds, verb.Config{Store: verbtest.Forgetful(t, c.Kinds), Authorizer: c.Authorizer, Schemas: c.Schemas})
		c.Verbs = verbs
	})
	w.all = verbs.As(auth.Master())
	first := w.configMap("first", "1")
	for i := range 10 {
		w.configMap(fmt.Sprint("c", i), "1")
	}
	e := w.lines("/api/v1/namespaces/shop/configmaps?watch=1&resourceVersion="+first.ResourceVersion, "application/json")()
	status, _ := e["object"].(map[string]any)
	if text := fmt.Sprint(status["message"]); e["type"] != "ERROR" || status["code"] != 410.0 || status["reason"] != "Expired" ||
		!strings.HasPrefix(text, "too old resource version: "+first.ResourceVersion+" (") {
		t.Errorf("got %v", e)
	}
}

func TestWatchOfOneObjectByTheOldPath(t *testing.T) {
	w := newWorld(t)
	w.configMap("a", "1")
	w.configMap("b", "1")
	e := w.lines("/api/v1/watch/namespaces/shop/configmaps/b", "application/json")()
	if meta := e["object"].(map[string]any)["metadata"].(map[string]any); meta["name"] != "b" {
		t.Errorf("got %v", e)
	}
}

// TestManyWatchersSeeTheSame: the encoding is shared, and each gets all of it,
// in order.
func TestManyWatchersSeeTheSame(t *testing.T) {
	w := newWorld(t)
	rv := w.configMap("start", "0").ResourceVersion
	const watchers, changes = 20, 30
	var nexts []func() map[string]any
	for range watchers {
		nexts = append(nexts, w.lines("/api/v1/namespaces/shop/configmaps?watch=1&resourceVersion="+rv, "application/json"))
	}
	for i := range changes {
		w.configMap(fmt.Sprintf("c%d", i), strings.Repeat("x", 100))
	}
	for i := range changes {
		first := fmt.Sprint(nexts[0]())
		for n, next := range nexts[1:] {
			if got := fmt.Sprint(next()); got != first {
				t.Fatalf("event %d: watcher %d got %s, the first %s", i, n+1, got, first)
			}
		}
	}
}
