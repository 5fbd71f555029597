package snapshot

import (
	"archive/tar"
	"context"
	"io"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"sampan/internal/linux"
)

// upperEntry is one thing that a snapshot has above its layers.
type upperEntry struct {
	name   string // no slash in front; never empty
	path   string // where it is; empty if gone
	stat   syscall.Stat_t
	gone   bool
	opaque bool // a folder that hides what is below
}

// walkUpper visits an overlay's upper folder, parents first, names in order.
func walkUpper(ctx context.Context, upper string, visit func(upperEntry) error) error {
	return filepath.WalkDir(upper, func(p string, d os.DirEntry, err error) error {
		if err != nil {
			if os.IsNotExist(err) && p != upper {
				return nil // removed meanwhile: the snapshot is live
			}
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if p == upper {
			return nil
		}
		e := upperEntry{name: p[len(upper)+1:], path: p}
		if err := syscall.Lstat(p, &e.stat); err != nil {
			if err == syscall.ENOENT {
				return nil
			}
			return err
		}
		switch {
		case isWhiteout(e.stat):
			e.gone, e.path = true, ""
		case d.IsDir():
			if e.opaque, err = opaque(p); err != nil {
				return err
			}
		}
		return visit(e)
	})
}

// diffWriter writes entries as a layer tar: PAX, whole seconds, numbers
// instead of names of owners, as `docker save` has them.
type diffWriter struct {
	tw   *tar.Writer
	opt  DiffOptions
	seen map[[2]uint64]string
	buf  []byte
}

func newDiffWriter(w io.Writer, opt DiffOptions) *diffWriter {
	return &diffWriter{tw: tar.NewWriter(w), opt: opt, seen: map[[2]uint64]string{}, buf: make([]byte, 64<<10)}
}

func (d *diffWriter) close() error { return d.tw.Close() }

func (d *diffWriter) entry(e upperEntry) error {
	if e.gone {
		return d.mark(path.Join(path.Dir(e.name), whiteoutPrefix+path.Base(e.name)), e.stat)
	}
	hdr := &tar.Header{Name: e.name, Mode: int64(e.stat.Mode & 0o7777), Uid: int(e.stat.Uid), Gid: int(e.stat.Gid),
		ModTime: d.time(e.stat), Format: tar.FormatPAX}
	switch e.stat.Mode & syscall.S_IFMT {
	case syscall.S_IFDIR:
		hdr.Typeflag, hdr.Name = tar.TypeDir, e.name+"/"
	case syscall.S_IFLNK:
		to, err := os.Readlink(e.path)
		if err != nil {
			return err
		}
		hdr.Typeflag, hdr.Linkname = tar.TypeSymlink, to
	case syscall.S_IFREG:
		hdr.Typeflag, hdr.Size = tar.TypeReg, e.stat.Size
	case syscall.S_IFCHR, syscall.S_IFBLK:
		hdr.Typeflag = tar.TypeChar
		if e.stat.Mode&syscall.S_IFMT == syscall.S_IFBLK {
			hdr.Typeflag = tar.TypeBlock
		}
		major, minor := linux.DeviceParts(e.stat.Rdev)
		hdr.Devmajor, hdr.Devminor = int64(major), int64(minor)
	case syscall.S_IFIFO:
		hdr.Typeflag = tar.TypeFifo
	default:
		return nil // a socket: only its process can use it, and tar has no word for it
	}
	if hdr.Typeflag != tar.TypeDir && e.stat.Nlink > 1 {
		key := [2]uint64{e.stat.Dev, e.stat.Ino}
		if first, ok := d.seen[key]; ok {
			hdr.Typeflag, hdr.Linkname, hdr.Size = tar.TypeLink, first, 0
			return d.tw.WriteHeader(hdr)
		}
		d.seen[key] = e.name
	}
	if err := addXattrs(hdr, e.path); err != nil {
		return err
	}
	if hdr.Typeflag == tar.TypeReg {
		if err := d.file(hdr, e.path); err != nil {
			return err
		}
	} else if err := d.tw.WriteHeader(hdr); err != nil {
		return err
	}
	if e.opaque {
		return d.mark(path.Join(e.name, opaqueMark), e.stat)
	}
	return nil
}

func (d *diffWriter) file(hdr *tar.Header, p string) error {
	fd, err := syscall.Open(p, syscall.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: p, Err: err}
	}
	f := os.NewFile(uintptr(fd), p)
	defer f.Close()
	if err := d.tw.WriteHeader(hdr); err != nil {
		return err
	}
	// A file that shrinks while it is read would break the tar: fill with zeros,
	// as tar does; one that grows is cut.
	n, err := io.CopyBuffer(struct{ io.Writer }{d.tw}, struct{ io.Reader }{io.LimitReader(f, hdr.Size)}, d.buf)
	if err != nil {
		return err
	}
	for clear(d.buf); n < hdr.Size; {
		m, err := d.tw.Write(d.buf[:min(int64(len(d.buf)), hdr.Size-n)])
		if err != nil {
			return err
		}
		n += int64(m)
	}
	return nil
}

func (d *diffWriter) mark(name string, s syscall.Stat_t) error {
	return d.tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o600, ModTime: d.time(s), Format: tar.FormatPAX})
}

func (d *diffWriter) time(s syscall.Stat_t) time.Time {
	t := time.Unix(s.Mtim.Sec, 0)
	if !d.opt.MaxTime.IsZero() && t.After(d.opt.MaxTime) {
		t = d.opt.MaxTime.Truncate(time.Second)
	}
	return t
}

func addXattrs(hdr *tar.Header, p string) error {
	names, err := linux.Xattrs(p)
	if err != nil {
		return err
	}
	for _, n := range names {
		// The kernel's own book-keeping, and labels of this machine.
		if strings.HasPrefix(n, "trusted.overlay.") || n == "security.selinux" {
			continue
		}
		v, ok, err := linux.Xattr(p, n)
		if err != nil {
			return err
		}
		if ok {
			if hdr.PAXRecords == nil {
				hdr.PAXRecords = map[string]string{}
			}
			hdr.PAXRecords["SCHILY.xattr."+n] = string(v)
		}
	}
	return nil
}

// usage counts blocks and inodes below dir, hard links once.
func usage(ctx context.Context, dir string) (Usage, error) {
	var u Usage
	seen := map[uint64]bool{}
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil {
			if os.IsNotExist(err) {
				return nil
			}
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		var s syscall.Stat_t
		if syscall.Lstat(p, &s) != nil {
			return nil
		}
		if s.Nlink > 1 && !d.IsDir() {
			if seen[s.Ino] {
				return nil
			}
			seen[s.Ino] = true
		}
		u.Bytes += s.Blocks * 512
		u.Inodes++
		return nil
	})
	return u, err
}

func procPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

func setTimes(p string, t time.Time) error {
	dir, err := syscall.Open(filepath.Dir(p), linux.OPath|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(dir)
	return linux.SetTimesAt(dir, filepath.Base(p), t, t)
}
