package engine

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"sampan/internal/fault"
)

// records keeps JSON files of one directory tree, decoded, as long as the
// files do not change under it: other processes write them too. What it hands
// out is shared and must not be written to.
//
// A file is replaced as a whole by rename. It is not synced: a record describes
// processes and mounts, which a loss of power ends anyway, and a file torn by
// one reads as half-made, which whoever opens the engine next undoes.
type records struct {
	mu     sync.Mutex // guards all below
	byPath map[string]record
}

type record struct {
	inode uint64
	mtime syscall.Timespec
	size  int64
	value any
}

// load reads the file at path into a new T, or returns the T of last time.
// fault.NotFound if there is none or it is torn.
func load[T any](r *records, path string) (*T, error) {
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		r.forget(path)
		return nil, notThere("read record", path, err)
	}
	r.mu.Lock()
	old, ok := r.byPath[path]
	r.mu.Unlock()
	if ok && old.inode == st.Ino && old.mtime == st.Mtim && old.size == st.Size {
		return old.value.(*T), nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, notThere("read record", path, err)
	}
	v := new(T)
	if err := json.Unmarshal(b, v); err != nil {
		return nil, &fault.Error{Class: fault.NotFound, Op: "read record", On: path, Err: err,
			Fix: "it was torn by a crash; remove its directory"}
	}
	r.mu.Lock()
	if r.byPath == nil {
		r.byPath = map[string]record{}
	}
	r.byPath[path] = record{st.Ino, st.Mtim, st.Size, v}
	r.mu.Unlock()
	return v, nil
}

// save replaces the file at path.
func save[T any](path string, v *T) error {
	b, err := json.Marshal(v)
	if err != nil {
		return &fault.Error{Class: fault.Invalid, Op: "encode record", On: path, Err: err}
	}
	tmp := path + ".new"
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return &fault.Error{Op: "write record", On: path, Err: err}
	}
	if err := os.Rename(tmp, path); err != nil {
		return &fault.Error{Op: "write record", On: path, Err: err}
	}
	return nil
}

// forget drops what is kept of the path, and of all below it.
func (r *records) forget(path string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.byPath, path)
}

func (r *records) forgetBelow(dir string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for p := range r.byPath {
		if filepath.Dir(p) == dir {
			delete(r.byPath, p)
		}
	}
}

func notThere(op, on string, err error) error {
	class := fault.Unknown
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		class = fault.NotFound
	}
	return &fault.Error{Class: class, Op: op, On: on, Err: err}
}
