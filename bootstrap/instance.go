package bootstrap

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"sampan/internal/durable"
	"sampan/internal/fault"
)

// Record is what a running program leaves for others to find, in
// <run>/up.json.
type Record struct {
	PID        int       `json:"pid"`
	Started    time.Time `json:"started"`
	Version    string    `json:"version"`
	State      string    `json:"state"`
	Run        string    `json:"run"`
	Server     string    `json:"server,omitempty"` // empty until it is ready
	Kubeconfig string    `json:"kubeconfig,omitempty"`
	Node       string    `json:"node"`
	Address    string    `json:"address,omitempty"` // the node's
	Config     Saved     `json:"config"`
}

// Saved is what of a Config is needed to undo it, and to have other machines
// join.
type Saved struct {
	Pods        string `json:"pods"`
	Services    string `json:"services"`
	NodeAddress string `json:"nodeAddress"`
	Domain      string `json:"domain,omitempty"`
	Port        int    `json:"port,omitempty"`     // of the API
	NodePods    string `json:"nodePods,omitempty"` // of a joined node: its share of Pods
	Joined      bool   `json:"joined,omitempty"`
}

// record is what is left of p.
func (p *Program) record(started time.Time) Record {
	return Record{PID: os.Getpid(), Started: started, Version: p.cfg.Version, State: p.cfg.State, Run: p.cfg.Run,
		Kubeconfig: p.cfg.Kubeconfig, Node: p.cfg.NodeName, Config: Saved{Pods: p.cfg.Pods.String(), Services: p.cfg.Services.String(),
			NodeAddress: p.cfg.NodeAddress.String(), Domain: p.cfg.ClusterDomain, Port: p.cfg.Port}}
}

// apiAddress is where other machines reach the API.
func (r Record) apiAddress() string { return net.JoinHostPort(r.Address, strconv.Itoa(r.Config.Port)) }

func recordPath(run string) string { return filepath.Join(run, "up.json") }

// savedPath is where the configuration outlives the run directory.
func savedPath(state string) string { return filepath.Join(state, "instance.json") }

// lockInstance makes sure that one program works on a state directory. The
// lock ends with the process, however it ends.
func lockInstance(state, run string) (*durable.Lock, error) {
	for _, dir := range []string{state, run} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, &fault.Error{Op: "make directory", On: dir, Err: err, Fix: "choose another with --state and --run"}
		}
	}
	lock, ok, err := durable.TryExclusive(filepath.Join(state, "lock"))
	if err != nil {
		return nil, err
	}
	if ok {
		return lock, nil
	}
	f := &fault.Error{Class: fault.Exists, Op: "start on", On: state, Err: errors.New("another sampan uses it"),
		Fix: "stop that one with: sampan down, or choose another directory with --state and --run"}
	if r, err := ReadRecord(run); err == nil {
		f.Err = fmt.Errorf("process %d uses it since %s", r.PID, r.Started.Format(time.DateTime))
	}
	return nil, f
}

func (r Record) write() error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return errors.Join(
		durable.WriteFile(recordPath(r.Run), data, 0o644),
		durable.WriteFile(savedPath(r.State), data, 0o644),
	)
}

// ReadRecord returns the record of the program that runs, or ran last, with
// that run directory; fault.NotFound if there is none.
func ReadRecord(run string) (r Record, err error) { return readRecord(recordPath(run)) }

func readRecord(path string) (r Record, err error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return r, &fault.Error{Class: fault.NotFound, Op: "find a running sampan at", On: filepath.Dir(path), Err: errors.New("there is no record of one"), Fix: "start it with: sampan up"}
	}
	if err == nil {
		err = json.Unmarshal(data, &r)
	}
	if err != nil {
		return r, &fault.Error{Op: "read record", On: path, Err: err}
	}
	return r, nil
}

// Running returns the record of the program that holds state; fault.NotFound
// if none does.
func Running(state, run string) (Record, error) {
	r, err := ReadRecord(run)
	if err != nil {
		return r, err
	}
	lock, free, err := durable.TryExclusive(filepath.Join(state, "lock"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return r, err
	}
	if err == nil && !free {
		return r, nil
	}
	if lock != nil {
		lock.Unlock()
	}
	return r, &fault.Error{Class: fault.NotFound, Op: "find a running sampan at", On: state,
		Err: errors.New("it is not running"), Fix: "start it with: sampan up"}
}

// Stop asks the program that r is about to end, and waits until it has.
func Stop(ctx context.Context, r Record) error {
	if err := syscall.Kill(r.PID, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
		return &fault.Error{Op: "stop process", On: fmt.Sprint(r.PID), Err: err, Fix: "run as root"}
	}
	// The lock is free exactly when the process has ended.
	lock, err := durable.Exclusive(ctx, filepath.Join(r.State, "lock"))
	if err != nil {
		return &fault.Error{Class: fault.Unavailable, Op: "stop process", On: fmt.Sprint(r.PID), Err: err,
			Fix: fmt.Sprintf("kill -9 %d; containers go on, and nothing that was acknowledged is lost", r.PID)}
	}
	lock.Unlock()
	return nil
}

// instance is a few letters that are a state directory's own, for the names
// that the kernel shares between instances.
func instance(state string) string {
	sum := sha256.Sum256([]byte(state))
	return hex.EncodeToString(sum[:3])
}
