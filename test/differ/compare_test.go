package main

import (
	"net/http"
	"slices"
	"testing"
)

func answerOf(status int, body string) answer {
	return answer{status: status, header: http.Header{"Content-Type": {"application/json"}}, body: []byte(body)}
}

func TestWhatDiffers(t *testing.T) {
	for _, tc := range []struct {
		it           string
		theirs, ours answer
		want         []string
	}{
		{it: "is not what a server chooses",
			theirs: answerOf(200, `{"metadata":{"uid":"0f8fad5b-d9cb-469f-a165-70867728950e","resourceVersion":"7"}}`),
			ours:   answerOf(200, `{"metadata":{"uid":"7c9e6679-7425-40de-944b-e07fc1f90ae7","resourceVersion":"900"}}`)},
		{it: "is a field", want: []string{"body.spec.a"},
			theirs: answerOf(200, `{"spec":{"a":1,"b":[1,2]}}`), ours: answerOf(200, `{"spec":{"a":2,"b":[1,2]}}`)},
		{it: "is a field that one has not", want: []string{"body.spec"},
			theirs: answerOf(200, `{"spec":{"a":1}}`), ours: answerOf(200, `{}`)},
		{it: "is a number of the same value but of another type", want: []string{"body.a"},
			theirs: answerOf(200, `{"a":1}`), ours: answerOf(200, `{"a":"1"}`)},
		{it: "is the status, and nothing beside it", want: []string{"status"},
			theirs: answerOf(201, `{"a":1}`), ours: answerOf(422, `{"kind":"Status","reason":"Invalid","message":"no"}`)},
		{it: "is a cause, and not the message that repeats it, nor the order", want: []string{"body.details.causes"},
			theirs: answerOf(422, `{"message":"x","details":{"causes":[{"field":"a"},{"field":"b"}]}}`),
			ours:   answerOf(422, `{"message":"y","details":{"causes":[{"field":"b"},{"field":"a"},{"field":"c"}]}}`)},
		{it: "is an element of a list of names", want: []string{"body.items[b]"},
			theirs: answerOf(200, `{"items":[{"name":"a"},{"name":"b"}]}`), ours: answerOf(200, `{"items":[{"name":"a"}]}`)},
		{it: "is one of many answers in a stream", want: []string{"body[1].type"},
			theirs: answerOf(200, `{"type":"ADDED"}{"type":"DELETED"}`), ours: answerOf(200, `{"type":"ADDED"}{"type":"MODIFIED"}`)},
	} {
		var got []string
		for _, d := range compare(memory{}.normal(tc.theirs), memory{}.normal(tc.ours)) {
			got = append(got, d.at)
		}
		if !slices.Equal(got, tc.want) {
			t.Errorf("what differs %s: %q, want %q", tc.it, got, tc.want)
		}
	}
}

func TestTheTableOfKnownDifferences(t *testing.T) {
	known, err := readKnown()
	if err != nil {
		t.Fatal(err)
	}
	warning := difference{at: "header Warning", ours: `299 - "spec.x: not acted on by this version of sampan, see docs/unsupported.md"`}
	if !known.knows("POST pods", warning) {
		t.Error("a warning of a field that nothing acts on is not known")
	}
	if known.knows("POST pods", difference{at: "status", theirs: "201", ours: "500 InternalError: no"}) {
		t.Error("a status is known")
	}
}

func TestCasesOfASeedStayTheSame(t *testing.T) {
	api := &api{schemas: map[string]*schema{}, byKind: map[string]*schema{}}
	kind := &resource{version: "v1", kind: "ConfigMap", plural: "configmaps", namespaced: true, subs: map[string]string{}}
	text := &schema{Type: "string"}
	r := &runner{options: options{seed: 5}, api: api, scenarios: scenarios(), seeds: []*seed{{resource: kind,
		text:   `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x"},"data":{"k":"v"}}`,
		schema: &schema{Properties: map[string]*schema{"data": {Additional: text}, "immutable": {Type: "boolean"}}}}}}
	for number := range 200 {
		one, two := r.make(0, number), r.make(0, number)
		if one.title != two.title || !slices.EqualFunc(one.steps, two.steps, func(a, b step) bool { return a.String() == b.String() }) {
			t.Fatalf("case %d: %s, then %s", number, one.title, two.title)
		}
	}
}

func TestAnotherKindIsOneDifference(t *testing.T) {
	answer := func(kind, name string) map[string]any {
		return map[string]any{"status": 200, "body": map[string]any{"kind": kind, "metadata": map[string]any{"name": name}}}
	}
	got := compare(answer("Status", "a"), answer("Event", "b"))
	if len(got) != 1 || got[0].at != "body.kind" {
		t.Errorf("%+v", got)
	}
	if got := compare(answer("Event", "a"), answer("Event", "b")); len(got) != 1 || got[0].at != "body.metadata.name" {
		t.Errorf("%+v", got)
	}
}
