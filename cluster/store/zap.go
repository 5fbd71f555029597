package store

import (
	"context"
	"log/slog"
	"strings"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// zapTo returns a logger for etcd that writes warnings and errors to log, and
// at debug those of every start: of a new directory etcd warns that it has no
// schema version yet, then that it cannot change it, and then writes it; and a
// member that is asked to lead before all is applied says that it cannot yet.
// What ends etcd goes to ended, which may be nil.
func zapTo(log *slog.Logger, ended *ending) *zap.Logger {
	if ended == nil {
		return zap.New(slogCore{log: log})
	}
	return zap.New(slogCore{log: log}, zap.WithFatalHook(ended), zap.WithPanicHook(ended))
}

// publishing begins a warning of a member that has its log's end yet to apply,
// which it gives again and again until that is done.
const publishing = "failed to publish local member to cluster through raft"

// onePort begins a warning about how clients are served, which is also given
// when nothing listens.
const onePort = "Running http and grpc server on single port"

// ofStart are what etcd says at a start in which nothing is wrong.
func ofStart(message string) bool {
	return message == "Failed to detect schema version" || strings.HasPrefix(message, publishing) || message == "failed to update storage version" ||
		strings.Contains(message, " cannot campaign at term ")
}

// slogCore is a zapcore.Core on slog.
type slogCore struct{ log *slog.Logger }

func (c slogCore) Enabled(l zapcore.Level) bool {
	return l >= zapcore.WarnLevel && c.log.Enabled(context.Background(), level(l))
}

func (c slogCore) With(fields []zapcore.Field) zapcore.Core {
	return slogCore{log: c.log.With(args(fields)...)}
}

func (c slogCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) && !strings.HasPrefix(e.Message, onePort) {
		return ce.AddCore(e, c)
	}
	return ce
}

func (c slogCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	at := level(e.Level)
	if ofStart(e.Message) {
		at = slog.LevelDebug
	}
	c.log.Log(context.Background(), at, "etcd: "+e.Message, args(fields)...)
	return nil
}

func (c slogCore) Sync() error { return nil }

func level(l zapcore.Level) slog.Level {
	switch {
	case l >= zapcore.ErrorLevel:
		return slog.LevelError
	case l >= zapcore.WarnLevel:
		return slog.LevelWarn
	}
	return slog.LevelDebug
}

func args(fields []zapcore.Field) []any {
	enc := zapcore.NewMapObjectEncoder()
	for _, f := range fields {
		f.AddTo(enc)
	}
	all := make([]any, 0, 2*len(enc.Fields))
	for k, v := range enc.Fields {
		all = append(all, k, v)
	}
	return all
}
