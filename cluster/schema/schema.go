// Package schema knows the fields of every served type: their descriptions,
// defaults, list keys and enums, generated from k8s.io/api into one compressed
// file inside the binary. OpenAPI documents and field ownership read it, each
// part when it is first asked for.
//
// schema knows no objects and no rules.
package schema

//go:generate go run ./generate schema.zip

import (
	"archive/zip"
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"

	"sampan/cluster/kind"
	"sampan/internal/fault"
)

// blob has an entry per use and Go package: "doc/io.k8s.api.core.v1" is the
// OpenAPI v3 schemas by name, "shape/…" is what package shape makes of them.
//
//go:embed schema.zip
var blob []byte

// Schemas answers for the kinds of a table. Nothing is read or kept before
// the first question. It is safe for concurrent use.
type Schemas struct {
	kinds   *kind.Table
	virtual []Virtual

	mu   sync.Mutex                                              // guards all below
	pods *types                                                  // of all kinds that have pods inside; nil until one is asked for
	old  map[schema.GroupVersionKind]managedfields.TypeConverter // of old versions that were asked for

	hashing sync.Mutex // guards hashed
	hashed  *hashes    // nil until the first is asked for

	telling sync.Mutex // held while parts of custom kinds are made

	making  sync.Mutex     // guards all below, while a part is made as well
	older   [forms]*piece  // the generated parts of OpenAPIV2; nil until the first is asked for
	olderOf [forms]string  // what they were made of
	others  [forms]*others // the parts of other servers
}

// Virtual is a kind that is answered and never stored.
type Virtual struct {
	GVK        schema.GroupVersionKind
	Plural     string
	Namespaced bool
	Verbs      []string // some of create, get and list
}

// definitions are schemas by name, as JSON.
type definitions map[string]json.RawMessage

// New returns the schemas of the kinds in a table.
func New(kinds *kind.Table) *Schemas { return &Schemas{kinds: kinds} }

// Describe has documents describe virtual kinds too, these and no others. It is
// called before the first question.
func (s *Schemas) Describe(virtual []Virtual) {
	s.virtual = virtual
	s.hashing.Lock()
	defer s.hashing.Unlock()
	s.hashed = nil
}

// model is the name of gvk's schema, upstream's: "io.k8s.api.apps.v1.Deployment".
// All groups' packages are called like the first label of the group.
func model(gvk schema.GroupVersionKind) string {
	if like, ok := same[gvk.GroupVersion()]; ok {
		gvk.Version = like
	}
	if of, ok := elsewhere[gvk.Group]; ok {
		return of + gvk.Version + "." + gvk.Kind
	}
	group, _, _ := strings.Cut(gvk.Group, ".")
	if group == "" {
		group = "core"
	}
	return "io.k8s.api." + group + "." + gvk.Version + "." + gvk.Kind
}

// elsewhere are the packages of groups whose types are not in k8s.io/api.
var elsewhere = map[string]string{
	"apiextensions.k8s.io":   "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.",
	"apiregistration.k8s.io": "io.k8s.kube-aggregator.pkg.apis.apiregistration.",
}

// same are versions without Go types: they are those of another version.
var same = map[schema.GroupVersion]string{
	{Group: "autoscaling", Version: "v2beta2"}:        "v2",
	{Group: "scheduling.k8s.io", Version: "v1alpha1"}: "v1beta1",
}

// errNoEntry says that the blob has nothing of a package.
var errNoEntry = errors.New("no such package among the generated schemas")

// readInto reads one entry of the blob.
func readInto(entry string, into any) error {
	z, err := zip.NewReader(bytes.NewReader(blob), int64(len(blob)))
	if err != nil {
		return &fault.Error{Op: "read schemas", On: entry, Err: err}
	}
	f, err := z.Open(entry)
	if err != nil {
		return &fault.Error{Class: fault.NotFound, Op: "read schemas", On: entry, Err: errNoEntry}
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	if err == nil {
		err = json.Unmarshal(data, into)
	}
	if err != nil {
		return &fault.Error{Op: "read schemas", On: entry, Err: err}
	}
	return nil
}

// packageOf is the part of a schema's name that names its entry.
func packageOf(name string) string {
	if i := strings.LastIndexByte(name, '.'); i >= 0 {
		return name[:i]
	}
	return "untyped"
}

// closure collects the schemas named and all that they refer to. get returns
// the definitions of a package.
func closure(names []string, get func(pkg string) (definitions, error)) (definitions, error) {
	all := definitions{}
	for len(names) > 0 {
		name := names[len(names)-1]
		names = names[:len(names)-1]
		if _, ok := all[name]; ok {
			continue
		}
		d, err := get(packageOf(name))
		if err != nil {
			return nil, err
		}
		text, ok := d[name]
		if !ok {
			return nil, &fault.Error{Class: fault.NotFound, Op: "read schema", On: name, Err: errNoEntry}
		}
		all[name] = text
		names = append(names, references(text)...)
	}
	return all, nil
}

const refPrefix = `"$ref":"#/components/schemas/`

// references are the names that a schema refers to. Names need no escaping in
// JSON, and the text is our own, without spaces.
func references(text []byte) []string {
	var names []string
	for {
		_, rest, ok := bytes.Cut(text, []byte(refPrefix))
		if !ok {
			return names
		}
		name, after, _ := bytes.Cut(rest, []byte(`"`))
		names, text = append(names, string(name)), after
	}
}
