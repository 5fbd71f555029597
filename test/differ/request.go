package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// request is what goes to both sides. In path, query and body stand, for what
// each side has named itself, the words of a memory: $RV, $UID, …
type request struct {
	method string
	path   string
	query  string
	header map[string]string
	body   string
}

// answer is what a side says.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// memory is what one side has said about the objects of a case.
type memory map[string]string

// newMemory has something for what may not be said in a form that is read.
func newMemory() memory { return memory{"$RV": "0", "$LISTRV": "0", "$CONTINUE": ""} }

// wanted is what a memory has for the generateName of the last request: an
// object that is refused has a name too, which no answer names as such.
const wanted = "generateName"

// names are the places of it in a body.
var names = regexp.MustCompile(`"?generateName"?: ?"?([^",\n}]+)`)

// fill puts into text what the side named.
func (m memory) fill(text string) string {
	if !strings.Contains(text, "$") {
		return text
	}
	for _, word := range slices.Backward(slices.Sorted(maps.Keys(m))) { // $RV1 before $RV
		text = strings.ReplaceAll(text, word, m[word])
	}
	return text
}

func (m memory) request(r request) request {
	r.path, r.query, r.body = m.fill(r.path), m.fill(r.query), m.fill(r.body)
	if found := names.FindStringSubmatch(r.body); found != nil {
		m[wanted] = found[1][:min(len(found[1]), 58)]
	}
	return r
}

// String is a line for a shell that does about the same: $SERVER and the words
// of the memory are to be set.
func (r request) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "curl -k -X %s", r.method)
	for _, name := range slices.Sorted(maps.Keys(r.header)) {
		fmt.Fprintf(&b, " -H '%s: %s'", name, r.header[name])
	}
	if r.body != "" {
		fmt.Fprintf(&b, " --data-binary '%s'", strings.ReplaceAll(r.body, "'", `'\''`))
	}
	fmt.Fprintf(&b, " \"$SERVER%s", r.path)
	if r.query != "" {
		b.WriteString("?" + r.query)
	}
	b.WriteByte('"')
	return b.String()
}

// send sends r, which is filled.
func (s *side) send(ctx context.Context, r request) (answer, error) {
	url := s.url + r.path
	if r.query != "" {
		url += "?" + r.query
	}
	var body io.Reader
	if r.body != "" {
		body = strings.NewReader(r.body)
	}
	q, err := http.NewRequestWithContext(ctx, r.method, url, body)
	if err != nil {
		return answer{}, err
	}
	q.Header.Set("User-Agent", "differ/1")
	for name, value := range r.header {
		q.Header.Set(name, value)
	}
	got, err := s.client.Do(q)
	if err != nil {
		return answer{}, err
	}
	defer got.Body.Close()
	a := answer{status: got.StatusCode, header: got.Header}
	a.body, err = io.ReadAll(got.Body)
	return a, err
}
