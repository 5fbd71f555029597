package build

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"sampan/internal/linux"
)

// item is one file that COPY brings.
type item struct {
	from string // in the source root
	to   string // below the destination; "." is the destination itself
	info fs.FileInfo
}

// gather lists what the sources mean, in order. intoDir says that the
// destination is a folder whatever the destination's name.
func gather(src *os.Root, sources []string, ignore ignoreList) (items []item, intoDir bool, err error) {
	found := 0
	for _, s := range sources {
		pattern := strings.TrimPrefix(path.Clean("/"+s), "/")
		if pattern == "" {
			pattern = "."
		}
		names, err := fs.Glob(src.FS(), pattern)
		if err != nil {
			return nil, false, fmt.Errorf("pattern %s: %w", s, err)
		}
		names = slices.DeleteFunc(names, ignore.hides)
		if len(names) == 0 {
			return nil, false, fmt.Errorf("%s: not found in the build context, or left out by .dockerignore", s)
		}
		found += len(names)
		for _, n := range names {
			more, err := tree(src, n, ignore)
			if err != nil {
				return nil, false, err
			}
			items = append(items, more...)
		}
	}
	return items, found > 1, nil
}

// tree lists a source: a file as itself, a folder as its contents.
func tree(src *os.Root, name string, ignore ignoreList) ([]item, error) {
	info, err := src.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return []item{{from: name, to: path.Base(name), info: info}}, nil
	}
	var out []item
	err = fs.WalkDir(src.FS(), name, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if p == name {
			out = append(out, item{from: p, to: ".", info: info})
			return nil
		}
		if ignore.hides(p) {
			if d.IsDir() && !ignore.excepts {
				return fs.SkipDir
			}
			return nil
		}
		fi, err := src.Lstat(p)
		if err != nil {
			return err
		}
		rel := p
		if name != "." {
			rel = strings.TrimPrefix(p, name+"/")
		}
		out = append(out, item{from: p, to: rel, info: fi})
		return nil
	})
	return out, err
}

// sum writes what makes items different from others: names, kinds, modes and
// contents, but not times.
func sum(w io.Writer, src *os.Root, items []item) error {
	for _, it := range items {
		fmt.Fprintf(w, "%q %v %d\n", it.to, it.info.Mode(), it.info.Size())
		switch {
		case it.info.Mode().IsRegular():
			f, err := src.Open(it.from)
			if err != nil {
				return err
			}
			_, err = io.Copy(w, f)
			f.Close()
			if err != nil {
				return err
			}
		case it.info.Mode()&fs.ModeSymlink != 0:
			to, err := src.Readlink(it.from)
			if err != nil {
				return err
			}
			fmt.Fprintf(w, "%q\n", to)
		}
	}
	return nil
}

// target is a root file system that files are copied into. Links in it never
// lead out: folders are opened with RESOLVE_IN_ROOT, and files by plain name.
type target struct {
	root     *os.File
	uid, gid int
	mode     int64 // for all, or -1 for the source's
}

// put copies items to dest.
func (t *target) put(src *os.Root, items []item, dest string, intoDir bool) error {
	if !intoDir && !strings.HasSuffix(dest, "/") {
		fd, err := linux.OpenInRoot(int(t.root.Fd()), dest, linux.OPath|syscall.O_DIRECTORY, 0)
		if err == nil {
			syscall.Close(fd)
			intoDir = true
		}
	}
	intoDir = intoDir || strings.HasSuffix(dest, "/")
	for _, it := range items {
		to := path.Join(dest, it.to)
		if !intoDir && len(items) == 1 && !it.info.IsDir() {
			to = dest
		}
		if err := t.one(src, it, path.Clean("/"+to)); err != nil {
			return fmt.Errorf("copy %s to %s: %w", it.from, to, err)
		}
	}
	return nil
}

func (t *target) one(src *os.Root, it item, to string) error {
	if it.info.IsDir() {
		fd, made, err := t.folder(to)
		if err != nil {
			return err
		}
		defer syscall.Close(fd)
		// The folder that COPY's destination names keeps what it has.
		if made || it.to != "." {
			return t.attributes(fd, ".", it)
		}
		return nil
	}
	dir, _, err := t.folder(path.Dir(to))
	if err != nil {
		return err
	}
	defer syscall.Close(dir)
	name := path.Base(to)
	if old, err := linux.StatAt(dir, name); err == nil {
		if old.Mode&syscall.S_IFMT == syscall.S_IFDIR {
			return errors.New("a folder is in the way")
		}
		if err := syscall.Unlinkat(dir, name); err != nil {
			return err
		}
	}
	switch {
	case it.info.Mode()&fs.ModeSymlink != 0:
		link, err := src.Readlink(it.from)
		if err != nil {
			return err
		}
		if err := linux.SymlinkAt(link, dir, name); err != nil {
			return err
		}
	case it.info.Mode().IsRegular():
		fd, err := linux.OpenAt(dir, name, syscall.O_WRONLY|syscall.O_CREAT|syscall.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		out := os.NewFile(uintptr(fd), name)
		defer out.Close()
		in, err := src.Open(it.from)
		if err != nil {
			return err
		}
		defer in.Close()
		if _, err := io.Copy(out, in); err != nil {
			return err
		}
	default:
		return errors.New("only files, folders and links can be copied")
	}
	return t.attributes(dir, name, it)
}

func (t *target) attributes(dir int, name string, it item) error {
	if err := linux.ChownAt(dir, name, t.uid, t.gid); err != nil {
		return err
	}
	if it.info.Mode()&fs.ModeSymlink == 0 {
		mode := it.info.Sys().(*syscall.Stat_t).Mode & 0o7777
		if t.mode >= 0 {
			mode = uint32(t.mode)
		}
		if err := linux.ChmodAt(dir, name, mode); err != nil {
			return err
		}
	}
	return linux.SetTimesAt(dir, name, it.info.ModTime(), it.info.ModTime())
}

// folder opens a folder and makes what is missing of its path.
func (t *target) folder(p string) (fd int, made bool, err error) {
	root := int(t.root.Fd())
	fd, err = linux.OpenInRoot(root, p, syscall.O_RDONLY|syscall.O_DIRECTORY, 0)
	if !errors.Is(err, syscall.ENOENT) {
		return fd, false, err
	}
	above, _, err := t.folder(path.Dir(p))
	if err != nil {
		return -1, false, err
	}
	defer syscall.Close(above)
	if err := linux.MkdirAt(above, path.Base(p), 0o755); err != nil {
		return -1, false, err
	}
	if err := linux.ChownAt(above, path.Base(p), t.uid, t.gid); err != nil {
		return -1, false, err
	}
	fd, err = linux.OpenInRoot(root, p, syscall.O_RDONLY|syscall.O_DIRECTORY, 0)
	return fd, true, err
}

// owner reads --chown against the image's own user database.
func (t *target) owner(chown string) error {
	if chown == "" {
		return nil
	}
	user, group, both := strings.Cut(chown, ":")
	var err error
	if t.uid, err = t.id("etc/passwd", user); err != nil {
		return err
	}
	if !both {
		group = user
		if _, e := strconv.Atoi(user); e != nil {
			t.gid, err = t.id("etc/group", group)
			return err
		}
	}
	t.gid, err = t.id("etc/group", group)
	return err
}

func (t *target) id(file, name string) (int, error) {
	if n, err := strconv.ParseUint(name, 10, 31); err == nil {
		return int(n), nil
	}
	fd, err := linux.OpenInRoot(int(t.root.Fd()), file, syscall.O_RDONLY, 0)
	if err != nil {
		return 0, fmt.Errorf("--chown %s: the image has no /%s", name, file)
	}
	f := os.NewFile(uintptr(fd), file)
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, 4<<20))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if parts := strings.Split(strings.TrimSpace(line), ":"); len(parts) > 2 && parts[0] == name {
			return strconv.Atoi(parts[2])
		}
	}
	return 0, fmt.Errorf("--chown %s: not in the image's /%s", name, file)
}

// ignoreList is .dockerignore: the last pattern that matches decides.
type ignoreList struct {
	rules   []ignoreRule
	excepts bool // some pattern begins with !
}

type ignoreRule struct {
	re   *regexp.Regexp
	keep bool
}

// parseIgnore reads .dockerignore (docs.docker.com, "dockerignore files").
func parseIgnore(data []byte) (ignoreList, error) {
	var l ignoreList
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		r := ignoreRule{}
		if rest, ok := strings.CutPrefix(line, "!"); ok {
			r.keep, l.excepts, line = true, true, rest
		}
		line = strings.TrimPrefix(path.Clean("/"+strings.TrimSpace(line)), "/")
		if line == "" {
			continue
		}
		var b strings.Builder
		for i := 0; i < len(line); i++ {
			switch c := line[i]; c {
			case '*':
				if strings.HasPrefix(line[i:], "**/") {
					b.WriteString("(.*/)?")
					i += 2
				} else if strings.HasPrefix(line[i:], "**") {
					b.WriteString(".*")
					i++
				} else {
					b.WriteString("[^/]*")
				}
			case '?':
				b.WriteString("[^/]")
			case '[', ']', '-', '^':
				b.WriteByte(c)
			case '\\':
				if i++; i < len(line) {
					b.WriteString(regexp.QuoteMeta(line[i : i+1]))
				}
			default:
				b.WriteString(regexp.QuoteMeta(string(c)))
			}
		}
		re, err := regexp.Compile("^" + b.String() + "(/.*)?$")
		if err != nil {
			return l, fmt.Errorf(".dockerignore: pattern %s: %w", line, err)
		}
		r.re = re
		l.rules = append(l.rules, r)
	}
	return l, nil
}

func (l ignoreList) hides(name string) bool {
	hidden := false
	for _, r := range l.rules {
		if hidden == r.keep && r.re.MatchString(name) {
			hidden = !r.keep
		}
	}
	return hidden
}
