package engine_test

import (
	"strings"
	"testing"

	"sampan/engine"
	"sampan/engine/enginetest"
	"sampan/internal/fault"
)

func TestAnImageIsMountedAsAVolume(t *testing.T) {
	e, _ := open(t)
	img, err := e.Images.Get(t.Context(), enginetest.Image)
	if err != nil {
		t.Fatal(err)
	}
	whole := []engine.Mount{{Type: "image", Source: img.ID.String(), Target: "/ship"}}
	file := []engine.Mount{{Type: "image", Source: img.ID.String(), SubPath: "etc/passwd", Target: "/crew"}}
	for _, c := range []struct {
		it      string
		mounts  []engine.Mount
		command []string
		out     string // a part of what it prints; empty: it fails
		errOut  string
	}{
		{it: "shows its files", mounts: whole, command: []string{"cat", "/ship/etc/passwd"}, out: "sailor"},
		{it: "shows one file of it", mounts: file, command: []string{"cat", "/crew"}, out: "sailor"},
		{it: "shows it twice", mounts: append(file, whole...), command: []string{"cat", "/ship/etc/passwd"}, out: "sailor"},
		{it: "takes no writes", mounts: whole, command: []string{"write", "/ship/etc/passwd", "x"}, errOut: "read-only"},
	} {
		out, errOut, code := run(t, e, engine.SandboxConfig{}, engine.ContainerConfig{Command: c.command, Mounts: c.mounts})
		if (c.out == "") == (code == 0) || !strings.Contains(out, c.out) || !strings.Contains(errOut, c.errOut) {
			t.Errorf("it %s: code %d, %q, %q", c.it, code, out, errOut)
		}
	}
	made, err := e.CreateStandalone(t.Context(), engine.SandboxConfig{}, engine.ContainerConfig{Image: enginetest.Image,
		Mounts: []engine.Mount{{Type: "image", Source: img.ID.String(), SubPath: "no/such", Target: "/x"}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Start(t.Context(), made.ID); fault.ClassOf(err) != fault.Invalid || !strings.Contains(err.Error(), "no/such") {
		t.Errorf("a path that is not in the image: %v", err)
	}
	if err := e.Remove(t.Context(), made.ID, true); err != nil {
		t.Fatal(err)
	}
	left, err := e.Snapshots.Snapshots(t.Context())
	if err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}
