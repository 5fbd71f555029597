package schema

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"

	openapi_v2 "github.com/google/gnostic-models/openapiv2"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"sampan/internal/fault"
)

// Numbers of fields of a document. (gnostic-models, openapiv2/OpenAPIv2.proto.)
const (
	pathsField       protowire.Number = 8
	definitionsField protowire.Number = 9
)

// batch is how much text is parsed at once. The parser needs many times as much
// memory as the text has bytes; in the result nobody sees where a batch ended.
const batch = 64 << 10

// inProtobuf says the same as JSON does: the entries of openapi_v2.Paths and
// openapi_v2.Definitions, one after another.
func inProtobuf(paths map[string]json.RawMessage, schemas definitions) (*older, error) {
	var out older
	err := inBatches(paths, `,"paths":{`, func(doc *openapi_v2.Document) (err error) {
		out.paths, err = proto.MarshalOptions{}.MarshalAppend(out.paths, doc.GetPaths())
		return err
	})
	if err != nil {
		return nil, err
	}
	err = inBatches(schemas, `,"paths":{},"definitions":{`, func(doc *openapi_v2.Document) (err error) {
		out.definitions, err = proto.MarshalOptions{}.MarshalAppend(out.definitions, doc.GetDefinitions())
		return err
	})
	if err != nil {
		return nil, err
	}
	return &out, nil
}

func inBatches(all map[string]json.RawMessage, opening string, add func(*openapi_v2.Document) error) error {
	var text bytes.Buffer
	first := ""
	flush := func() error {
		if text.Len() == 0 {
			return nil
		}
		doc, err := openapi_v2.ParseDocument(slices.Concat([]byte(openingV2+opening), text.Bytes(), []byte("}}")))
		if err == nil {
			err = add(doc)
		}
		if err != nil {
			return &fault.Error{Op: "write OpenAPI as protobuf", On: first + " and what follows it", Err: err}
		}
		text.Reset()
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if text.Len() == 0 {
			first = name
		}
		addMember(&text, name, all[name])
		if text.Len() >= batch {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

// wholeProtobuf is the document that has the entries of all parts.
func wholeProtobuf(parts ...*older) ([]byte, error) {
	frame, err := openapi_v2.ParseDocument([]byte(openingV2 + `,"paths":{},` + closingV2))
	if err != nil {
		return nil, &fault.Error{Op: "write OpenAPI as protobuf", Err: err}
	}
	frame.Paths = nil
	doc, err := proto.Marshal(frame)
	if err != nil {
		return nil, &fault.Error{Op: "write OpenAPI as protobuf", Err: err}
	}
	size := len(doc) + 32
	for _, p := range parts {
		size += len(p.paths) + len(p.definitions)
	}
	doc = slices.Grow(doc, size-len(doc))
	field := func(number protowire.Number, of func(*older) []byte) {
		n := 0
		for _, p := range parts {
			n += len(of(p))
		}
		doc = protowire.AppendTag(doc, number, protowire.BytesType)
		doc = protowire.AppendVarint(doc, uint64(n))
		for _, p := range parts {
			doc = append(doc, of(p)...)
		}
	}
	field(pathsField, func(p *older) []byte { return p.paths })
	field(definitionsField, func(p *older) []byte { return p.definitions })
	return doc, nil
}
