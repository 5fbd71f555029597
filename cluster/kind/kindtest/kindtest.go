// Package kindtest helps to write down the rules of kinds as tables.
//
// It knows no kind.
package kindtest

import (
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"

	"sampan/cluster/kind"
)

// Now is the time in tests.
var Now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// Ago is a time that long before Now.
func Ago(d time.Duration) metav1.Time { return metav1.NewTime(Now.Add(-d)) }

// Read makes an object of kind k from YAML, without defaults.
func Read(t *testing.T, k *kind.Kind, text string) kind.Object {
	t.Helper()
	obj := k.New()
	if err := yaml.UnmarshalStrict([]byte(text), obj); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	return obj
}

// Create does with an object what a create does: defaults, preparation,
// defaults again. Parts that a create drops are dropped.
func Create(t *testing.T, k *kind.Kind, text string) kind.Object {
	t.Helper()
	obj := Read(t, k, text)
	k.Default(obj)
	for _, p := range k.Parts {
		if !p.Writable && !p.KeepOnCreate {
			p.Take(obj, k.New())
		}
	}
	k.Default(obj)
	k.Prepare(obj, nil)
	return obj
}

// Update does with an object what an update of old does.
func Update(t *testing.T, k *kind.Kind, text string, old kind.Object) kind.Object {
	t.Helper()
	obj := Read(t, k, text)
	k.Default(obj)
	for _, p := range k.Parts {
		if !p.Writable {
			p.Take(obj, old)
		}
	}
	k.Default(obj)
	k.Prepare(obj, old)
	return obj
}

// Rule is one rule of a kind: an object, what it was before if it is about a
// change, and the errors.
type Rule struct {
	Rule     string
	Old, New string
	Want     []string // none: accepted
}

// Check runs rules against k.
func Check(t *testing.T, k *kind.Kind, rules []Rule) {
	t.Helper()
	for _, r := range rules {
		t.Run(r.Rule, func(t *testing.T) {
			if r.Old == "" {
				Compare(t, k.Validate(Create(t, k, r.New), nil), r.Want...)
				return
			}
			old := Create(t, k, r.Old)
			Compare(t, k.Validate(Update(t, k, r.New, old), old), r.Want...)
		})
	}
}

// Compare fails t unless errs are those wanted, in order.
func Compare(t *testing.T, errs field.ErrorList, want ...string) {
	t.Helper()
	var got []string
	for _, e := range errs {
		got = append(got, e.Error())
	}
	if !slices.Equal(got, want) {
		t.Errorf("errors\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

// Row is what `kubectl get -o wide` shows of obj.
func Row(k *kind.Kind, obj kind.Object) []any {
	var cells []any
	for _, c := range k.Columns {
		cells = append(cells, c.Cell(obj, Now))
	}
	return cells
}

// Header is the names of k's columns; those of -o wide have a "+" behind.
func Header(k *kind.Kind) []string {
	var names []string
	for _, c := range k.Columns {
		if c.Priority > 0 {
			names = append(names, c.Name+"+")
		} else {
			names = append(names, c.Name)
		}
	}
	return names
}
