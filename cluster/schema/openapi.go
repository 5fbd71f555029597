package schema

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"sampan/cluster/kind"
	"sampan/internal/fault"
)

// Version is what documents say of the API: upstream's, whose behaviour this
// is.
const Version = "v1.37.2"

// Path is where a group version's document is found below /openapi/v3:
// "api/v1", "apis/apps/v1".
func Path(gv schema.GroupVersion) string {
	if gv.Group == "" {
		return "api/" + gv.Version
	}
	return "apis/" + gv.Group + "/" + gv.Version
}

// Index is what /openapi/v3 lists: Path to the hash of its document. It makes
// no document, and is shared: never written to. Its error is that of a program
// whose schemas are damaged.
func (s *Schemas) Index() (map[string]string, error) {
	if _, err := zip.NewReader(bytes.NewReader(blob), int64(len(blob))); err != nil {
		return nil, &fault.Error{Op: "read schemas", Err: err}
	}
	return s.hashes().index, nil
}

// hashes are those of all documents, for one state of the table.
type hashes struct {
	number uint64            // of the table's state
	index  map[string]string // Path to hash
	all    string            // of all of them
}

// hashes are those of the table as it is now.
func (s *Schemas) hashes() *hashes {
	number := s.kinds.Number() // what changes after this makes them again
	s.hashing.Lock()
	defer s.hashing.Unlock()
	if s.hashed != nil && s.hashed.number == number {
		return s.hashed
	}
	now := &hashes{number: number, index: map[string]string{}}
	groups := s.groups()
	h := sha256.New()
	for _, gv := range sortedGroups(groups) {
		of := digest(gv, groups[gv])
		now.index[Path(gv)] = of
		fmt.Fprintln(h, gv, of)
	}
	now.all = hex.EncodeToString(h.Sum(nil))
	s.hashed = now
	return now
}

// groups are all kinds by the group versions under which they are served.
func (s *Schemas) groups() map[schema.GroupVersion][]one {
	all := map[schema.GroupVersion][]one{}
	for _, k := range s.kinds.All() {
		for _, f := range k.Faces() {
			gv := f.GVK.GroupVersion()
			all[gv] = append(all[gv], one{f.Kind, f.Kind, f.GVK, gv.Group, nil})
		}
	}
	for _, v := range s.virtual {
		k := &kind.Kind{GVK: v.GVK, Plural: v.Plural, Cluster: !v.Namespaced}
		all[v.GVK.GroupVersion()] = append(all[v.GVK.GroupVersion()], one{k, k, v.GVK, v.GVK.Group, v.Verbs})
	}
	return all
}

// blobHash is taken once, when the first hash is asked for.
var blobHash = sync.OnceValue(func() [sha256.Size]byte { return sha256.Sum256(blob) })

// digest changes whenever the document of gv does: it is of all that the
// document is made from.
func digest(gv schema.GroupVersion, kinds []one) string {
	h := sha256.New()
	b := blobHash()
	h.Write(b[:])
	fmt.Fprintln(h, Version, gv)
	for _, k := range kinds {
		fmt.Fprintln(h, k.Plural, k.kind.Cluster, k.gvk, k.kind.Scale != nil, k.subresources(), k.verbs)
		if k.Custom != nil {
			fmt.Fprintln(h, k.Custom.Digest)
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

// one is a kind in the version that a document is about.
type one struct {
	*kind.Kind
	kind *kind.Kind
	gvk  schema.GroupVersionKind

	group string   // of the document
	verbs []string // of what is never stored; nil: all
}

// can says whether the objects know a verb.
func (k one) can(verb string) bool { return k.verbs == nil || slices.Contains(k.verbs, verb) }

// models are the names of the generated schemas that its paths are about.
func (k one) models() []string {
	names := []string{k.model()}
	if k.can("list") {
		names = append(names, k.listModel())
	}
	for _, action := range k.kind.ActionsAs(k.gvk) {
		names = append(names, model(action.GVK))
	}
	return names
}

// model is the name of its schema.
func (k one) model() string {
	if k.Custom != nil {
		return customModel(k.gvk)
	}
	return model(k.gvk)
}

// listModel is the name of the schema of a list of it.
func (k one) listModel() string {
	if k.Custom != nil {
		gvk := k.gvk
		gvk.Kind = k.Custom.List
		return customModel(gvk)
	}
	return model(k.gvk) + "List"
}

func (k one) subresources() []string {
	var all []string
	for name := range k.Parts {
		all = append(all, name)
	}
	for name := range k.kind.ActionsAs(k.gvk) {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

// OpenAPIV3 is the document of a group version, with its hash. It is made anew
// by each call: clients keep it by its hash. A fault of class NotFound if
// nothing is served there.
func (s *Schemas) OpenAPIV3(gv schema.GroupVersion, form Form) (doc []byte, hash string, err error) {
	kinds := s.groups()[gv]
	if len(kinds) == 0 {
		return nil, "", &fault.Error{Class: fault.NotFound, Op: "describe group version", On: gv.String()}
	}
	docs := packages{}
	names := []string{metaV1 + "Status", metaV1 + "DeleteOptions", metaV1 + "Patch", metaV1 + "WatchEvent", metaV1 + "APIResourceList"}
	paths := map[string]any{}
	custom := definitions{}
	for _, k := range kinds {
		for path, item := range k.paths() {
			paths[path] = item
		}
		if k.kind.Scale != nil {
			names = append(names, model(scaleGVK))
		}
		if k.Custom != nil {
			more, err := k.customSchemas(false, custom)
			if err != nil {
				return nil, "", err
			}
			names = append(names, more...)
			continue
		}
		if d, err := docs.get(packageOf(model(k.gvk))); err != nil || d[model(k.gvk)] == nil {
			continue // not among the generated ones; a test finds it
		}
		names = append(names, k.models()...)
	}
	schemas, err := closure(names, docs.get)
	if err != nil {
		return nil, "", err
	}
	maps.Copy(schemas, custom)
	doc, err = json.Marshal(map[string]any{
		"openapi":    "3.0.0",
		"info":       map[string]any{"title": "Kubernetes", "version": Version},
		"paths":      paths,
		"components": map[string]any{"schemas": schemas},
	})
	if err == nil && form == Protobuf {
		doc, err = newerInProtobuf(doc)
	}
	return doc, digest(gv, kinds), err
}

const metaV1 = "io.k8s.apimachinery.pkg.apis.meta.v1."

var scaleGVK = schema.GroupVersionKind{Group: "autoscaling", Version: "v1", Kind: "Scale"}

// packages are the schemas of packages, as far as they were read.
type packages map[string]definitions

func (p packages) get(pkg string) (definitions, error) {
	d, ok := p[pkg]
	if ok {
		return d, nil
	}
	err := readInto("doc/"+pkg, &d)
	if err == nil {
		p[pkg] = d
	}
	return d, err
}
