package crd_test

import (
	"encoding/json"
	"strings"
	"testing"

	"sampan/cluster/kind"
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

// A rule that a value broke before it was there is no fault while the value stays,
// and a warning.
func TestAnUpdateIsWarnedOfRulesThatWereBrokenBefore(t *testing.T) {
	k := compile(t, `
versions:
- name: v1
  served: true
  storage: true
  schema:
    openAPIV3Schema:
      type: object
      properties:
        a: {type: string, maxLength: 9, x-kubernetes-validations: [{rule: self.size() < 3, message: short}]}
        b: {type: string}
`)
	with := func(a, b string) kind.Object {
		return object(t, `{apiVersion: example.com/v1, kind: CronTab, metadata: {name: a, namespace: n, resourceVersion: "1"}, a: `+a+`, b: `+b+`}`)
	}
	for _, tc := range []struct {
		it       string
		now, old kind.Object
		errs     int
		warned   string
	}{
		{"nothing is broken", with("x", "z"), with("x", "x"), 0, ""},
		{"the value stays", with("long", "z"), with("long", "x"), 0, `a: Invalid value: "long": short`},
		{"the value is mended", with("x", "z"), with("long", "x"), 0, ""},
		{"the value changes and breaks it", with("other", "z"), with("long", "x"), 1, ""},
	} {
		errs := k.Validate(tc.now, tc.old)
		if got := strings.Join(k.Warn(tc.now, tc.old), "; "); len(errs) != tc.errs || got != tc.warned {
			t.Errorf("%s: faults %v, warned %q; want %d and %q", tc.it, errs, got, tc.errs, tc.warned)
		}
	}
}
