package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"k8s.io/client-go/rest"
)

const (
	settle     = 20 * time.Second // what follows a start has ended by then
	idleWindow = 60 * time.Second
	podWindow  = 20 * time.Second
	residents  = 50 // pods
)

// footprint measures what it costs to be there: starting, and doing nothing
// without and with pods.
func footprint(ctx context.Context, b *bench) (err error) {
	if err := b.startTimes(ctx); err != nil {
		return err
	}
	p := b.platform()
	defer func() { err = errors.Join(err, p.reset()) }()
	if err := p.up(ctx); err != nil {
		return err
	}
	archive, err := b.guestArchive()
	if err != nil {
		return err
	}
	if _, err := p.call(ctx, "load", "-q", "-i", archive); err != nil {
		return err
	}
	s, err := p.status(ctx)
	if err != nil {
		return err
	}
	k, missing := b.openKubelet(ctx, archive)
	defer k.close()
	e := &engines{bench: b, containerd: k.containerd}
	e.noDocker = missing
	if missing == nil {
		e.noDocker = e.startDockerd(ctx)
	}
	defer e.dockerd.stop()

	all := []*resident{{who: ours, pids: func() []int { return append(processes("sampan-monitor"), s.PID) }, kubeconfig: p.kubeconfig()},
		{who: "upstream + kubelet", missing: missing}, {who: "docker", missing: e.noDocker}}
	if missing == nil {
		all[1].kubeconfig = k.upstream.kubeconfig()
		all[1].pids = func() []int {
			return append(append(k.upstream.pids(), k.kubelet.pid(), k.containerd.pid()), processes("containerd-shim-runc-v2")...)
		}
	}
	if e.noDocker == nil {
		all[2].pids = func() []int { return []int{e.dockerd.pid(), k.containerd.pid()} }
	}
	if err := pause(ctx, settle); err != nil {
		return err
	}
	if err := b.idle(ctx, "idle", idleWindow, all, goals{rss: 95, cpu: 0.5, written: 1}); err != nil {
		return err
	}
	if missing == nil {
		e.dockerd.stop() // it has no pods
	}
	all = all[:2]
	for _, r := range all {
		if r.missing == nil {
			r.missing = r.fill(ctx)
		}
	}
	if err := pause(ctx, settle/2); err != nil {
		return err
	}
	return b.idle(ctx, fmt.Sprintf("idle with %d pods", residents), podWindow, all, goals{})
}

// startTimes measures from nothing to an API that answers, and to one that
// takes pods.
func (b *bench) startTimes(ctx context.Context) error {
	answer := b.row("start on no state, until the API answers", "s", lessIsBetter).goal(1.5)
	usableIn := b.row("start on no state, until pods can be made", "s", lessIsBetter)
	again := b.row("start on kept state, until the API answers", "s", lessIsBetter).goal(1.5)
	for range 3 {
		p := b.platform()
		before, began := spent(), time.Now()
		err := p.up(ctx)
		if err == nil {
			answer.add(ours, time.Since(began).Seconds(), milliseconds(spent()-before))
			err = usable(ctx, p.kubeconfig())
		}
		if err == nil {
			usableIn.add(ours, time.Since(began).Seconds(), -1)
			_, err = p.call(ctx, "down")
		}
		if err == nil {
			before, began = spent(), time.Now()
			err = p.up(ctx)
			again.add(ours, time.Since(began).Seconds(), milliseconds(spent()-before))
		}
		if err := errors.Join(err, p.reset()); err != nil {
			return err
		}
	}
	for range 2 {
		before, began := spent(), time.Now()
		u, err := b.openUpstream(ctx)
		if err == nil {
			answer.add("upstream", time.Since(began).Seconds(), milliseconds(spent()-before))
			err = usable(ctx, u.kubeconfig())
		}
		u.close()
		if err != nil {
			answer.fail("upstream", err)
			usableIn.fail("upstream", err)
			return ctx.Err()
		}
		usableIn.add("upstream", time.Since(began).Seconds(), -1)
	}
	return nil
}

// resident is a contender that is there and does nothing.
type resident struct {
	who        string
	kubeconfig string
	pids       func() []int
	missing    error
}

type goals struct{ rss, cpu, written float64 }

// idle measures all of them in one window: they do not work, so they do not
// disturb each other.
func (b *bench) idle(ctx context.Context, what string, window time.Duration, all []*resident, g goals) error {
	rss := b.row(what+": memory, RSS", "MB", lessIsBetter).goal(g.rss)
	pss := b.row(what+": memory, PSS (shared pages divided)", "MB", lessIsBetter)
	anonymous := b.row(what+": memory, in no file", "MB", lessIsBetter)
	cpu := b.row(what+": CPU", "% of a core", lessIsBetter).goal(g.cpu)
	wakeups := b.row(what+": wake-ups", "/s", lessIsBetter)
	written := b.row(what+": written", "kB/s", lessIsBetter).goal(g.written)
	before := make([]cost, len(all))
	for i, r := range all {
		if r.missing == nil {
			before[i] = costOf(r.pids())
		}
	}
	began := time.Now()
	if err := pause(ctx, window); err != nil {
		return err
	}
	took := time.Since(began)
	for i, r := range all {
		if r.missing != nil {
			for _, row := range []*row{rss, pss, anonymous, cpu, wakeups, written} {
				row.fail(r.who, r.missing)
			}
			continue
		}
		pids := r.pids()
		after, m := costOf(pids), memoryOf(pids)
		rss.add(r.who, m.rss/megabyte, -1)
		pss.add(r.who, m.pss/megabyte, -1)
		anonymous.add(r.who, anonymousOf(pids)/megabyte, -1)
		cpu.add(r.who, 100*float64(after.cpu-before[i].cpu)/float64(took), -1)
		wakeups.add(r.who, float64(after.wakeups-before[i].wakeups)/took.Seconds(), -1)
		written.add(r.who, float64(after.written-before[i].written)/1e3/took.Seconds(), -1)
	}
	return nil
}

// fill starts pods that stay.
func (r *resident) fill(ctx context.Context) error {
	c, err := clientOf(r.kubeconfig, asProtobuf, rest.NoWarnings{})
	if err != nil {
		return err
	}
	w := &crew{who: r.who, client: c}
	if err := w.open(ctx); err != nil {
		return err
	}
	defer w.stop()
	_, err = w.many(ctx, residents)
	return err
}
