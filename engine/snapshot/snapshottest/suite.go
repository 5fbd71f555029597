// Package snapshottest is what every snapshot driver must do. It needs root
// and a mount namespace of its own, which it makes.
package snapshottest

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"

	"sampan/engine/snapshot"
	"sampan/internal/fault"
)

// Entry is one entry of a layer tar. A zero Type is a regular file, or a
// folder if Name ends in a slash.
type Entry struct {
	Name, Content, Link string
	Type                byte
	Mode                int64
	UID                 int
	Xattr               map[string]string
}

// Tar makes a layer tar.
func Tar(t testing.TB, entries ...Entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Name: e.Name, Linkname: e.Link, Typeflag: e.Type, Mode: e.Mode, Uid: e.UID, Size: int64(len(e.Content)), Format: tar.FormatPAX}
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
			if strings.HasSuffix(e.Name, "/") {
				h.Typeflag = tar.TypeDir
			}
		}
		if h.Mode == 0 {
			h.Mode = 0o644
			if h.Typeflag == tar.TypeDir {
				h.Mode = 0o755
			}
		}
		for k, v := range e.Xattr {
			if h.PAXRecords == nil {
				h.PAXRecords = map[string]string{}
			}
			h.PAXRecords["SCHILY.xattr."+k] = v
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, e.Content)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Chain unpacks layers and gives their chain IDs.
func Chain(t testing.TB, d snapshot.Driver, tars ...[]byte) []digest.Digest {
	t.Helper()
	var chain []digest.Digest
	parent := digest.Digest("")
	for _, b := range tars {
		st, err := d.Stage(t.Context(), bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		l, err := st.Commit(t.Context(), parent)
		if err != nil {
			t.Fatal(err)
		}
		parent = l.Chain
		chain = append(chain, parent)
	}
	return chain
}

// Run checks a driver made by open in an empty folder.
func Run(t *testing.T, open func(dir string) (snapshot.Driver, error)) {
	for _, c := range []struct {
		it   string
		test func(*testing.T, snapshot.Driver)
	}{
		{"stacks layers with whiteouts and opaque folders", stacks},
		{"keeps owners, modes, attributes, links and devices", attributes},
		{"gives an implied folder the attributes it has below", implied},
		{"follows a link below where a folder is implied", linkBelow},
		{"gives the tar back bit for bit", tarBack},
		{"makes of changes a layer that gives the same tree", commits},
		{"refuses an id twice, and forgets what is removed", ids},
		{"keeps layers that something stands on", inUse},
		{"never lets an entry out of its folder", hostile},
	} {
		t.Run(c.it, func(t *testing.T) {
			// The thread is not unlocked: it ends with its namespace.
			runtime.LockOSThread()
			if err := syscall.Unshare(syscall.CLONE_NEWNS); err != nil {
				t.Fatal(err)
			}
			if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
				t.Fatal(err)
			}
			d, err := open(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			c.test(t, d)
		})
	}
}

// mounted prepares and mounts id until the test ends.
func mounted(t *testing.T, d snapshot.Driver, id string, chain []digest.Digest) string {
	t.Helper()
	if err := d.Prepare(t.Context(), id, chain); err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	if err := d.Mount(t.Context(), id, root, snapshot.MountOptions{Volatile: true}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Unmount(context.Background(), root); err != nil {
			t.Error(err)
		}
	})
	return root
}

// look lists a tree: path, and content of files or target of links.
func look(t *testing.T, root string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(root, func(p string, e os.DirEntry, err error) error {
		if err != nil || p == root {
			return err
		}
		rel := p[len(root)+1:]
		switch {
		case e.IsDir():
			b.WriteString(rel + "/ ")
		case e.Type()&os.ModeSymlink != 0:
			to, _ := os.Readlink(p)
			b.WriteString(rel + "->" + to + " ")
		case e.Type().IsRegular():
			data, _ := os.ReadFile(p)
			b.WriteString(rel + "=" + string(data) + " ")
		default:
			b.WriteString(rel + "! ")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(b.String())
}

func want(t *testing.T, root, tree string) {
	t.Helper()
	if got := look(t, root); got != tree {
		t.Errorf("tree:\n got %s\nwant %s", got, tree)
	}
}

func stacks(t *testing.T, d snapshot.Driver) {
	chain := Chain(t, d,
		Tar(t, Entry{Name: "a/"}, Entry{Name: "a/one", Content: "1"}, Entry{Name: "a/two", Content: "2"}, Entry{Name: "b/"}, Entry{Name: "b/old", Content: "o"}, Entry{Name: "c", Content: "c"}, Entry{Name: "d/"}, Entry{Name: "d/x", Content: "x"}),
		Tar(t, Entry{Name: "a/"}, Entry{Name: "a/.wh.one"}, Entry{Name: "b/"}, Entry{Name: "b/.wh..wh..opq"}, Entry{Name: "b/new", Content: "n"}, Entry{Name: ".wh.c"}, Entry{Name: ".wh.d"}, Entry{Name: "d/"}, Entry{Name: "d/y", Content: "y"}))
	root := mounted(t, d, "s", chain)
	want(t, root, "a/ a/two=2 b/ b/new=n d/ d/y=y")
}

func attributes(t *testing.T, d snapshot.Driver) {
	chain := Chain(t, d, Tar(t, Entry{Name: "./", Mode: 0o711}, Entry{Name: "su", Content: "x", Mode: 0o4755, UID: 7, Xattr: map[string]string{"user.k": "v"}},
		Entry{Name: "hard", Type: tar.TypeLink, Link: "su"}, Entry{Name: "soft", Type: tar.TypeSymlink, Link: "/su"}, Entry{Name: "pipe", Type: tar.TypeFifo}))
	root := mounted(t, d, "s", chain)
	st, err := os.Lstat(filepath.Join(root, "su"))
	if err != nil {
		t.Fatal(err)
	}
	sys := st.Sys().(*syscall.Stat_t)
	if sys.Mode&0o7777 != 0o4755 || sys.Uid != 7 || st.ModTime().Unix() != -62135596800 && st.ModTime().Unix() != 0 {
		t.Errorf("su: mode %o uid %d time %v", sys.Mode, sys.Uid, st.ModTime())
	}
	buf := make([]byte, 8)
	if n, err := syscall.Getxattr(filepath.Join(root, "su"), "user.k", buf); err != nil || string(buf[:n]) != "v" {
		t.Errorf("attribute: %q %v", buf[:max(n, 0)], err)
	}
	if h, _ := os.Lstat(filepath.Join(root, "hard")); h == nil || !os.SameFile(st, h) {
		t.Error("hard is not the same file as su")
	}
	if r, _ := os.Lstat(root); r.Mode().Perm() != 0o711 {
		t.Errorf("root has mode %v, want 0711", r.Mode())
	}
	want(t, root, "hard=x pipe! soft->/su su=x")
}

func implied(t *testing.T, d snapshot.Driver) {
	chain := Chain(t, d, Tar(t, Entry{Name: "./", Mode: 0o710}, Entry{Name: "tmp/", Mode: 0o1777, UID: 5}), Tar(t, Entry{Name: "tmp/f", Content: "f"}))
	root := mounted(t, d, "s", chain)
	st, _ := os.Lstat(filepath.Join(root, "tmp"))
	if sys := st.Sys().(*syscall.Stat_t); sys.Mode&0o7777 != 0o1777 || sys.Uid != 5 {
		t.Errorf("tmp has mode %o, owner %d, want 1777 and 5", sys.Mode&0o7777, sys.Uid)
	}
	if r, _ := os.Lstat(root); r.Mode().Perm() != 0o710 {
		t.Errorf("root has mode %v, want 0710", r.Mode())
	}
}

func linkBelow(t *testing.T, d snapshot.Driver) {
	over := Tar(t, Entry{Name: "lib/new", Content: "n"}, Entry{Name: "bin/tool", Type: tar.TypeLink, Link: "usr/lib/old"})
	chain := Chain(t, d, Tar(t, Entry{Name: "usr/"}, Entry{Name: "usr/lib/"}, Entry{Name: "usr/lib/old", Content: "o"}, Entry{Name: "lib", Type: tar.TypeSymlink, Link: "usr/lib"}), over)
	want(t, mounted(t, d, "s", chain), "bin/ bin/tool=o lib->usr/lib usr/ usr/lib/ usr/lib/new=n usr/lib/old=o")
	r, err := d.Tar(t.Context(), chain[1])
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, over) {
		t.Errorf("tar after files moved: %v", err)
	}
}

func tarBack(t *testing.T, d snapshot.Driver) {
	for _, in := range [][]byte{
		Tar(t, Entry{Name: "a/"}, Entry{Name: "a/f", Content: strings.Repeat("x", 70000)}, Entry{Name: "e"}),
		append(Tar(t, Entry{Name: "f", Content: "first"}, Entry{Name: "f", Content: "second"}, Entry{Name: "f/", Mode: 0o700}), make([]byte, 10240)...),
	} {
		chain := Chain(t, d, in)
		if chain[0] != digest.FromBytes(in) {
			t.Errorf("diff ID %s, want %s", chain[0], digest.FromBytes(in))
		}
		r, err := d.Tar(t.Context(), chain[0])
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, in) {
			t.Errorf("got %d bytes, want %d: %v", len(got), len(in), err)
		}
		r.Close()
	}
}

func commits(t *testing.T, d snapshot.Driver) {
	chain := Chain(t, d, Tar(t, Entry{Name: "a/"}, Entry{Name: "a/one", Content: "1"}, Entry{Name: "b/"}, Entry{Name: "b/x", Content: "x"}, Entry{Name: "keep", Content: "k"}))
	root := mounted(t, d, "s", chain)
	for _, err := range []error{
		os.Remove(root + "/a/one"), os.WriteFile(root+"/a/two", []byte("2"), 0o600), os.Link(root+"/a/two", root+"/again"),
		os.RemoveAll(root + "/b"), os.Mkdir(root+"/b", 0o700), os.WriteFile(root+"/b/y", []byte("y"), 0o600), os.Symlink("keep", root+"/l"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	tree := look(t, root)
	changes, err := d.Changes(t.Context(), "s")
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, c := range changes {
		list = append(list, c.String())
	}
	for _, w := range []string{"D /a/one", "A /a/two", "A /l", "C /a"} {
		if !strings.Contains("\n"+strings.Join(list, "\n")+"\n", "\n"+w+"\n") {
			t.Errorf("changes %q miss %q", list, w)
		}
	}
	l, err := d.Commit(t.Context(), "s", snapshot.DiffOptions{})
	if err != nil {
		t.Fatal(err)
	}
	want(t, mounted(t, d, "s2", append(chain, l.Chain)), tree)
	if u, err := d.Usage(t.Context(), "s"); err != nil || u.Inodes < 3 {
		t.Errorf("usage %+v %v", u, err)
	}
}

func ids(t *testing.T, d snapshot.Driver) {
	ctx := t.Context()
	chain := Chain(t, d, Tar(t, Entry{Name: "f", Content: "f"}))
	if err := d.Prepare(ctx, "s", chain); err != nil {
		t.Fatal(err)
	}
	if err := d.Prepare(ctx, "s", chain); fault.ClassOf(err) != fault.Exists {
		t.Errorf("twice: %v, want already exists", err)
	}
	if err := d.Prepare(ctx, "../s", nil); fault.ClassOf(err) != fault.Invalid {
		t.Errorf("bad id: %v, want invalid", err)
	}
	if err := d.Prepare(ctx, "n", []digest.Digest{digest.FromString("none")}); fault.ClassOf(err) != fault.NotFound {
		t.Errorf("missing layer: %v, want not found", err)
	}
	for range 2 {
		if err := d.Remove(ctx, "s"); err != nil {
			t.Error(err)
		}
	}
	if err := d.Unmount(ctx, t.TempDir()); err != nil {
		t.Errorf("unmount of nothing: %v", err)
	}
}

func inUse(t *testing.T, d snapshot.Driver) {
	ctx := t.Context()
	chain := Chain(t, d, Tar(t, Entry{Name: "f", Content: "f"}), Tar(t, Entry{Name: "g", Content: "g"}))
	if err := d.Prepare(ctx, "s", chain); err != nil {
		t.Fatal(err)
	}
	for _, c := range chain {
		if err := d.RemoveLayer(ctx, c); fault.ClassOf(err) != fault.Conflict {
			t.Errorf("remove used layer: %v, want conflict", err)
		}
	}
	if err := d.Remove(ctx, "s"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []digest.Digest{chain[1], chain[0]} {
		if err := d.RemoveLayer(ctx, c); err != nil || d.Has(c) {
			t.Errorf("remove free layer: %v", err)
		}
	}
}

func hostile(t *testing.T, d snapshot.Driver) {
	outside := t.TempDir()
	for _, in := range [][]byte{
		Tar(t, Entry{Name: "../../evil", Content: "x"}),
		Tar(t, Entry{Name: "l", Type: tar.TypeSymlink, Link: outside}, Entry{Name: "l/evil", Content: "x"}),
		Tar(t, Entry{Name: "l", Type: tar.TypeSymlink, Link: strings.Repeat("../", 20) + outside}, Entry{Name: "l/evil", Content: "x"}),
		Tar(t, Entry{Name: "f", Type: tar.TypeSymlink, Link: outside + "/evil"}, Entry{Name: "f", Content: "x"}),
		Tar(t, Entry{Name: "h", Type: tar.TypeLink, Link: "../../../../etc/passwd"}),
		Tar(t, Entry{Name: "h", Type: tar.TypeLink, Link: "/etc/passwd"}),
	} {
		st, err := d.Stage(t.Context(), bytes.NewReader(in))
		if err == nil {
			_, err = st.Commit(t.Context(), "")
		}
		if err != nil && fault.ClassOf(err) != fault.Invalid {
			t.Errorf("refused with %v, want invalid", err)
		}
		if left, _ := os.ReadDir(outside); len(left) > 0 {
			t.Fatalf("an entry got out: %v", left)
		}
	}
}
