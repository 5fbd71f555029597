package kind

import (
	"sync"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Custom is what a kind does itself that is declared at run time, by a
// CustomResourceDefinition: no Go type says what its objects are like. They
// are unstructured, and each says of which version it is.
//
// Every version of such a kind is a Kind of its own (its columns, schema and
// subresources are its own), and all share one Prefix, and so the objects in
// the store. Those are in the version that they were written in: verbs convert
// them to the version asked for when they take them out, and to Storage when
// they put them in. That is how upstream does it.
type Custom struct {
	// Faces are the kinds under which the definition's versions are served,
	// the preferred one first. Set on all of them alike.
	Faces []*Kind

	// List is the kind of a list of its objects.
	List string

	// Versions are all versions that objects can be converted between, served
	// or not.
	Versions []schema.GroupVersionKind

	// Storage is the version that objects are stored in from now on.
	Storage schema.GroupVersionKind

	// Settle brings an object that belongs to it, of any of Versions, into the
	// form that its version's schema says: what the schema has not is removed,
	// and returned as paths if tell is true. Metadata that is none is an error,
	// or dropped if lax is true: that is for what was stored long ago.
	Settle func(obj Object, lax, tell bool) (unknown []string, err error)

	// Convert returns objects, shared, in another version: an object itself
	// if it is of that version already, else a new one. It may ask a webhook.
	Convert func(objs []Object, to schema.GroupVersionKind) ([]Object, error)

	// Schema is the OpenAPI v3 schema of this version, in JSON, with v2 as
	// version 2 of OpenAPI can say it. Digest changes whenever Schema does.
	Schema func(v2 bool) ([]byte, error)
	Digest string

	// Kept is what others have made for this kind's objects and want to keep:
	// keys are types of their own. It is emptied when the kind is replaced, or
	// was not used for a while. All faces have the same. Told is the same for
	// what is published, which is small and stays as long as the kind.
	Kept, Told *sync.Map

	// Deprecated is a text for the Warning header of every request; empty: none.
	Deprecated string

	// Ending is true while the definition is being deleted: nothing new is
	// created.
	Ending bool
}

// Face is one version under which a kind is served.
type Face struct {
	Kind *Kind
	GVK  schema.GroupVersionKind
}

// Faces are all versions under which a kind is served, the preferred one
// first.
func (k *Kind) Faces() []Face {
	var all []Face
	if k.Custom != nil {
		for _, f := range k.Custom.Faces {
			all = append(all, Face{f, f.GVK})
		}
		return all
	}
	for _, gvk := range k.GVKs() {
		all = append(all, Face{k, gvk})
	}
	return all
}
