package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"sampan/engine"
	"sampan/internal/fault"
	"sampan/internal/linux"
	"sampan/internal/nft"
)

// Reset removes all that a program on these directories ever made on this
// machine; what it was before the first start is what is left. It goes on
// where something resists, and says what did. say is told each step.
func Reset(ctx context.Context, state, run, kubeconfig string, say func(string)) error {
	r, err := Running(state, run)
	if err == nil {
		say(fmt.Sprintf("stopping process %d", r.PID))
		stopping, cancel := context.WithTimeout(ctx, 30*time.Second)
		err = Stop(stopping, r)
		cancel()
		if err != nil {
			return err
		}
	} else if fault.ClassOf(err) != fault.NotFound {
		return err
	}
	saved, err := readRecord(savedPath(state))
	known := err == nil
	if known && kubeconfig == "" {
		kubeconfig = saved.Kubeconfig
	}
	var errs []error
	if known {
		say("removing rules and routes of services and pods")
		errs = append(errs, resetNetwork(ctx, saved))
	}
	if _, err := os.Stat(state); err == nil {
		say("removing containers, mounts and control groups")
		errs = append(errs, engine.Reset(ctx, engine.Config{State: state, Run: run}))
	}
	if err := errors.Join(errs...); err != nil {
		return &fault.Error{Op: "reset", On: state, Err: err, Fix: "see to what resists, then reset again"}
	}
	say("removing files")
	for _, dir := range []string{state, run} {
		// Volumes of pods are mounts too.
		if err := linux.UnmountBelow(dir); err != nil {
			errs = append(errs, err)
			continue // never delete through a mount
		}
		errs = append(errs, os.RemoveAll(dir))
	}
	if kubeconfig != "" {
		if err := os.Remove(kubeconfig); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
		_ = os.Remove(filepath.Dir(kubeconfig)) // only if it is empty
	}
	return errors.Join(errs...)
}

func resetNetwork(ctx context.Context, r Record) error {
	cfg := Config{State: r.State, Run: r.Run, NodeName: r.Node, Kubeconfig: r.Kubeconfig}
	for _, f := range []struct {
		to   *netip.Prefix
		text string
	}{{&cfg.Pods, r.Config.Pods}, {&cfg.Services, r.Config.Services}} {
		p, err := netip.ParsePrefix(f.text)
		if err != nil {
			return err
		}
		*f.to = p
	}
	cfg, err := cfg.withDefaults()
	if err != nil {
		return err
	}
	network, err := newNetwork(cfg, netip.Prefix{}, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	return errors.Join(nft.Delete(servicesTable(r.State), false), network.Reset(ctx))
}
