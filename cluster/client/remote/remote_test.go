package remote

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"sampan/cluster/client"
	"sampan/cluster/kind"
	"sampan/cluster/kind/core"
)

// asked is a request that waits for the test to answer it.
type asked struct {
	*http.Request
	w    http.ResponseWriter
	done chan struct{}
}

// server gives every request to the test, which plays the API server.
type server struct {
	*testing.T
	requests chan *asked
	client   *Client
	ctx      context.Context
}

func newServer(t *testing.T, whole ...schema.GroupResource) *server {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // for what hangs
	s := &server{T: t, requests: make(chan *asked), ctx: ctx}
	h := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a := &asked{Request: r, w: w, done: make(chan struct{})}
		select {
		case s.requests <- a:
			<-a.done
		case <-r.Context().Done():
		}
	}))
	pool := x509.NewCertPool()
	pool.AddCert(h.Certificate())
	var err error
	s.client, err = New(Config{Server: h.URL, TLS: &tls.Config{RootCAs: pool}, Kinds: kind.NewTable(core.Kinds()),
		Whole: whole, Agent: "kubelet/test", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.client.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended; h.CloseClientConnections(); h.Close() })
	return s
}

// next waits for a request, which must be want: "list" or "watch" and the query
// without what all watches have.
func (s *server) next(want string) *asked {
	s.Helper()
	select {
	case a := <-s.requests:
		q := a.URL.Query()
		verb := a.Method
		if verb == http.MethodGet {
			verb = "list"
		}
		if q.Get("watch") == "true" {
			verb = "watch"
			if q.Get("allowWatchBookmarks") != "true" || q.Get("timeoutSeconds") == "" {
				s.Errorf("a watch without bookmarks or an end: %v", q)
			}
		}
		for _, all := range []string{"watch", "allowWatchBookmarks", "timeoutSeconds"} {
			q.Del(all)
		}
		query, _ := url.QueryUnescape(q.Encode())
		if got := strings.TrimSpace(verb + " " + a.URL.Path + " " + query); got != want {
			s.Fatalf("asked %q, want %q", got, want)
		}
		return a
	case <-s.ctx.Done():
		s.Fatalf("nobody asked %q", want)
		return nil
	}
}

func (a *asked) list(revision string, items ...*corev1.ConfigMap) {
	list := corev1.ConfigMapList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMapList"}, ListMeta: metav1.ListMeta{ResourceVersion: revision}}
	for _, m := range items {
		list.Items = append(list.Items, *m)
	}
	a.w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(a.w).Encode(list)
	close(a.done)
}

// send writes an event of a watch, which goes on.
func (a *asked) send(typ string, obj any) {
	a.w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(a.w).Encode(map[string]any{"type": typ, "object": obj})
	a.w.(http.Flusher).Flush()
}

func (a *asked) end() { close(a.done) }

func configMap(name, uid, revision string) *corev1.ConfigMap {
	return &corev1.ConfigMap{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(uid), ResourceVersion: revision}}
}

func gone() *metav1.Status {
	return &apierrors.NewResourceExpired("too old resource version: 5 (9)").ErrStatus
}

// follower tells what a watch says.
func (s *server) follow(ctx context.Context, q client.Query) func(want ...string) {
	s.Helper()
	w, err := s.client.Watch(ctx, client.KindOf[*corev1.ConfigMap](s.client), q)
	if err != nil {
		s.Fatal(err)
	}
	var queue []client.Event
	return func(want ...string) {
		s.Helper()
		for _, text := range want {
			for len(queue) == 0 {
				if queue, err = w.Next(s.ctx); err != nil {
					s.Fatalf("waiting for %q: %v", text, err)
				}
			}
			if got := say(queue[0]); got != text {
				s.Fatalf("got %q, want %q", got, text)
			}
			queue = queue[1:]
		}
	}
}

func say(e client.Event) string {
	if e.Type == client.Synced {
		return "synced"
	}
	text := [...]string{client.Added: "added ", client.Modified: "modified ", client.Deleted: "deleted "}[e.Type]
	text += e.Object.GetName() + "@" + e.Object.GetResourceVersion()
	if e.Old != nil {
		text += " was @" + e.Old.GetResourceVersion()
	}
	return text
}

func TestAWatchResumesWhereItEnded(t *testing.T) {
	s := newServer(t)
	expect := s.follow(t.Context(), client.Query{Namespace: "default", Name: "a"})
	const single = "/api/v1/namespaces/default/configmaps fieldSelector=metadata.name=a"
	s.next("list "+single).list("5", configMap("a", "1", "3"))
	expect("added a@3", "synced")
	w := s.next("watch " + single + "&resourceVersion=5")
	w.send("MODIFIED", configMap("a", "1", "7"))
	w.send("BOOKMARK", &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{ResourceVersion: "9"}})
	w.end()
	expect("modified a@7 was @3")
	w = s.next("watch " + single + "&resourceVersion=9")
	w.send("DELETED", configMap("a", "1", "11"))
	w.send("ADDED", configMap("a", "2", "12"))
	expect("deleted a@11 was @7", "added a@12")
	w.end()
}

func TestWhatHappenedBeforeAWatchCouldResumeIsFound(t *testing.T) {
	s := newServer(t)
	expect := s.follow(t.Context(), client.Query{})
	s.next("list /api/v1/configmaps").list("5", configMap("gone", "1", "1"), configMap("kept", "2", "2"), configMap("changed", "3", "3"), configMap("other", "4", "4"))
	expect("added changed@3", "added gone@1", "added kept@2", "added other@4", "synced")
	w := s.next("watch /api/v1/configmaps resourceVersion=5")
	w.send("ERROR", gone())
	w.end()
	s.next("list /api/v1/configmaps").list("9", configMap("kept", "2", "2"), configMap("changed", "3", "8"), configMap("other", "5", "7"), configMap("new", "6", "6"))
	expect("deleted gone@1 was @1", "modified changed@8 was @3", "added new@6", "deleted other@4 was @4", "added other@7")
	s.next("watch /api/v1/configmaps resourceVersion=9").end()
}

func TestAServerThatRefusesIsAskedAgain(t *testing.T) {
	s := newServer(t)
	expect := s.follow(t.Context(), client.Query{Namespace: "default"})
	a := s.next("list /api/v1/namespaces/default/configmaps")
	a.w.WriteHeader(http.StatusServiceUnavailable)
	a.end()
	s.next("list /api/v1/namespaces/default/configmaps").list("5")
	expect("synced")
	s.next("watch /api/v1/namespaces/default/configmaps resourceVersion=5").end()
}

func TestAWatchEndsWhenNobodyUsesIt(t *testing.T) {
	s := newServer(t)
	first, stopFirst := context.WithCancel(t.Context())
	second, stopSecond := context.WithCancel(t.Context())
	expect := s.follow(first, client.Query{Namespace: "default", Name: "a"})
	s.next("list /api/v1/namespaces/default/configmaps fieldSelector=metadata.name=a").list("5", configMap("a", "1", "3"))
	expect("added a@3", "synced")
	w := s.next("watch /api/v1/namespaces/default/configmaps fieldSelector=metadata.name=a&resourceVersion=5")
	s.follow(second, client.Query{Namespace: "default", Name: "a"})("added a@3", "synced") // without another request
	stopFirst()
	w.send("MODIFIED", configMap("a", "1", "6"))
	select {
	case <-w.Context().Done():
		t.Fatal("the watch ended though somebody uses it")
	default:
	}
	stopSecond()
	select {
	case <-w.Context().Done():
	case <-s.ctx.Done():
		t.Fatal("the watch goes on for nobody")
	}
	w.end()
}

func TestReadsAreFromMemoryWhereItIsKnown(t *testing.T) {
	s := newServer(t, schema.GroupResource{Resource: "configmaps"})
	got := make(chan error, 1)
	go func() {
		_, err := client.Get[*corev1.ConfigMap](s.ctx, s.client, "default", "b")
		got <- err
	}()
	s.next("list /api/v1/configmaps").list("5", configMap("a", "1", "3"))
	if err := <-got; !apierrors.IsNotFound(err) {
		t.Errorf("what is not there: %v", err)
	}
	w := s.next("watch /api/v1/configmaps resourceVersion=5")
	m, err := client.Get[*corev1.ConfigMap](s.ctx, s.client, "default", "a")
	if err != nil || m.UID != "1" {
		t.Errorf("got %v, %v", m, err)
	}
	w.end()
}

func TestErrorsAreTheServers(t *testing.T) {
	s := newServer(t)
	got := make(chan error, 1)
	ask := func() {
		_, err := client.Get[*corev1.ConfigMap](s.ctx, s.client, "default", "a")
		got <- err
	}
	go ask()
	a := s.next("list /api/v1/namespaces/default/configmaps/a")
	a.w.Header().Set("Content-Type", "application/json")
	a.w.WriteHeader(http.StatusForbidden)
	status := apierrors.NewForbidden(schema.GroupResource{Resource: "configmaps"}, "a", errors.New("no relationship")).ErrStatus
	status.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}
	_ = json.NewEncoder(a.w).Encode(status)
	a.end()
	if err := <-got; !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "no relationship") {
		t.Errorf("got %v", err)
	}
	go ask()
	a = s.next("list /api/v1/namespaces/default/configmaps/a")
	a.w.WriteHeader(http.StatusBadGateway)
	fmt.Fprint(a.w, "some proxy says no")
	a.end()
	if err := <-got; err == nil || !strings.Contains(err.Error(), "some proxy says no") {
		t.Errorf("got %v", err)
	}
}

func TestMerge(t *testing.T) {
	event := func(typ client.EventType, now, was string) client.Event {
		make := func(text string) kind.Object {
			if text == "" {
				return nil
			}
			name, rest, _ := strings.Cut(text, ":")
			uid, revision, _ := strings.Cut(rest, ":")
			return configMap(name, uid, revision)
		}
		e := client.Event{Type: typ, Object: make(now)}
		if was != "" {
			e.Old = make(was)
		}
		return e
	}
	synced := client.Event{Type: client.Synced}
	for _, c := range []struct {
		it   string
		in   []client.Event
		want string
	}{
		{"one change after another is one", []client.Event{event(client.Modified, "a:1:2", "a:1:1"), event(client.Modified, "a:1:3", "a:1:2")}, "modified a@3 was @1"},
		{"what came and changed came so", []client.Event{event(client.Added, "a:1:1", ""), event(client.Modified, "a:1:2", "a:1:1")}, "added a@2"},
		{"what came and went is not told", []client.Event{event(client.Added, "a:1:1", ""), event(client.Deleted, "a:1:2", "a:1:1")}, ""},
		{"what changed and went is told as known", []client.Event{event(client.Modified, "a:1:2", "a:1:1"), event(client.Deleted, "a:1:3", "a:1:2")}, "deleted a@3 was @1"},
		{"another of the same name is two", []client.Event{event(client.Deleted, "a:1:2", "a:1:1"), event(client.Added, "a:2:3", "")}, "deleted a@1 was @1, added a@3"},
		{"synced stays behind what came before it", []client.Event{event(client.Added, "a:1:1", ""), synced, event(client.Modified, "a:1:2", "a:1:1")}, "added a@1, synced, modified a@2 was @1"},
	} {
		t.Run(c.it, func(t *testing.T) {
			var got []string
			for _, e := range merge(c.in) {
				got = append(got, say(e))
			}
			if text := strings.Join(got, ", "); text != c.want {
				t.Errorf("got  %s\nwant %s", text, c.want)
			}
		})
	}
}
