package engine

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"sampan/internal/linux"
)

// Reset removes all that the engine with this configuration ever made: its
// containers and monitors, mounts, control groups, addresses and links, and
// the directories. What resists is reported, and the rest is removed still. It
// may be called again.
func Reset(ctx context.Context, c Config) error {
	e, err := Open(ctx, c)
	if err != nil {
		return err
	}
	defer e.Close()
	var errs []error
	try := func(what string, err error) {
		if err != nil {
			errs = append(errs, in("reset", what, err))
		}
	}
	sandboxes, err := e.ids("sandboxes")
	try("sandboxes", err)
	for _, id := range sandboxes {
		try("sandbox "+short(id), e.RemoveSandbox(ctx, id))
	}
	try("leftovers", e.Recover(ctx))
	containers, err := e.ids("containers")
	try("containers", err)
	for _, id := range containers {
		try("container "+short(id), e.remove(ctx, id))
	}
	pods, err := e.Runtime.Pods(ctx)
	try("monitors", err)
	for _, id := range pods {
		try("monitor of "+short(id), e.endPod(ctx, id))
	}
	try("network", e.network.Reset(ctx))
	try("mounts", errors.Join(linux.UnmountBelow(e.config.Run), linux.UnmountBelow(e.path())))
	try("control groups", e.Runtime.Cgroups().Group(e.CgroupRoot()).Destroy(ctx))
	if len(errs) > 0 {
		// With something still alive the directories are what says so.
		return errors.Join(errs...)
	}
	for _, dir := range []string{e.path(), e.run(), filepath.Join(e.config.Run, ".engine.lock")} {
		try("directory "+dir, os.RemoveAll(dir))
	}
	// These are others' too: they go if they are empty.
	for _, dir := range []string{e.config.State, e.config.Run} {
		_ = os.Remove(dir)
	}
	return errors.Join(errs...)
}
