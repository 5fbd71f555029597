package pod

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"sampan/internal/fault"
	"sampan/node/resource"
)

// task is one step being done, in a goroutine of its own. It reads what the
// worker knew when it began, and returns what the worker shall know then.
type task struct {
	*Worker
	Step
	ctx   context.Context
	pod   *corev1.Pod
	seen  Observed
	dirs  map[string]string
	known ContainerKnown
}

func (t *task) run() (done func()) {
	defer func() {
		if p := recover(); p != nil {
			t.c.Log.Error("panic", "key", t.key(), "step", t.Do, "panic", p, "stack", string(debug.Stack()))
			done = t.later("InternalError", fmt.Errorf("%s panicked", t.Do), time.Second)
		}
	}()
	switch t.Do {
	case Mount:
		return t.mount()
	case MakeSandbox:
		return t.makeSandbox()
	case StopSandbox:
		return t.stopSandbox()
	case Pull:
		return t.pull()
	case Start:
		return t.start()
	case Kill:
		return t.kill()
	case Alter:
		return t.alter()
	case Clean:
		return t.clean()
	case Delete:
		return t.delete()
	case Remove:
		return t.remove()
	}
	panic("pod: no such step: " + string(t.Do))
}

// later notes that the pod as a whole has a trouble, and a time to try again
// that doubles up to a minute.
func (t *task) later(reason string, err error, least time.Duration) func() {
	now := time.Now()
	return func() {
		delay := least
		if old := t.Worker.known.Failed; old != nil && old.Reason == reason {
			delay = min(max(2*old.Until.Sub(old.At), least), time.Minute)
		}
		t.Worker.known.Failed = &Trouble{Reason: reason, Message: err.Error(), At: now, Until: now.Add(delay)}
	}
}

func (t *task) mount() func() {
	dirs, again, err := t.c.Volumes.Mount(t.ctx, t.pod)
	if err != nil {
		if t.ctx.Err() != nil {
			return nil
		}
		t.event(t.pod, "", corev1.EventTypeWarning, "FailedMount", "%s", err)
		return t.later("FailedMount", err, time.Second)
	}
	return func() {
		w := t.Worker
		w.dirs, w.known.Volumes, w.known.Refresh, w.known.Renew, w.known.Failed = dirs, true, false, again, nil
	}
}

func (t *task) makeSandbox() func() {
	fail := func(err error) func() {
		if t.ctx.Err() != nil {
			return nil
		}
		t.event(t.pod, "", corev1.EventTypeWarning, "FailedCreatePodSandBox", "Failed to create pod sandbox: %s", text(err))
		return t.later("FailedCreatePodSandBox", err, time.Second)
	}
	if t.Attempt > 0 {
		t.event(t.pod, "", corev1.EventTypeNormal, "SandboxChanged", "Pod sandbox changed, it will be killed and re-created.")
	}
	if err := unsupported(t.pod); err != nil {
		return fail(err)
	}
	cfg, err := SandboxConfig(t.pod, t.Attempt, t.c.Host())
	if err != nil {
		return fail(err)
	}
	if err := os.MkdirAll(cfg.LogDirectory, 0o755); err != nil {
		return fail(err)
	}
	if t.c.Cgroups != nil {
		if err := t.c.Cgroups.Make(cfg.Linux.CgroupParent, resource.Pod(t.pod)); err != nil {
			return fail(err)
		}
	}
	handler, err := t.c.API.RuntimeHandler(t.ctx, t.pod)
	if err != nil {
		return fail(fmt.Errorf("look up RuntimeClass %s: %w", *t.pod.Spec.RuntimeClassName, err))
	}
	made, err := t.c.Runtime.RunPodSandbox(t.ctx, &runtimeapi.RunPodSandboxRequest{Config: cfg, RuntimeHandler: handler})
	if err != nil {
		note := fail(err)
		return func() {
			t.Worker.listed = false // it may have left something
			if note != nil {
				note()
			}
		}
	}
	return func() {
		t.Worker.boxes, t.Worker.known.Failed = append(t.Worker.boxes, made.PodSandboxId), nil
	}
}

// unsupported names the first thing that a pod asks for and this node does
// not have yet. Nothing is left out silently.
func unsupported(pod *corev1.Pod) error {
	no := func(what, why, field string) error {
		return &fault.Error{Class: fault.Invalid, Op: "give the pod", On: what, Err: errors.New(why), Fix: "leave out " + field}
	}
	s := &pod.Spec
	switch {
	case s.HostUsers != nil && !*s.HostUsers:
		return no("a user namespace", "this node cannot make them yet", "spec.hostUsers")
	case len(s.ResourceClaims) > 0:
		return no("resource claim "+s.ResourceClaims[0].Name, "this node has no dynamic resource allocation yet", "spec.resourceClaims")
	}
	for _, c := range slices.Concat(s.InitContainers, s.Containers) {
		for _, r := range c.RestartPolicyRules {
			if r.Action != corev1.ContainerRestartRuleActionRestart {
				return no("restart rule "+string(r.Action), "this node knows only Restart yet", "that rule of container "+c.Name)
			}
		}
	}
	return nil
}

func (t *task) stopSandbox() func() {
	_, err := t.c.Runtime.StopPodSandbox(t.ctx, &runtimeapi.StopPodSandboxRequest{PodSandboxId: t.ID})
	if err != nil && !gone(err) && t.ctx.Err() == nil {
		t.event(t.pod, "", corev1.EventTypeWarning, "FailedKillPod", "error killing pod: %s", text(err))
		t.c.Log.Warn("sandbox not stopped", "key", t.key(), "id", t.ID, "err", err)
		pause(t.ctx)
	}
	return nil
}

// clean removes what only a running pod needs.
func (t *task) clean() func() {
	err := t.c.Volumes.Unmount(t.ctx, t.pod.UID)
	if err == nil && t.c.Cgroups != nil {
		err = t.c.Cgroups.Remove(t.ctx, resource.CgroupParents(t.c.Host().CgroupRoot, string(t.pod.UID))...)
	}
	if err != nil {
		if t.ctx.Err() != nil {
			return nil
		}
		t.c.Log.Warn("what a pod used not removed", "key", t.key(), "err", err)
		return t.later("FailedCleanup", err, time.Second)
	}
	return func() {
		w := t.Worker
		w.known.Cleaned, w.known.Volumes, w.known.Failed = true, false, nil
	}
}

func (t *task) delete() func() {
	if err := t.c.API.Delete(t.ctx, t.pod); err != nil && t.ctx.Err() == nil {
		t.c.Log.Warn("pod not deleted", "key", t.key(), "err", err)
		return t.later("FailedDelete", err, time.Second)
	}
	// The watch will say that it is gone, at once or when its finalizers are.
	return func() { t.Worker.known.Deleted = true }
}

// remove takes away the last traces: containers, sandbox, logs and files.
func (t *task) remove() func() {
	fail := func(err error) func() {
		if t.ctx.Err() != nil {
			return nil
		}
		t.c.Log.Warn("pod not removed", "key", t.key(), "err", err)
		return t.later("FailedRemove", err, time.Second)
	}
	for _, c := range t.seen.Containers {
		if _, err := t.c.Runtime.RemoveContainer(t.ctx, &runtimeapi.RemoveContainerRequest{ContainerId: c.Id}); err != nil && !gone(err) {
			return fail(err)
		}
	}
	for _, s := range t.seen.Sandboxes {
		if _, err := t.c.Runtime.RemovePodSandbox(t.ctx, &runtimeapi.RemovePodSandboxRequest{PodSandboxId: s.Id}); err != nil && !gone(err) {
			return fail(err)
		}
	}
	logs := LogDirectory(t.c.Host().LogDir, t.pod.Namespace, t.pod.Name, string(t.pod.UID))
	for _, dir := range []string{logs, filepath.Join(t.c.Dir, string(t.pod.UID))} {
		if err := os.RemoveAll(dir); err != nil {
			return fail(err)
		}
	}
	return func() { t.Worker.known.Removed, t.Worker.known.Failed = true, nil }
}

// gone says that the runtime does not have the thing.
func gone(err error) bool {
	return err != nil && (status.Code(err) == codes.NotFound || fault.ClassOf(err) == fault.NotFound)
}

func notFound(err error) bool { return apierrors.IsNotFound(err) }

// text is the message of an error without gRPC's frame.
func text(err error) string {
	if s, ok := status.FromError(err); ok && s.Code() != codes.Unknown {
		return fmt.Sprintf("rpc error: code = %s desc = %s", s.Code(), s.Message())
	}
	return err.Error()
}
