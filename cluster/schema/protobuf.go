package schema

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"

	openapi_v2 "github.com/google/gnostic-models/openapiv2"
	openapi_v3 "github.com/google/gnostic-models/openapiv3"
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

// wholeProtobuf is a document of pieces: fields one after another, whatever
// their numbers are.
func wholeProtobuf(pieces []*piece) (*Document, error) {
	frame, err := openapi_v2.ParseDocument([]byte(openingV2 + `,"paths":{},` + closingV2))
	if err != nil {
		return nil, &fault.Error{Op: "write OpenAPI as protobuf", Err: err}
	}
	frame.Paths = nil
	text, err := proto.Marshal(frame)
	if err != nil {
		return nil, &fault.Error{Op: "write OpenAPI as protobuf", Err: err}
	}
	doc := &Document{}
	field := func(number protowire.Number, of func(*piece) packed) {
		n := 0
		for _, p := range pieces {
			n += of(p).size
		}
		text = protowire.AppendVarint(protowire.AppendTag(text, number, protowire.BytesType), uint64(n))
		doc.text(string(text))
		text = nil
		for _, p := range pieces {
			doc.add(of(p))
		}
	}
	field(pathsField, func(p *piece) packed { return p.paths })
	field(definitionsField, func(p *piece) packed { return p.definitions })
	return doc, nil
}

// newerInProtobuf says the same as a document of version 3 in JSON does.
func newerInProtobuf(text []byte) ([]byte, error) {
	doc, err := openapi_v3.ParseDocument(text)
	if err == nil {
		text, err = proto.Marshal(doc)
	}
	if err != nil {
		return nil, &fault.Error{Op: "write OpenAPI as protobuf", Err: err}
	}
	return text, nil
}
