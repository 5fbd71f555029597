// Package verbtest puts verbs on a real store in a temporary directory, for
// tests of what is above them. It admits and authorizes what it is told to.
package verbtest

import (
	"context"
	"testing"

	"sampan/cluster/admission"
	"sampan/cluster/kind"
	"sampan/cluster/object"
	"sampan/cluster/schema"
	"sampan/cluster/store"
	"sampan/cluster/verb"
)

// New returns the verbs of kinds. What cfg leaves out is filled in: a store
// that ends with the test, schemas, and a chain that admits everything.
func New(t testing.TB, kinds *kind.Table, cfg verb.Config) *verb.API {
	t.Helper()
	cfg.Kinds = kinds
	if cfg.Store == nil {
		cfg.Store = Open(t, kinds, t.TempDir())
	}
	if cfg.Schemas == nil {
		cfg.Schemas = schema.New(kinds)
	}
	if cfg.Admission == nil {
		cfg.Admission = admission.NewChain()
	}
	api, err := verb.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return api
}

// Open opens a store in dir that ends with the test.
func Open(t testing.TB, kinds *kind.Table, dir string) *store.Store {
	t.Helper()
	return open(t, store.Config{Dir: dir, Kinds: kinds})
}

// Forgetful opens a store that keeps no more than the last two events of a
// kind.
func Forgetful(t testing.TB, kinds *kind.Table) *store.Store {
	t.Helper()
	return open(t, store.Config{Dir: t.TempDir(), Kinds: kinds, Window: store.Window{Min: 1, Max: 2}})
}

func open(t testing.TB, cfg store.Config) *store.Store {
	t.Helper()
	cfg.Codec = object.Storage{}
	s, err := store.Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}
