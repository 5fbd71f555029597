//go:build definitions

// Command pack writes the definitions that openapi-gen made into schema.zip.
// Only generate, beside it, runs it: what it imports exists only then.
package main

import (
	"archive/zip"
	"compress/flate"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"sort"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiextensionsv1beta1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1beta1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	apiregistrationv1beta1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1beta1"
	"k8s.io/kube-openapi/pkg/builder3/util"
	"k8s.io/kube-openapi/pkg/common"
	"k8s.io/kube-openapi/pkg/schemaconv"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"sampan/cluster/schema/generate/definitions"
	"sampan/cluster/schema/shape"
)

func main() {
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "pack:", err)
		os.Exit(1)
	}
}

// run writes out. from is the versions of the modules that it is made from, and
// is recorded.
func run(out, from string) error {
	named, err := kinds()
	if err != nil {
		return err
	}
	refer := func(name string) spec.Ref {
		return spec.MustCreateRef("#/components/schemas/" + common.EscapeJsonPointer(name))
	}
	docs, models := map[string]map[string]any{}, map[string]*spec.Schema{}
	for name, d := range definitions.GetOpenAPIDefinitions(refer) {
		s := d.Schema
		delete(s.Extensions, common.ExtensionV2Schema)
		if gvks := named[name]; len(gvks) > 0 {
			s.AddExtension("x-kubernetes-group-version-kind", gvks)
		}
		models[name] = util.WrapRefs(&s)
		put(docs, name, models[name])
	}
	shapes, err := shapes(models)
	if err != nil {
		return err
	}

	f, err := os.Create(out)
	if err != nil {
		return err
	}
	z := zip.NewWriter(f)
	z.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) {
		return flate.NewWriter(w, flate.BestCompression)
	})
	for _, part := range []struct {
		use      string
		packages map[string]map[string]any
	}{{"doc/", docs}, {"shape/", shapes}} {
		for _, pkg := range sorted(part.packages) {
			data, err := json.Marshal(part.packages[pkg]) // maps are in order of their keys
			if err != nil {
				return err
			}
			w, err := z.Create(part.use + pkg)
			if err != nil {
				return err
			}
			if _, err := w.Write(data); err != nil {
				return err
			}
		}
	}
	w, err := z.Create("made-from")
	if err != nil {
		return err
	}
	if _, err := io.WriteString(w, from); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	return f.Close()
}

// shapes are the models as field ownership needs them, by package.
func shapes(models map[string]*spec.Schema) (map[string]map[string]any, error) {
	types, err := schemaconv.ToSchemaFromOpenAPI(models, false)
	if err != nil {
		return nil, err
	}
	all := map[string]map[string]any{}
	for _, t := range types.Types {
		a, err := shape.Of(t.Atom)
		if err != nil {
			return nil, err
		}
		put(all, t.Name, a)
	}
	return all, nil
}

// others are the groups that client-go's scheme does not have.
var others = []func(*runtime.Scheme) error{apiextensionsv1.AddToScheme, apiextensionsv1beta1.AddToScheme, apiregistrationv1.AddToScheme, apiregistrationv1beta1.AddToScheme}

// kinds is the group, version and kind of every named top-level type.
func kinds() (map[string][]any, error) {
	all := map[string][]any{}
	for _, add := range others {
		if err := add(scheme.Scheme); err != nil {
			return nil, err
		}
	}
	for gvk, t := range scheme.Scheme.AllKnownTypes() {
		named, ok := reflect.New(t).Interface().(interface{ OpenAPIModelName() string })
		if !ok || gvk.Version == "__internal" {
			continue
		}
		name := named.OpenAPIModelName()
		if !strings.HasPrefix(name, "io.k8s.api.") && !strings.HasPrefix(name, "io.k8s.apiextensions-apiserver.") && !strings.HasPrefix(name, "io.k8s.kube-aggregator.") {
			// metav1's options are registered in every group; only their own counts.
			if name != "io.k8s.apimachinery.pkg.apis.meta.v1.Status" || gvk.Group != "" || gvk.Version != "v1" {
				continue
			}
		}
		all[name] = append(all[name], entry(gvk))
	}
	for name, gvk := range nameless {
		all[name] = append(all[name], entry(gvk))
	}
	for _, list := range all {
		slices.SortFunc(list, func(a, b any) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	}
	return all, nil
}

// nameless are kinds whose Go types are those of another version.
var nameless = map[string]schema.GroupVersionKind{
	"io.k8s.api.autoscaling.v2.HorizontalPodAutoscaler": {Group: "autoscaling", Version: "v2beta2", Kind: "HorizontalPodAutoscaler"},
	"io.k8s.api.scheduling.v1beta1.PriorityClass":       {Group: "scheduling.k8s.io", Version: "v1alpha1", Kind: "PriorityClass"},
}

func entry(gvk schema.GroupVersionKind) map[string]any {
	return map[string]any{"group": gvk.Group, "version": gvk.Version, "kind": gvk.Kind}
}

// put adds a schema to those of its package. Names without one are the two
// types for what has no schema.
func put(m map[string]map[string]any, name string, s any) {
	pkg := "untyped"
	if i := strings.LastIndexByte(name, '.'); i >= 0 {
		pkg = name[:i]
	}
	if m[pkg] == nil {
		m[pkg] = map[string]any{}
	}
	m[pkg][name] = s
}

func sorted(m map[string]map[string]any) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
