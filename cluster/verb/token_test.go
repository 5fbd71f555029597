package verb

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sampan/cluster/kind/core"
	"sampan/cluster/request"
)

func TestTokensReadAsTheyWereWritten(t *testing.T) {
	obj := core.ConfigMap().New()
	obj.SetName("b")
	obj.SetNamespace("a")
	for namespace, start := range map[string]string{"": "a/b\x00", "a": "b\x00"} {
		p, err := parsePage(page{Revision: 7, Start: after(obj, namespace)}.String())
		if err != nil || p.Revision != 7 || p.Start != start {
			t.Errorf("in %q: %+v, %v", namespace, p, err)
		}
		if ns, name := p.after(namespace); ns != "a" || name != "b" {
			t.Errorf("in %q: after %s/%s", namespace, ns, name)
		}
	}
}

func FuzzPage(f *testing.F) {
	f.Add(page{Revision: 7, Start: "a/b\x00"}.String())
	f.Add("e30")
	f.Fuzz(func(t *testing.T, token string) {
		p, err := parsePage(token)
		if err != nil {
			return
		}
		if again, err := parsePage(p.String()); err != nil || again != p {
			t.Fatalf("%+v became %+v, %v", p, again, err)
		}
	})
}

func FuzzSelectors(f *testing.F) {
	f.Add("a=b,c in (d)", "metadata.name=x,spec.nodeName!=y")
	pod := core.Pod()
	obj := pod.New()
	f.Fuzz(func(t *testing.T, l, fields string) {
		s, err := selectedBy(request.Request{Kind: pod, GVK: pod.GVK}, metav1.ListOptions{LabelSelector: l, FieldSelector: fields}, validListOptions)
		if err == nil {
			s.matches(obj)
		}
	})
}

func TestFieldsThatCannotBeSelectedBy(t *testing.T) {
	job := schema.GroupVersionKind{Group: "batch", Version: "v1", Kind: "Job"}
	slice := schema.GroupVersionKind{Group: "resource.k8s.io", Version: "v1", Kind: "ResourceSlice"}
	for _, tc := range []struct {
		gvk   schema.GroupVersionKind
		known int
		want  string
	}{
		{job, 1, `field label "x" not supported for Job`},
		{slice, 1, "field label not supported for resource.k8s.io/v1, Kind=ResourceSlice: x"},
		{schema.GroupVersionKind{Version: "v1", Kind: "Pod"}, 3, "field label not supported: x"},
		{schema.GroupVersionKind{Version: "v1", Kind: "ConfigMap"}, 0, `"x" is not a known field selector: only "metadata.name", "metadata.namespace"`},
	} {
		s := &selected{kind: core.Pod(), gvk: tc.gvk}
		if got := s.unselectable("x", tc.known); got != tc.want {
			t.Errorf("%s: got %q, want %q", tc.gvk.Kind, got, tc.want)
		}
	}
}
