package pod

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// prober runs the probes of one running container, a goroutine for each; they
// sleep between tries and end with the container.
type prober struct {
	cancel  context.CancelFunc // of all
	judging context.CancelFunc // of liveness and startup: nobody restarts what is ending
	started chan struct{}      // closed when the startup probe has succeeded
	ip      string
}

type probeKind struct {
	name string // in events
	set  func(*Probes, Result)
}

var (
	liveness  = probeKind{"Liveness", func(p *Probes, r Result) { p.Live = r }}
	readiness = probeKind{"Readiness", func(p *Probes, r Result) { p.Ready = r }}
	startup   = probeKind{"Startup", func(p *Probes, r Result) { p.Started = r }}
)

// probe begins the probes of containers that run and ends those of others.
func (w *Worker) probe(ctx context.Context, pod *corev1.Pod, ending bool) {
	running := map[string]bool{}
	for _, now := range w.seen.Running("") {
		c := containerOf(pod, now.Name())
		if c == nil || c.LivenessProbe == nil && c.ReadinessProbe == nil && c.StartupProbe == nil {
			continue
		}
		running[now.Id] = true
		if p := w.probers[now.Id]; p != nil {
			if ending {
				p.judging()
			}
			continue
		}
		if b, ok := w.known.Busy[c.Name]; ok && b.Do == Start {
			continue // its postStart hook is not done
		}
		if !ending {
			w.probers[now.Id] = w.startProbes(ctx, pod, c, now)
		}
	}
	for id, p := range w.probers {
		if !running[id] {
			p.cancel()
			delete(w.probers, id)
		}
	}
}

func (w *Worker) startProbes(ctx context.Context, pod *corev1.Pod, c *corev1.Container, now *Container) *prober {
	k := w.of(c.Name)
	k.Probes = Probes{ID: now.Id}
	for _, list := range [][]corev1.ContainerStatus{pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses} {
		if old := find(list, c.Name); old != nil && old.ContainerID == w.c.RuntimeName+"://"+now.Id {
			k.Probes = before(old, now.Id)
		}
	}
	if c.StartupProbe == nil {
		k.Probes.Started = Success
	}
	p := &prober{started: make(chan struct{})}
	ctx, p.cancel = context.WithCancel(ctx)
	judged, judging := context.WithCancel(ctx)
	p.judging = judging
	to := &target{runtime: w.c.Runtime, pod: pod, c: c, id: now.Id}
	if pod.Spec.HostNetwork {
		if ips := w.c.HostIPs(); len(ips) > 0 {
			to.ip = ips[0]
		}
	} else if box := w.seen.Sandbox(); box != nil {
		to.ip = box.GetNetwork().GetIp()
	}
	since := time.Unix(0, now.StartedAt)
	if k.Probes.Started == Success {
		close(p.started)
	} else {
		w.group.Go(func() { w.probing(judged, to, c.StartupProbe, startup, since, nil, p.started) })
	}
	if c.LivenessProbe != nil {
		w.group.Go(func() { w.probing(judged, to, c.LivenessProbe, liveness, since, p.started, nil) })
	}
	if c.ReadinessProbe != nil {
		w.group.Go(func() { w.probing(ctx, to, c.ReadinessProbe, readiness, since, p.started, nil) })
	}
	return p
}

// probing tries one probe again and again until ctx ends, and reports a
// verdict when its threshold is reached. after, if not nil, holds it back until
// closed; a startup probe closes done with its first success and ends.
func (w *Worker) probing(ctx context.Context, to *target, p *corev1.Probe, kind probeKind, since time.Time, after <-chan struct{}, done chan struct{}) {
	if after != nil {
		select {
		case <-ctx.Done():
			return
		case <-after:
		}
	}
	period := time.Duration(max(p.PeriodSeconds, 1)) * time.Second
	timer := time.NewTimer(max(0, time.Until(since.Add(time.Duration(p.InitialDelaySeconds)*time.Second))))
	defer timer.Stop()
	var said Result
	var in int32
	last := Unset
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		began := time.Now()
		result := w.try(ctx, to, p, kind)
		if ctx.Err() != nil {
			return
		}
		if result != last {
			last, in = result, 0
		}
		in++
		need := max(p.FailureThreshold, 1)
		if p.FailureThreshold == 0 {
			need = 3
		}
		if result == Success {
			need = max(p.SuccessThreshold, 1)
		}
		if in >= need && said != result {
			said = result
			w.verdict(to, kind, result)
			if kind.name == startup.name && result == Success {
				close(done)
				return
			}
			if kind.name != readiness.name && result == Failure {
				return // it is going to be stopped
			}
		}
		timer.Reset(max(0, period-time.Since(began)))
	}
}

// try is one attempt; a failure is told.
func (w *Worker) try(ctx context.Context, to *target, p *corev1.Probe, kind probeKind) (r Result) {
	defer func() {
		if v := recover(); v != nil {
			w.c.Log.Error("panic in probe", "key", w.key(), "container", to.c.Name, "panic", v)
			r = Failure
		}
	}()
	err := to.check(ctx, p)
	if err == nil {
		return Success
	}
	if ctx.Err() == nil {
		w.event(to.pod, to.c.Name, corev1.EventTypeWarning, "Unhealthy", "%s", fmt.Sprintf("%s probe failed: %s", kind.name, text(err)))
	}
	return Failure
}

func (w *Worker) verdict(to *target, kind probeKind, r Result) {
	w.post(0, func() {
		if k := w.of(to.c.Name); k.Probes.ID == to.id {
			kind.set(&k.Probes, r)
		}
	})
}
