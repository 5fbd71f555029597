package image

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"

	"sampan/internal/durable"
	"sampan/internal/fault"
)

// lease keeps layers from being collected between the moment an operation
// finds or makes them and the moment an image names them. It is a locked file
// with chain IDs: the lock ends with the process, so a killed pull pins nothing.
type lease struct {
	path string
	lock *durable.Lock
}

func (s *Store) lease(ctx context.Context, chain []digest.Digest) (*lease, error) {
	// Shared, so that a collection has either seen the lease or not yet begun.
	gate, err := durable.Shared(ctx, filepath.Join(s.cfg.Dir, "lock"))
	if err != nil {
		return nil, err
	}
	defer gate.Unlock()
	f, err := os.CreateTemp(filepath.Join(s.cfg.Dir, "leases"), "lease")
	if err != nil {
		return nil, &fault.Error{Op: "keep layers", On: s.cfg.Dir, Err: err}
	}
	defer f.Close()
	l := &lease{path: f.Name()}
	if err = json.NewEncoder(f).Encode(chain); err == nil {
		l.lock, _, err = durable.TryExclusive(l.path)
	}
	if err != nil {
		os.Remove(l.path)
		return nil, &fault.Error{Op: "keep layers", On: s.cfg.Dir, Err: err}
	}
	return l, nil
}

func (l *lease) end() {
	os.Remove(l.path)
	l.lock.Unlock()
}

// leased gives the layers that operations under way need, and removes what
// ended ones left. The caller holds the store's lock exclusively.
func (s *Store) leased() (map[digest.Digest]bool, error) {
	dir := filepath.Join(s.cfg.Dir, "leases")
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, &fault.Error{Op: "read leases", On: dir, Err: err}
	}
	held := map[digest.Digest]bool{}
	for _, f := range files {
		path := filepath.Join(dir, f.Name())
		dead, ok, err := durable.TryExclusive(path)
		if err != nil {
			return nil, err
		}
		if ok {
			os.Remove(path)
			dead.Unlock()
			continue
		}
		data, err := os.ReadFile(path)
		if os.IsNotExist(err) {
			continue // ended this moment, and its image is recorded or never will be
		}
		var chain []digest.Digest
		if err == nil {
			err = json.Unmarshal(data, &chain)
		}
		if err != nil {
			return nil, &fault.Error{Op: "read leases", On: path, Err: err}
		}
		for _, c := range chain {
			held[c] = true
		}
	}
	return held, nil
}
