package snapshot

import (
	"errors"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"sampan/internal/fault"
	"sampan/internal/linux"
)

// fit makes a layer that was unpacked alone what it would have become above
// the layers below (top first): folders without an entry get the attributes,
// and follow the links, that they have there; links to files there get a copy.
func (st *Staged) fit(below []string) error {
	fs := st.dir + "/fs"
	for _, dir := range st.implied {
		at, s, err := lookup(below, dir)
		if err != nil {
			return err
		}
		if at == "" {
			continue
		}
		if s.Mode&syscall.S_IFMT == syscall.S_IFLNK {
			if err := st.follow(below, dir, at); err != nil {
				return err
			}
			continue
		}
		here := filepath.Join(fs, dir)
		var mine syscall.Stat_t
		if syscall.Lstat(here, &mine) != nil || mine.Mode&syscall.S_IFMT != syscall.S_IFDIR || s.Mode&syscall.S_IFMT != syscall.S_IFDIR {
			continue // moved with a link above it, or a file below that the folder replaces
		}
		if err := copyAttributes(at, here, s); err != nil {
			return err
		}
	}
	for _, l := range st.links {
		if err := st.link(below, l); err != nil {
			return err
		}
	}
	return nil
}

// follow moves what was unpacked into the folder dir to where the link at
// leads, as if it had been unpacked above it.
func (st *Staged) follow(below []string, dir, at string) error {
	fs := st.dir + "/fs"
	to, err := os.Readlink(at)
	if err != nil {
		return err
	}
	if !strings.HasPrefix(to, "/") {
		to = path.Join(path.Dir("/"+dir), to)
	}
	if to = path.Clean(to)[1:]; to == "" || to == dir || strings.HasPrefix(to, dir+"/") {
		return &fault.Error{Class: fault.Invalid, Op: "unpack layer", On: st.DiffID.String(), Err: errors.New(dir + " is a link to " + to + " in a layer below")}
	}
	if s, err := os.Lstat(filepath.Join(fs, dir)); err != nil || !s.IsDir() {
		return nil
	}
	// Every folder on the way must be a real one here.
	for i, c := range to + "/" {
		if c != '/' {
			continue
		}
		part := filepath.Join(fs, to[:i])
		err := os.Mkdir(part, 0o755)
		if err == nil {
			var low string
			var s syscall.Stat_t
			if low, s, err = lookup(below, to[:i]); err == nil && low != "" && s.Mode&syscall.S_IFMT == syscall.S_IFDIR {
				err = copyAttributes(low, part, s)
			}
		} else if s, e := os.Lstat(part); e == nil && s.IsDir() {
			err = nil
		}
		if err != nil {
			return err
		}
	}
	return st.merge(dir, to)
}

func (st *Staged) merge(from, to string) error {
	fs := st.dir + "/fs"
	entries, err := os.ReadDir(filepath.Join(fs, from))
	if err != nil {
		return err
	}
	for _, e := range entries {
		src, dst := path.Join(from, e.Name()), path.Join(to, e.Name())
		if s, err := os.Lstat(filepath.Join(fs, dst)); err == nil {
			if s.IsDir() && e.IsDir() {
				if err := st.merge(src, dst); err != nil {
					return err
				}
				continue
			}
			return &fault.Error{Class: fault.Invalid, Op: "unpack layer", On: st.DiffID.String(), Err: errors.New(src + " and " + dst + " are the same file in the layers below")}
		}
		if err := os.Rename(filepath.Join(fs, src), filepath.Join(fs, dst)); err != nil {
			return err
		}
		st.moves = append(st.moves, move{Seq: 1 << 62, From: "fs/" + src, To: "fs/" + dst})
	}
	return os.Remove(filepath.Join(fs, from))
}

// link makes a hard link whose target a layer below has, by a copy of it.
func (st *Staged) link(below []string, l hardLink) error {
	at, s, err := lookup(below, l.target)
	if err != nil {
		return err
	}
	if at == "" || s.Mode&syscall.S_IFMT != syscall.S_IFREG {
		return &fault.Error{Class: fault.Invalid, Op: "unpack layer entry", On: l.name, Err: errors.New("it is a link to " + l.target + ", which does not exist"), Fix: "the layer is damaged: build the image again"}
	}
	root, err := os.Open(st.dir + "/fs")
	if err != nil {
		return err
	}
	defer root.Close()
	dir, err := linux.OpenInRoot(int(root.Fd()), "./"+path.Dir(l.name), linux.OPath|syscall.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(dir)
	fd, err := linux.OpenAt(dir, path.Base(l.name), syscall.O_WRONLY|syscall.O_CREAT|syscall.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), l.name)
	defer f.Close()
	in, err := os.Open(at)
	if err != nil {
		return err
	}
	defer in.Close()
	if _, err := io.Copy(f, in); err != nil {
		return err
	}
	return copyAttributes(at, filepath.Join(procPath(dir), path.Base(l.name)), s)
}

// lookup finds path (no slash in front) in the stack of layer folders, top
// first, without following links. at is empty if it is not there.
func lookup(stack []string, name string) (at string, s syscall.Stat_t, err error) {
	if name == "" {
		if len(stack) == 0 {
			return "", s, nil
		}
		return stack[0], s, syscall.Lstat(stack[0], &s)
	}
	for _, root := range stack {
		stop := false
		for i := 0; i <= len(name); i++ {
			if i < len(name) && name[i] != '/' {
				continue
			}
			part, whole := name[:i], i == len(name)
			if hides(root, part) {
				return "", s, nil
			}
			full := filepath.Join(root, part)
			if syscall.Lstat(full, &s) != nil {
				break // not in this layer
			}
			if whole {
				return full, s, nil
			}
			if s.Mode&syscall.S_IFMT != syscall.S_IFDIR {
				return "", s, nil // a file or link above hides all below it
			}
			if op, err := opaque(full); err != nil {
				return "", s, err
			} else if op {
				stop = true
			}
		}
		if stop {
			break
		}
	}
	return "", s, nil
}

// copyAttributes gives to what from has: owner, mode, attributes, time.
func copyAttributes(from, to string, s syscall.Stat_t) error {
	if err := os.Lchown(to, int(s.Uid), int(s.Gid)); err != nil {
		return err
	}
	names, err := linux.Xattrs(from)
	if err != nil {
		return err
	}
	for _, n := range names {
		if strings.HasPrefix(n, "trusted.overlay.") || n == "security.selinux" {
			continue
		}
		v, ok, err := linux.Xattr(from, n)
		if err == nil && ok {
			err = linux.SetXattr(to, n, v)
		}
		if err != nil && !errors.Is(err, syscall.EOPNOTSUPP) {
			return err
		}
	}
	if s.Mode&syscall.S_IFMT != syscall.S_IFLNK {
		if err := syscall.Chmod(to, s.Mode&0o7777); err != nil {
			return err
		}
	}
	t := time.Unix(s.Mtim.Unix())
	return setTimes(to, t)
}
