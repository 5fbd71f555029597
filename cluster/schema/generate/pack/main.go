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

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/kube-openapi/pkg/builder3/util"
	"k8s.io/kube-openapi/pkg/common"
	"k8s.io/kube-openapi/pkg/schemamutation"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"sampan/cluster/schema/generate/definitions"
)

func main() {
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "pack:", err)
		os.Exit(1)
	}
}

func run(out string) error {
	named := kinds()
	refer := func(name string) spec.Ref {
		return spec.MustCreateRef("#/components/schemas/" + common.EscapeJsonPointer(name))
	}
	docs, shapes := map[string]map[string]*spec.Schema{}, map[string]map[string]*spec.Schema{}
	for name, d := range definitions.GetOpenAPIDefinitions(refer) {
		s := d.Schema
		delete(s.Extensions, common.ExtensionV2Schema)
		if gvks := named[name]; len(gvks) > 0 {
			s.AddExtension("x-kubernetes-group-version-kind", gvks)
		}
		pkg := name[:strings.LastIndexByte(name, '.')]
		put(docs, pkg, name, util.WrapRefs(&s))
		put(shapes, pkg, name, util.WrapRefs(shape(&s)))
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
		packages map[string]map[string]*spec.Schema
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
	if err := z.Close(); err != nil {
		return err
	}
	return f.Close()
}

// shape is what field ownership needs of s: no texts, defaults and enums.
func shape(s *spec.Schema) *spec.Schema {
	w := schemamutation.Walker{
		SchemaCallback: func(s *spec.Schema) *spec.Schema {
			c := *s
			c.Description, c.Default, c.Enum, c.Required = "", nil, nil, nil
			return &c
		},
		RefCallback: schemamutation.RefCallbackNoop,
	}
	return w.WalkSchema(s)
}

// kinds is the group, version and kind of every named top-level type.
func kinds() map[string][]any {
	all := map[string][]any{}
	for gvk, t := range scheme.Scheme.AllKnownTypes() {
		named, ok := reflect.New(t).Interface().(interface{ OpenAPIModelName() string })
		if !ok || gvk.Version == "__internal" {
			continue
		}
		name := named.OpenAPIModelName()
		if !strings.HasPrefix(name, "io.k8s.api.") {
			// metav1's options are registered in every group; only their own counts.
			if name != "io.k8s.apimachinery.pkg.apis.meta.v1.Status" || gvk.Group != "" || gvk.Version != "v1" {
				continue
			}
		}
		all[name] = append(all[name], entry(gvk))
	}
	for _, list := range all {
		slices.SortFunc(list, func(a, b any) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	}
	return all
}

func entry(gvk schema.GroupVersionKind) map[string]any {
	return map[string]any{"group": gvk.Group, "version": gvk.Version, "kind": gvk.Kind}
}

func put(m map[string]map[string]*spec.Schema, pkg, name string, s *spec.Schema) {
	if m[pkg] == nil {
		m[pkg] = map[string]*spec.Schema{}
	}
	m[pkg][name] = s
}

func sorted(m map[string]map[string]*spec.Schema) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
