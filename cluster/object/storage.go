package object

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"sampan/cluster/kind"
	"sampan/internal/fault"
)

// Storage encodes for the store, as upstream does: protobuf of the hub in its
// envelope, or JSON where the kind has no protobuf. resourceVersion and
// selfLink are not stored. It is safe for concurrent use.
type Storage struct{}

// Encode is the stored form of obj, which is shared and not written to.
func (Storage) Encode(k *kind.Kind, obj kind.Object) ([]byte, error) {
	strange := k.Custom == nil && obj.GetObjectKind().GroupVersionKind() != k.GVK
	if obj.GetResourceVersion() != "" || strange {
		obj = ownMeta(obj)
		obj.SetResourceVersion("")
		if strange {
			obj.GetObjectKind().SetGroupVersionKind(k.GVK)
		}
	}
	if m, ok := obj.(message); ok {
		return appendEnvelope(nil, k.GVK, m)
	}
	return json.Marshal(obj)
}

// ownMeta is a copy of obj whose type and metadata are its own. Those of Go types
// are inside of the object itself: what it refers to is not copied.
func ownMeta(obj kind.Object) kind.Object {
	v := reflect.ValueOf(obj)
	if _, custom := obj.(*unstructured.Unstructured); custom || v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
		return obj.DeepCopyObject().(kind.Object)
	}
	return shallow(obj).Interface().(kind.Object)
}

// Decode reads the stored form of an object, in any version of k, and fills
// in defaults, which may be newer than what is stored.
func (Storage) Decode(k *kind.Kind, data []byte) (kind.Object, error) {
	if k.Custom != nil {
		return decodeCustom(k, data)
	}
	gvk, media := k.GVK, JSON
	if bytes.HasPrefix(data, magic) {
		media = Protobuf
	}
	if stored, ok := claimed(data, media); ok && k.Version(stored) != nil {
		gvk = stored
	} else if i := slices.IndexFunc(k.Stored, func(v kind.Version) bool { return v.GVK == stored }); ok && i >= 0 {
		return decodeStored(k, &k.Stored[i], data, media)
	}
	obj := blank(k, gvk)
	var err error
	if media == Protobuf {
		err = decodeProtobuf(obj, gvk, data)
	} else {
		_, err = decodeJSON(obj, data, Ignore)
	}
	if err == nil {
		err = sameKind(obj, gvk)
	}
	if err != nil {
		return nil, &fault.Error{Class: fault.Invalid, Op: "decode stored", On: k.String(), Err: err}
	}
	hub, err := hubOf(k, obj, gvk)
	if err != nil {
		return nil, err
	}
	k.Default(hub)
	return hub, nil
}

// decodeCustom leaves an object in the version in which it is stored: a
// conversion might need the network.
func decodeCustom(k *kind.Kind, data []byte) (kind.Object, error) {
	obj := k.New()
	_, err := decodeJSON(obj, data, Ignore)
	if err == nil {
		_, err = k.Custom.Settle(obj, true, false)
	}
	if err != nil {
		return nil, &fault.Error{Class: fault.Invalid, Op: "decode stored", On: k.String(), Err: err}
	}
	k.Default(obj)
	return obj, nil
}

// decodeStored reads an object in a version that is not served.
func decodeStored(k *kind.Kind, v *kind.Version, data []byte, media string) (kind.Object, error) {
	obj := v.New()
	var err error
	if media == Protobuf {
		err = decodeProtobuf(obj, v.GVK, data)
	} else {
		_, err = decodeJSON(obj, data, Ignore)
	}
	var hub kind.Object
	if err == nil {
		if v.Default != nil {
			v.Default(obj)
		}
		hub, err = v.ToHub(obj)
	}
	if err != nil {
		return nil, &fault.Error{Class: fault.Invalid, Op: "decode stored", On: k.String(), Err: err}
	}
	hub.GetObjectKind().SetGroupVersionKind(k.GVK)
	k.Default(hub)
	return hub, nil
}
