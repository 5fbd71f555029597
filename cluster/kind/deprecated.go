package kind

import (
	"fmt"
	"reflect"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Deprecation is the text for the Warning header of a request by the version
// gvk; empty: none.
func (k *Kind) Deprecation(gvk schema.GroupVersionKind) string {
	switch v := k.Version(gvk); {
	case k.Custom != nil:
		return k.Custom.Deprecated
	case v == nil:
		if k.Type != nil { // asked of each request: what a type says of itself needs no object
			return Deprecation(k.GVK, reflect.Zero(k.Type).Interface().(runtime.Object))
		}
		return Deprecation(k.GVK, k.New())
	case v.Deprecated != "":
		return v.Deprecated
	default:
		return Deprecation(gvk, v.New())
	}
}

// Deprecation says in upstream's words what a Go type of k8s.io/api says of its
// own life; empty if it is not deprecated.
func Deprecation(gvk schema.GroupVersionKind, obj runtime.Object) string {
	deprecated, ok := obj.(interface{ APILifecycleDeprecated() (major, minor int) })
	if !ok {
		return ""
	}
	major, minor := deprecated.APILifecycleDeprecated()
	text := fmt.Sprintf("%s %s is deprecated in v%d.%d+", gvk.GroupVersion(), gvk.Kind, major, minor)
	if removed, ok := obj.(interface{ APILifecycleRemoved() (major, minor int) }); ok {
		major, minor := removed.APILifecycleRemoved()
		text += fmt.Sprintf(", unavailable in v%d.%d+", major, minor)
	}
	if replaced, ok := obj.(interface {
		APILifecycleReplacement() schema.GroupVersionKind
	}); ok {
		by := replaced.APILifecycleReplacement()
		text += fmt.Sprintf("; use %s %s", by.GroupVersion(), by.Kind)
	}
	return text
}
