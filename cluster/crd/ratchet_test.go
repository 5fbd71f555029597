package crd_test

import (
	"strings"
	"testing"

	"sampan/cluster/kind"
)

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
