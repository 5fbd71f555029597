package engine

import (
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"sampan/internal/fault"
)

// reserve makes name, of a kind ("c" for containers, "s" for sandboxes), lead
// to id. A name that leads to something that is no more is free.
func (e *Engine) reserve(ctx context.Context, kind, name, id string, volatile bool) error {
	if name == "" {
		return nil
	}
	unlock, err := lock(ctx, e.path("names", ".lock"))
	if err != nil {
		return err
	}
	defer unlock()
	file := kind + "." + name
	for _, dir := range e.places("names") {
		owner, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return failed("read name", name, err)
		}
		if err == nil && string(owner) != id && e.exists(kind, string(owner)) {
			return &fault.Error{Class: fault.Exists, Op: "use name", On: name,
				Err: errors.New("it is already in use by " + what[kind] + " " + short(string(owner))),
				Fix: "remove or rename that one, or take another name"}
		}
	}
	path := e.path("names", file)
	if volatile {
		path = e.run("names", file)
	}
	if err := os.WriteFile(path+".new", []byte(id), 0o600); err != nil {
		return failed("write name", name, err)
	}
	return failed("write name", name, os.Rename(path+".new", path))
}

var what = map[string]string{"c": "container", "s": "sandbox"}

func (e *Engine) exists(kind, id string) bool {
	dirs := e.places("containers")
	if kind == "s" {
		dirs = e.places("sandboxes")
	}
	for _, dir := range dirs {
		for _, p := range []string{id, halfMade + id} {
			if _, err := os.Stat(filepath.Join(dir, p)); err == nil {
				return true
			}
		}
	}
	return false
}

// release frees a name if it leads to id.
func (e *Engine) release(kind, name, id string) {
	if name == "" {
		return
	}
	for _, dir := range e.places("names") {
		file := filepath.Join(dir, kind+"."+name)
		if owner, err := os.ReadFile(file); err == nil && string(owner) == id {
			// A name left behind counts as free, so a failure here does not matter.
			_ = os.Remove(file)
		}
	}
}

// validName is Docker's rule for container names.
func validName(name string) bool {
	if len(name) < 2 || len(name) > 200 {
		return false
	}
	for i, r := range name {
		alnum := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		if !alnum && (i == 0 || !strings.ContainsRune("_.-", r)) {
			return false
		}
	}
	return true
}

var (
	adjectives = strings.Fields("able brave bright brisk calm clear eager early fair fast fine fond free fresh gentle glad " +
		"golden grand green happy high keen kind light lively loyal lucky mellow merry mild neat nimble patient plucky proud " +
		"quick quiet ready rosy royal sharp silver simple sleek smart smooth snug sound spry steady still sunny swift tidy tough trim true vivid warm wise young")
	boats = strings.Fields("anchor barge beacon bow brig buoy canoe capstan captain cove current cutter deck delta dinghy dock dory estuary ferry fjord " +
		"galley gull harbor heron hull island jetty junk kayak keel ketch lagoon lantern lugger mast mate mooring oar otter paddle pier pilot plank " +
		"port punt quay raft reef rudder sail sailor schooner sculler shore skiff sloop spar stern strait tern tide tiller wharf wherry yawl")
)

// someName makes up a name for a container that was given none.
func someName() string {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return adjectives[(int(b[0])<<8|int(b[1]))%len(adjectives)] + "_" + boats[(int(b[2])<<8|int(b[3]))%len(boats)]
}

// Resolve finds the container that a user means by its name, its ID or the
// beginning of its ID.
func (e *Engine) Resolve(ref string) (string, error) {
	ref = strings.TrimPrefix(ref, "/")
	if ref != "" && !strings.ContainsAny(ref, "/\x00") {
		if isID(ref) && e.exists("c", ref) {
			return ref, nil
		}
		for _, dir := range e.places("names") {
			if owner, err := os.ReadFile(filepath.Join(dir, "c."+ref)); err == nil && e.exists("c", string(owner)) {
				return string(owner), nil
			}
		}
	}
	ids, err := e.ids("containers")
	if err != nil {
		return "", err
	}
	var match []string
	for _, id := range ids {
		if id == ref {
			return id, nil
		}
		if ref != "" && strings.HasPrefix(id, ref) {
			match = append(match, id)
		}
	}
	switch len(match) {
	case 1:
		return match[0], nil
	case 0:
		return "", noContainer(ref)
	}
	return "", &fault.Error{Class: fault.Invalid, Op: "find container", On: ref,
		Err: errors.New("several containers have IDs that begin so"), Fix: "give more of the ID"}
}

func noContainer(ref string) error {
	return &fault.Error{Class: fault.NotFound, Op: "find container", On: ref, Err: errors.New("no such container: " + ref),
		Fix: "list them with: sampan ps -a"}
}

// halfMade begins the name of a directory whose maker is not done yet.
const halfMade = ".new-"

// ids lists what is complete of a kind.
func (e *Engine) ids(kind string) ([]string, error) {
	var ids []string
	for _, dir := range e.places(kind) {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, failed("list", kind, err)
		}
		for _, d := range entries {
			if d.IsDir() && d.Name()[0] != '.' {
				ids = append(ids, d.Name())
			}
		}
	}
	return ids, nil
}
