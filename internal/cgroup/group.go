package cgroup

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"sampan/internal/fault"
)

// Group is one path in every hierarchy of a Tree. It is a name: making one
// touches nothing, and copies are equal.
type Group struct {
	tree *Tree
	path string // clean, absolute
}

// Group names the group at path below the hierarchies' roots.
func (t *Tree) Group(p string) *Group { return &Group{tree: t, path: path.Clean("/" + p)} }

// Path is the group's, below the hierarchies' roots.
func (g *Group) Path() string { return g.path }

// Parent is the group above; of the root the root itself.
func (g *Group) Parent() *Group { return &Group{tree: g.tree, path: path.Dir(g.path)} }

// Dir is the group's directory in the hierarchy of a version 1 controller, or
// the version 2 one for controller "".
func (g *Group) Dir(controller string) string {
	root := g.tree.Unified
	if controller != "" {
		root = g.tree.dir(controller)
	}
	if root == "" {
		return ""
	}
	return filepath.Join(root, g.path)
}

func (g *Group) dirs() []string {
	out := g.tree.roots()
	for i := range out {
		out[i] = filepath.Join(out[i], g.path)
	}
	return out
}

func (g *Group) fail(op string, err error) error {
	class := fault.Unavailable
	if errors.Is(err, fs.ErrNotExist) {
		class = fault.NotFound
	}
	return &fault.Error{Class: class, Op: op, On: g.path, Err: err}
}

// Create makes the group and those above it, where they are missing, in every
// hierarchy. It may be called for a group that exists.
func (g *Group) Create() error {
	if g.path == "/" {
		return nil
	}
	for _, h := range g.tree.V1 {
		if slices.Contains(h.Controllers, "cpuset") {
			if err := createCpuset(h.Dir, g.path); err != nil {
				return g.fail("make control group", err)
			}
			continue
		}
		if err := mkdirs(filepath.Join(h.Dir, g.path)); err != nil {
			return g.fail("make control group", err)
		}
	}
	if g.tree.Unified == "" {
		return nil
	}
	if err := mkdirs(filepath.Join(g.tree.Unified, g.path)); err != nil {
		return g.fail("make control group", err)
	}
	if g.tree.V2() {
		g.delegate()
	}
	return nil
}

// mkdirs tries the last directory first: its parents exist nearly always.
func mkdirs(dir string) error {
	err := os.Mkdir(dir, 0o755)
	if err == nil || errors.Is(err, fs.ErrExist) {
		return nil
	}
	return os.MkdirAll(dir, 0o755)
}

// createCpuset makes a version 1 cpuset group and gives it, and every one above
// it that has none, the processors and memory nodes of its parent: until both
// are written nothing can join (ENOSPC).
func createCpuset(root, p string) error {
	dir := root
	for _, name := range strings.Split(strings.Trim(p, "/"), "/") {
		parent := dir
		dir = filepath.Join(dir, name)
		err := os.Mkdir(dir, 0o755)
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			have, err := os.ReadFile(filepath.Join(dir, file))
			if err != nil {
				return err
			}
			if len(bytes.TrimSpace(have)) > 0 {
				continue
			}
			from, err := os.ReadFile(filepath.Join(parent, file))
			if err != nil {
				return err
			}
			if err := write(dir, file, string(bytes.TrimSpace(from))); err != nil {
				return err
			}
		}
	}
	return nil
}

// delegate switches controllers on along the path, each by itself: one that the
// machine lacks, or that a group with processes of its own cannot pass on, must
// not keep the others away. What is missing shows when a limit is written.
func (g *Group) delegate() {
	dir := g.tree.Unified
	for _, name := range strings.Split(strings.Trim(g.path, "/"), "/") {
		have, _ := os.ReadFile(filepath.Join(dir, "cgroup.subtree_control"))
		on := strings.Fields(string(have))
		can, _ := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
		for _, c := range strings.Fields(string(can)) {
			if !slices.Contains(on, c) {
				_ = write(dir, "cgroup.subtree_control", "+"+c)
			}
		}
		dir = filepath.Join(dir, name)
	}
}

func write(dir, file, value string) error {
	fd, err := syscall.Open(filepath.Join(dir, file), syscall.O_WRONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: filepath.Join(dir, file), Err: err}
	}
	defer syscall.Close(fd)
	for {
		_, err = syscall.Write(fd, []byte(value))
		if err != syscall.EINTR {
			break
		}
	}
	if err != nil {
		return &fs.PathError{Op: "write " + strconv.Quote(value) + " to", Path: filepath.Join(dir, file), Err: err}
	}
	return nil
}

// Exists says whether the group is there in any hierarchy.
func (g *Group) Exists() bool {
	return slices.ContainsFunc(g.dirs(), func(d string) bool {
		_, err := os.Stat(d)
		return err == nil
	})
}

// Join opens what a process needs to put itself into the group: version 1
// tasks files, to each of which the joining thread writes "0" (a pid written
// into cgroup.procs by another process waits for RCU, 8 ms), and the version 2
// directory for CLONE_INTO_CGROUP, nil without one. The caller closes them.
func (g *Group) Join() (tasks []*os.File, unified *os.File, err error) {
	defer func() {
		if err != nil {
			for _, f := range tasks {
				f.Close()
			}
			err = g.fail("join control group", err)
		}
	}()
	for _, h := range g.tree.V1 {
		f, err := os.OpenFile(filepath.Join(h.Dir, g.path, "tasks"), os.O_WRONLY, 0)
		if err != nil {
			return tasks, nil, err
		}
		tasks = append(tasks, f)
	}
	if g.tree.Unified != "" {
		unified, err = os.Open(filepath.Join(g.tree.Unified, g.path))
	}
	return tasks, unified, err
}

// Procs lists the processes in the group and below it.
func (g *Group) Procs() ([]int, error) {
	root := g.killDir()
	var out []int
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		}
		if !d.IsDir() {
			return nil
		}
		b, err := os.ReadFile(filepath.Join(p, "cgroup.procs"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENODEV) {
			return err
		}
		for _, f := range strings.Fields(string(b)) {
			if pid, err := strconv.Atoi(f); err == nil && pid > 0 {
				out = append(out, pid)
			}
		}
		return nil
	})
	if err != nil {
		return nil, g.fail("list processes of control group", err)
	}
	return out, nil
}

// killDir is the hierarchy in which the group's processes are looked for.
func (g *Group) killDir() string {
	if d := g.Dir("freezer"); d != "" {
		return d
	}
	return g.dirs()[len(g.dirs())-1]
}

// Freeze stops all processes of the group; Thaw lets them go on.
func (g *Group) Freeze() error { return g.freeze("1", "FROZEN") }

// Thaw undoes Freeze.
func (g *Group) Thaw() error { return g.freeze("0", "THAWED") }

// freeze prefers version 1 where it exists, because a group can have come to be
// without its version 2 shadow there but never the other way round.
func (g *Group) freeze(v2, v1 string) error {
	if d := g.Dir("freezer"); d != "" {
		if err := write(d, "freezer.state", v1); err != nil {
			return g.fail("freeze control group", err)
		}
		return nil
	}
	if err := write(g.Dir(""), "cgroup.freeze", v2); err != nil {
		return g.fail("freeze control group", err)
	}
	return nil
}

// Kill sends SIGKILL to every process in the group and below it: at once
// through cgroup.kill, else in rounds until none is left that was there. A
// group that does not exist is no error.
func (g *Group) Kill() error {
	atomic := false
	if d := g.Dir(""); d != "" {
		err := write(d, "cgroup.kill", "1")
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return g.fail("kill control group", err)
		}
		atomic = err == nil
	}
	if atomic && g.tree.V2() {
		return nil
	}
	for range 10 {
		pids, err := g.Procs()
		if err != nil {
			if fault.ClassOf(err) == fault.NotFound {
				return nil
			}
			return err
		}
		if len(pids) == 0 {
			return nil
		}
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL) // gone meanwhile: as wished
		}
		g.thawAll() // SIGKILL waits for it
	}
	return nil
}

// thawAll thaws the group and, since each may have been frozen by itself, those
// below it. Version 2 kills what is frozen and needs no such thing.
func (g *Group) thawAll() {
	d := g.Dir("freezer")
	if d == "" {
		return
	}
	_ = filepath.WalkDir(d, func(p string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			_ = write(p, "freezer.state", "THAWED")
		}
		return nil // a group that is gone meanwhile: as wished
	})
}

// Signal sends sig to every process in the group and below it.
func (g *Group) Signal(sig syscall.Signal) error {
	if sig == syscall.SIGKILL {
		return g.Kill()
	}
	pids, err := g.Procs()
	if err != nil {
		return err
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, sig); err != nil && err != syscall.ESRCH {
			return g.fail("signal control group", err)
		}
	}
	return nil
}

// Destroy removes the group and those below it. Processes that are on their way
// out keep it busy: it tries again, ever more slowly, until ctx ends or two
// seconds have passed. A group that does not exist is no error.
func (g *Group) Destroy(ctx context.Context) error {
	if g.path == "/" {
		return &fault.Error{Class: fault.Invalid, Op: "remove control group", On: "/"}
	}
	wait := time.Millisecond
	for {
		var busy error
		for _, d := range g.dirs() {
			if err := remove(d); err != nil {
				busy = err
			}
		}
		if busy == nil {
			return nil
		}
		if !errors.Is(busy, syscall.EBUSY) || wait > time.Second {
			return g.fail("remove control group", busy)
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return g.fail("remove control group", busy)
		case <-t.C:
		}
		wait *= 2
	}
}

// remove takes a directory away with all directories in it, deepest first.
func remove(dir string) error {
	err := syscall.Rmdir(dir)
	if err == nil || err == syscall.ENOENT {
		return nil
	}
	if err != syscall.EBUSY {
		return &fs.PathError{Op: "rmdir", Path: dir, Err: err}
	}
	entries, rerr := os.ReadDir(dir)
	if rerr != nil {
		if errors.Is(rerr, fs.ErrNotExist) {
			return nil
		}
		return rerr
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := remove(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	if err := syscall.Rmdir(dir); err != nil && err != syscall.ENOENT {
		return &fs.PathError{Op: "rmdir", Path: dir, Err: err}
	}
	return nil
}
