// Package crd makes kinds of CustomResourceDefinitions, and keeps the table of
// kinds as they say. A definition becomes a kind for each of its versions
// (compile.go), with a schema that is compiled when an object first needs it
// (form.go), a way from version to version (convert.go), and what is published
// of it (publish.go).
//
// crd decides nothing about names and writes nothing into a definition: that is
// controller/definition.
package crd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"

	"sampan/cluster/client"
	"sampan/cluster/kind"
	"sampan/cluster/webhook"
)

// Store keeps the objects of kinds that come and go.
type Store interface {
	Add(ctx context.Context, k *kind.Kind) error
	Remove(k *kind.Kind)
}

// Config is what a Registry needs. All fields are required.
type Config struct {
	Objects  client.Reader
	Kinds    *kind.Table
	Store    Store
	Webhooks *webhook.Caller
	Log      *slog.Logger
}

// Registry keeps the table of kinds as the definitions say.
type Registry struct {
	cfg    Config
	shelf  *shelf
	served map[string]served // by the definition's name; one goroutine's
}

// served is a definition as it was taken up.
type served struct {
	kind *kind.Kind
	def  *definition

	uid        types.UID
	generation int64 // changes with the spec
	ending     bool
}

// same says whether d's objects are like those of s.
func (s served) same(d *apiextensionsv1.CustomResourceDefinition) bool {
	if s.def == nil || s.uid != d.UID || s.generation != d.Generation {
		return false
	}
	// What nobody counts the changes of is compared.
	return d.Generation != 0 || equality.Semantic.DeepEqual(s.def.source.Load().Spec, d.Spec)
}

// New returns a Registry. It starts nothing.
func New(cfg Config) (*Registry, error) {
	if cfg.Objects == nil || cfg.Kinds == nil || cfg.Store == nil || cfg.Webhooks == nil || cfg.Log == nil {
		return nil, errors.New("crd: all fields of Config are required")
	}
	return &Registry{cfg: cfg, shelf: &shelf{most: inUse}, served: map[string]served{}}, nil
}

// Load takes up all definitions there are. It is called before anybody is
// served, so that nobody is told that a kind does not exist which does.
func (r *Registry) Load(ctx context.Context) error {
	all, err := client.List[*apiextensionsv1.CustomResourceDefinition](ctx, r.cfg.Objects, client.Query{})
	if err != nil {
		return err
	}
	for _, d := range all {
		if err := r.take(ctx, d); err != nil {
			return err
		}
	}
	return nil
}

// Run follows the definitions until ctx ends or the store fails; then it may be
// called again. It is called after Load.
func (r *Registry) Run(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	there := map[string]bool{} // until all that there are were told
	err := client.Follow(ctx, r.cfg.Objects, client.Query{}, func(e client.Change[*apiextensionsv1.CustomResourceDefinition]) {
		switch e.Type {
		case client.Synced:
			for name := range r.served {
				if !there[name] {
					r.drop(name)
				}
			}
			there = nil
		case client.Added, client.Modified:
			if there != nil {
				there[e.Object.Name] = true
			}
			if err := r.take(ctx, e.Object); err != nil {
				stop(err) // whoever runs this runs it again, and all are looked at
			}
		case client.Deleted:
			r.drop(e.Object.Name)
		}
	})
	return errors.Join(err, context.Cause(ctx))
}

// take brings the table up to a definition. One that cannot be taken up is
// logged: the others must not suffer from it. The error is the store's.
func (r *Registry) take(ctx context.Context, d *apiextensionsv1.CustomResourceDefinition) error {
	if !Accepted(d) {
		r.drop(d.Name)
		return nil
	}
	have := r.served[d.Name]
	same := have.same(d)
	if same && have.ending == ending(d) && equality.Semantic.DeepEqual(have.def.names, d.Status.AcceptedNames) {
		have.def.source.Store(d)
		return nil
	}
	k, def, err := compile(d, r.cfg.Webhooks, r.shelf)
	if err != nil {
		r.cfg.Log.Error("custom resource not served", "key", d.Name, "err", err)
		return nil
	}
	if other := r.builtIn(k); other != nil {
		r.cfg.Log.Error("custom resource not served: the program has a kind of that name", "key", d.Name)
		return nil
	}
	if !same {
		if err := r.cfg.Store.Add(ctx, k); err != nil {
			return fmt.Errorf("serve custom resource %s: %w", d.Name, err)
		}
	}
	r.cfg.Kinds.Add(k)
	r.served[d.Name] = served{kind: k, def: def, uid: d.UID, generation: d.Generation, ending: ending(d)}
	if have.def != nil {
		r.shelf.drop(have.def)
	}
	return nil
}

func (r *Registry) drop(name string) {
	if have, ok := r.served[name]; ok {
		r.cfg.Kinds.Remove(have.kind.GroupResource())
		r.cfg.Store.Remove(have.kind)
		r.shelf.drop(have.def)
		delete(r.served, name)
	}
}

// builtIn is the kind of the program's own that k would take the place of.
func (r *Registry) builtIn(k *kind.Kind) *kind.Kind {
	all := r.cfg.Kinds.All()
	if i := slices.IndexFunc(all, func(other *kind.Kind) bool {
		return other.Custom == nil && (other.GroupResource() == k.GroupResource() || other.Prefix == k.Prefix)
	}); i >= 0 {
		return all[i]
	}
	return nil
}

// Accepted says whether a definition's objects are served: once its names were
// accepted, and from then on.
func Accepted(d *apiextensionsv1.CustomResourceDefinition) bool {
	return slices.ContainsFunc(d.Status.Conditions, func(c apiextensionsv1.CustomResourceDefinitionCondition) bool {
		return (c.Type == apiextensionsv1.NamesAccepted || c.Type == apiextensionsv1.Established) && c.Status == apiextensionsv1.ConditionTrue
	})
}
