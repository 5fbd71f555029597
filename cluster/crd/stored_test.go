package crd_test

import (
	"encoding/json"
	"testing"

	apiobject "sampan/cluster/object"
)

// What a write hands to the store is what the store would read: an object made
// in another version has the defaults of the one stored.
func TestAnObjectIsStoredWithTheDefaultsOfTheVersionStored(t *testing.T) {
	k := compile(t, `
versions:
- {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, properties: {a: {type: string}, b: {type: string, default: old}}}}}
- {name: v2, served: true, storage: false, schema: {openAPIV3Schema: {type: object, properties: {a: {type: string}, c: {type: string, default: new}}}}}
`)
	u := object(t, `{apiVersion: example.com/v2, kind: CronTab, metadata: {name: a, generation: 1}, a: x, c: y}`)
	stored, err := apiobject.ToStore(k, u)
	if err != nil {
		t.Fatal(err)
	}
	text, _ := json.Marshal(stored)
	if want := `{"a":"x","apiVersion":"example.com/v1","b":"old","kind":"CronTab","metadata":{"generation":1,"name":"a"}}`; string(text) != want {
		t.Errorf("got  %s\nwant %s", text, want)
	}
	again, err := apiobject.Storage{}.Decode(k, text)
	if err != nil {
		t.Fatal(err)
	}
	if read, _ := json.Marshal(again); string(read) != string(text) {
		t.Errorf("read as %s", read)
	}
}
