package image

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"

	"sampan/engine/snapshot"
	"sampan/internal/fault"
)

func open(t testing.TB, dir string) *Store {
	t.Helper()
	d, err := snapshot.NewOverlay(dir + "/snapshots")
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(Config{Dir: dir + "/images", Snapshots: d})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

type file struct{ name, content string }

func tarOf(t testing.TB, files ...file) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{Name: f.name, Mode: 0o644, Size: int64(len(f.content)), Typeflag: tar.TypeReg}
		if strings.HasSuffix(f.name, "/") {
			h.Typeflag, h.Mode = tar.TypeDir, 0o755
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, f.content)
	}
	w.Close()
	return b.Bytes()
}

// archiveOf makes a docker-archive; claim may change the diff IDs.
func archiveOf(t testing.TB, tag string, claim func([]digest.Digest), layers ...[]byte) []byte {
	t.Helper()
	var cfg ConfigFile
	cfg.OS, cfg.Architecture = "linux", "amd64"
	cfg.RootFS.Type = "layers"
	cfg.Config.Cmd = []string{"/hello"}
	m := dockerManifest{RepoTags: []string{tag}}
	var files []file
	for i, l := range layers {
		plain := l
		if z, err := decompress(bytes.NewReader(l)); err == nil {
			if p, err := io.ReadAll(z); err == nil {
				plain = p
			}
		}
		cfg.RootFS.DiffIDs = append(cfg.RootFS.DiffIDs, digest.FromBytes(plain))
		n := string(rune('a'+i)) + "/layer.tar"
		m.Layers = append(m.Layers, n)
		files = append(files, file{n, string(l)})
	}
	if claim != nil {
		claim(cfg.RootFS.DiffIDs)
	}
	raw, _ := json.Marshal(cfg)
	m.Config = digest.FromBytes(raw).Encoded() + ".json"
	list, _ := json.Marshal([]dockerManifest{m})
	return tarOf(t, append(files, file{m.Config, string(raw)}, file{"manifest.json", string(list)})...)
}

func gz(b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	w.Write(b)
	w.Close()
	return out.Bytes()
}

func zst(b []byte) []byte {
	w, _ := zstd.NewWriter(nil)
	return w.EncodeAll(b, nil)
}

func sample(t testing.TB) []byte {
	return archiveOf(t, "hello:1", nil, tarOf(t, file{"etc/", ""}, file{"etc/motd", "hello"}), gz(tarOf(t, file{"bin/hello", "program"})))
}

func TestLoadTakesPlainAndPackedArchives(t *testing.T) {
	plain := sample(t)
	path := filepath.Join(t.TempDir(), "a.tar")
	os.WriteFile(path, plain, 0o600)
	f, _ := os.Open(path)
	defer f.Close()
	for _, c := range []struct {
		it string
		r  io.Reader
	}{
		{"a regular file", f}, {"a stream", bytes.NewReader(plain)}, {"gzip", bytes.NewReader(gz(plain))}, {"zstd", bytes.NewReader(zst(plain))},
	} {
		t.Run(c.it, func(t *testing.T) {
			dir := t.TempDir()
			ims, err := open(t, dir).Load(t.Context(), c.r, nil)
			if err != nil {
				t.Fatal(err)
			}
			if len(ims) != 1 || ims[0].Names[0] != "docker.io/library/hello:1" || len(ims[0].Chain) != 2 {
				t.Fatalf("got %+v", ims)
			}
			// Another process finds it by every kind of reference.
			other := open(t, dir)
			for _, ref := range []string{"hello:1", "docker.io/library/hello:1", ims[0].ID.String(), ims[0].ID.Encoded(), ims[0].ID.Encoded()[:6]} {
				if im, err := other.Get(t.Context(), ref); err != nil || im.ID != ims[0].ID {
					t.Errorf("Get(%s) = %v, %v", ref, im.ID, err)
				}
			}
			if _, err := other.Get(t.Context(), "hello:2"); fault.ClassOf(err) != fault.NotFound {
				t.Errorf("missing tag: %v, want not found", err)
			}
		})
	}
}

func TestSaveGivesAnArchiveThatLoadsAsTheSameImage(t *testing.T) {
	s := open(t, t.TempDir())
	ims, err := s.Load(t.Context(), bytes.NewReader(sample(t)), nil)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := s.Save(t.Context(), &out, []string{"hello:1"}); err != nil {
		t.Fatal(err)
	}
	back, err := open(t, t.TempDir()).Load(t.Context(), bytes.NewReader(out.Bytes()), nil)
	if err != nil || back[0].ID != ims[0].ID || back[0].Names[0] != ims[0].Names[0] {
		t.Fatalf("loaded back: %+v, %v", back, err)
	}
	// As an OCI layout alone.
	var oci bytes.Buffer
	w, r := tar.NewWriter(&oci), tar.NewReader(bytes.NewReader(out.Bytes()))
	for h, err := r.Next(); err == nil; h, err = r.Next() {
		if h.Name != "manifest.json" {
			w.WriteHeader(h)
			io.Copy(w, r)
		}
	}
	w.Close()
	back, err = open(t, t.TempDir()).Load(t.Context(), &oci, nil)
	if err != nil || back[0].ID != ims[0].ID || len(back[0].Names) != 1 {
		t.Fatalf("loaded as OCI layout: %+v, %v", back, err)
	}
	// Another implementation reads it, too.
	tag, _ := name.NewTag("hello:1")
	img, err := tarball.Image(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(out.Bytes())), nil }, &tag)
	if err != nil {
		t.Fatal(err)
	}
	if id, _ := img.ConfigName(); id.String() != ims[0].ID.String() {
		t.Errorf("other reader sees %s, want %s", id, ims[0].ID)
	}
}

func TestDamagedArchivesAreRefusedAndLeaveNothing(t *testing.T) {
	good := tarOf(t, file{"a", strings.Repeat("x", 3000)})
	cut := gz(good)
	wrong := func(d []digest.Digest) { d[len(d)-1] = digest.FromString("other") }
	whole := sample(t)
	for _, c := range []struct {
		it   string
		data []byte
		says string
	}{
		{"a wrong diff ID", archiveOf(t, "x:1", wrong, good, tarOf(t, file{"b", "b"})), digest.FromString("other").String()},
		{"a layer cut short", archiveOf(t, "x:1", nil, cut[:len(cut)/2]), "layer 1 of 1"},
		{"an archive cut short", whole[:2000], "archive"},
		{"an empty archive", nil, "empty"},
		{"not an archive", []byte("hello, this is text, and more than one block of it" + strings.Repeat(".", 600)), "archive"},
		{"a tar that is no image", tarOf(t, file{"a", "b"}), "manifest.json"},
		{"a layer that climbs out", archiveOf(t, "x:1", nil, tarOf(t, file{"../../evil", "x"})), "leads out"},
	} {
		t.Run(c.it, func(t *testing.T) {
			s := open(t, t.TempDir())
			_, err := s.Load(t.Context(), bytes.NewReader(c.data), nil)
			if fault.ClassOf(err) != fault.Invalid || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("got %v, want an invalid fault that says %q", err, c.says)
			}
			if all, _ := s.List(t.Context()); len(all) > 0 {
				t.Errorf("images left: %v", all)
			}
			if ls, _ := s.cfg.Snapshots.Layers(t.Context()); len(ls) > 0 {
				t.Errorf("layers left: %v", ls)
			}
			for _, sub := range []string{"leases", "blobs/sha256"} {
				if left, _ := os.ReadDir(filepath.Join(s.cfg.Dir, sub)); len(left) > 0 {
					t.Errorf("%s left: %v", sub, left)
				}
			}
		})
	}
}

func TestTagsMoveAndTheLastNameTakesTheImageAlong(t *testing.T) {
	s := open(t, t.TempDir())
	ctx := t.Context()
	ims, err := s.Load(ctx, bytes.NewReader(sample(t)), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Tag(ctx, "hello:1", "registry.example.com/hello"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Remove(ctx, ims[0].ID.String(), false); fault.ClassOf(err) != fault.Conflict {
		t.Errorf("by ID with two repositories: %v, want conflict", err)
	}
	out, err := s.Remove(ctx, "hello:1", false)
	if err != nil || len(out.Deleted) != 0 || len(out.Untagged) != 1 {
		t.Fatalf("untag: %+v, %v", out, err)
	}
	s.cfg.InUse = func(context.Context, digest.Digest) ([]string, error) { return []string{"container web"}, nil }
	if _, err := s.Remove(ctx, "registry.example.com/hello", false); fault.ClassOf(err) != fault.Conflict || !strings.Contains(err.Error(), "container web") {
		t.Errorf("in use: %v, want conflict that names the container", err)
	}
	s.cfg.InUse = nil
	out, err = s.Remove(ctx, "registry.example.com/hello", false)
	if err != nil || len(out.Deleted) != 3 {
		t.Fatalf("delete: %+v, %v", out, err)
	}
	if ls, _ := s.cfg.Snapshots.Layers(ctx); len(ls) > 0 {
		t.Errorf("layers left: %v", ls)
	}
}

func TestCollectKeepsWhatAnOperationUnderWayNeeds(t *testing.T) {
	s := open(t, t.TempDir())
	ctx := t.Context()
	ims, err := s.Load(ctx, bytes.NewReader(sample(t)), nil)
	if err != nil {
		t.Fatal(err)
	}
	l, err := s.lease(ctx, ims[0].Chain)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Remove(ctx, "hello:1", false); err != nil {
		t.Fatal(err)
	}
	if ls, _ := s.cfg.Snapshots.Layers(ctx); len(ls) != 2 {
		t.Errorf("%d layers, want the 2 leased", len(ls))
	}
	l.end()
	freed, err := s.Collect(ctx, nil)
	if ls, _ := s.cfg.Snapshots.Layers(ctx); err != nil || len(ls) != 0 || freed == 0 {
		t.Errorf("after the lease: %d layers, %d freed, %v", len(ls), freed, err)
	}
}

func TestPullFromALoopbackRegistry(t *testing.T) {
	srv := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer srv.Close()
	host := strings.TrimPrefix(srv.URL, "http://")
	tag, err := name.NewTag("hello:1")
	if err != nil {
		t.Fatal(err)
	}
	// That library takes all layers for packed, or none, by the first.
	data := archiveOf(t, "hello:1", nil, tarOf(t, file{"etc/", ""}, file{"etc/motd", "hello"}), tarOf(t, file{"bin/hello", "program"}))
	img, err := tarball.Image(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }, &tag)
	if err != nil {
		t.Fatal(err)
	}
	to, err := name.NewTag(host + "/team/hello:1")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(to, img); err != nil {
		t.Fatal(err)
	}
	s := open(t, t.TempDir())
	var phases []Phase
	im, err := s.Pull(t.Context(), to.String(), PullOptions{Progress: func(p Progress) { phases = append(phases, p.Phase) }})
	if err != nil {
		t.Fatal(err)
	}
	want, _ := img.Digest()
	if len(im.Digests) != 1 || !strings.HasSuffix(im.Digests[0], "@"+want.String()) || im.Manifest.String() != want.String() {
		t.Errorf("digests %v, manifest %v, want %v", im.Digests, im.Manifest, want)
	}
	if len(phases) < 4 || phases[0] != Resolving || phases[len(phases)-1] != Done {
		t.Errorf("progress %v", phases)
	}
	if got, err := s.Get(t.Context(), im.Digests[0]); err != nil || got.ID != im.ID {
		t.Errorf("by digest: %v", err)
	}
	if _, err := s.Pull(t.Context(), host+"/team/none", PullOptions{}); fault.ClassOf(err) != fault.NotFound {
		t.Errorf("missing image: %v, want not found", err)
	}
	if _, err := s.Pull(t.Context(), "UPPER//x", PullOptions{}); fault.ClassOf(err) != fault.Invalid {
		t.Errorf("bad name: %v, want invalid", err)
	}
}

func TestAMirrorIsAskedBeforeTheRegistry(t *testing.T) {
	var mu sync.Mutex // guards asked
	var asked []string
	since := func() (was []string) {
		mu.Lock()
		defer mu.Unlock()
		was, asked = asked, nil
		return was
	}
	registry := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		asked = append(asked, r.Header.Get("Authorization"))
		mu.Unlock()
		registry.ServeHTTP(w, r)
	}))
	defer srv.Close()
	data := archiveOf(t, "hello:1", nil, tarOf(t, file{"bin/hello", "program"}))
	img, err := tarball.Image(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }, nil)
	if err != nil {
		t.Fatal(err)
	}
	to, err := name.NewTag(strings.TrimPrefix(srv.URL, "http://") + "/cache/team/hello:1")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(to, img); err != nil {
		t.Fatal(err)
	}
	mirror, err := ParseMirror("registry.invalid=" + srv.URL + "/cache/")
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, t.TempDir())
	s.cfg.Mirrors = []Mirror{{Registry: "registry.invalid", Host: "127.0.0.1:1", Plain: true}, mirror}
	since()
	im, err := s.Pull(t.Context(), "registry.invalid/team/hello:1", PullOptions{Auth: Auth{Username: "me", Password: "secret"}})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(im.Names, []string{"registry.invalid/team/hello:1"}) || !strings.HasPrefix(im.Digests[0], "registry.invalid/team/hello@") {
		t.Errorf("names %v, digests %v: want those of the registry", im.Names, im.Digests)
	}
	if asked := since(); len(asked) == 0 || slices.ContainsFunc(asked, func(auth string) bool { return auth != "" }) {
		t.Errorf("the mirror was asked with credentials %q, want some times, with none", asked)
	}
	// No name: it would be looked up outside this machine.
	if _, err := s.Pull(t.Context(), "127.0.0.1:1/team/hello:1", PullOptions{}); err == nil {
		t.Error("an image of a registry that is not there was pulled")
	}
	if asked := since(); len(asked) != 0 {
		t.Errorf("the mirror was asked %d times for another registry's image", len(asked))
	}
}

func TestParseMirror(t *testing.T) {
	for text, want := range map[string]Mirror{
		"docker.io=https://mirror.example.com/hub":       {Registry: "docker.io", Host: "mirror.example.com", Path: "hub"},
		"registry.k8s.io=http://127.0.0.1:5000":          {Registry: "registry.k8s.io", Host: "127.0.0.1:5000", Plain: true},
		"registry.k8s.io=http://mirror.example.com":      {},
		"registry.k8s.io":                                {},
		"registry.k8s.io/team=https://mirror.example":    {},
		"registry.k8s.io=mirror.example":                 {},
		"registry.k8s.io=https://u:p@mirror.example.com": {},
	} {
		got, err := ParseMirror(text)
		if got != want || (err != nil) != (want == Mirror{}) || err != nil && fault.ClassOf(err) != fault.Invalid {
			t.Errorf("%s: got %+v, %v; want %+v", text, got, err, want)
		}
	}
}
