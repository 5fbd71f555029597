package schema

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
)

func TestDocumentIsItsPartsOneAfterAnother(t *testing.T) {
	var p packer
	var d Document
	var want strings.Builder
	for i, n := range []int{0, 1, 3, 70_000, 5, 40_000} {
		text := strings.Repeat(fmt.Sprintf("part %d, ", i), n)
		want.WriteString(text)
		if i%2 == 0 {
			d.text(text)
			continue
		}
		part, err := p.pack([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if len(text) > 10_000 && len(part.blocks) > len(text)/10 {
			t.Errorf("%d bytes are packed into %d", len(text), len(part.blocks))
		}
		d.add(part)
	}
	var plain, zipped bytes.Buffer
	if _, err := d.WriteTo(&plain); err != nil || plain.String() != want.String() || d.Size() != want.Len() {
		t.Errorf("the text is %d bytes, said to be %d, want %d (%v)", plain.Len(), d.Size(), want.Len(), err)
	}
	if err := d.WriteGzip(&zipped); err != nil || zipped.Len() != d.GzipSize() {
		t.Errorf("%d bytes, said to be %d (%v)", zipped.Len(), d.GzipSize(), err)
	}
	r, err := gzip.NewReader(&zipped)
	if err != nil {
		t.Fatal(err)
	}
	r.Multistream(false) // clients may read one member alone
	if text, err := io.ReadAll(r); err != nil || string(text) != want.String() {
		t.Errorf("%d bytes came out of gzip, want %d (%v)", len(text), want.Len(), err)
	}
}

func TestWhatWireDoesNotKnowIsAnError(t *testing.T) {
	for text, want := range map[string]string{
		`{"anyOf":[]}`:                     "anyOf: nothing is known of the field",
		`{"type":1}`:                       "type: json.Number where a text belongs",
		`{"properties":{"a":{"items":7}}}`: "properties: a: items: json.Number where an object belongs",
		`{"maximum":"1"}`:                  "maximum: string where a number belongs",
	} {
		_, err := newWire().older(nil, definitions{"X": json.RawMessage(text)})
		if err == nil || !strings.Contains(err.Error(), "X: "+want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
