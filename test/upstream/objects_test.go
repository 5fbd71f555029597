package upstream

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/kubernetes/test/integration/etcd"
)

// namespace is where upstream's examples are.
const namespace = "etcdstoragepathtestnamespace"

func plain(cfg *rest.Config) *rest.Config {
	cfg.NegotiatedSerializer = scheme.Codecs.WithoutConversion()
	cfg.GroupVersion = &schema.GroupVersion{}
	return cfg
}

// served are the resources that a server lists, by group, version and plural.
func served(t *testing.T, cfg *rest.Config) map[schema.GroupVersionResource]metav1.APIResource {
	t.Helper()
	c, err := discovery.NewDiscoveryClientForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	_, lists, err := c.ServerGroupsAndResources()
	if err != nil {
		t.Fatal(err)
	}
	all := map[schema.GroupVersionResource]metav1.APIResource{}
	for _, l := range lists {
		gv, err := schema.ParseGroupVersion(l.GroupVersion)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range l.APIResources {
			if !strings.Contains(r.Name, "/") && slices.Contains(r.Verbs, "list") {
				all[gv.WithResource(r.Name)] = r
			}
		}
	}
	return all
}

// examples makes upstream's example of every kind that the server serves: the
// table of k8s.io/kubernetes/test/integration/etcd, which says too under which
// key each is stored.
func examples(t *testing.T, cfg *rest.Config) (made map[schema.GroupVersionResource]etcd.StorageData) {
	t.Helper()
	ctx := context.Background()
	c, err := dynamic.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	create := func(gvr schema.GroupVersionResource, r metav1.APIResource, stub string) error {
		obj := &unstructured.Unstructured{}
		if err := json.Unmarshal([]byte(stub), &obj.Object); err != nil {
			return err
		}
		obj.SetGroupVersionKind(gvr.GroupVersion().WithKind(r.Kind))
		var to dynamic.ResourceInterface = c.Resource(gvr)
		if r.Namespaced {
			obj.SetNamespace(namespace)
			to = c.Resource(gvr).Namespace(namespace)
		}
		_, err := to.Create(ctx, obj, metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) {
			err = nil
		}
		return err
	}
	crds := schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
	for _, crd := range etcd.GetCustomResourceDefinitionData() {
		crd.TypeMeta = metav1.TypeMeta{APIVersion: apiextensions.SchemeGroupVersion.String(), Kind: "CustomResourceDefinition"}
		m, err := runtime.DefaultUnstructuredConverter.ToUnstructured(crd)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Resource(crds).Create(ctx, &unstructured.Unstructured{Object: m}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := create(schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}, metav1.APIResource{Kind: "Namespace"},
		`{"metadata":{"name":"`+namespace+`"}}`); err != nil {
		t.Fatal(err)
	}
	var all map[schema.GroupVersionResource]metav1.APIResource
	data := etcd.GetEtcdStorageData()
	within(t, "custom resources", func(context.Context) error {
		all = served(t, cfg)
		for _, crd := range etcd.GetCustomResourceDefinitionData() {
			for _, v := range crd.Spec.Versions {
				gvr := schema.GroupVersionResource{Group: crd.Spec.Group, Version: v.Name, Resource: crd.Spec.Names.Plural}
				if _, ok := all[gvr]; v.Served && !ok {
					return fmt.Errorf("%s is not served", gvr)
				}
			}
		}
		return nil
	})
	made = map[schema.GroupVersionResource]etcd.StorageData{}
	for _, gvr := range slices.SortedFunc(maps.Keys(data), func(a, b schema.GroupVersionResource) int { return strings.Compare(a.String(), b.String()) }) {
		r, ok := all[gvr]
		if !ok || !slices.Contains(r.Verbs, "create") {
			continue
		}
		for _, p := range data[gvr].Prerequisites {
			if err := create(p.GvrData, all[p.GvrData], p.Stub); err != nil {
				t.Errorf("what %s needs: %v", gvr, err)
			}
		}
		within(t, "create "+gvr.String(), func(context.Context) error { return create(gvr, r, data[gvr].Stub) })
		made[gvr] = data[gvr]
	}
	return made
}

// listed are all objects that a server has, as JSON, at one revision: by
// group, version, plural, namespace and name.
func listed(t *testing.T, cfg *rest.Config, resources map[schema.GroupVersionResource]metav1.APIResource, revision string) map[string]map[string]any {
	t.Helper()
	c, err := dynamic.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]map[string]any{}
	for gvr, r := range resources {
		if gvr.Group == "metrics.k8s.io" || gvr.Resource == "componentstatuses" {
			continue // they are not stored
		}
		list, err := c.Resource(gvr).List(context.Background(), metav1.ListOptions{ResourceVersion: revision, ResourceVersionMatch: metav1.ResourceVersionMatchExact})
		if err != nil {
			t.Errorf("list %s (%s) at %s: %v", gvr, r.Kind, revision, err)
			continue
		}
		for _, o := range list.Items {
			all[strings.Join([]string{gvr.Group, gvr.Version, gvr.Resource, o.GetNamespace(), o.GetName()}, "/")] = o.Object
		}
	}
	return all
}

// same reports the objects that are not the same JSON on both sides.
func same(t *testing.T, upstream, our map[string]map[string]any) {
	t.Helper()
	n := 0
	for _, key := range slices.Sorted(maps.Keys(upstream)) {
		o, ok := our[key]
		if !ok {
			t.Errorf("%s: upstream has it, ours has not", key)
			continue
		}
		for _, d := range differences("", upstream[key], o) {
			t.Errorf("%s: %s", key, d)
		}
		n++
	}
	for _, key := range slices.Sorted(maps.Keys(our)) {
		if _, ok := upstream[key]; !ok {
			t.Errorf("%s: ours has it, upstream has not", key)
		}
	}
	t.Logf("%d objects are compared", n)
	if n < 150 {
		t.Errorf("%d objects are too few for all kinds", n)
	}
}

func differences(at string, a, b any) (all []string) {
	ma, okA := a.(map[string]any)
	mb, okB := b.(map[string]any)
	if okA && okB {
		for k := range ma {
			all = append(all, differences(at+"."+k, ma[k], mb[k])...)
		}
		for k := range mb {
			if _, ok := ma[k]; !ok {
				all = append(all, differences(at+"."+k, nil, mb[k])...)
			}
		}
		return all
	}
	ja, _ := json.Marshal(a)
	jb, _ := json.Marshal(b)
	if string(ja) != string(jb) {
		return []string{fmt.Sprintf("%s: upstream %.300s, ours %.300s", at, ja, jb)}
	}
	return nil
}

// keyResource is the resource that a key of listed belongs to.
func keyResource(key string) schema.GroupVersionResource {
	f := strings.SplitN(key, "/", 4)
	return schema.GroupVersionResource{Group: f[0], Version: f[1], Resource: f[2]}
}
