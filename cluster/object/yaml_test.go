package object

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestYAMLToJSON(t *testing.T) {
	for _, c := range []struct {
		it, yaml, json string
		fails          bool
	}{
		{it: "takes aliases", yaml: "a: &a {x: '1'}\nb: [*a, *a]\n", json: `{"a":{"x":"1"},"b":[{"x":"1"},{"x":"1"}]}`},
		{it: "takes stars and ampersands that are none", yaml: "a: '*&'\nb: \"&a\"\n", json: `{"a":"*\u0026","b":"\u0026a"}`},
		{it: "refuses a text that is named too often", yaml: "a: &a " + strings.Repeat("x", 10_000) + "\nb: [" + strings.Repeat("*a,", 700) + "]\n", fails: true},
		{it: "refuses a key that is named too often", yaml: "a: &a {? " + strings.Repeat("x", 1000) + " : y}\nb: [" + strings.Repeat("*a,", 7000) + "]\n", fails: true},
		{it: "takes it some hundred times", yaml: "a: &a x\nb: [" + strings.Repeat("*a,", 700) + "]\n", json: `{"a":"x","b":["x"` + strings.Repeat(`,"x"`, 699) + `]}`},
	} {
		got, err := YAMLToJSON([]byte(c.yaml))
		if c.fails != errors.Is(err, errAliases) || string(got) != c.json {
			t.Errorf("%s: got %.100s, %v", c.it, got, err)
		}
	}
}

func TestWarnings(t *testing.T) {
	for _, c := range []struct {
		it, text string
		want     []string
	}{
		{"of YAML are one for each line", "yaml: unmarshal errors:\n  line 4: key \"a\" already set in map\n  line 5: key \"b\" already set in map",
			[]string{`line 4: key "a" already set in map`, `line 5: key "b" already set in map`}},
		{"of YAML on its way to JSON likewise", "error converting YAML to JSON: yaml: unmarshal errors:\n  line 4: key \"a\" already set in map",
			[]string{`line 4: key "a" already set in map`}},
		{"of anything else are as they are", `unknown field "zzz"`, []string{`unknown field "zzz"`}},
	} {
		if got := warningsOf(errors.New(c.text)); !slices.Equal(got, c.want) {
			t.Errorf("warnings %s: got %q, want %q", c.it, got, c.want)
		}
	}
}
