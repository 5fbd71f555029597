package schema

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"

	"sampan/internal/fault"
)

// What this package says itself is written as protobuf without a document in
// between: gnostic's has to be parsed of YAML, which takes many times as long
// and much memory, and a cluster may have a thousand definitions. The numbers
// are those of gnostic-models, openapiv2/OpenAPIv2.proto.

// writer appends a value of JSON to a message, as the field of that number.
type writer func(out []byte, number protowire.Number, v any) ([]byte, error)

// member is a field of a message.
type member struct {
	number protowire.Number
	write  writer
}

// message writes what is in an object of JSON by the names of its members.
type message struct {
	members    map[string]member
	extensions protowire.Number // of members whose names begin with "x-"
}

// wire are the messages that refer to each other.
type wire struct{ schema, item, operation, body, query, path, response *message }

// newWire has what this package says itself, and no more: what else a document
// may have is an error.
func newWire() *wire {
	w := &wire{schema: &message{}, item: &message{}, operation: &message{}, body: &message{}, query: &message{}, path: &message{}, response: &message{}}
	*w.schema = message{extensions: 31, members: map[string]member{
		"$ref": {1, text}, "format": {2, text}, "title": {3, text}, "description": {4, text}, "default": {5, anything},
		"multipleOf": {6, double}, "maximum": {7, double}, "exclusiveMaximum": {8, boolean}, "minimum": {9, double}, "exclusiveMinimum": {10, boolean},
		"maxLength": {11, integer}, "minLength": {12, integer}, "pattern": {13, text}, "maxItems": {14, integer}, "minItems": {15, integer},
		"uniqueItems": {16, boolean}, "maxProperties": {17, integer}, "minProperties": {18, integer}, "required": {19, each(text)}, "enum": {20, each(anything)},
		"additionalProperties": {21, w.additional}, "type": {22, within(1, oneOrMore(text))}, "items": {23, within(1, oneOrMore(w.schema.field))},
		"allOf": {24, each(w.schema.field)}, "properties": {25, named(1, w.schema.field)},
		"discriminator": {26, text}, "readOnly": {27, boolean}, "externalDocs": {29, externalDocs().field}, "example": {30, anything},
	}}
	*w.response = message{extensions: 5, members: map[string]member{"description": {1, text}, "schema": {2, within(1, w.schema.field)}}}
	*w.body = message{extensions: 6, members: map[string]member{"description": {1, text}, "name": {2, text}, "in": {3, text}, "required": {4, boolean},
		"schema": {5, w.schema.field}}}
	*w.query = message{extensions: 23, members: map[string]member{"required": {1, boolean}, "in": {2, text}, "description": {3, text}, "name": {4, text},
		"type": {6, text}, "format": {7, text}, "uniqueItems": {20, boolean}}}
	*w.path = message{extensions: 22, members: map[string]member{"required": {1, boolean}, "in": {2, text}, "description": {3, text}, "name": {4, text},
		"type": {5, text}, "format": {6, text}, "uniqueItems": {19, boolean}}}
	*w.operation = message{extensions: 13, members: map[string]member{"tags": {1, each(text)}, "description": {3, text}, "operationId": {5, text},
		"produces": {6, each(text)}, "consumes": {7, each(text)}, "parameters": {8, each(within(1, w.parameter))},
		"responses": {9, named(1, within(1, w.response.field))}, "schemes": {10, each(text)}, "deprecated": {11, boolean}}}
	*w.item = message{extensions: 10, members: map[string]member{"get": {2, w.operation.field}, "put": {3, w.operation.field}, "post": {4, w.operation.field},
		"delete": {5, w.operation.field}, "patch": {8, w.operation.field}, "parameters": {9, each(within(1, w.parameter))}}}
	return w
}

func externalDocs() *message {
	return &message{extensions: 3, members: map[string]member{"description": {1, text}, "url": {2, text}}}
}

// older says the same as JSON does: the entries of openapi_v2.Paths and
// openapi_v2.Definitions, one after another.
func (w *wire) older(paths map[string]json.RawMessage, schemas definitions) (*older, error) {
	out := &older{}
	var err error
	for _, name := range slices.Sorted(maps.Keys(paths)) {
		if out.paths, err = w.entry(out.paths, 2, name, paths[name], w.item.field); err != nil {
			return nil, err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(schemas)) {
		if out.definitions, err = w.entry(out.definitions, 1, name, schemas[name], w.schema.field); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (w *wire) entry(out []byte, number protowire.Number, name string, value json.RawMessage, write writer) ([]byte, error) {
	d := json.NewDecoder(bytes.NewReader(value))
	d.UseNumber()
	var v any
	err := d.Decode(&v)
	if err == nil {
		out, err = entry(out, number, name, v, write)
	}
	if err != nil {
		return nil, &fault.Error{Op: "write OpenAPI as protobuf", On: name, Err: err}
	}
	return out, nil
}

// field writes an object as a message inside of another.
func (m *message) field(out []byte, number protowire.Number, v any) ([]byte, error) {
	all, ok := v.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("%T where an object belongs", v)
	}
	inner := make([]byte, 0, 256)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		var err error
		if own, ok := m.members[name]; ok {
			inner, err = own.write(inner, own.number, all[name])
		} else if strings.HasPrefix(name, "x-") {
			inner, err = entry(inner, m.extensions, name, all[name], anything)
		} else {
			err = fmt.Errorf("nothing is known of the field")
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return appendBytes(out, number, inner), nil
}

// entry is what a map has under a name.
func entry(out []byte, number protowire.Number, name string, v any, write writer) ([]byte, error) {
	inner := appendBytes(nil, 1, []byte(name))
	inner, err := write(inner, 2, v)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return appendBytes(out, number, inner), nil
}

// named writes an object as a message of entries.
func named(inside protowire.Number, write writer) writer {
	return func(out []byte, number protowire.Number, v any) ([]byte, error) {
		all, ok := v.(map[string]any)
		if !ok {
			return nil, fmt.Errorf("%T where an object belongs", v)
		}
		var inner []byte
		for _, name := range slices.Sorted(maps.Keys(all)) {
			var err error
			if inner, err = entry(inner, inside, name, all[name], write); err != nil {
				return nil, err
			}
		}
		return appendBytes(out, number, inner), nil
	}
}

// within writes a message with one field.
func within(inside protowire.Number, write writer) writer {
	return func(out []byte, number protowire.Number, v any) ([]byte, error) {
		inner, err := write(nil, inside, v)
		if err != nil {
			return nil, err
		}
		return appendBytes(out, number, inner), nil
	}
}

// each writes a list as a repeated field.
func each(write writer) writer {
	return func(out []byte, number protowire.Number, v any) ([]byte, error) {
		all, ok := v.([]any)
		if !ok {
			return nil, fmt.Errorf("%T where a list belongs", v)
		}
		for _, one := range all {
			var err error
			if out, err = write(out, number, one); err != nil {
				return nil, err
			}
		}
		return out, nil
	}
}

func oneOrMore(write writer) writer {
	list := each(write)
	return func(out []byte, number protowire.Number, v any) ([]byte, error) {
		if _, many := v.([]any); many {
			return list(out, number, v)
		}
		return write(out, number, v)
	}
}

// additional writes AdditionalPropertiesItem: a schema, or whether there may be any.
func (w *wire) additional(out []byte, number protowire.Number, v any) ([]byte, error) {
	if may, ok := v.(bool); ok {
		// A choice is written although it is false.
		return appendBytes(out, number, protowire.AppendVarint(protowire.AppendTag(nil, 2, protowire.VarintType), protowire.EncodeBool(may))), nil
	}
	return within(1, w.schema.field)(out, number, v)
}

// parameter writes Parameter: one with a body, in the query, or in the path.
func (w *wire) parameter(out []byte, number protowire.Number, v any) ([]byte, error) {
	all, _ := v.(map[string]any)
	switch all["in"] {
	case "body":
		return within(1, w.body.field)(out, number, v)
	case "query":
		return within(2, within(3, w.query.field))(out, number, v)
	case "path":
		return within(2, within(4, w.path.field))(out, number, v)
	}
	return nil, fmt.Errorf("a parameter in %v", all["in"])
}

func appendBytes(out []byte, number protowire.Number, v []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(out, number, protowire.BytesType), v)
}

func text(out []byte, number protowire.Number, v any) ([]byte, error) {
	s, ok := v.(string)
	if !ok {
		return nil, fmt.Errorf("%T where a text belongs", v)
	}
	return protowire.AppendString(protowire.AppendTag(out, number, protowire.BytesType), s), nil
}

func boolean(out []byte, number protowire.Number, v any) ([]byte, error) {
	b, ok := v.(bool)
	if !ok {
		return nil, fmt.Errorf("%T where true or false belongs", v)
	}
	if !b {
		return out, nil
	}
	return protowire.AppendVarint(protowire.AppendTag(out, number, protowire.VarintType), 1), nil
}

func integer(out []byte, number protowire.Number, v any) ([]byte, error) {
	f, err := numberOf(v)
	if err != nil || f == 0 {
		return out, err
	}
	n := int64(f)
	if exact, err := v.(json.Number).Int64(); err == nil {
		n = exact
	}
	return protowire.AppendVarint(protowire.AppendTag(out, number, protowire.VarintType), uint64(n)), nil
}

func double(out []byte, number protowire.Number, v any) ([]byte, error) {
	f, err := numberOf(v)
	if err != nil || f == 0 {
		return out, err
	}
	return protowire.AppendFixed64(protowire.AppendTag(out, number, protowire.Fixed64Type), math.Float64bits(f)), nil
}

func numberOf(v any) (float64, error) {
	n, ok := v.(json.Number)
	if !ok {
		return 0, fmt.Errorf("%T where a number belongs", v)
	}
	return n.Float64()
}

// anything is a value of which the document knows nothing: YAML, of which JSON
// is a part.
func anything(out []byte, number protowire.Number, v any) ([]byte, error) {
	yaml, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return appendBytes(out, number, appendBytes(nil, 2, append(yaml, '\n'))), nil
}
