package verb_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"sampan/cluster/client"
	"sampan/cluster/kind"
	"sampan/cluster/request"
	"sampan/cluster/verb"
)

func (s *server) list(plural string, o metav1.ListOptions) (*verb.List, error) {
	s.Helper()
	return s.api.List(s.Context(), s.ask("list", plural), o)
}

func names(objs []kind.Object) string {
	var all []string
	for _, o := range objs {
		all = append(all, o.GetName())
	}
	return strings.Join(all, " ")
}

func TestList(t *testing.T) {
	s := serve(t)
	for i := range 5 {
		s.mustCreate("configmaps", fmt.Sprintf(`{"metadata":{"name":"c%d","labels":{"even":"%v"}}}`, i, i%2 == 0))
	}
	t.Run("selects by labels and fields", func(t *testing.T) {
		for selector, want := range map[metav1.ListOptions]string{
			{}:                                      "c0 c1 c2 c3 c4",
			{LabelSelector: "even=true"}:            "c0 c2 c4",
			{LabelSelector: "even in (false),even"}: "c1 c3",
			{FieldSelector: "metadata.name=c3"}:     "c3",
			{FieldSelector: "metadata.name!=c3"}:    "c0 c1 c2 c4",
			{FieldSelector: "metadata.namespace=x"}: "",
		} {
			list, err := s.list("configmaps", selector)
			if err != nil || names(list.Objects) != want {
				t.Errorf("%+v: %v, %v; want %s", selector, list, err, want)
			}
		}
		_, err := s.list("configmaps", metav1.ListOptions{FieldSelector: "spec.x=1"})
		s.status(err, 400, `"spec.x" is not a known field selector: only "metadata.name", "metadata.namespace"`)
		_, err = s.list("pods", metav1.ListOptions{FieldSelector: "spec.x=1"})
		s.status(err, 400, "field label not supported: spec.x")
		_, err = s.list("configmaps", metav1.ListOptions{LabelSelector: "a in"})
		s.status(err, 400, "unable to parse requirement")
	})
	t.Run("comes in pages of one moment", func(t *testing.T) {
		first, err := s.list("configmaps", metav1.ListOptions{Limit: 2})
		if err != nil || names(first.Objects) != "c0 c1" || first.Remaining == nil || *first.Remaining != 3 {
			t.Fatalf("first page %+v, %v", first, err)
		}
		s.mustCreate("configmaps", `{"metadata":{"name":"c2a"}}`)
		second, err := s.list("configmaps", metav1.ListOptions{Limit: 2, Continue: first.Continue})
		if err != nil || names(second.Objects) != "c2 c3" || second.ResourceVersion != first.ResourceVersion || *second.Remaining != 1 {
			t.Fatalf("second page %+v, %v", second, err)
		}
		third, err := s.list("configmaps", metav1.ListOptions{Limit: 2, Continue: second.Continue})
		if err != nil || names(third.Objects) != "c4" || third.Continue != "" || third.Remaining != nil {
			t.Errorf("third page %+v, %v", third, err)
		}
		labelled, err := s.list("configmaps", metav1.ListOptions{Limit: 1, LabelSelector: "even=true"})
		if err != nil || labelled.Continue == "" || labelled.Remaining != nil {
			t.Errorf("with a selector nobody counts the rest: %+v, %v", labelled, err)
		}
	})
	t.Run("a page that is too old can go on", func(t *testing.T) {
		first, err := s.list("configmaps", metav1.ListOptions{Limit: 2})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 10 { // push the revision out of memory
			s.mustCreate("configmaps", fmt.Sprintf(`{"metadata":{"name":"z%d"}}`, i))
			if _, err := s.list("configmaps", metav1.ListOptions{Limit: 1}); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.store.Compact(t.Context(), s.store.Revision()); err != nil {
			t.Fatal(err)
		}
		_, err = s.list("configmaps", metav1.ListOptions{Limit: 2, Continue: first.Continue})
		s.status(err, 410, "The provided continue parameter is too old")
		token := err.(interface{ Status() metav1.Status }).Status().ListMeta.Continue
		rest, err := s.list("configmaps", metav1.ListOptions{Limit: 2, Continue: token})
		if err != nil || names(rest.Objects) != "c2 c2a" {
			t.Errorf("the rest %+v, %v", rest, err)
		}
	})
	t.Run("refuses what makes no sense", func(t *testing.T) {
		for _, c := range []struct {
			o    metav1.ListOptions
			code int32
			want string
		}{
			{metav1.ListOptions{Continue: "x"}, 400, "continue key is not valid"},
			{metav1.ListOptions{ResourceVersion: "x"}, 422, "resourceVersion"},
			{metav1.ListOptions{ResourceVersionMatch: "Exact"}, 422, "resourceVersionMatch is forbidden unless resourceVersion is provided"},
			{metav1.ListOptions{ResourceVersionMatch: "Exact", ResourceVersion: "0"}, 422, "is forbidden for resourceVersion"},
			{metav1.ListOptions{ResourceVersionMatch: "Near", ResourceVersion: "1"}, 422, "Unsupported value"},
		} {
			_, err := s.list("configmaps", c.o)
			s.status(err, c.code, c.want)
		}
	})
	t.Run("of the past is exact", func(t *testing.T) {
		now, err := s.list("configmaps", metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		s.mustCreate("configmaps", `{"metadata":{"name":"later"}}`)
		past, err := s.list("configmaps", metav1.ListOptions{ResourceVersion: now.ResourceVersion, ResourceVersionMatch: "Exact"})
		if err != nil || len(past.Objects) != len(now.Objects) {
			t.Errorf("%v, %v", past, err)
		}
		atLeast, err := s.list("configmaps", metav1.ListOptions{ResourceVersion: now.ResourceVersion})
		if err != nil || len(atLeast.Objects) != len(now.Objects)+1 {
			t.Errorf("%v, %v", atLeast, err)
		}
	})
}

// seen reads n events of w and writes them as "ADDED c1".
func seen(t *testing.T, w *verb.Watch, n int) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var all []string
	for len(all) < n {
		events, err := w.Next(ctx)
		if err != nil {
			t.Fatalf("after %v: %v", all, err)
		}
		for _, e := range events {
			name := ""
			if e.Object != nil {
				name = e.Object.GetName()
				if rv := e.Object.GetResourceVersion(); rv != e.ResourceVersion {
					t.Errorf("%s %s is of %s, the event of %s", e.Type, name, rv, e.ResourceVersion)
				}
			}
			if e.InitialEventsEnd {
				name = "end"
			}
			all = append(all, string(e.Type)+" "+name)
		}
	}
	return all
}

func TestWatch(t *testing.T) {
	s := serve(t)
	first := s.mustCreate("configmaps", `{"metadata":{"name":"a","labels":{"in":"yes"}}}`)
	watch := func(o metav1.ListOptions) *verb.Watch {
		t.Helper()
		o.Watch = true
		w, err := s.api.Watch(t.Context(), s.ask("watch", "configmaps"), o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(w.Close)
		return w
	}
	yes, all := true, metav1.ResourceVersionMatchNotOlderThan
	selected := watch(metav1.ListOptions{LabelSelector: "in=yes"})
	resumed := watch(metav1.ListOptions{ResourceVersion: first.GetResourceVersion()})
	streamed := watch(metav1.ListOptions{SendInitialEvents: &yes, ResourceVersionMatch: all, AllowWatchBookmarks: true})

	relabel := func(value string) {
		if _, err := s.patch("configmaps/a", types.MergePatchType, `{"metadata":{"labels":{"in":"`+value+`"}}}`); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := seen(t, selected, 1), []string{"ADDED a"}; !slices.Equal(got, want) {
		t.Errorf("without a resourceVersion it begins with what there is: %v", got)
	}
	relabel("no")
	relabel("maybe")
	relabel("yes")
	if _, _, err := s.delete("configmaps/a", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if got, want := seen(t, selected, 3), []string{"DELETED a", "ADDED a", "DELETED a"}; !slices.Equal(got, want) {
		t.Errorf("as the selector sees it: %v, want %v", got, want)
	}
	if got, want := seen(t, resumed, 4), []string{"MODIFIED a", "MODIFIED a", "MODIFIED a", "DELETED a"}; !slices.Equal(got, want) {
		t.Errorf("from a resourceVersion on: %v, want %v", got, want)
	}
	if got, want := seen(t, streamed, 6), []string{"ADDED a", "BOOKMARK end", "MODIFIED a", "MODIFIED a", "MODIFIED a", "DELETED a"}; !slices.Equal(got, want) {
		t.Errorf("with initial events: %v, want %v", got, want)
	}
	if b := resumed.Bookmark(); b.ResourceVersion < first.GetResourceVersion() {
		t.Errorf("bookmark %+v", b)
	}
	t.Run("refuses what is no more or makes no sense", func(t *testing.T) {
		_, err := s.api.Watch(t.Context(), s.ask("watch", "configmaps"), metav1.ListOptions{SendInitialEvents: &yes})
		s.status(err, 422, "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan")
		_, err = s.api.Watch(t.Context(), s.ask("watch", "configmaps"), metav1.ListOptions{ResourceVersion: "x"})
		s.status(err, 422, "resourceVersion")
	})
}

func TestLocal(t *testing.T) {
	s := serve(t)
	k := s.ask("get", "configmaps").Kind
	c := s.api.As(request.User{Name: "system:serviceaccount:kube-system:x"})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s.mustCreate("configmaps", `{"metadata":{"name":"a"},"data":{"k":"v"}}`)
	w, err := c.Watch(ctx, k, client.Query{Namespace: "default"})
	if err != nil {
		t.Fatal(err)
	}
	events, err := w.Next(ctx)
	if err != nil || len(events) != 2 || events[0].Type != client.Added || events[1].Type != client.Synced {
		t.Fatalf("a watch begins with what there is: %v, %v", events, err)
	}
	obj, err := c.Get(ctx, k, "default", "a")
	if err != nil {
		t.Fatal(err)
	}
	next := obj.DeepCopyObject().(kind.Object)
	next.SetLabels(map[string]string{"x": "y"})
	if _, err := c.Update(ctx, k, next, ""); err != nil {
		t.Fatal(err)
	}
	events, err = w.Next(ctx)
	if err != nil || len(events) != 1 || events[0].Type != client.Modified || events[0].Old != obj {
		t.Errorf("the change: %v, %v", events, err)
	}
	if m := events[0].Object.GetManagedFields(); len(m) != 2 || m[1].Manager != "kube-controller-manager" {
		t.Errorf("managedFields %s", text(m))
	}
	cancel()
	if _, err := w.Next(t.Context()); err != context.Canceled {
		t.Errorf("a watch ends with its context: %v", err)
	}
	_, err = s.api.As(request.User{Name: "mallory"}).Get(t.Context(), k, "default", "a")
	s.status(err, 403, "mallory")
}
