// Package enginetest is what the tests of the engine and of its faces share: a
// process in network and mount namespaces of its own, and an image to run.
package enginetest

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"sampan/internal/linux"
)

const inside = "SAMPAN_ENGINETEST"

// Image is the name of the image that Archive holds. Its entrypoint is
// /bin/program, it has a user "sailor" (1000:1000, also in group crew, 2000).
const Image = "program:test"

// Main runs a package's tests in namespaces of their own, so that no link,
// mount or packet of theirs reaches the machine's. A command of the test's own
// (see Helper) runs instead of the tests where one is asked for.
func Main(m *testing.M, commands map[string]func()) {
	if name := os.Getenv(helper); name != "" {
		commands[name]()
		os.Exit(0)
	}
	if os.Getenv(inside) != "" {
		if err := linux.LoopbackUp(); err != nil {
			fmt.Fprintln(os.Stderr, "enginetest:", err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	dir, err := os.MkdirTemp("", "enginetest")
	if err != nil {
		fmt.Fprintln(os.Stderr, "enginetest:", err)
		os.Exit(1)
	}
	code := 1
	if err := build(filepath.Join(dir, "program")); err != nil {
		fmt.Fprintln(os.Stderr, "enginetest:", err)
	} else {
		cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
		cmd.Env = append(os.Environ(), inside+"="+dir)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS}
		if err := cmd.Run(); cmd.ProcessState == nil {
			fmt.Fprintln(os.Stderr, "enginetest:", err)
		} else {
			code = cmd.ProcessState.ExitCode()
		}
	}
	os.RemoveAll(dir)
	os.Exit(code)
}

const helper = "SAMPAN_ENGINETEST_HELPER"

// Helper is the test binary as another process that runs one of Main's
// commands.
func Helper(command string, env ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(append(os.Environ(), helper+"="+command), env...)
	cmd.Stderr = os.Stderr
	return cmd
}

func build(out string) error {
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", out, "sampan/engine/enginetest/program")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%v: %w\n%s", cmd.Args, err, text)
	}
	return nil
}

// Archive is a docker-archive with Image in it.
func Archive(t testing.TB) *bytes.Reader {
	t.Helper()
	program, err := os.ReadFile(filepath.Join(os.Getenv(inside), "program"))
	if err != nil {
		t.Fatal(err)
	}
	layer := archive(t, []file{
		{"bin/program", program, 0o755}, {"etc/passwd", []byte("root:x:0:0:root:/root:/bin/sh\nsailor:x:1000:1000::/home/sailor:/bin/sh\n"), 0o644},
		{"etc/group", []byte("root:x:0:\nsailor:x:1000:\ncrew:x:2000:sailor\n"), 0o644},
	})
	config, err := json.Marshal(map[string]any{
		"architecture": "amd64", "os": "linux", "created": "2026-01-02T03:04:05Z",
		"config": map[string]any{"Entrypoint": []string{"/bin/program"}, "Cmd": []string{"echo", "hello"},
			"Env": []string{"PATH=/bin", "IMAGE=yes"}, "WorkingDir": "/work"},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{fmt.Sprintf("sha256:%x", sha256.Sum256(layer))}},
	})
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("%x.json", sha256.Sum256(config))
	manifest, err := json.Marshal([]map[string]any{{"Config": name, "RepoTags": []string{Image}, "Layers": []string{"layer.tar"}}})
	if err != nil {
		t.Fatal(err)
	}
	return bytes.NewReader(archive(t, []file{{name, config, 0o644}, {"layer.tar", layer, 0o644}, {"manifest.json", manifest, 0o644}}))
}

type file struct {
	name string
	data []byte
	mode int64
}

func archive(t testing.TB, files []file) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		if err := w.WriteHeader(&tar.Header{Name: f.name, Size: int64(len(f.data)), Mode: f.mode, Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(f.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
