package policy

import (
	"fmt"
	"reflect"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	upstream "k8s.io/apiserver/pkg/admission"
)

// fresh is an empty object of like's type.
func fresh(like runtime.Object) runtime.Object {
	return reflect.New(reflect.TypeOf(like).Elem()).Interface().(runtime.Object)
}

// interfaces is what the patchers of the CEL library want to know of types: how
// to make an object like the one that they patch.
type interfaces struct{ like runtime.Object }

// New implements runtime.ObjectCreater.
func (i interfaces) New(gvk schema.GroupVersionKind) (runtime.Object, error) {
	if gvk != i.like.GetObjectKind().GroupVersionKind() {
		return nil, fmt.Errorf("patch of %s: it may not become %s", i.like.GetObjectKind().GroupVersionKind(), gvk)
	}
	return fresh(i.like), nil
}

// ObjectKinds implements runtime.ObjectTyper.
func (i interfaces) ObjectKinds(runtime.Object) ([]schema.GroupVersionKind, bool, error) {
	return []schema.GroupVersionKind{i.like.GetObjectKind().GroupVersionKind()}, false, nil
}

// Recognizes implements runtime.ObjectTyper.
func (i interfaces) Recognizes(gvk schema.GroupVersionKind) bool {
	return gvk == i.like.GetObjectKind().GroupVersionKind()
}

// The methods below implement admission.ObjectInterfaces. Patchers use the
// first two.

func (i interfaces) GetObjectCreater() runtime.ObjectCreater                     { return i }
func (i interfaces) GetObjectTyper() runtime.ObjectTyper                         { return i }
func (interfaces) GetObjectDefaulter() runtime.ObjectDefaulter                   { return nil }
func (interfaces) GetObjectConvertor() runtime.ObjectConvertor                   { return nil }
func (interfaces) GetEquivalentResourceMapper() runtime.EquivalentResourceMapper { return nil }

var _ upstream.ObjectInterfaces = interfaces{}
