package store_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"sampan/cluster/store"
)

// tear is what a power cut, a disk or a person does to a store's files.
type tear struct {
	it     string
	how    func(t *testing.T, dir string)
	starts bool // else it may also say what to run
}

func TestATornStoreStartsWithAllOrSaysWhatToDo(t *testing.T) {
	t.Parallel()

	whole := filepath.Join(t.TempDir(), "store")
	model := killed(t, whole)
	for _, c := range []tear{
		{it: "nothing was torn", starts: true, how: func(*testing.T, string) {}},
		{it: "the log's end was being written", how: func(t *testing.T, dir string) {
			change(t, logFile(t, dir), func(f []byte) []byte { // a record begun: its length, and part of it
				end := lastByte(f) + 1
				end += (8 - end%8) % 8
				return slices.Concat(f[:end], []byte{0x50, 0, 0, 0, 0, 0, 0, 0, 8, 2, 0x10}, make([]byte, len(f)-end-11))
			})
		}},
		{it: "the log's last page was garbled", how: func(t *testing.T, dir string) {
			change(t, logFile(t, dir), func(f []byte) []byte {
				for i := lastByte(f) - 40; i <= lastByte(f)-8; i++ {
					f[i] ^= 0x5a
				}
				return f
			})
		}},
		{it: "the log is gone", how: func(t *testing.T, dir string) { remove(t, filepath.Join(dir, "member", "wal")) }},
		{it: "the database is gone", how: func(t *testing.T, dir string) { remove(t, filepath.Join(dir, "member", "snap", "db")) }},
		{it: "the database is cut off", how: func(t *testing.T, dir string) {
			change(t, database(dir), func(f []byte) []byte { return f[:8192] })
		}},
		{it: "the database's pages were garbled", how: func(t *testing.T, dir string) {
			change(t, database(dir), func(f []byte) []byte {
				for i := 8192; i < len(f); i++ {
					f[i] ^= 0x5a
				}
				return f
			})
		}},
		{it: "the database's first pages were garbled", how: func(t *testing.T, dir string) {
			change(t, database(dir), func(f []byte) []byte {
				for i := range 8192 {
					f[i] ^= 0x5a
				}
				return f
			})
		}},
		{it: "the snapshots of the log are gone", how: func(t *testing.T, dir string) {
			files, _ := filepath.Glob(filepath.Join(dir, "member", "snap", "*.snap"))
			for _, f := range files {
				remove(t, f)
			}
		}},
	} {
		t.Run(c.it, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "store")
			if out, err := exec.Command("cp", "-a", "--sparse=always", whole, dir).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			c.how(t, dir)
			s, err := store.Open(ctx, store.Config{Dir: dir, Kinds: table(), Codec: jsonCodec{}})
			if err == nil {
				t.Cleanup(func() { _ = s.Close() })
			}
			switch {
			case err == nil:
				same(t, s, model)
			case !strings.Contains(err.Error(), "sampan snapshot restore --force"):
				t.Errorf("it says %q, want what to run", err)
			}
			if c.starts && err != nil {
				t.Errorf("it does not start: %v", err)
			}
		})
	}
}

// killed makes a store whose process was killed, and returns what is in it.
func killed(t *testing.T, dir string) map[string]string {
	t.Helper()
	s := open(t, dir)
	model := map[string]string{}
	for i := range 40 {
		name := fmt.Sprint("n", os.Getpid(), "-", i) // the one before has left some
		create(t, s, name, "1")
		model[name] = "1"
	}
	live := dir + ".live"
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir, live); err != nil {
		t.Fatal(err)
	}
	s = open(t, live)
	for i := range 20 { // these are in the log, and not yet all in the database
		name := fmt.Sprint("m", i)
		create(t, s, name, "2")
		model[name] = "2"
	}
	if err := s.Compact(ctx, s.Revision()-5); err != nil { // so that the log has one to be done again
		t.Fatal(err)
	}
	// A copy of the files at this moment is what a kill leaves.
	if out, err := exec.Command("cp", "-a", "--sparse=always", live, dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return model
}

func database(dir string) string { return filepath.Join(dir, "member", "snap", "db") }

func logFile(t *testing.T, dir string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "member", "wal", "*.wal"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no log in %s: %v", dir, err)
	}
	slices.Sort(files)
	return files[len(files)-1]
}

func lastByte(f []byte) int {
	for i := len(f) - 1; i > 0; i-- {
		if f[i] != 0 {
			return i
		}
	}
	return 0
}

func change(t *testing.T, path string, how func([]byte) []byte) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, how(data), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

// mounted is a file system of some size that is gone after the test.
func mounted(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("test", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("no root: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fullDir in the environment makes the test binary a program that writes to
// the store in that directory until that ends.
const fullDir = "STORE_TEST_FULL"

func writeUntilFull(dir string) {
	s, err := store.Open(ctx, store.Config{Dir: dir, Kinds: table(), Codec: jsonCodec{}})
	writes, stop := context.WithCancel(ctx)
	defer stop()
	if err == nil {
		go func() { // as the program does: whoever still waits need not
			<-s.Done()
			stop()
		}()
	}
	for i := 0; err == nil; i++ {
		name := fmt.Sprint("n", os.Getpid(), "-", i) // the one before has left some
		if _, err = s.Create(writes, cm(name), configMap(name, strings.Repeat("x", 500_000))); err == nil {
			fmt.Println("wrote", name)
			continue
		}
		<-s.Done()
		err = s.Err()
	}
	fmt.Println("ended", err)
}

// full runs that program, and returns what it wrote, and how it ended.
func full(t *testing.T, dir string) (wrote []string, ended string) {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), fullDir+"="+dir)
	out, err := child.Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "wrote "); ok {
			wrote = append(wrote, name)
		} else if text, ok := strings.CutPrefix(line, "ended "); ok {
			ended = text
		}
	}
	return wrote, ended
}

func TestAFullDiskEndsTheStoreWithItsReasonAndLosesNothing(t *testing.T) {
	t.Parallel()

	disk := mounted(t, "160m") // the log takes 64 MB for itself, twice
	dir := filepath.Join(disk, "store")
	wrote, ended := full(t, dir)
	if len(wrote) == 0 || !strings.Contains(ended, "free space") {
		t.Errorf("after %d writes it ended with %q, want what to do about a full disk", len(wrote), ended)
	}
	filler := filepath.Join(disk, "filler")
	_ = exec.Command("sh", "-c", "cat /dev/zero > "+filler).Run() // it ends when nothing is left
	if more, ended := full(t, dir); !strings.Contains(ended, "free space") {
		t.Errorf("on a full disk it wrote %d more and ended with %q", len(more), ended)
	}
	remove(t, filler)
	if err := syscall.Mount("", disk, "", syscall.MS_REMOUNT, "size=400m"); err != nil {
		t.Fatal(err)
	}
	again := open(t, dir)
	for _, name := range wrote {
		if _, ok := again.Get(cm(name)); !ok {
			t.Errorf("%s was acknowledged and is gone", name)
		}
	}
}

func TestAStoreThatCannotBeWrittenSaysSo(t *testing.T) {
	t.Parallel()

	disk := mounted(t, "200m")
	dir := filepath.Join(disk, "store")
	s := open(t, dir)
	create(t, s, "a", "1")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("", disk, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(ctx, store.Config{Dir: dir, Kinds: table(), Codec: jsonCodec{}}); err == nil || !strings.Contains(err.Error(), "writable") {
		t.Errorf("it says %v", err)
	}
	if err := syscall.Mount("", disk, "", syscall.MS_REMOUNT, "size=200m"); err != nil {
		t.Fatal(err)
	}
	same(t, open(t, dir), map[string]string{"a": "1"})
}
