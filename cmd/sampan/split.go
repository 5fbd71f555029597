//go:build split

package main

import (
	"bytes"
	_ "embed"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/klauspost/compress/zstd"
	"github.com/spf13/cobra"

	"sampan/internal/fault"
)

// The split build (docs/decisions/030-split-build.md) is this program with the
// engine's commands alone, and the whole program packed inside. Starting the
// whole one takes 40 ms of a core before its first line runs: fine for a
// platform, too much for "sampan run".
var (
	//go:embed platform.zst
	packed []byte
	//go:embed platform.zst.sum
	sum string
)

// platformCommands hand over to the whole program.
func platformCommands(g *globals) []*cobra.Command {
	var all []*cobra.Command
	for _, c := range [][2]string{
		{"up", "Start the platform: the container engine and a Kubernetes of one node"},
		{"down", "Stop the platform; containers go on unless --stop-pods is given"},
		{"status", "What runs, since when, and what it costs"},
		{"reset", "Remove everything that sampan ever made on this machine"},
		{"node-kubeconfig", "Make the file with which another machine joins as a node"},
		{"kubectl", "The Kubernetes command line, ready for this platform"},
		{"why", "What the deciders say about an object that is not as wanted"},
	} {
		all = append(all, &cobra.Command{Use: c[0], Short: c[1], DisableFlagParsing: true,
			RunE: func(_ *cobra.Command, args []string) error {
				g.leading(args)
				return handOver(c[0], stateDir(g.State, args))
			}})
	}
	return all
}

// stateDir finds --state wherever it stands; nobody has parsed the flags of a
// command that is handed over.
func stateDir(state string, args []string) string {
	for i, a := range args {
		if v, ok := strings.CutPrefix(a, "--state="); ok {
			state = v
		}
		if a == "--state" && i+1 < len(args) {
			state = args[i+1]
		}
	}
	return state
}

// handOver replaces this process by the whole program, unpacked once below the
// state directory, or where that can't be written in the user's cache.
func handOver(command, state string) error {
	if command != "kubectl" && command != "why" && os.Geteuid() != 0 {
		return &fault.Error{Class: fault.Forbidden, Op: command, On: state, Err: errors.New("it needs root"), Fix: "run it with sudo"}
	}
	path, err := unpacked(filepath.Join(state, "bin"))
	if errors.Is(err, os.ErrPermission) {
		var cache string
		if cache, err = os.UserCacheDir(); err == nil {
			path, err = unpacked(filepath.Join(cache, "sampan"))
		}
	}
	if err != nil {
		return &fault.Error{Op: "unpack the program to", On: state, Err: err, Fix: "choose a directory that can be written with --state"}
	}
	env := os.Environ()
	if self, err := os.Executable(); err == nil {
		env = append(env, selfVariable+"="+self)
	}
	return &fault.Error{Op: "start", On: path, Err: syscall.Exec(path, os.Args, env)}
}

func unpacked(dir string) (string, error) {
	path := filepath.Join(dir, "sampan-"+sum[:16])
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	r, err := zstd.NewReader(bytes.NewReader(packed))
	if err != nil {
		return "", err
	}
	defer r.Close()
	f, err := os.CreateTemp(dir, ".new-")
	if err != nil {
		return "", err
	}
	defer os.Remove(f.Name())
	_, err = io.Copy(f, r)
	if err = errors.Join(err, f.Chmod(0o755), f.Close()); err != nil {
		return "", err
	}
	old, _ := filepath.Glob(filepath.Join(dir, "sampan-*"))
	if err := os.Rename(f.Name(), path); err != nil {
		return "", err
	}
	for _, o := range old { // of other versions; one that runs keeps its file
		_ = os.Remove(o)
	}
	return path, nil
}
