package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
)

// difference is a place in which two answers differ. A side that has nothing
// there has nil.
type difference struct {
	at           string
	theirs, ours any
}

// compare says in what two normal answers differ.
func compare(theirs, ours map[string]any) []difference {
	if theirs["status"] != ours["status"] {
		return []difference{{"status", outcome(theirs), outcome(ours)}}
	}
	if a, b := kindOf(theirs), kindOf(ours); a != b {
		return []difference{{"body.kind", a, b}} // all else in it differs for that alone
	}
	var all []difference
	dig(&all, "", theirs, ours)
	// An invalid object's message repeats its causes.
	if slices.ContainsFunc(all, func(d difference) bool { return strings.Contains(d.at, "details.causes") }) {
		all = slices.DeleteFunc(all, func(d difference) bool { return d.at == "body.message" })
	}
	// A message that joins the same errors in another order is the same.
	return slices.DeleteFunc(all, func(d difference) bool {
		a, ok := d.theirs.(string)
		b, ok2 := d.ours.(string)
		return ok && ok2 && strings.HasSuffix(d.at, "message") && sameErrors(a, b)
	})
}

// kindOf is the kind of the object that an answer has, nil for none.
func kindOf(a map[string]any) any {
	body, _ := a["body"].(map[string]any)
	return body["kind"]
}

// outcome is an answer in short.
func outcome(a map[string]any) any {
	body, _ := a["body"].(map[string]any)
	switch {
	case body["kind"] == "Status":
		return fmt.Sprintf("%v %v: %v", a["status"], body["reason"], body["message"])
	case body == nil:
		return fmt.Sprintf("%v %v", a["status"], a["body"])
	}
	return fmt.Sprint(a["status"])
}

func sameErrors(a, b string) bool {
	sorted := func(s string) []string {
		words := strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == '[' || r == ']' })
		for i := range words {
			words[i] = strings.TrimSpace(words[i])
		}
		slices.Sort(words)
		return words
	}
	return strings.Contains(a, "[") && slices.Equal(sorted(a), sorted(b))
}

// unordered are lists whose order says nothing.
func unordered(at string) bool {
	return strings.HasSuffix(at, "details.causes") || strings.HasPrefix(at, "header ")
}

func dig(all *[]difference, at string, theirs, ours any) {
	if reflect.DeepEqual(theirs, ours) {
		return
	}
	switch a := theirs.(type) {
	case map[string]any:
		b, ok := ours.(map[string]any)
		if !ok {
			break
		}
		names := maps.Clone(a)
		maps.Copy(names, b)
		for _, name := range slices.Sorted(maps.Keys(names)) {
			below := name
			if at != "" {
				below = at + "." + name
			}
			dig(all, below, a[name], b[name])
		}
		return
	case []any:
		b, ok := ours.([]any)
		if !ok && ours != nil || len(a) == 0 {
			break
		}
		if unordered(at) {
			bags(all, at, a, b)
			return
		}
		if len(a) != len(b) {
			if !aligned(all, at, a, b) {
				break
			}
			return
		}
		for i := range a {
			dig(all, fmt.Sprintf("%s[%d]", at, i), a[i], b[i])
		}
		return
	case nil:
		if b, ok := ours.([]any); ok && unordered(at) {
			bags(all, at, nil, b)
			return
		}
	}
	*all = append(*all, difference{at, theirs, ours})
}

// unique is a list without what was said before.
func unique(all []any) (once []any) {
	for _, v := range all {
		if !slices.ContainsFunc(once, func(have any) bool { return reflect.DeepEqual(have, v) }) {
			once = append(once, v)
		}
	}
	return once
}

// aligned compares lists of different lengths whose elements have names; false
// if they have none.
func aligned(all *[]difference, at string, theirs, ours []any) bool {
	names := map[string][2]any{}
	for side, list := range [][]any{theirs, ours} {
		for _, v := range list {
			name := nameOf(v)
			pair := names[name]
			if name == "" || pair[side] != nil {
				return false
			}
			pair[side] = v
			names[name] = pair
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		dig(all, at+"["+name+"]", names[name][0], names[name][1])
	}
	return true
}

// nameOf is what an element of a list is known by.
func nameOf(v any) string {
	m, _ := v.(map[string]any)
	if meta, ok := m["metadata"].(map[string]any); ok {
		m = meta
	}
	for _, key := range []string{"name", "resource", "version", "subresource", "type", "manager"} {
		if s, ok := m[key].(string); ok && s != "" {
			return s
		}
	}
	return ""
}

// bags compares lists without order.
func bags(all *[]difference, at string, theirs, ours []any) {
	ours = unique(ours)
	for _, want := range unique(theirs) {
		if i := slices.IndexFunc(ours, func(v any) bool { return reflect.DeepEqual(v, want) }); i >= 0 {
			ours = slices.Delete(ours, i, i+1)
			continue
		}
		*all = append(*all, difference{at, want, nil})
	}
	for _, extra := range ours {
		*all = append(*all, difference{at, nil, extra})
	}
}

var (
	indexes = regexp.MustCompile(`\[[\d\w./-]+\]`)
	places  = regexp.MustCompile(`^body\.(\[\*\]\.object\.|rows\[\*\]\.object\.|items\[\*\]\.)?`)
	quoted  = regexp.MustCompile(`"(\\.|[^"\\])*"`)
	numbers = regexp.MustCompile(`\d+`)
)

// cause is what differences of one cause have in common.
func (d difference) cause() string {
	brief := func(v any) string {
		s := strings.ToValidUTF8(show(v), "?")
		if !strings.HasPrefix(s, `"`) || len(s) > 40 {
			s = numbers.ReplaceAllString(s, "#")
		}
		if m, ok := v.(map[string]any); ok && strings.HasSuffix(d.at, "causes") {
			message := quoted.ReplaceAllString(fmt.Sprint(m["message"]), "*")
			s = fmt.Sprintf("%v %v %v", m["reason"], indexes.ReplaceAllString(fmt.Sprint(m["field"]), "[*]"), numbers.ReplaceAllString(message, "#"))
		}
		return s[:min(len(s), 160)]
	}
	at := places.ReplaceAllString(indexes.ReplaceAllString(d.at, "[*]"), "")
	return at + " | " + brief(d.theirs) + " | " + brief(d.ours)
}

func show(v any) string {
	if v == nil {
		return "-"
	}
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(data)
}
