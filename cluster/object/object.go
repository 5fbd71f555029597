// Package object turns bytes into objects and back: JSON, YAML and protobuf,
// in every version that a kind is served in; it applies patches and keeps the
// record of who owns which field.
//
// An object in hand is always the kind's hub, with apiVersion and kind set.
// Custom resources have no hub: each is in the version that it names.
// object knows no store, no HTTP and no rules of a kind beyond its table entry.
package object

import (
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sampan/cluster/kind"
)

// Media types that an object can be encoded in.
const (
	JSON     = "application/json"
	YAML     = "application/yaml"
	Protobuf = "application/vnd.kubernetes.protobuf"
)

// MaxRequest is how large the body of a request may be, upstream's.
const MaxRequest = 3 << 20

// Validation says what happens to fields that the kind does not have, or that
// are given twice.
type Validation string

const (
	Strict Validation = "Strict" // an error
	Warn   Validation = "Warn"   // a text for each; the default
	Ignore Validation = "Ignore"
)

// Codec encodes and decodes the objects of a table of kinds. It is safe for
// concurrent use.
type Codec struct {
	Kinds *kind.Table
}

// Decoded is what a request's body held.
type Decoded struct {
	Object   kind.Object             // the hub, not yet defaulted
	GVK      schema.GroupVersionKind // the version the body was written in
	Warnings []string                // with Warn: unknown and duplicate fields
}

// As returns hub in the version gvk: hub itself if that is its version, else a
// new object. hub is shared and not written to. An empty gvk is the hub.
func As(k *kind.Kind, hub kind.Object, gvk schema.GroupVersionKind) (kind.Object, error) {
	if k.Custom != nil {
		all, err := AllAs(k, []kind.Object{hub}, gvk)
		if err != nil {
			return nil, err
		}
		return all[0], nil
	}
	v := k.Version(gvk)
	if v == nil {
		return hub, nil
	}
	obj, err := v.FromHub(hub)
	if err != nil {
		return nil, err
	}
	obj.GetObjectKind().SetGroupVersionKind(gvk)
	return obj, nil
}

// AllAs is As for many objects at once, for those kinds whose conversion costs
// a call over the network. An empty gvk leaves them as they are.
func AllAs(k *kind.Kind, hubs []kind.Object, gvk schema.GroupVersionKind) ([]kind.Object, error) {
	if k.Custom == nil || gvk.Empty() || len(hubs) == 0 {
		return hubs, nil
	}
	all, err := k.Custom.Convert(hubs, gvk)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	return all, nil
}

// ToStore returns obj, which belongs to it, as the version in which its kind is
// stored. Only kinds declared at run time are stored in another than the hub.
func ToStore(k *kind.Kind, obj kind.Object) (kind.Object, error) {
	if k.Custom == nil {
		return obj, nil
	}
	all, err := AllAs(k, []kind.Object{obj}, k.Custom.Storage)
	if err != nil {
		return nil, err
	}
	if all[0] != obj {
		// Read from the store, it has the defaults of the version stored.
		k.Default(all[0])
		return all[0], nil
	}
	if _, err := k.Custom.Settle(obj, false, false); err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	return obj, nil
}

// Hub returns obj, of version gvk, as the kind's hub with apiVersion and kind
// set. obj may be kept.
func Hub(k *kind.Kind, obj kind.Object, gvk schema.GroupVersionKind) (kind.Object, error) {
	if k.Custom != nil {
		return obj, nil // it says itself which version it is
	}
	if v := k.Version(gvk); v != nil {
		hub, err := v.ToHub(obj)
		if err != nil {
			return nil, err
		}
		obj = hub
	}
	obj.GetObjectKind().SetGroupVersionKind(k.GVK)
	return obj, nil
}

// hubOf is Hub for what a client sent, or is stored: what was left out is filled
// first, as its version would.
func hubOf(k *kind.Kind, obj kind.Object, gvk schema.GroupVersionKind) (kind.Object, error) {
	if v := k.Version(gvk); v != nil && v.Default != nil {
		v.Default(obj)
	}
	return Hub(k, obj, gvk)
}

// blank returns a new object of version gvk.
func blank(k *kind.Kind, gvk schema.GroupVersionKind) kind.Object {
	if v := k.Version(gvk); v != nil {
		return v.New()
	}
	return k.New()
}

// stamped sets apiVersion and kind of obj, which is not shared.
func stamped[T runtime.Object](obj T, gvk schema.GroupVersionKind) T {
	obj.GetObjectKind().SetGroupVersionKind(gvk)
	return obj
}
