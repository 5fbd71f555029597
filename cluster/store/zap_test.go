package store

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"go.uber.org/zap"
)

func TestEtcdIsHeardWhenItHasSomethingToSay(t *testing.T) {
	for _, c := range []struct {
		it, says, level string
		by              func(*zap.Logger, string)
	}{
		{"an error", "database is gone", "ERROR", func(l *zap.Logger, m string) { l.Error(m) }},
		{"a warning", "slow disk", "WARN", func(l *zap.Logger, m string) { l.Warn(m) }},
		{"a new directory has no version", "Failed to detect schema version", "DEBUG", func(l *zap.Logger, m string) { l.Warn(m) }},
		{"a new directory gets one later", "failed to update storage version", "DEBUG", func(l *zap.Logger, m string) { l.Error(m) }},
		{"a log is still applied", publishing, "DEBUG", func(l *zap.Logger, m string) { l.Warn(m) }},
		{"what nobody needs", "raft goes on", "", func(l *zap.Logger, m string) { l.Info(m) }},
		{"that nothing listens is as meant", onePort + " is not recommended", "", func(l *zap.Logger, m string) { l.Warn(m) }},
	} {
		var out bytes.Buffer
		c.by(zapTo(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})), nil), c.says)
		if c.level == "" && out.Len() > 0 || !strings.Contains(out.String(), c.level) || c.level != "" && !strings.Contains(out.String(), c.says) {
			t.Errorf("%s: got %q, want it at %q", c.it, out.String(), c.level)
		}
	}
}
