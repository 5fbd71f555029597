package bootstrap

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"

	"sampan/cluster/store"
	"sampan/internal/durable"
	"sampan/internal/fault"
)

// snapshotPath is where the API gives administrators the whole store.
const snapshotPath = "/debug/snapshot"

// storeDir is where the embedded store is.
func storeDir(state string) string { return filepath.Join(state, "store") }

// snapshot sends the store as it is now. Whoever reads it sees by the hash at
// its end whether it is whole: an error after the first bytes has no status.
func (r *running) snapshot(w http.ResponseWriter, req *http.Request) {
	w.Header().Set("Content-Type", "application/octet-stream")
	if err := r.store.Snapshot(req.Context(), w); err != nil {
		http.Error(w, err.Error(), fault.ClassOf(err).HTTP())
	}
}

// SaveSnapshot writes the cluster's store to a file, while the program runs or
// not, and says what is in it. The file is there whole, or not at all.
func SaveSnapshot(ctx context.Context, state, run, file string) (info store.SnapshotInfo, err error) {
	r, err := Running(state, run)
	switch {
	case err == nil && r.Config.Joined:
		return info, &fault.Error{Class: fault.Invalid, Op: "save snapshot", On: file,
			Err: errors.New("this machine is a node of another one's cluster"), Fix: "save it there"}
	case err != nil && fault.ClassOf(err) != fault.NotFound:
		return info, err
	}
	running := err == nil
	part := file + ".part"
	out, err := os.OpenFile(part, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600) // it has every secret
	if err != nil {
		return info, &fault.Error{Op: "save snapshot", On: file, Err: err}
	}
	defer os.Remove(part) // after an error; else it has another name
	if running {
		err = fetchSnapshot(ctx, r, out)
	} else {
		err = store.SnapshotOf(ctx, store.Config{Dir: storeDir(state)}, out)
	}
	if err = errors.Join(err, out.Sync(), out.Close()); err != nil {
		return info, err
	}
	if info, err = store.ReadSnapshot(part); err != nil {
		return info, err
	}
	if err := os.Rename(part, file); err != nil {
		return info, &fault.Error{Op: "save snapshot", On: file, Err: err}
	}
	dir, err := filepath.Abs(filepath.Dir(file))
	if err != nil {
		return info, err
	}
	return info, durable.SyncDir(dir)
}

func fetchSnapshot(ctx context.Context, r Record, out io.Writer) error {
	failed := func(err error, fix string) error {
		return &fault.Error{Op: "save snapshot of", On: r.State, Err: err, Fix: fix}
	}
	c, err := adminClient(r.Kubeconfig)
	if err != nil {
		return failed(err, "run as the user who may read "+r.Kubeconfig)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.Server+snapshotPath, nil)
	if err != nil {
		return failed(err, "")
	}
	res, err := c.Do(req)
	if err != nil {
		return failed(err, "see whether it runs: sampan status")
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		said, _ := io.ReadAll(io.LimitReader(res.Body, 4096))
		return failed(fmt.Errorf("%s: %s", res.Status, said), "")
	}
	if _, err := io.Copy(out, res.Body); err != nil {
		return failed(err, "")
	}
	return nil
}

// RestoreSnapshot makes the store of a state directory anew of a snapshot. It
// returns where the store that was there is now, if there was one.
func RestoreSnapshot(state, run string, c store.RestoreConfig) (aside string, err error) {
	lock, err := lockInstance(state, run)
	if err != nil {
		return "", err
	}
	defer lock.Unlock()
	c.Dir = storeDir(state)
	return store.Restore(c)
}

// etcdTLS is how to reach an etcd elsewhere; nil for plain text.
func (c Config) etcdTLS() (*tls.Config, error) {
	if len(c.EtcdEndpoints) == 0 && c.EtcdTLS != (store.TLSFiles{}) {
		return nil, &fault.Error{Class: fault.Invalid, Op: "configure TLS to etcd", On: "files", Err: errors.New("the embedded etcd has no connections"),
			Fix: "name the etcd with --etcd-servers"}
	}
	return c.EtcdTLS.Config()
}
