// Package audit keeps the audit trail: who asked what of the API, when, from
// where, and what came of it, as far as a policy (audit.k8s.io/v1) says. It
// writes events to a file, or sends them to a webhook.
//
// It is told of requests stage by stage, and knows neither HTTP routes nor
// kinds.
package audit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"sampan/internal/fault"
)

// Config says what is recorded, and where it goes. Defaults has upstream's
// defaults.
type Config struct {
	PolicyFile string // a Policy of audit.k8s.io/v1; empty: nothing is recorded
	File       FileConfig
	Webhook    WebhookConfig
	Log        *slog.Logger          // for what goes wrong
	Metrics    prometheus.Registerer // nil: nothing is counted
}

// FileConfig is the audit log.
type FileConfig struct {
	Path       string // "-" is standard output; empty: no log
	Format     string // "json" or "legacy", a line each
	Version    string // of what is written: audit.k8s.io/v1
	MaxAge     int    // days for which rotated files are kept; 0: for ever
	MaxBackups int    // rotated files kept; 0: all
	MaxSize    int    // megabytes at which a file is rotated; 0: never
	Compress   bool   // rotated files are compressed
	Delivery
}

// WebhookConfig is a program that events are sent to.
type WebhookConfig struct {
	File    string        // a kubeconfig that says where it is and who we are; empty: none
	Version string        // of what is sent: audit.k8s.io/v1
	Backoff time.Duration // before the first repetition of a call that failed
	Delivery
}

// Delivery says how events get to where they go.
type Delivery struct {
	Mode string // "batch", "blocking", or "blocking-strict", which refuses what cannot be recorded

	Buffer   int           // events that wait at most; more are dropped
	Most     int           // events in one batch
	Wait     time.Duration // for which a batch waits to fill up; 0: it is sent at once
	Throttle bool          // batches are sent at a bounded rate
	Rate     float32       // batches a second, with Throttle
	Burst    int           // batches at once, with Throttle

	Truncate bool  // events that are too large go without their objects
	MaxBatch int64 // bytes of a batch, with Truncate
	MaxEvent int64 // bytes of an event, with Truncate
}

// The modes of a Delivery.
const (
	Batch          = "batch"
	Blocking       = "blocking"
	BlockingStrict = "blocking-strict"
)

var (
	modes   = []string{Batch, Blocking, BlockingStrict}
	formats = []string{Legacy, JSON}
)

// Defaults is upstream's configuration: nothing is recorded until a policy and
// a place are set.
func Defaults() Config {
	const (
		buffer   = 10_000
		maxBatch = 10 << 20
		maxEvent = 100 << 10
	)
	return Config{
		File: FileConfig{Format: JSON, Version: auditv1.SchemeGroupVersion.String(),
			Delivery: Delivery{Mode: Blocking, Buffer: buffer, Most: 1, MaxBatch: maxBatch, MaxEvent: maxEvent}},
		Webhook: WebhookConfig{Version: auditv1.SchemeGroupVersion.String(), Backoff: 10 * time.Second,
			Delivery: Delivery{Mode: Batch, Buffer: buffer, Most: 400, Wait: 30 * time.Second, Throttle: true, Rate: 10, Burst: 15,
				MaxBatch: maxBatch, MaxEvent: maxEvent}},
	}
}

// check says what is wrong, by the names of the flags.
func (c Config) check() error {
	var errs []error
	if c.File.Path != "" {
		errs = append(errs, c.File.Delivery.check("log"), version("log", c.File.Version))
		if !slices.Contains(formats, c.File.Format) {
			errs = append(errs, fmt.Errorf("invalid audit log format %s, allowed formats are %q", c.File.Format, formats))
		}
		for _, n := range []struct {
			name  string
			value int
		}{{"maxage", c.File.MaxAge}, {"maxbackup", c.File.MaxBackups}, {"maxsize", c.File.MaxSize}} {
			if n.value < 0 {
				errs = append(errs, fmt.Errorf("--audit-log-%s %d can't be a negative number", n.name, n.value))
			}
		}
	}
	if c.Webhook.File != "" {
		errs = append(errs, c.Webhook.Delivery.check("webhook"), version("webhook", c.Webhook.Version))
	}
	return errors.Join(errs...)
}

func version(which, v string) error {
	if v != auditv1.SchemeGroupVersion.String() {
		return fmt.Errorf("--audit-%s-version %q: only %s is known", which, v, auditv1.SchemeGroupVersion)
	}
	return nil
}

func (d Delivery) check(which string) error {
	if !slices.Contains(modes, d.Mode) {
		return fmt.Errorf("invalid audit %s mode %s, allowed modes are %q", which, d.Mode, modes)
	}
	positive := func(name string, ok bool) error {
		if !ok {
			return fmt.Errorf("--audit-%s-%s must be positive", which, name)
		}
		return nil
	}
	var errs []error
	if d.Mode == Batch {
		errs = append(errs, positive("batch-buffer-size", d.Buffer > 0), positive("batch-max-size", d.Most > 0))
		if d.Throttle {
			errs = append(errs, positive("batch-throttle-qps", d.Rate > 0), positive("batch-throttle-burst", d.Burst > 0))
		}
	}
	if d.Truncate {
		errs = append(errs, positive("truncate-max-batch-size", d.MaxBatch > 0), positive("truncate-max-event-size", d.MaxEvent > 0))
		if d.MaxEvent > d.MaxBatch {
			errs = append(errs, fmt.Errorf("--audit-%s-truncate-max-event-size is larger than --audit-%[1]s-truncate-max-batch-size", which))
		}
	}
	return errors.Join(errs...)
}

// Trail records requests. It is safe for concurrent use.
type Trail struct {
	policy *policy
	places []place
	log    *slog.Logger
	counts *counts  // nil: nothing is counted
	batchs []*batch // those of the places that need Run
}

// place takes events. Its error means that some are lost; it was logged.
type place interface {
	take(events []*auditv1.Event) error
	strict() bool // whether what is lost must not happen
}

// New reads the policy and prepares what events go to. It makes the log's file
// and connects to nothing. A Config that records nothing gives nil.
func New(c Config) (*Trail, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if err := c.check(); err != nil {
		return nil, &fault.Error{Class: fault.Invalid, Op: "set up audit", Err: err, Fix: "docs/audit.md has examples"}
	}
	switch placed := c.File.Path != "" || c.Webhook.File != ""; {
	case c.PolicyFile == "" && placed:
		c.Log.Warn("there is no audit policy: nothing is recorded", "fix", "give one with --audit-policy-file")
		return nil, nil
	case c.PolicyFile == "":
		return nil, nil
	case !placed:
		c.Log.Warn("there is an audit policy and no place to record to", "fix", "give one with --audit-log-path or --audit-webhook-config-file")
		return nil, nil
	}
	t := &Trail{log: c.Log, counts: newCounts(c.Metrics)}
	var err error
	if t.policy, err = readPolicy(c.PolicyFile, c.Log); err != nil {
		return nil, err
	}
	if c.File.Path != "" {
		f, err := newFile(c.File)
		if err != nil {
			return nil, err
		}
		t.add("log", f, c.File.Delivery)
	}
	if c.Webhook.File != "" {
		w, err := newWebhook(c.Webhook)
		if err != nil {
			return nil, err
		}
		t.add("webhook", w, c.Webhook.Delivery)
	}
	return t, nil
}

// add puts a backend behind what the delivery asks for.
func (t *Trail) add(name string, to backend, d Delivery) {
	if d.Truncate {
		to = truncating{to, d}
	}
	if d.Mode == Batch {
		b := newBatch(name, to, d, t.log)
		b.counts = t.counts
		t.batchs = append(t.batchs, b)
		t.places = append(t.places, b)
		return
	}
	t.places = append(t.places, direct{name: name, to: to, log: t.log, counts: t.counts, hard: d.Mode == BlockingStrict})
}

// Run sends batches until ctx ends, and then what is left. Without batches it
// returns at once when ctx ends.
func (t *Trail) Run(ctx context.Context) {
	var all sync.WaitGroup
	for _, b := range t.batchs {
		all.Go(func() { b.run(ctx) })
	}
	<-ctx.Done()
	all.Wait()
}

// Begin makes a record of a request that arrived at a time; nil if the policy
// says that there is to be none. The request's headers are read, not kept.
func (t *Trail) Begin(r *http.Request, at time.Time, a Attributes) *Record {
	rule := t.decide(a)
	if rule.level == auditv1.LevelNone {
		return nil
	}
	return newRecord(t, rule, callOf(r), at, a)
}

// BeginLocal is Begin for what a part of this program asks as a function. call
// is asked for if there is to be a record.
func (t *Trail) BeginLocal(call func() Call, at time.Time, a Attributes) *Record {
	rule := t.decide(a)
	if rule.level == auditv1.LevelNone {
		return nil
	}
	return newRecord(t, rule, call(), at, a)
}

func (t *Trail) decide(a Attributes) rule {
	r := t.policy.decide(a)
	t.counts.level(r.level)
	return r
}
