package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"regexp"
	"sync/atomic"

	"sigs.k8s.io/yaml"
)

//go:embed known.yaml
var knownFile []byte

// allowed is a difference that is known. Those of the four expressions that
// are given all have to match.
type allowed struct {
	ID       string // short, for the report
	What     string // what differs, for docs/differences.md
	Reason   string // why it stays
	About    string // METHOD resource, or resource/subresource
	At       string // the place in the answer
	Upstream string // what upstream says there, as JSON; "-" for nothing
	Ours     string // what this program says there

	on, at, theirs, ours *regexp.Regexp
	seen                 atomic.Int64
}

// table is known.yaml.
type table []*allowed

func readKnown() (table, error) {
	var t table
	if err := yaml.UnmarshalStrict(knownFile, &t); err != nil {
		return nil, fmt.Errorf("known.yaml: %w", err)
	}
	for _, a := range t {
		if a.ID == "" || a.What == "" || a.Reason == "" {
			return nil, fmt.Errorf("known.yaml: %+v: id, what and reason are needed", a)
		}
		for text, to := range map[*string]**regexp.Regexp{&a.About: &a.on, &a.At: &a.at, &a.Upstream: &a.theirs, &a.Ours: &a.ours} {
			var err error
			if *to, err = regexp.Compile(`(?s)` + *text); err != nil {
				return nil, fmt.Errorf("known.yaml: %s: %w", a.ID, err)
			}
		}
	}
	return t, nil
}

// knows says whether a difference is in the table.
func (t table) knows(on string, d difference) bool {
	for _, a := range t {
		if a.on.MatchString(on) && a.at.MatchString(d.at) && a.theirs.MatchString(show(d.theirs)) && a.ours.MatchString(show(d.ours)) {
			a.seen.Add(1)
			return true
		}
	}
	return false
}

// page is docs/differences.md.
func (t table) page() []byte {
	var b bytes.Buffer
	b.WriteString(`# Where the API answers otherwise than upstream's

The same requests go to this program and to kube-apiserver ` + kubernetesVersion + ` with etcd:
` + "`make differ`" + ` (test/differ). What the answers differ in, beside names and times that a
server chooses, is an error unless it is listed here.

The list is not whole yet: ` + "`make differ GATE=1 SEED=N`" + ` runs ` + fmt.Sprint(gateCases) + ` cases of a seed, and a seed that nobody has
tried finds a few causes more, each in one or two requests that few clients send. Up to ` + fmt.Sprint(gateMost) + `
are let through, and printed: twice the most that seven such seeds found. What says "not
mended yet" below is a fault of this program ([testing](testing.md) says how to see one).

This page is written by ` + "`go run . -update`" + ` in test/differ, from known.yaml there.

| what differs | why |
|---|---|
`)
	for _, a := range t {
		fmt.Fprintf(&b, "| %s | %s |\n", a.What, a.Reason)
	}
	return b.Bytes()
}
