// Package durable writes files that are whole after a crash, and locks that
// end with their holder.
//
// It knows only paths and bytes.
package durable

import (
	"os"
	"path/filepath"

	"sampan/internal/fault"
)

// WriteFile replaces path with data, atomically: after a crash the file has
// its old or its new content, never a part of either. The folder must exist.
func WriteFile(path string, data []byte, mode os.FileMode) error {
	f, err := Create(path, mode)
	if err != nil {
		return err
	}
	defer f.Abort()
	if _, err := f.Write(data); err != nil {
		return &fault.Error{Op: "write file", On: path, Err: err}
	}
	return f.Commit()
}

// File is a file that appears under its name only when it is complete.
type File struct {
	*os.File
	path string
	done bool
}

// Create begins to write path. The caller ends with Commit or Abort; Abort
// after Commit does nothing, so it can be deferred.
func Create(path string, mode os.FileMode) (*File, error) {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".tmp*")
	if err != nil {
		return nil, &fault.Error{Op: "write file", On: path, Err: err}
	}
	f := &File{File: tmp, path: path}
	if err := tmp.Chmod(mode); err != nil {
		f.Abort()
		return nil, &fault.Error{Op: "write file", On: path, Err: err}
	}
	return f, nil
}

// Commit makes what was written the content of the file. When it returns nil,
// content and name survive a loss of power.
func (f *File) Commit() error {
	err := f.Sync()
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(f.Name(), f.path)
	}
	if err != nil {
		os.Remove(f.Name())
		f.done = true
		return &fault.Error{Op: "write file", On: f.path, Err: err}
	}
	f.done = true
	return SyncDir(filepath.Dir(f.path))
}

// Abort drops what was written.
func (f *File) Abort() {
	if !f.done {
		f.done = true
		f.Close()
		os.Remove(f.Name())
	}
}

// SyncDir makes the names in dir survive a loss of power: fsync of a file does
// not cover the entry that names it (fsync(2)).
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return &fault.Error{Op: "sync folder", On: dir, Err: err}
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return &fault.Error{Op: "sync folder", On: dir, Err: err}
	}
	return nil
}
