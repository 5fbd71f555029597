package bootstrap

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sync/errgroup"

	"sampan/internal/fault"
)

// files are to be written together: each write alone waits for the disk
// twice, and start-up has no time for that.
type files []file

type file struct {
	path string
	data []byte
	mode os.FileMode
}

func (f *files) add(path string, data []byte, mode os.FileMode) {
	*f = append(*f, file{path, data, mode})
}

// key reads the private key at path, or makes one if there is no such file.
func (f *files) key(path string) (*ecdsa.PrivateKey, error) {
	key, err := readKey(path)
	if errors.Is(err, fs.ErrNotExist) {
		return f.newKey(path)
	}
	return key, err
}

func (f *files) newKey(path string) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	data, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	f.add(path, data, 0o600)
	return key, nil
}

// write replaces the files, all in dir, so that after a power loss each has
// its old or its new content, never a part, and nobody else reads a key in
// between. They appear in order: a key before the certificate that needs it.
func (f files) write(dir string) error {
	if len(f) == 0 {
		return nil
	}
	temporary := make([]string, len(f))
	defer func() {
		for _, t := range temporary {
			os.Remove(t) // gone already when all went well
		}
	}()
	var all errgroup.Group
	for i, one := range f {
		all.Go(func() (err error) {
			temporary[i], err = one.prepare()
			return err
		})
	}
	if err := all.Wait(); err != nil {
		return err
	}
	for i, one := range f {
		if err := os.Rename(temporary[i], one.path); err != nil {
			return &fault.Error{Op: "write", On: one.path, Err: err}
		}
	}
	return syncDir(dir)
}

// prepare puts the content on disk under another name.
func (one file) prepare() (name string, err error) {
	f, err := os.CreateTemp(filepath.Dir(one.path), "."+strings.TrimPrefix(filepath.Base(one.path), ".")+"-*")
	if err != nil {
		return "", &fault.Error{Op: "write", On: one.path, Err: err}
	}
	_, err = f.Write(one.data)
	for _, step := range []func() error{func() error { return f.Chmod(one.mode) }, f.Sync} {
		if err == nil {
			err = step()
		}
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return f.Name(), &fault.Error{Op: "write", On: one.path, Err: err}
	}
	return f.Name(), nil
}

// writeFile replaces one file as files.write does. A file that has the
// content already is left alone.
func writeFile(path string, data []byte, mode os.FileMode) error {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, data) {
		return os.Chmod(path, mode)
	}
	return files{{path, data, mode}}.write(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
