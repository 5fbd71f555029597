package pod

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// kill stops a container: event, preStop hook, signal, and force at the
// deadline.
func (t *task) kill() func() {
	c := containerOf(t.pod, t.Container)
	message := t.Event
	if message == "" {
		message = "Stopping container " + t.Container
	}
	t.event(t.pod, t.Container, corev1.EventTypeNormal, "Killing", "%s", message)
	left := time.Until(t.Deadline)
	if c != nil && c.Lifecycle != nil && c.Lifecycle.PreStop != nil && left > 0 {
		t.preStop(c, t.Deadline)
		left = max(time.Until(t.Deadline), leastGrace)
	}
	if t.ctx.Err() != nil {
		return nil
	}
	// Seconds, rounded up: a pod that asks for one is not killed at once.
	seconds := int64((max(left, 0) + time.Second - 1) / time.Second)
	_, err := t.c.Runtime.StopContainer(t.ctx, &runtimeapi.StopContainerRequest{ContainerId: t.ID, Timeout: seconds})
	if err != nil && !gone(err) && t.ctx.Err() == nil {
		t.event(t.pod, t.Container, corev1.EventTypeWarning, "FailedKillPod", "error killing pod: %s", text(err))
		t.c.Log.Warn("container not stopped", "key", t.key(), "id", t.ID, "err", err)
		pause(t.ctx)
	}
	return nil
}

// preStop runs the hook until the deadline. Its failure is told, and the
// container stops nevertheless.
func (t *task) preStop(c *corev1.Container, deadline time.Time) {
	ctx, cancel := context.WithDeadline(t.ctx, deadline)
	defer cancel()
	if err := t.hook(ctx, c, t.ID, c.Lifecycle.PreStop); err != nil && t.ctx.Err() == nil {
		t.c.Log.Warn("preStop hook failed", "key", t.key(), "container", c.Name, "err", err)
		t.event(t.pod, c.Name, corev1.EventTypeWarning, "FailedPreStopHook", "PreStopHook failed")
	}
}
