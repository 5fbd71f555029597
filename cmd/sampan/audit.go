//go:build !split

package main

import (
	"github.com/spf13/cobra"

	"sampan/cluster/audit"
)

// auditFlags puts the flags of the audit trail on a command. They are
// upstream's.
func auditFlags(cmd *cobra.Command, c *audit.Config) {
	*c = audit.Defaults()
	f := cmd.Flags()
	f.StringVar(&c.PolicyFile, "audit-policy-file", "", "a Policy of audit.k8s.io/v1: which requests are recorded, and how much of them")
	f.StringVar(&c.File.Path, "audit-log-path", "", "file to record requests in; - is standard output")
	f.StringVar(&c.File.Format, "audit-log-format", c.File.Format, "of the audit log: json or legacy")
	f.StringVar(&c.File.Version, "audit-log-version", c.File.Version, "group and version in which events are logged")
	f.IntVar(&c.File.MaxAge, "audit-log-maxage", 0, "days for which rotated audit logs are kept; 0: for ever")
	f.IntVar(&c.File.MaxBackups, "audit-log-maxbackup", 0, "rotated audit logs kept; 0: all")
	f.IntVar(&c.File.MaxSize, "audit-log-maxsize", 0, "megabytes at which the audit log is rotated; 0: never")
	f.BoolVar(&c.File.Compress, "audit-log-compress", false, "compress rotated audit logs")
	deliveryFlags(cmd, "log", &c.File.Delivery)
	f.StringVar(&c.Webhook.File, "audit-webhook-config-file", "", "kubeconfig of the program that events are sent to")
	f.StringVar(&c.Webhook.Version, "audit-webhook-version", c.Webhook.Version, "group and version in which events are sent")
	f.DurationVar(&c.Webhook.Backoff, "audit-webhook-initial-backoff", c.Webhook.Backoff, "how long to wait before a call that failed is tried again")
	deliveryFlags(cmd, "webhook", &c.Webhook.Delivery)
}

func deliveryFlags(cmd *cobra.Command, to string, d *audit.Delivery) {
	f, name := cmd.Flags(), "audit-"+to+"-"
	f.StringVar(&d.Mode, name+"mode", d.Mode, "batch (requests don't wait), blocking, or blocking-strict (what cannot be recorded is refused)")
	f.IntVar(&d.Buffer, name+"batch-buffer-size", d.Buffer, "events that wait at most, in mode batch; more are dropped")
	f.IntVar(&d.Most, name+"batch-max-size", d.Most, "events in one batch")
	f.DurationVar(&d.Wait, name+"batch-max-wait", d.Wait, "how long a batch waits to fill up")
	f.BoolVar(&d.Throttle, name+"batch-throttle-enable", d.Throttle, "send batches at a bounded rate")
	f.Float32Var(&d.Rate, name+"batch-throttle-qps", d.Rate, "batches a second")
	f.IntVar(&d.Burst, name+"batch-throttle-burst", d.Burst, "batches at once, if there were few before")
	f.BoolVar(&d.Truncate, name+"truncate-enabled", d.Truncate, "leave objects out of events that are too large")
	f.Int64Var(&d.MaxBatch, name+"truncate-max-batch-size", d.MaxBatch, "bytes of a batch at most")
	f.Int64Var(&d.MaxEvent, name+"truncate-max-event-size", d.MaxEvent, "bytes of an event at most")
	for _, rare := range []string{"version", "batch-buffer-size", "batch-max-size", "batch-max-wait", "batch-throttle-enable", "batch-throttle-qps",
		"batch-throttle-burst", "truncate-enabled", "truncate-max-batch-size", "truncate-max-event-size"} {
		_ = f.MarkHidden(name + rare) // upstream's, and in docs/audit.md: the help stays readable
	}
}
