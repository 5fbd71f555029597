package build

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"sampan/engine/image"
	"sampan/engine/snapshot"
	"sampan/internal/fault"
)

// scribe stands for the runtime: `write PATH TEXT` writes a file, `fail` fails.
type scribe struct{ ran [][]string }

func (s *scribe) Run(ctx context.Context, r RunRequest) (int, error) {
	s.ran = append(s.ran, r.Args)
	args := r.Args
	if len(args) == 3 && args[0] == "/bin/sh" {
		args = strings.Fields(args[2])
	}
	if args[0] == "fail" {
		return 3, nil
	}
	io.WriteString(r.Output, "writing "+args[1]+"\n")
	return 0, os.WriteFile(filepath.Join(r.RootFS, args[1]), []byte(strings.Join(args[2:], " ")+"|"+strings.Join(r.Env, ",")+"|"+r.Dir+"|"+r.User), 0o644)
}

type bench struct {
	*Builder
	runner *scribe
	dir    string
}

func setUp(t *testing.T) *bench {
	t.Helper()
	// The thread ends with the test, and its mounts with it.
	runtime.LockOSThread()
	if err := syscall.Unshare(syscall.CLONE_NEWNS); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	snaps, err := snapshot.NewOverlay(dir + "/snapshots")
	if err != nil {
		t.Fatal(err)
	}
	images, err := image.Open(image.Config{Dir: dir + "/images", Snapshots: snaps})
	if err != nil {
		t.Fatal(err)
	}
	run := &scribe{}
	b, err := New(Config{Dir: dir + "/build", Images: images, Snapshots: snaps, Runner: run})
	if err != nil {
		t.Fatal(err)
	}
	return &bench{b, run, dir}
}

// build writes files (the first is the Dockerfile) and builds them.
func (b *bench) build(t *testing.T, dockerfile string, files map[string]string, args map[string]string) (image.Image, string, error) {
	t.Helper()
	src := t.TempDir()
	files["Dockerfile"] = dockerfile
	for name, content := range files {
		os.MkdirAll(filepath.Dir(filepath.Join(src, name)), 0o755)
		if err := os.WriteFile(filepath.Join(src, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	im, err := b.Build(t.Context(), Request{Context: src, Tags: []string{"app:1"}, Args: args, Created: time.Unix(1_700_000_000, 0), Output: &out})
	return im, out.String(), err
}

// read gives a file of an image, or an error text.
func (b *bench) read(t *testing.T, im image.Image, name string) string {
	t.Helper()
	id := "look" + strings.ReplaceAll(name, "/", "-")
	if err := b.cfg.Snapshots.Prepare(t.Context(), id, im.Chain); err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	if err := b.cfg.Snapshots.Mount(t.Context(), id, root, snapshot.MountOptions{Volatile: true}); err != nil {
		t.Fatal(err)
	}
	defer b.cfg.Snapshots.Remove(t.Context(), id)
	defer b.cfg.Snapshots.Unmount(t.Context(), root)
	data, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		return "missing"
	}
	return string(data)
}

const app = `ARG WHO=world
FROM scratch AS maker
COPY src/ /made/
FROM scratch
ARG WHO
ENV GREETING=hello\ $WHO
LABEL a=b
WORKDIR /app
COPY --chown=5:6 --chmod=0600 *.txt ./
COPY --from=maker /made/x ./y
RUN write /app/ran $GREETING
RUN ["write", "/app/exec", "e"]
USER 12
EXPOSE 80 53/udp
ENTRYPOINT ["/app/main"]
CMD serve now
`

func TestBuildDoesWhatTheFileSaysAndTheSecondTimeNothing(t *testing.T) {
	b := setUp(t)
	files := func() map[string]string {
		return map[string]string{"a.txt": "A", "b.txt": "B", "secret.txt": "S", ".dockerignore": "*.log\nsecret*", "src/x": "X"}
	}
	im, out, err := b.build(t, app, files(), map[string]string{"WHO": "you"})
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for name, want := range map[string]string{"app/a.txt": "A", "app/b.txt": "B", "app/secret.txt": "missing", "app/y": "X"} {
		if got := b.read(t, im, name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if got := b.read(t, im, "app/ran"); !strings.HasPrefix(got, "$GREETING|") || !strings.Contains(got, "GREETING=hello you") || !strings.Contains(got, "|/app|") {
		t.Errorf("RUN saw %q", got)
	}
	c := im.Config.Config
	if c.WorkingDir != "/app" || c.User != "12" || c.Labels["a"] != "b" || c.Entrypoint[0] != "/app/main" || strings.Join(c.Cmd, "|") != "/bin/sh|-c|serve now" {
		t.Errorf("config %+v", c)
	}
	if _, ok := c.ExposedPorts["53/udp"]; !ok || len(c.ExposedPorts) != 2 {
		t.Errorf("ports %v", c.ExposedPorts)
	}
	layers := 0
	for _, h := range im.Config.History {
		if !h.EmptyLayer {
			layers++
		}
	}
	if layers != len(im.DiffIDs) {
		t.Errorf("history has %d layers, the image %d", layers, len(im.DiffIDs))
	}
	ran := len(b.runner.ran)
	again, out, err := b.build(t, app, files(), map[string]string{"WHO": "you"})
	if err != nil || again.ID != im.ID || len(b.runner.ran) != ran || strings.Count(out, "CACHED") != 6 {
		t.Errorf("second build: %v, ID %v (first %v), ran %d more, output:\n%s", err, again.ID, im.ID, len(b.runner.ran)-ran, out)
	}
	changed := files()
	changed["a.txt"] = "other"
	if third, _, err := b.build(t, app, changed, map[string]string{"WHO": "you"}); err != nil || b.read(t, third, "app/a.txt") != "other" {
		t.Errorf("changed file: %v", err)
	}
}

func TestABuildThatCannotWorkSaysWhere(t *testing.T) {
	b := setUp(t)
	for _, c := range []struct{ it, file, says string }{
		{"an instruction that is not supported", "FROM scratch\nLABEL a=b\nVOLUME /x\n", ":3: instruction VOLUME is not supported"},
		{"a flag that is not supported", "FROM scratch\nRUN --mount=type=cache,target=/x true\n", ":2: RUN --mount is not supported"},
		{"a file that is not there", "FROM scratch\nCOPY none /\n", "none: not found"},
		{"a command that fails", "FROM scratch\nRUN [\"fail\"]\n", "exit code 3"},
		{"a base that is not here", "FROM none:1\n", "no such image"},
		{"no FROM", "RUN true\n", "Dockerfile:1"},
		{"a bad port", "FROM scratch\nEXPOSE 99999\n", "99999"},
	} {
		t.Run(c.it, func(t *testing.T) {
			_, _, err := b.build(t, c.file, map[string]string{}, nil)
			if err == nil || !strings.Contains(err.Error(), c.says) || fault.ClassOf(err) == fault.Unknown {
				t.Errorf("got %v (%v), want it to say %q", err, fault.ClassOf(err), c.says)
			}
			if left, _ := b.cfg.Snapshots.Snapshots(t.Context()); len(left) > 0 {
				t.Errorf("snapshots left: %v", left)
			}
		})
	}
}
