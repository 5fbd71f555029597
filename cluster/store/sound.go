package store

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"sampan/internal/fault"
)

// sound looks through the database of a store that was not closed as it should
// be: a power cut may have torn it, and etcd would find that out by a fault in
// memory or a panic some time later. Reading it costs about as long as the
// start needs anyway, so what was closed well is not looked through.
func sound(dir string) (err error) {
	path := databasePath(dir)
	switch is, err := stamp(path); {
	case errors.Is(err, fs.ErrNotExist):
		return nil // etcd makes it, or says which one is missing
	case err != nil:
		return broken(dir, err)
	default:
		// etcd would begin a new log, and then wait for ever for what it says
		// to be newer than the database.
		if logs, _ := filepath.Glob(filepath.Join(dir, "member", "wal", "*.wal")); len(logs) == 0 {
			return broken(dir, errors.New("its log, "+filepath.Join(dir, "member", "wal")+", is gone"))
		}
		if was, err := os.ReadFile(closedPath(dir)); err == nil && string(was) == is {
			return nil
		}
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%v", r)
		}
		if f := (*fault.Error)(nil); err != nil && !errors.As(err, &f) {
			err = broken(dir, fmt.Errorf("the database %s: %w", path, err))
		}
	}()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: time.Second})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return &fault.Error{Class: fault.Unavailable, Op: "open", On: path, Err: errors.New("another process has it open"),
			Fix: "stop that process: fuser " + path}
	}
	if err != nil {
		return err
	}
	defer db.Close()
	return db.View(func(tx *bbolt.Tx) error {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		if info.Size() < tx.Size() { // reading behind the end of a mapped file is SIGBUS
			return fmt.Errorf("%d bytes are missing at its end", tx.Size()-info.Size())
		}
		return tx.ForEach(func(name []byte, b *bbolt.Bucket) error { return ordered(name, b) })
	})
}

// ordered reads all of a bucket. What is torn shows as a page that is none,
// as a fault, or as keys that are not in order.
func ordered(name []byte, b *bbolt.Bucket) error {
	var last []byte
	sum := byte(0)
	err := b.ForEach(func(k, v []byte) error {
		if last != nil && bytes.Compare(last, k) >= 0 {
			return fmt.Errorf("the keys of its bucket %q are not in order", name)
		}
		for i := 0; i < len(v); i += 512 { // of each page of a value something is read
			sum ^= v[i]
		}
		last = k
		return nil
	})
	runtime.KeepAlive(sum)
	return err
}

// closedWell notes that the database is whole as it is now.
func closedWell(dir string) {
	if is, err := stamp(databasePath(dir)); err == nil {
		_ = os.WriteFile(closedPath(dir), []byte(is), 0o600) // without it the next start looks
	}
}

func closedPath(dir string) string { return filepath.Join(dir, "closed") }

// stamp differs after any write to a file.
func stamp(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d bytes at %d\n", info.Size(), info.ModTime().UnixNano()), nil
}
