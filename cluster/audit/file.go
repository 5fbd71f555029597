package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"gopkg.in/natefinch/lumberjack.v2"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"sampan/internal/fault"
)

// The formats of the log.
const (
	JSON   = "json"
	Legacy = "legacy"
)

// backend writes or sends events. Its error means that some are lost. After
// ctx nothing is tried again.
type backend interface {
	write(ctx context.Context, events []*auditv1.Event) error
}

// file is the audit log.
type file struct {
	legacy bool

	mu  sync.Mutex // guards all below
	out io.Writer
}

// newFile opens the log, so that one that cannot be written to is found at the
// start.
func newFile(c FileConfig) (*file, error) {
	f := &file{legacy: c.Format == Legacy, out: os.Stdout}
	if c.Path == "-" {
		return f, nil
	}
	err := os.MkdirAll(filepath.Dir(c.Path), 0o700)
	var out *os.File
	if err == nil {
		out, err = os.OpenFile(c.Path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	}
	if err != nil {
		return nil, &fault.Error{Class: fault.Invalid, Op: "open audit log", On: c.Path, Err: err, Fix: "choose another with --audit-log-path"}
	}
	if c.MaxSize == 0 {
		f.out = out
		return f, nil
	}
	if err := out.Close(); err != nil {
		return nil, &fault.Error{Op: "open audit log", On: c.Path, Err: err}
	}
	f.out = &lumberjack.Logger{Filename: c.Path, MaxSize: c.MaxSize, MaxAge: c.MaxAge, MaxBackups: c.MaxBackups, Compress: c.Compress}
	return f, nil
}

func (f *file) write(_ context.Context, events []*auditv1.Event) error {
	var errs []error
	for _, e := range events {
		line, err := f.line(e)
		if err == nil {
			f.mu.Lock()
			_, err = f.out.Write(line) // one call: a rotated line is whole
			f.mu.Unlock()
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (f *file) line(e *auditv1.Event) ([]byte, error) {
	if f.legacy {
		return []byte(legacy(e) + "\n"), nil
	}
	line, err := json.Marshal(e)
	return append(line, '\n'), err
}

// legacy is an event as one line of text, upstream's.
func legacy(e *auditv1.Event) string {
	user, groups := "<none>", "<none>"
	if e.User.Username != "" {
		user = e.User.Username
		if len(e.User.Groups) > 0 {
			groups = quoted(e.User.Groups)
		}
	}
	as, asGroups := "<self>", "<lookup>"
	if i := e.ImpersonatedUser; i != nil {
		as = i.Username
		if i.Groups != nil {
			asGroups = quoted(i.Groups)
		}
	}
	namespace, response, ip := "<none>", "<deferred>", "<unknown>"
	if e.ObjectRef != nil && e.ObjectRef.Namespace != "" {
		namespace = e.ObjectRef.Namespace
	}
	if e.ResponseStatus != nil {
		response = strconv.Itoa(int(e.ResponseStatus.Code))
	}
	if len(e.SourceIPs) > 0 {
		ip = e.SourceIPs[0]
	}
	return fmt.Sprintf("%s AUDIT: id=%q stage=%q ip=%q method=%q user=%q groups=%q as=%q asgroups=%q user-agent=%q namespace=%q uri=%q response=\"%s\"",
		e.RequestReceivedTimestamp.Format(time.RFC3339Nano), e.AuditID, e.Stage, ip, e.Verb, user, groups, as, asGroups, e.UserAgent, namespace, e.RequestURI, response)
}

func quoted(all []string) string {
	out := make([]string, len(all))
	for i, s := range all {
		out[i] = strconv.Quote(s)
	}
	return strings.Join(out, ",")
}

// direct takes events while the request waits.
type direct struct {
	name string
	to   backend
	log  *slog.Logger
	hard bool

	counts *counts // nil: nothing is counted
}

func (d direct) take(events []*auditv1.Event) error {
	err := d.to.write(context.Background(), events) // who has left is recorded too
	if err != nil {
		d.counts.lose(d.name, len(events))
		d.log.Error("audit events are lost", "to", d.name, "events", len(events), "err", err)
	}
	return err
}

func (d direct) strict() bool { return d.hard }

// truncating bounds what is handed on.
type truncating struct {
	to backend
	Delivery
}

// truncatedKey marks an event that is not whole.
const truncatedKey = "audit.k8s.io/truncated"

func (t truncating) write(ctx context.Context, events []*auditv1.Event) error {
	var errs []error
	var group []*auditv1.Event
	var bytes int64
	flush := func() {
		if len(group) > 0 {
			errs = append(errs, t.to.write(ctx, group))
		}
		group, bytes = nil, 0
	}
	for _, e := range events {
		size, err := sizeOf(e)
		if err == nil && size > t.MaxEvent && (e.RequestObject != nil || e.ResponseObject != nil) {
			e = cut(e)
			size, err = sizeOf(e)
		}
		if err == nil && size > t.MaxEvent {
			err = fmt.Errorf("event %s is too large even after truncating", e.AuditID)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if bytes+size > t.MaxBatch {
			flush()
		}
		group, bytes = append(group, e), bytes+size
	}
	flush()
	return errors.Join(errs...)
}

func sizeOf(e *auditv1.Event) (int64, error) {
	data, err := json.Marshal(e)
	return int64(len(data)) + 1, err
}

// cut is an event without its objects. The event itself is shared.
func cut(e *auditv1.Event) *auditv1.Event {
	less := *e
	less.RequestObject, less.ResponseObject = nil, nil
	less.Annotations = map[string]string{truncatedKey: "true"}
	for k, v := range e.Annotations {
		less.Annotations[k] = v
	}
	return &less
}
