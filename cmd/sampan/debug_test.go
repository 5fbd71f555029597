//go:build !split

package main

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

func TestLibrariesAreHeardAtDebugOnly(t *testing.T) {
	var out bytes.Buffer
	quiet := slog.New(debugOnly{slog.NewTextHandler(&out, nil)})
	quiet.Error("the client has gone")
	if out.Len() > 0 {
		t.Errorf("logged %q at info", out.String())
	}
	verbose := slog.New(debugOnly{slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})})
	verbose.With("id", 1).Error("the client has gone")
	if !strings.Contains(out.String(), "level=DEBUG") || !strings.Contains(out.String(), "id=1") {
		t.Errorf("logged %q, want it at debug with its values", out.String())
	}
}
