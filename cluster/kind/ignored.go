package kind

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

// Gap is a field that is served and that nothing acts on yet.
type Gap struct {
	// Path is as in Of.Ignored: "spec.volumes[*].rbd". A value behind "="
	// limits it to that value, one behind "!=" to any other that is set:
	// "spec.type=LoadBalancer", "spec.sessionAffinity!=None".
	Path string
	Why  string // for docs/unsupported.md
}

// Paths are the paths of gaps, each behind prefix, for Of.Ignored.
func Paths(prefix string, gaps []Gap) []string {
	paths := make([]string, len(gaps))
	for i, g := range gaps {
		paths[i] = prefix + g.Path
	}
	return paths
}

// IgnoredSet returns a text for each field of obj that is set and that
// nothing acts on, for the Warning header. It reads only the way to those
// fields, and allocates only for what it finds.
func (k *Kind) IgnoredSet(obj Object) []string {
	if len(k.Ignored) == 0 || k.ignored == nil || obj == nil {
		return nil
	}
	v := reflect.ValueOf(obj)
	if v.Type() != k.Type || v.IsNil() {
		return nil // another version's object, or none
	}
	var found []string
	walkIgnored(v.Elem(), k.ignored(), nil, &found)
	return found
}

// ignoredStep is a struct field on the way to an ignored one.
type ignoredStep struct {
	index []int  // in the struct, through inlined ones
	name  string // in JSON
	typ   reflect.Type
	next  []ignoredStep
	test  ignoredTest
}

// ignoredTest says when a field at the end of a path counts as set.
type ignoredTest struct {
	end   bool // of a path
	value string
	op    byte // 0: set at all, '=': equal to value, '!': set and not value
}

// compileIgnored turns paths into steps. A path that leads nowhere is a
// mistake in a declaration: it panics.
func compileIgnored(t reflect.Type, paths []string) (steps []ignoredStep) {
	for _, p := range paths {
		test := ignoredTest{end: true}
		way := p
		if i := strings.Index(p, "!="); i >= 0 {
			way, test.value, test.op = p[:i], p[i+2:], '!'
		} else if i := strings.IndexByte(p, '='); i >= 0 {
			way, test.value, test.op = p[:i], p[i+1:], '='
		}
		if err := addIgnored(t, strings.Split(way, "."), test, &steps); err != nil {
			panic(fmt.Sprintf("kind: ignored path %q of %s: %v", p, t, err))
		}
	}
	return steps
}

func addIgnored(t reflect.Type, way []string, test ignoredTest, steps *[]ignoredStep) error {
	name, list := strings.CutSuffix(way[0], "[*]")
	var step *ignoredStep
	for i := range *steps {
		if (*steps)[i].name == name {
			step = &(*steps)[i]
		}
	}
	if step == nil {
		index, ft, ok := jsonField(t, name)
		if !ok {
			return fmt.Errorf("%s has no field %q", t, name)
		}
		*steps = append(*steps, ignoredStep{index: index, name: name, typ: ft})
		step = &(*steps)[len(*steps)-1]
	}
	if len(way) == 1 && !list {
		step.test = test
		return nil
	}
	ft := step.typ
	if list != (ft.Kind() == reflect.Slice) || len(way) == 1 {
		return fmt.Errorf("field %q of %s: [*] belongs to lists, on the way to a field of their elements", name, t)
	}
	for ft.Kind() == reflect.Slice || ft.Kind() == reflect.Pointer {
		ft = ft.Elem()
	}
	return addIgnored(ft, way[1:], test, &step.next)
}

// jsonField finds a field by its JSON name, also in structs that are inlined.
func jsonField(t reflect.Type, name string) (index []int, ft reflect.Type, ok bool) {
	if t.Kind() != reflect.Struct {
		return nil, nil, false
	}
	for i := range t.NumField() {
		f := t.Field(i)
		tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if tag == name && name != "" {
			return f.Index, f.Type, true
		}
		if f.Anonymous && tag == "" {
			if rest, ft, ok := jsonField(f.Type, name); ok {
				return append([]int{i}, rest...), ft, true
			}
		}
	}
	return nil, nil, false
}

// place is where a walk is, linked upwards so that nothing is built before
// something is found.
type place struct {
	up    *place
	name  string
	index int // -1: not in a list
}

func (p *place) String() string {
	s := p.name
	if p.index >= 0 {
		s += "[" + strconv.Itoa(p.index) + "]"
	}
	if p.up != nil {
		return p.up.String() + "." + s
	}
	return s
}

func walkIgnored(v reflect.Value, steps []ignoredStep, up *place, found *[]string) {
	for i := range steps {
		s := &steps[i]
		f := v.Field(s.index[0])
		for _, i := range s.index[1:] {
			f = f.Field(i)
		}
		if f.IsZero() {
			continue
		}
		at := place{up: up, name: s.name, index: -1}
		if s.test.end && s.test.met(f) {
			*found = append(*found, at.String()+": not acted on by this version of sampan, see docs/unsupported.md")
		}
		if len(s.next) == 0 {
			continue
		}
		if f.Kind() == reflect.Slice {
			for j := range f.Len() {
				at.index = j
				if e := reflect.Indirect(f.Index(j)); e.IsValid() {
					walkIgnored(e, s.next, &at, found)
				}
			}
			continue
		}
		walkIgnored(reflect.Indirect(f), s.next, &at, found)
	}
}

func (t ignoredTest) met(f reflect.Value) bool {
	f = reflect.Indirect(f)
	switch t.op {
	case '=':
		return fmt.Sprint(f.Interface()) == t.value
	case '!':
		return fmt.Sprint(f.Interface()) != t.value
	}
	return f.Kind() != reflect.Slice && f.Kind() != reflect.Map || f.Len() > 0
}
