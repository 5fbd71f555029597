package object

import (
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/structured-merge-diff/v6/typed"
)

// keepSets bounds the text of the sets that are kept twice over; a set takes
// some ten times as much as its text.
const keepSets = 32 << 10

// sets are the owned fields of one version of a kind, as they were last read:
// what one client makes has the same fields again and again. They belong to
// nobody and are not written to. It is safe for concurrent use.
type sets struct {
	like *typed.TypedValue // an object of the version, for its schema

	mu          sync.Mutex // guards all below
	new, old    map[string]*owned
	text, limit int // of new; limit is keepSets if 0
}

// owned are fields, and how they are written.
type owned struct {
	set    *fieldpath.Set
	fields *metav1.FieldsV1
}

// read returns the fields of an entry, as the schema has them now. Nil: it is
// none.
func (s *sets) read(fields *metav1.FieldsV1) *owned {
	var text []byte
	if fields != nil {
		text = fields.GetRawBytes()
	}
	if len(text) == 0 {
		return nil
	}
	if known := s.known(text); known != nil {
		return known
	}
	made := &owned{set: &fieldpath.Set{}, fields: &metav1.FieldsV1{}}
	if made.set.FromJSON(fields.GetRawReader()) != nil {
		return nil
	}
	// Upstream does this at every write. It depends on nothing but the schema.
	switch now, err := typed.ReconcileFieldSetWithSchema(made.set, s.like); {
	case err != nil:
		return nil
	case now != nil:
		made.set = now
	}
	canonical, err := made.set.ToJSON()
	if err != nil {
		return nil
	}
	made.fields.SetRawBytes(canonical)
	s.keep(string(text), made)
	return made
}

func (s *sets) known(text []byte) *owned {
	s.mu.Lock()
	defer s.mu.Unlock()
	if known := s.new[string(text)]; known != nil {
		return known
	}
	known := s.old[string(text)]
	if known != nil {
		s.keepLocked(string(text), known)
	}
	return known
}

func (s *sets) keep(text string, o *owned) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keepLocked(text, o)
}

func (s *sets) keepLocked(text string, o *owned) {
	limit := s.limit
	if limit == 0 {
		limit = keepSets
	}
	if len(text) > limit/4 {
		return // it would drive out all others
	}
	if s.new == nil || s.text+len(text) > limit/2 {
		s.old, s.new, s.text = s.new, map[string]*owned{}, 0
	}
	if s.new[text] == nil {
		s.text += len(text)
	}
	s.new[text] = o
}
