// Package verb does what clients ask of the API: create, get, list, watch,
// update, patch, apply, delete. A verb is one file that reads from top to
// bottom, and is written once for all kinds.
//
// verb knows no HTTP: package api maps requests to it, and the parts of this
// process call it through Local, so that both pass the same checks.
package verb

import (
	"context"
	"errors"
	"maps"
	"time"

	"k8s.io/apimachinery/pkg/runtime"

	"sampan/cluster/admission"
	"sampan/cluster/audit"
	"sampan/cluster/kind"
	"sampan/cluster/object"
	"sampan/cluster/request"
	"sampan/cluster/schema"
	"sampan/cluster/store"
)

// Authorizer answers whether r.User may do r. A refusal is a Forbidden
// StatusError with upstream's text.
type Authorizer interface {
	Authorize(ctx context.Context, r request.Request) error
}

// Action is the code of a subresource whose body is a kind of its own and
// whose kind declares no Do: "pods/eviction", "serviceaccounts/token". obj is
// the stored object, shared. It is called after authorization; body is
// decoded and belongs to it. What it returns is the answer's body.
type Action func(ctx context.Context, r request.Request, obj kind.Object, body runtime.Object) (runtime.Object, error)

// Config is what an API needs. All fields but Actions, Audit and Now are required.
type Config struct {
	Kinds      *kind.Table
	Store      *store.Store
	Schemas    *schema.Schemas
	Admission  *admission.Chain
	Authorizer Authorizer

	// Actions are by "plural/subresource", with ".group" after the plural for
	// groups other than core. "pods/eviction" is there by default.
	Actions map[string]Action

	// Audit is told of what parts of this program ask through Local. What comes
	// over HTTP is told by package api. Nil: nothing is recorded, and nothing
	// is spent on it.
	Audit *audit.Trail

	Now func() time.Time // default: time.Now
}

// API performs verbs. It is safe for concurrent use.
//
// Every method takes a request.Request with Verb, Kind, GVK, Namespace, Name,
// Subresource and User filled in, and authorizes it first. Objects returned
// are hubs and shared: never write to one. With Subresource "scale", objects
// are *autoscaling/v1.Scale. Errors are apimachinery's StatusErrors.
type API struct {
	Config
	codec  object.Codec
	owners *object.Owners
}

// New returns an API. It starts nothing.
func New(c Config) (*API, error) {
	switch {
	case c.Kinds == nil:
		return nil, errors.New("verb: Config.Kinds is required")
	case c.Store == nil:
		return nil, errors.New("verb: Config.Store is required")
	case c.Schemas == nil:
		return nil, errors.New("verb: Config.Schemas is required")
	case c.Authorizer == nil:
		return nil, errors.New("verb: Config.Authorizer is required")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	a := &API{
		Config: c,
		codec:  object.Codec{Kinds: c.Kinds},
		owners: object.NewOwners(c.Schemas.TypeConverter),
	}
	a.Actions = map[string]Action{"pods/eviction": a.evict}
	maps.Copy(a.Actions, c.Actions)
	return a, nil
}

// Body is a request's body. MediaType is one of object's (without parameters).
type Body struct {
	Data      []byte
	MediaType string
}
