package durable

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"sampan/internal/fault"
)

func TestWriteFileReplacesTheWholeContentAndLeavesNoTemporary(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a")
	for _, content := range []string{"a long first content", "short"} {
		if err := WriteFile(path, []byte(content), 0o640); err != nil {
			t.Fatal(err)
		}
		got, _ := os.ReadFile(path)
		if string(got) != content {
			t.Errorf("got %q, want %q", got, content)
		}
	}
	if st, _ := os.Stat(path); st.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, want 0640", st.Mode())
	}
	if names, _ := os.ReadDir(dir); len(names) != 1 {
		t.Errorf("folder has %v, want only the file", names)
	}
}

func TestAbortLeavesTheOldContent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a")
	if err := WriteFile(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := Create(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	f.Write([]byte("new"))
	f.Abort()
	if got, _ := os.ReadFile(path); string(got) != "old" {
		t.Errorf("got %q, want old", got)
	}
}

func TestLocksExcludeAndEndWithTheContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	shared, err := Shared(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	second, err := Shared(t.Context(), path)
	if err != nil {
		t.Fatal("two shared holders:", err)
	}
	second.Unlock()
	if _, ok, err := TryExclusive(path); ok || err != nil {
		t.Fatalf("exclusive beside shared: %v %v", ok, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Exclusive(ctx, path); fault.ClassOf(err) != fault.Unavailable {
		t.Errorf("cancelled wait: %v, want unavailable", err)
	}
	shared.Unlock()
	l, err := Exclusive(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	l.Unlock()
}
