package object

import (
	"cmp"
	"encoding"
	"encoding/base64"
	"encoding/json"
	"hash/maphash"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// writer appends a value as JSON. Its bytes are those of encoding/json, to the
// letter: a test compares them for every kind.
type writer func(dst []byte, v reflect.Value) ([]byte, error)

// writers are those of types, by what the types are alone: made once, never
// changed. What is not common in API objects is left to encoding/json.
var writers sync.Map // of reflect.Type to writer

var (
	marshaler     = reflect.TypeFor[json.Marshaler]()
	textMarshaler = reflect.TypeFor[encoding.TextMarshaler]()
	zeroType      = reflect.TypeFor[zeroer]()
)

// zeroer knows itself whether it is what omitzero leaves out.
type zeroer interface{ IsZero() bool }

// appendValue appends obj as encoding/json has it, without a newline.
func appendValue(dst []byte, obj any) ([]byte, error) {
	v := reflect.ValueOf(obj)
	if !v.IsValid() {
		return append(dst, "null"...), nil
	}
	return writerOf(v.Type())(dst, v)
}

func writerOf(t reflect.Type) writer {
	if w, ok := writers.Load(t); ok {
		return w.(writer)
	}
	w, _ := writers.LoadOrStore(t, makeWriter(t))
	return w.(writer)
}

// later is the writer of a type that may be one which is being made: types may
// contain themselves.
func later(t reflect.Type) writer {
	made := sync.OnceValue(func() writer { return writerOf(t) })
	return func(dst []byte, v reflect.Value) ([]byte, error) { return made()(dst, v) }
}

func makeWriter(t reflect.Type) writer {
	switch t {
	case reflect.TypeFor[metav1.Time]():
		return writeTime
	case reflect.TypeFor[metav1.FieldsV1]():
		return writeFields
	case reflect.TypeFor[resource.Quantity]():
		return writeQuantity
	case reflect.TypeFor[intstr.IntOrString]():
		return writeIntOrString
	case reflect.TypeFor[map[string]string]():
		return writeStrings
	}
	if t.Kind() == reflect.Pointer {
		return writePointer(later(t.Elem()))
	}
	if special(t) || t.Kind() != reflect.Interface && special(reflect.PointerTo(t)) {
		return writeOther
	}
	switch t.Kind() {
	case reflect.Bool:
		return func(dst []byte, v reflect.Value) ([]byte, error) { return strconv.AppendBool(dst, v.Bool()), nil }
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return func(dst []byte, v reflect.Value) ([]byte, error) { return strconv.AppendInt(dst, v.Int(), 10), nil }
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return func(dst []byte, v reflect.Value) ([]byte, error) { return strconv.AppendUint(dst, v.Uint(), 10), nil }
	case reflect.String:
		if t == reflect.TypeFor[json.Number]() {
			return writeOther
		}
		return func(dst []byte, v reflect.Value) ([]byte, error) { return appendQuoted(dst, v.String()), nil }
	case reflect.Interface:
		return writeInterface
	case reflect.Slice:
		if e := t.Elem(); e.Kind() == reflect.Uint8 && !special(e) && !special(reflect.PointerTo(e)) {
			return writeBytes
		}
		return writeSlice(later(t.Elem()))
	case reflect.Map:
		if t.Key().Kind() == reflect.String && !t.Key().Implements(textMarshaler) {
			return writeMap(later(t.Elem()))
		}
	case reflect.Struct:
		if fields, ok := fieldsOf(t, nil); ok {
			return writeStruct(fields)
		}
	}
	return writeOther
}

// special types write themselves.
func special(t reflect.Type) bool { return t.Implements(marshaler) || t.Implements(textMarshaler) }

// writeOther leaves a value to encoding/json.
func writeOther(dst []byte, v reflect.Value) ([]byte, error) {
	if v.CanAddr() {
		v = v.Addr() // methods of the pointer count, where there is one
	}
	data, err := json.Marshal(v.Interface())
	return append(dst, data...), err
}

func writeTime(dst []byte, v reflect.Value) ([]byte, error) {
	if !v.CanAddr() {
		return writeOther(dst, v)
	}
	t := v.Addr().Interface().(*metav1.Time)
	if t.IsZero() {
		return append(dst, "null"...), nil
	}
	dst = t.UTC().AppendFormat(append(dst, '"'), time.RFC3339)
	return append(dst, '"'), nil
}

// compact are owned fields, as JSON, that were seen to be what encoding/json
// writes of them: many objects have the same ones. What hashes to the same
// place is forgotten.
var compact [256]atomic.Pointer[string]

var compactSeed = maphash.MakeSeed()

// maxCompact bounds one of them.
const maxCompact = 2 << 10

func writeFields(dst []byte, v reflect.Value) ([]byte, error) {
	if !v.CanAddr() {
		return writeOther(dst, v)
	}
	raw := v.Addr().Interface().(*metav1.FieldsV1).GetRawBytes()
	if len(raw) > maxCompact {
		return writeOther(dst, v)
	}
	slot := &compact[maphash.Bytes(compactSeed, raw)%uint64(len(compact))]
	if known := slot.Load(); known != nil && *known == string(raw) {
		return append(dst, raw...), nil
	}
	start := len(dst)
	dst, err := writeOther(dst, v)
	if err == nil && string(dst[start:]) == string(raw) {
		text := string(raw)
		slot.Store(&text)
	}
	return dst, err
}

func writeQuantity(dst []byte, v reflect.Value) ([]byte, error) {
	q, ok := v.Interface().(resource.Quantity)
	if !ok {
		return writeOther(dst, v)
	}
	return appendQuoted(dst, q.String()), nil
}

func writeIntOrString(dst []byte, v reflect.Value) ([]byte, error) {
	switch i := v.Interface().(intstr.IntOrString); i.Type {
	case intstr.Int:
		return strconv.AppendInt(dst, int64(i.IntVal), 10), nil
	case intstr.String:
		return appendQuoted(dst, i.StrVal), nil
	}
	return writeOther(dst, v)
}

func writePointer(elem writer) writer {
	return func(dst []byte, v reflect.Value) ([]byte, error) {
		if v.IsNil() {
			return append(dst, "null"...), nil
		}
		return elem(dst, v.Elem())
	}
}

func writeInterface(dst []byte, v reflect.Value) ([]byte, error) {
	if v.IsNil() {
		return append(dst, "null"...), nil
	}
	return writerOf(v.Elem().Type())(dst, v.Elem())
}

func writeBytes(dst []byte, v reflect.Value) ([]byte, error) {
	if v.IsNil() {
		return append(dst, "null"...), nil
	}
	return append(base64.StdEncoding.AppendEncode(append(dst, '"'), v.Bytes()), '"'), nil
}

func writeSlice(elem writer) writer {
	return func(dst []byte, v reflect.Value) (_ []byte, err error) {
		if v.IsNil() {
			return append(dst, "null"...), nil
		}
		dst = append(dst, '[')
		for i := range v.Len() {
			if i > 0 {
				dst = append(dst, ',')
			}
			if dst, err = elem(dst, v.Index(i)); err != nil {
				return dst, err
			}
		}
		return append(dst, ']'), nil
	}
}

// writeStrings is writeMap for labels, annotations and data.
func writeStrings(dst []byte, v reflect.Value) ([]byte, error) {
	m := v.Interface().(map[string]string)
	if m == nil {
		return append(dst, "null"...), nil
	}
	var few [8]string
	keys := few[:0]
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	dst = append(dst, '{')
	for i, key := range keys {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(appendQuoted(dst, key), ':')
		dst = appendQuoted(dst, m[key])
	}
	return append(dst, '}'), nil
}

func writeMap(elem writer) writer {
	type pair struct {
		key   string
		value reflect.Value
	}
	return func(dst []byte, v reflect.Value) (_ []byte, err error) {
		if v.IsNil() {
			return append(dst, "null"...), nil
		}
		pairs := make([]pair, 0, v.Len())
		for key, value := range v.Seq2() {
			pairs = append(pairs, pair{key.String(), value})
		}
		slices.SortFunc(pairs, func(a, b pair) int { return cmp.Compare(a.key, b.key) })
		dst = append(dst, '{')
		for i, p := range pairs {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(appendQuoted(dst, p.key), ':')
			if dst, err = elem(dst, p.value); err != nil {
				return dst, err
			}
		}
		return append(dst, '}'), nil
	}
}

// jsonField is a field of a struct, or of one embedded in it.
type jsonField struct {
	index []int
	name  string // with quotes and colon
	omit  func(reflect.Value) bool
	write writer
}

// fieldsOf are the fields of t in encoding/json's order. False for what is
// better left to it.
func fieldsOf(t reflect.Type, at []int) (all []jsonField, ok bool) {
	for i := range t.NumField() {
		f := t.Field(i)
		tag := f.Tag.Get("json")
		name, options, _ := strings.Cut(tag, ",")
		index := append(slices.Clone(at), i)
		switch {
		case tag == "-":
			continue
		case f.Anonymous && name == "":
			if f.Type.Kind() != reflect.Struct || special(f.Type) || special(reflect.PointerTo(f.Type)) {
				return nil, false
			}
			inner, ok := fieldsOf(f.Type, index)
			if !ok {
				return nil, false
			}
			all = append(all, inner...)
			continue
		case !f.IsExported():
			if f.Anonymous {
				return nil, false
			}
			continue
		case name == "":
			name = f.Name
		}
		field := jsonField{index: index, write: later(f.Type), name: string(append(appendQuoted(nil, name), ':'))}
		for option := range strings.SplitSeq(options, ",") {
			switch option {
			case "", "inline": // the second is for people
			case "omitempty":
				field.omit = either(field.omit, empty)
			case "omitzero":
				if f.Type.Kind() == reflect.Interface {
					return nil, false
				}
				field.omit = either(field.omit, zeroOf(f.Type))
			default:
				return nil, false
			}
		}
		if slices.ContainsFunc(all, func(other jsonField) bool { return other.name == field.name }) {
			return nil, false
		}
		all = append(all, field)
	}
	seen := map[string]bool{}
	for _, f := range all {
		if seen[f.name] {
			return nil, false // one hides the other, by rules of its own
		}
		seen[f.name] = true
	}
	return all, true
}

func either(a, b func(reflect.Value) bool) func(reflect.Value) bool {
	if a == nil {
		return b
	}
	return func(v reflect.Value) bool { return a(v) || b(v) }
}

// zeroOf is what omitzero leaves out of a type.
func zeroOf(t reflect.Type) func(reflect.Value) bool {
	switch {
	case t.Kind() == reflect.Pointer && t.Implements(zeroType):
		return func(v reflect.Value) bool { return v.IsNil() || v.Interface().(zeroer).IsZero() }
	case t.Implements(zeroType):
		return func(v reflect.Value) bool { return v.Interface().(zeroer).IsZero() }
	case reflect.PointerTo(t).Implements(zeroType):
		return func(v reflect.Value) bool {
			if !v.CanAddr() {
				own := reflect.New(t).Elem()
				own.Set(v)
				v = own
			}
			return v.Addr().Interface().(zeroer).IsZero()
		}
	}
	return reflect.Value.IsZero
}

// empty is what omitempty leaves out.
func empty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Array, reflect.Map, reflect.Slice, reflect.String:
		return v.Len() == 0
	case reflect.Bool, reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr,
		reflect.Float32, reflect.Float64, reflect.Interface, reflect.Pointer:
		return v.IsZero()
	}
	return false
}

func writeStruct(fields []jsonField) writer {
	return func(dst []byte, v reflect.Value) (_ []byte, err error) {
		dst = append(dst, '{')
		first := true
		for i := range fields {
			f := &fields[i]
			value := v
			for _, n := range f.index {
				value = value.Field(n)
			}
			if f.omit != nil && f.omit(value) {
				continue
			}
			if !first {
				dst = append(dst, ',')
			}
			first = false
			dst = append(dst, f.name...)
			if dst, err = f.write(dst, value); err != nil {
				return dst, err
			}
		}
		return append(dst, '}'), nil
	}
}
