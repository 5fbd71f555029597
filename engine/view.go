package engine

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"

	"sampan/engine/snapshot"
	"sampan/internal/fault"
)

// A view shows an image's files to a container that mounts it (Mount.Type
// "image"): a snapshot that nobody writes to, mounted beside the container's
// root and bound into it read-only. It is made when the container starts and
// goes with the root's mount.

// viewPrefix begins the ids of views among snapshots: view-CONTAINER-NUMBER.
const viewPrefix = "view-"

// viewKey names an image mount among the volumes of a container.
func viewKey(m Mount) string { return "image:" + m.Source + "/" + m.SubPath }

// mountViews mounts the images that c wants to see, and puts their paths in paths.
func (e *Engine) mountViews(ctx context.Context, c *Container, paths map[string]string) error {
	for i, m := range c.Config.Mounts {
		if m.Type != "image" {
			continue
		}
		dir, err := e.mountView(ctx, c.ID+"-"+itoa(int64(i)), m)
		if err != nil {
			return in("mount image "+m.Source, short(c.ID), err)
		}
		paths[viewKey(m)] = dir
	}
	return nil
}

func (e *Engine) mountView(ctx context.Context, name string, m Mount) (string, error) {
	dir := e.run("views", name)
	if !mounted(dir) {
		img, err := e.Images.Get(ctx, m.Source)
		if err != nil {
			return "", err
		}
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return "", failed("make mount point", dir, err)
		}
		// One may be left of a start that a loss of power ended.
		if err := e.Snapshots.Remove(ctx, viewPrefix+name); err != nil && fault.ClassOf(err) != fault.NotFound {
			return "", err
		}
		if err := e.Snapshots.Prepare(ctx, viewPrefix+name, img.Chain); err != nil {
			return "", err
		}
		if err := e.Snapshots.Mount(ctx, viewPrefix+name, dir, snapshot.MountOptions{Volatile: true}); err != nil {
			return "", err
		}
	}
	return below(dir, m.SubPath)
}

// below finds sub in an image's files. The image may be hostile: links in it
// do not lead out of it.
func below(dir, sub string) (string, error) {
	if sub == "" {
		return dir, nil
	}
	wrong := func(err error) (string, error) {
		return "", &fault.Error{Class: fault.Invalid, Op: "resolve path in image", On: sub, Err: err, Fix: "name a path that is in the image"}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", failed("open image", dir, err)
	}
	defer root.Close()
	f, err := root.Open(sub)
	if err != nil {
		return wrong(err)
	}
	defer f.Close()
	// The files do not change: what the descriptor is, its path will be.
	path, err := os.Readlink("/proc/self/fd/" + itoa(int64(f.Fd())))
	if err != nil {
		return wrong(err)
	}
	return path, nil
}

// unmountViews takes away what mountViews made for a container.
func (e *Engine) unmountViews(ctx context.Context, container string) error {
	entries, err := os.ReadDir(e.run("views"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return failed("read directory", e.run("views"), err)
	}
	for _, d := range entries {
		if !strings.HasPrefix(d.Name(), container+"-") {
			continue
		}
		dir := e.run("views", d.Name())
		if mounted(dir) {
			if err := e.Snapshots.Unmount(ctx, dir); err != nil {
				return err
			}
		}
		if err := e.Snapshots.Remove(ctx, viewPrefix+d.Name()); err != nil && fault.ClassOf(err) != fault.NotFound {
			return err
		}
		if err := unmount(dir); err != nil {
			return err
		}
	}
	return nil
}

// removeStrayViews removes views of containers that are gone.
func (e *Engine) removeStrayViews(ctx context.Context, snapshots []snapshot.Info) error {
	entries, err := os.ReadDir(e.run("views"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, d := range entries {
		if container, _, _ := strings.Cut(d.Name(), "-"); !e.exists("c", container) {
			if err := e.unmountViews(ctx, container); err != nil {
				return err
			}
		}
	}
	for _, s := range snapshots {
		name, is := strings.CutPrefix(s.ID, viewPrefix)
		container, _, _ := strings.Cut(name, "-")
		if is && !e.exists("c", container) {
			if err := e.Snapshots.Remove(ctx, s.ID); err != nil && fault.ClassOf(err) != fault.NotFound {
				return err
			}
		}
	}
	return nil
}
