package image

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sampan/engine/snapshot"
)

// TestMain makes this binary, started again, a process that loads an archive
// and says so at its first progress.
func TestMain(m *testing.M) {
	dir := os.Getenv("LOAD_INTO")
	if dir == "" {
		os.Exit(m.Run())
	}
	err := func() error {
		d, err := snapshot.NewOverlay(dir + "/snapshots")
		if err != nil {
			return err
		}
		s, err := Open(Config{Dir: dir + "/images", Snapshots: d})
		if err != nil {
			return err
		}
		f, err := os.Open(os.Getenv("LOAD_FROM"))
		if err != nil {
			return err
		}
		said := false
		_, err = s.Load(context.Background(), f, func(Progress) {
			if !said {
				said = true
				fmt.Println("begun")
				if os.Getenv("LOAD_HOLD") != "" {
					io.Copy(io.Discard, os.Stdin) // until killed
				}
			}
		})
		return err
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func loader(t *testing.T, dir, archive string, env ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), append(env, "LOAD_INTO="+dir, "LOAD_FROM="+archive)...)
	return cmd
}

func manyFiles(t testing.TB) string {
	var files []file
	for i := range 500 {
		files = append(files, file{fmt.Sprintf("d%d/f%d", i%20, i), strings.Repeat("x", i)})
	}
	path := filepath.Join(t.TempDir(), "a.tar")
	if err := os.WriteFile(path, archiveOf(t, "many:1", nil, tarOf(t, files...), tarOf(t, file{"top", "t"})), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestTwoProcessesLoadTheSameArchiveAtOnce(t *testing.T) {
	dir, archive := t.TempDir(), manyFiles(t)
	var cmds []*exec.Cmd
	var says []*bytes.Buffer
	for range 3 {
		c, out := loader(t, dir, archive), &bytes.Buffer{}
		c.Stderr = out
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		cmds, says = append(cmds, c), append(says, out)
	}
	for i, c := range cmds {
		if err := c.Wait(); err != nil {
			t.Errorf("%v: %s", err, says[i])
		}
	}
	s := open(t, dir)
	if all, err := s.List(t.Context()); err != nil || len(all) != 1 {
		t.Errorf("images %v, %v; want one", all, err)
	}
	if err := s.Save(t.Context(), io.Discard, []string{"many:1"}); err != nil {
		t.Error(err)
	}
	if left, _ := os.ReadDir(dir + "/snapshots/stage"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestALoadThatIsKilledLeavesNothingAndTheNextOneWorks(t *testing.T) {
	dir, archive := t.TempDir(), manyFiles(t)
	c := loader(t, dir, archive, "LOAD_HOLD=1")
	in, _ := c.StdinPipe()
	defer in.Close()
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("the loader said %q: %v", line, err)
	}
	c.Process.Kill()
	c.Wait()
	s := open(t, dir)
	if all, err := s.List(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("images after the kill: %v, %v", all, err)
	}
	if _, err := s.Collect(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	for _, sub := range []string{"snapshots/stage", "snapshots/layers", "images/leases"} {
		if left, _ := os.ReadDir(filepath.Join(dir, sub)); len(left) > 0 {
			t.Errorf("%s after collection: %v", sub, left)
		}
	}
	if err := loader(t, dir, archive).Run(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), "many:1"); err != nil {
		t.Error(err)
	}
}

func FuzzArchive(f *testing.F) {
	f.Add(sample(f))
	f.Add(gz(sample(f)))
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := openArchive(t.Context(), bytes.NewReader(data), t.TempDir())
		if err != nil {
			return
		}
		defer a.file.Close()
		contents(a) // must only not panic
	})
}
