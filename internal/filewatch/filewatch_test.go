package filewatch

import (
	"context"
	"os"
	"path/filepath"
	"testing"
)

func TestAFileIsSeenToChange(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "config")
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("config", "1")
	ctx, cancel := context.WithCancel(t.Context())
	seen := make(chan string, 100)
	over := make(chan error, 1)
	go func() {
		over <- Follow(ctx, path, func() {
			data, err := os.ReadFile(path)
			if err != nil {
				seen <- "gone"
				return
			}
			seen <- string(data)
		})
	}()
	wait := func(want string) {
		t.Helper()
		for got := range seen { // the test's own time limit ends it
			if got == want {
				return
			}
		}
	}
	wait("1")
	write("config", "2")
	wait("2")
	write("config.new", "3")
	if err := os.Rename(filepath.Join(dir, "config.new"), path); err != nil {
		t.Fatal(err)
	}
	wait("3")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	wait("gone")
	// As a ConfigMap is mounted: the file is a link through a link that moves.
	for _, v := range []string{"a", "b"} {
		if err := os.Mkdir(filepath.Join(dir, "..v"+v), 0o700); err != nil {
			t.Fatal(err)
		}
		write("..v"+v+"/config", v)
	}
	for _, l := range [][2]string{{"..va", "..data"}, {"..data/config", "config"}} {
		if err := os.Symlink(l[0], filepath.Join(dir, l[1])); err != nil {
			t.Fatal(err)
		}
	}
	wait("a")
	if err := os.Symlink("..vb", filepath.Join(dir, "..tmp")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, "..tmp"), filepath.Join(dir, "..data")); err != nil {
		t.Fatal(err)
	}
	wait("b")
	cancel()
	if err := <-over; err != nil {
		t.Error(err)
	}
}

func TestADirectoryThatIsNotThereIsAnError(t *testing.T) {
	if err := Follow(t.Context(), filepath.Join(t.TempDir(), "no", "config"), func() {}); err == nil {
		t.Error("no error")
	}
}
