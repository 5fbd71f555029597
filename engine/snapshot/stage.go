package snapshot

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"os"
	"path"
	"strings"
	"syscall"
	"time"

	"sampan/internal/durable"
	"sampan/internal/fault"
	"sampan/internal/linux"
)

// Staged is an unpacked layer that nobody can see yet.
type Staged struct {
	Layer // DiffID, TarSize, Size, Files; the rest is set by Commit

	dir     string // stage/NAME
	lock    *durable.Lock
	into    *layers
	implied []string   // folders that the tar has no entry for, parents first
	links   []hardLink // whose target is not in this layer
	moves   []move
}

// hardLink is a link entry.
type hardLink struct{ name, target string }

// move says that content number Seq and later ones excepted, what the tar put
// at From is now at To.
// Both are below the layer's folder.
type move struct {
	Seq      int
	From, To string
}

// stage unpacks diff. Nothing in diff can reach outside the new folder: every
// call has an open folder and one plain name, and folders are opened with
// RESOLVE_IN_ROOT.
func (ls *layers) stage(ctx context.Context, diff io.Reader) (_ *Staged, err error) {
	st := &Staged{into: ls}
	if st.dir, st.lock, err = ls.newStage(ctx); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			st.Discard()
		}
	}()
	root, err := os.Open(st.dir + "/fs")
	if err != nil {
		return nil, err
	}
	defer root.Close()
	rec, err := newRecorder(diff, st.dir+"/"+tarMap)
	if err != nil {
		return nil, err
	}
	defer rec.close()
	x := &extraction{st: st, root: int(root.Fd()), rec: rec, buf: make([]byte, 128<<10), cachedFD: -1}
	defer x.forget()
	if err := x.run(ctx); err != nil {
		return nil, err
	}
	if err := rec.finish(); err != nil {
		return nil, err
	}
	st.DiffID, st.TarSize = rec.digest(), rec.size
	return st, nil
}

// Discard removes what was staged. It may be called after Commit, and twice.
func (st *Staged) Discard() {
	if st.lock != nil {
		os.RemoveAll(st.dir)
		st.lock.Unlock()
		st.lock = nil
	}
}

// extraction is one tar on its way to a folder.
type extraction struct {
	st   *Staged
	root int
	rec  *recorder
	buf  []byte

	// Entries come folder by folder: the last parent stays open.
	cached   string
	cachedFD int
	dirs     []dirTimes
	explicit map[string]bool // folders that have an entry
}

type dirTimes struct {
	name string
	mtim time.Time
}

func (x *extraction) run(ctx context.Context) error {
	x.explicit = map[string]bool{}
	x.st.implied = []string{""}
	tr := tar.NewReader(x.rec)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		hdr, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return &fault.Error{Class: fault.Invalid, Op: "read layer", Err: err, Fix: "the layer is damaged: get it again"}
		}
		if err := x.entry(tr, hdr); err != nil {
			var f *fault.Error
			if errors.As(err, &f) {
				return err
			}
			class := fault.Unknown
			if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, tar.ErrHeader) {
				class = fault.Invalid
			}
			return &fault.Error{Class: class, Op: "unpack layer entry", On: hdr.Name, Err: err}
		}
	}
	// Last, because making what is inside changes a folder's time.
	for i := len(x.dirs) - 1; i >= 0; i-- {
		d := x.dirs[i]
		parent, err := x.parent(path.Dir(d.name))
		if err != nil {
			continue // replaced by something else later in the tar
		}
		if s, err := linux.StatAt(parent, base(d.name)); err != nil || s.Mode&syscall.S_IFMT != syscall.S_IFDIR {
			continue
		}
		if err := linux.SetTimesAt(parent, base(d.name), d.mtim, d.mtim); err != nil {
			return err
		}
	}
	implied := x.st.implied[:0]
	for _, d := range x.st.implied {
		if !x.explicit[d] {
			implied = append(implied, d)
		}
	}
	x.st.implied = implied
	return nil
}

func base(name string) string {
	if name == "" {
		return "."
	}
	return path.Base(name)
}

// clean makes a tar's name relative to the root. A name that climbs out is a
// sign of an attack, and refused rather than bent.
func clean(name string) (string, error) {
	c := path.Clean(strings.TrimLeft(name, "/"))
	if c == ".." || strings.HasPrefix(c, "../") || strings.ContainsRune(c, 0) {
		return "", &fault.Error{Class: fault.Invalid, Op: "unpack layer entry", On: name, Err: errors.New("its name leads out of the root file system"), Fix: "do not use this image"}
	}
	if c == "." {
		c = ""
	}
	return c, nil
}

func (x *extraction) entry(tr *tar.Reader, hdr *tar.Header) error {
	if hdr.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	name, err := clean(hdr.Name)
	if err != nil {
		return err
	}
	if name == "" {
		if hdr.Typeflag != tar.TypeDir {
			return &fault.Error{Class: fault.Invalid, Op: "unpack layer entry", On: hdr.Name, Err: errors.New("the root must be a folder")}
		}
		x.explicit[""] = true
		return x.metadata(x.root, ".", hdr)
	}
	parent, err := x.parent(path.Dir(name))
	if err != nil {
		return err
	}
	last := path.Base(name)
	if strings.HasPrefix(last, whiteoutPrefix) {
		return x.whiteout(parent, name, last)
	}
	x.st.Files++
	err = x.create(tr, hdr, parent, name, last)
	for tries := 0; errors.Is(err, syscall.EEXIST) && tries < 2; tries++ {
		if err = x.replace(parent, name, last, hdr); err != nil {
			return err
		}
		if parent, err = x.parent(path.Dir(name)); err != nil {
			return err
		}
		if hdr.Typeflag == tar.TypeDir {
			if s, e := linux.StatAt(parent, last); e == nil && s.Mode&syscall.S_IFMT == syscall.S_IFDIR {
				err = nil
				break
			}
		}
		err = x.create(tr, hdr, parent, name, last)
	}
	if err != nil || hdr.Typeflag == tar.TypeLink {
		return err
	}
	if hdr.Typeflag == tar.TypeDir {
		x.explicit[name] = true
	}
	return x.metadata(parent, last, hdr)
}

// create makes the entry, without attributes. EEXIST means that an earlier
// entry has the name.
func (x *extraction) create(tr *tar.Reader, hdr *tar.Header, parent int, name, last string) error {
	mode := uint32(hdr.Mode & 0o7777)
	switch hdr.Typeflag {
	case tar.TypeDir:
		return linux.MkdirAt(parent, last, 0o700)
	case tar.TypeReg, tar.TypeGNUSparse:
		fd, err := linux.OpenAt(parent, last, syscall.O_WRONLY|syscall.O_CREAT|syscall.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		f := os.NewFile(uintptr(fd), name)
		defer f.Close()
		return x.content(f, tr, hdr, name)
	case tar.TypeSymlink:
		return linux.SymlinkAt(hdr.Linkname, parent, last)
	case tar.TypeLink:
		target, err := clean(hdr.Linkname)
		if err != nil {
			return err
		}
		from, err := linux.OpenInRoot(x.root, "./"+path.Dir(target), linux.OPath|syscall.O_DIRECTORY, 0)
		if err == nil {
			err = linux.LinkAt(from, path.Base(target), parent, last)
			syscall.Close(from)
		}
		if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ENOTDIR) {
			x.st.links = append(x.st.links, hardLink{name, target})
			return nil
		}
		return err
	case tar.TypeChar:
		return linux.MknodAt(parent, last, syscall.S_IFCHR|mode, linux.DeviceNumber(uint32(hdr.Devmajor), uint32(hdr.Devminor)))
	case tar.TypeBlock:
		return linux.MknodAt(parent, last, syscall.S_IFBLK|mode, linux.DeviceNumber(uint32(hdr.Devmajor), uint32(hdr.Devminor)))
	case tar.TypeFifo:
		return linux.MknodAt(parent, last, syscall.S_IFIFO|mode, 0)
	}
	return &fault.Error{Class: fault.Invalid, Op: "unpack layer entry", On: hdr.Name, Err: errors.New("unknown tar entry type " + string(hdr.Typeflag))}
}

// content writes a regular file and notes in the tar map where its bytes are.
func (x *extraction) content(f *os.File, tr *tar.Reader, hdr *tar.Header, name string) error {
	if isSparse(hdr) {
		// The tar has only the data between holes; it stays in the map as it is.
		if err := copySparse(f, tr, x.buf); err != nil {
			return err
		}
		x.st.Size += hdr.Size
		return f.Truncate(hdr.Size)
	}
	if hdr.Size == 0 {
		return nil
	}
	if err := x.rec.beginFile(name, hdr.Size); err != nil {
		return err
	}
	_, err := io.CopyBuffer(struct{ io.Writer }{f}, struct{ io.Reader }{tr}, x.buf)
	x.rec.endFile()
	x.st.Size += hdr.Size
	return err
}

func isSparse(hdr *tar.Header) bool {
	if hdr.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for k := range hdr.PAXRecords {
		if strings.HasPrefix(k, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// copySparse leaves holes where a whole block is zero.
func copySparse(f *os.File, r io.Reader, buf []byte) error {
	buf = buf[:4096]
	for {
		n, err := io.ReadFull(r, buf)
		if n > 0 {
			zero := true
			for _, b := range buf[:n] {
				if b != 0 {
					zero = false
					break
				}
			}
			if zero {
				if _, e := f.Seek(int64(n), io.SeekCurrent); e != nil {
					return e
				}
			} else if _, e := f.Write(buf[:n]); e != nil {
				return e
			}
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF && n < len(buf) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// metadata sets owner, attributes, mode and time, in the order in which none
// undoes another: chown clears capabilities and setuid bits.
func (x *extraction) metadata(parent int, last string, hdr *tar.Header) error {
	if err := linux.ChownAt(parent, last, hdr.Uid, hdr.Gid); err != nil {
		return err
	}
	for k, v := range hdr.PAXRecords {
		attr, ok := strings.CutPrefix(k, "SCHILY.xattr.")
		// Overlay's own attributes would let a layer point into other folders.
		if !ok || strings.HasPrefix(attr, "trusted.overlay.") || strings.HasPrefix(attr, "user.overlay.") {
			continue
		}
		err := linux.SetXattrAt(parent, last, attr, []byte(v))
		if err != nil && !errors.Is(err, syscall.EOPNOTSUPP) && !(errors.Is(err, syscall.EPERM) && hdr.Typeflag == tar.TypeSymlink) {
			return err
		}
	}
	if hdr.Typeflag != tar.TypeSymlink {
		if err := linux.ChmodAt(parent, last, uint32(hdr.Mode&0o7777)); err != nil {
			return err
		}
	}
	if hdr.Typeflag == tar.TypeDir {
		name, _ := clean(hdr.Name)
		x.dirs = append(x.dirs, dirTimes{name, hdr.ModTime})
		return nil
	}
	return linux.SetTimesAt(parent, last, hdr.ModTime, hdr.ModTime)
}

// replace makes room for an entry whose name is taken. A whiteout before a
// folder hides what is below; what had content is kept for the tar map.
func (x *extraction) replace(parent int, name, last string, hdr *tar.Header) error {
	old, err := linux.StatAt(parent, last)
	if err != nil {
		return err
	}
	isDir := old.Mode&syscall.S_IFMT == syscall.S_IFDIR
	if isDir && hdr.Typeflag == tar.TypeDir {
		return nil // an entry seen twice, or made because something inside came first
	}
	x.forget()
	if isWhiteout(old) {
		if err := syscall.Unlinkat(parent, last); err != nil {
			return err
		}
		if hdr.Typeflag != tar.TypeDir {
			return nil
		}
		if err := linux.MkdirAt(parent, last, 0o700); err != nil {
			return err
		}
		return hideBelow(parent, last)
	}
	if hdr.Typeflag == tar.TypeLink {
		if target, _ := clean(hdr.Linkname); target == name {
			return nil
		}
	}
	to, err := x.st.keep(parent, last)
	if err != nil {
		return err
	}
	x.st.moves = append(x.st.moves, move{Seq: x.rec.files, From: "fs/" + name, To: to})
	return nil
}

func (x *extraction) whiteout(parent int, name, last string) error {
	if last == opaqueMark {
		return hideBelow(parent, ".")
	}
	if strings.HasPrefix(last, whiteoutPrefix+whiteoutPrefix) {
		return nil // aufs's own bookkeeping, in images of before 2016
	}
	victim := strings.TrimPrefix(last, whiteoutPrefix)
	if victim == "" || victim == "." || victim == ".." {
		return &fault.Error{Class: fault.Invalid, Op: "unpack layer entry", On: name, Err: errors.New("a whiteout of nothing")}
	}
	err := whiteout(parent, victim)
	if !errors.Is(err, syscall.EEXIST) {
		return err
	}
	// A whiteout means the layers below, not what this layer brings: what it
	// brings hides a file anyway, and a folder must hide what is in it.
	s, err := linux.StatAt(parent, victim)
	if err == nil && s.Mode&syscall.S_IFMT == syscall.S_IFDIR {
		var fd int
		if fd, err = linux.OpenAt(parent, victim, syscall.O_RDONLY|syscall.O_DIRECTORY, 0); err == nil {
			defer syscall.Close(fd)
			err = hideBelow(fd, ".")
		}
	}
	return err
}

// parent opens a folder of the layer; it makes missing ones and remembers that
// it did, because their attributes are those of the layers below.
func (x *extraction) parent(dir string) (int, error) {
	if dir == "." || dir == "" {
		return x.root, nil
	}
	if x.cachedFD >= 0 && x.cached == dir {
		return x.cachedFD, nil
	}
	fd, err := linux.OpenInRoot(x.root, dir, syscall.O_RDONLY|syscall.O_DIRECTORY, 0)
	if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ENOTDIR) {
		fd, err = x.makeParent(dir)
	}
	if err != nil {
		return -1, err
	}
	x.forget()
	x.cached, x.cachedFD = dir, fd
	return fd, nil
}

func (x *extraction) makeParent(dir string) (int, error) {
	above, err := x.parent(path.Dir(dir))
	if err != nil {
		return -1, err
	}
	if err := linux.MkdirAt(above, path.Base(dir), 0o755); err == nil {
		x.st.implied = append(x.st.implied, dir)
	} else if errors.Is(err, syscall.EEXIST) {
		// A file, or a link to nothing, where a folder is needed.
		s, err := linux.StatAt(above, path.Base(dir))
		if err != nil {
			return -1, err
		}
		if s.Mode&syscall.S_IFMT != syscall.S_IFDIR {
			if err := x.replace(above, dir, path.Base(dir), &tar.Header{Typeflag: tar.TypeDir, Name: dir}); err != nil {
				return -1, err
			}
			if above, err = x.parent(path.Dir(dir)); err != nil {
				return -1, err
			}
			if err := linux.MkdirAt(above, path.Base(dir), 0o755); err != nil && !errors.Is(err, syscall.EEXIST) {
				return -1, err
			}
			x.st.implied = append(x.st.implied, dir)
		}
	} else {
		return -1, err
	}
	return linux.OpenInRoot(x.root, dir, syscall.O_RDONLY|syscall.O_DIRECTORY, 0)
}

func (x *extraction) forget() {
	if x.cachedFD >= 0 {
		syscall.Close(x.cachedFD)
		x.cachedFD, x.cached = -1, ""
	}
}
