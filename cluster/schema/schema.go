// Package schema knows the fields of every served type: their descriptions,
// defaults, list keys and enums, generated from k8s.io/api into one compressed
// file inside the binary. OpenAPI documents and field ownership read it, each
// group version when it is first asked for.
//
// schema knows no objects and no rules.
package schema

import (
	"sync"

	"sampan/cluster/kind"
)

// Schemas answers for the kinds of a table. Nothing is read or kept before
// the first question. It is safe for concurrent use.
type Schemas struct {
	kinds *kind.Table

	mu    sync.Mutex // guards all below
	docs  map[string]document
	types map[typeKey]*typesEntry
}

// New returns the schemas of the kinds in a table.
func New(kinds *kind.Table) *Schemas { return &Schemas{kinds: kinds} }
