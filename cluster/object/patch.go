package object

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/mergepatch"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/apimachinery/pkg/util/validation/field"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	"sampan/cluster/kind"
)

// maxOperations is how many operations a JSON patch may have, upstream's.
const maxOperations = 10000

// maxPatched bounds the document that a JSON patch makes: copy operations
// can double it each.
const maxPatched = 2 * MaxRequest

// Patch returns live (a hub, shared) as changed by a JSON, merge or strategic
// merge patch written for the version gvk, with warnings for unknown and
// duplicate fields. Errors are upstream's.
func (c *Codec) Patch(k *kind.Kind, gvk schema.GroupVersionKind, live kind.Object, pt types.PatchType, patch []byte, v Validation) (kind.Object, []string, error) {
	current, err := As(k, live, gvk)
	if err != nil {
		return nil, nil, err
	}
	next := blank(k, gvk)
	warnings, err := patchInto(next, gvk, current, pt, patch, v, settle(k, v))
	if err != nil {
		return nil, nil, err
	}
	hub, err := hubOf(k, next, gvk)
	return hub, warnings, err
}

// PatchInto is Patch for what is no declared kind: next, an empty object of
// the kind gvk, becomes current as changed by the patch. An error for a patch
// that does not fit is fit to answer a request with, and wraps its cause.
func PatchInto(next runtime.Object, gvk schema.GroupVersionKind, current runtime.Object, pt types.PatchType, patch []byte, v Validation) ([]string, error) {
	return patchInto(next, gvk, current, pt, patch, v, nil)
}

func patchInto(next runtime.Object, gvk schema.GroupVersionKind, current runtime.Object, pt types.PatchType, patch []byte, v Validation, settle settler) ([]string, error) {
	var strict []error
	var err error
	switch pt {
	case types.StrategicMergePatchType, types.MergePatchType:
		if settle == nil && patched(next, current, pt, patch) {
			return nil, sameKind(next, gvk)
		}
	}
	switch pt {
	case types.StrategicMergePatchType:
		strict, err = strategic(next, current, patch, v)
	case types.JSONPatchType, types.MergePatchType:
		strict, err = textual(next, current, pt, patch, v, settle)
	default:
		return nil, unsupported(string(types.JSONPatchType), string(types.MergePatchType),
			string(types.StrategicMergePatchType), string(types.ApplyYAMLPatchType))
	}
	if err != nil {
		return nil, err
	}
	if err := sameKind(next, gvk); err != nil {
		return nil, err
	}
	var warnings []string
	if v != Ignore {
		for _, e := range strict {
			warnings = append(warnings, e.Error())
		}
	}
	return warnings, nil
}

// textual patches the JSON form.
func textual(next, current runtime.Object, pt types.PatchType, patch []byte, v Validation, settle settler) (strict []error, err error) {
	doc, err := appendJSON(nil, current)
	if err != nil {
		return nil, err
	}
	if pt == types.JSONPatchType {
		doc, strict, err = operations(doc, patch, v)
	} else {
		// The merge keeps the last of duplicate keys, so they are looked for here.
		if v != Ignore {
			var m map[string]any
			if strict, err = kjson.UnmarshalStrict(patch, &m); err != nil {
				return nil, apierrors.NewBadRequest(fmt.Sprintf("error decoding patch: %v", err))
			}
		}
		if doc, err = jsonpatch.MergePatch(doc, patch); err != nil {
			err = apierrors.NewBadRequest(err.Error())
		}
	}
	if err != nil {
		return nil, err
	}
	more, err := decodeJSON(next, doc, v)
	if m, ok := next.(metav1.Object); ok && err == nil && settle == nil && next.GetObjectKind().GroupVersionKind().Version == "" {
		more, err = versionless(doc)
		m.SetName("")
	}
	strict = append(strict, more...)
	if err == nil && settle != nil {
		more, err = settle(next)
		strict = append(strict, more...)
	}
	if err == nil && v == Strict && len(strict) > 0 {
		err = runtime.NewStrictDecodingError(strict)
	}
	if err != nil {
		return nil, invalidPatch(string(doc), err)
	}
	return strict, nil
}

// versionless is what upstream finds of a patched object without an apiVersion,
// which it reads in its internal form, where no field has a name: it is empty.
func versionless(doc []byte) (unknown []error, err error) {
	var fields map[string]json.RawMessage
	err = json.Unmarshal(doc, &fields)
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if name != "apiVersion" && name != "kind" {
			unknown = append(unknown, fmt.Errorf("unknown field %q", name))
		}
	}
	return unknown, err
}

// operation is what each element of a JSON patch is checked against.
type operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	From  string `json:"from"`
	Value any    `json:"value"`
}

func operations(doc, patch []byte, v Validation) (patched []byte, strict []error, err error) {
	if v != Ignore {
		var all []operation
		if strict, err = kjson.UnmarshalStrict(patch, &all); err != nil {
			return nil, nil, apierrors.NewBadRequest(fmt.Sprintf("error decoding patch: %v", err))
		}
		for i, e := range strict {
			strict[i] = fmt.Errorf("json patch %w", e)
		}
	}
	patched, err = operate(doc, patch)
	return patched, strict, err
}

func operate(doc, patch []byte) ([]byte, error) {
	ops, err := jsonpatch.DecodePatch(patch)
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	if len(ops) > maxOperations {
		return nil, apierrors.NewRequestEntityTooLargeError(fmt.Sprintf(
			"The allowed maximum operations in a JSON patch is %d, got %d", maxOperations, len(ops)))
	}
	growth := 0
	for _, op := range ops {
		if op.Kind() == "copy" {
			growth++
		}
	}
	if growth == 0 {
		doc, err = ops.Apply(doc)
		return doc, unprocessable(err)
	}
	// With copies the document is made an operation at a time, so that it
	// cannot outgrow memory before its size is known.
	for i := range ops {
		if doc, err = ops[i : i+1].Apply(doc); err != nil {
			return nil, unprocessable(err)
		}
		if len(doc) > maxPatched {
			return nil, apierrors.NewRequestEntityTooLargeError(fmt.Sprintf(
				"limit is %d: the patched object is larger", maxPatched))
		}
	}
	return doc, nil
}

// strategic patches the object as maps, by the patch strategies that the Go
// type's tags name.
func strategic(next, current runtime.Object, patch []byte, v Validation) (strict []error, err error) {
	if _, ok := next.(runtime.Unstructured); ok {
		return nil, unsupported(string(types.JSONPatchType), string(types.MergePatchType), string(types.ApplyYAMLPatchType))
	}
	doc, err := runtime.DefaultUnstructuredConverter.ToUnstructured(current)
	if err != nil {
		return nil, err
	}
	changes := map[string]any{}
	if v == Ignore {
		err = kjson.UnmarshalCaseSensitivePreserveInts(patch, &changes)
	} else {
		strict, err = kjson.UnmarshalStrict(patch, &changes)
	}
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	meta, err := strategicpatch.NewPatchMetaFromStruct(next)
	if err != nil {
		return nil, err
	}
	patched, err := strategicpatch.StrategicMergeMapPatchUsingLookupPatchMeta(doc, changes, meta)
	if err != nil {
		return nil, strategicError(err)
	}
	err = runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(patched, next, v != Ignore)
	if unknown, ok := runtime.AsStrictDecodingError(err); ok {
		strict = append(strict, unknown.Errors()...)
		err = nil
	}
	if err == nil && v == Strict && len(strict) > 0 {
		err = runtime.NewStrictDecodingError(strict)
	}
	if err != nil {
		return nil, invalidPatch(fmt.Sprintf("%+v", map[string]any(changes)), err)
	}
	return strict, nil
}

func strategicError(err error) error {
	switch {
	case errors.Is(err, mergepatch.ErrBadJSONDoc), errors.Is(err, mergepatch.ErrBadPatchFormatForPrimitiveList),
		errors.Is(err, mergepatch.ErrBadPatchFormatForRetainKeys),
		errors.Is(err, mergepatch.ErrBadPatchFormatForSetElementOrderList),
		errors.Is(err, mergepatch.ErrUnsupportedStrategicMergePatchFormat):
		return apierrors.NewBadRequest(err.Error())
	case errors.Is(err, mergepatch.ErrNoListOfLists), errors.Is(err, mergepatch.ErrPatchContentNotMatchRetainKeys):
		return unprocessable(err)
	}
	// What else the library reports is a patch that does not fit the type.
	return apierrors.NewBadRequest(err.Error())
}

func unprocessable(err error) error {
	if err == nil {
		return nil
	}
	return &unfit{apierrors.NewGenericServerResponse(http.StatusUnprocessableEntity, "", schema.GroupResource{}, "", err.Error(), 0, false), err}
}

func invalidPatch(value string, err error) error {
	return &unfit{apierrors.NewInvalid(schema.GroupKind{}, "", field.ErrorList{
		field.Invalid(field.NewPath("patch"), value, err.Error())}), err}
}

// unfit is the answer to a patch that does not fit its object. Its cause, which
// not every such answer names, is what errors.Unwrap gives.
type unfit struct {
	*apierrors.StatusError
	cause error
}

func (u *unfit) Unwrap() error { return u.cause }

// Applied reads an apply configuration, YAML or JSON, of the version gvk.
func Applied(gvk schema.GroupVersionKind, data []byte, v Validation) (*unstructured.Unstructured, []string, error) {
	u := &unstructured.Unstructured{Object: map[string]any{}}
	var warnings []string
	if content, ok := plainJSON(data); ok {
		u.Object = content
		return u, nil, ofVersion(u, gvk)
	}
	if err := boundAliases(data); err != nil {
		return nil, nil, apierrors.NewBadRequest(fmt.Sprintf("error decoding YAML: %v", err))
	}
	err := yaml.UnmarshalStrict(data, &u.Object)
	if err != nil {
		duplicate := err
		u.Object = map[string]any{}
		if err := yaml.Unmarshal(data, &u.Object); err != nil || v == Strict {
			step := "decoding"
			if err == nil {
				step = "strict decoding"
			}
			return nil, nil, apierrors.NewBadRequest(fmt.Sprintf("error %s patch: %v", step, duplicate))
		}
		if v != Ignore {
			warnings = append(warnings, warningsOf(duplicate)...)
		}
	}
	if err := ofVersion(u, gvk); err != nil {
		return nil, nil, err
	}
	integers(u.Object)
	return u, warnings, nil
}

// integers makes int64 of the whole numbers in v, which is its own. All numbers
// became float64 on the way through sigs.k8s.io/yaml, and fields of integer type
// must be int64. Those beyond 2^53 are what a float64 holds, as upstream's: their
// shortest text would be another number.
func integers(v any) any {
	switch v := v.(type) {
	case float64:
		if n := int64(v); v >= -1<<63 && v < 1<<63 && float64(n) == v {
			return n
		}
	case []any:
		for i := range v {
			v[i] = integers(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = integers(v[k])
		}
	}
	return v
}

// ofVersion checks what a configuration calls itself.
func ofVersion(u *unstructured.Unstructured, gvk schema.GroupVersionKind) error {
	if got := u.GroupVersionKind(); got != gvk {
		return apierrors.NewBadRequest("invalid object type: " + got.String())
	}
	return nil
}

// plainJSON reads a configuration that is JSON, as client libraries send it,
// without the detour over YAML. False for all that the detour might say
// something else of: mistakes, keys given twice, and numbers that it may round.
func plainJSON(data []byte) (map[string]any, bool) {
	if text := bytes.TrimLeft(data, " \t\r\n"); len(text) == 0 || text[0] != '{' {
		return nil, false
	}
	content := map[string]any{}
	strict, err := kjson.UnmarshalStrict(data, &content)
	return content, err == nil && len(strict) == 0 && !rounded(content)
}

// rounded says whether there is a number that a float64 may not hold, or was one.
func rounded(v any) bool {
	switch v := v.(type) {
	case float64:
		return true
	case int64:
		return v > 1<<53 || v < -1<<53
	case []any:
		return slices.ContainsFunc(v, rounded)
	case map[string]any:
		for _, e := range v {
			if rounded(e) {
				return true
			}
		}
	}
	return false
}
