package engine

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"sampan/internal/fault"
)

// makeVolumes creates the named volumes a container asks for that are not
// there yet, as docker run does.
func (e *Engine) makeVolumes(ctx context.Context, c *ContainerConfig) error {
	for _, m := range c.Mounts {
		if m.Type != "volume" {
			continue
		}
		if _, err := e.CreateVolume(ctx, m.Source, nil); err != nil && fault.ClassOf(err) != fault.Exists {
			return err
		}
	}
	return nil
}

// CreateVolume makes a named volume; fault.Exists if there is one.
func (e *Engine) CreateVolume(ctx context.Context, name string, labels map[string]string) (Volume, error) {
	if !validName(name) || strings.HasPrefix(name, ".") {
		return Volume{}, invalid("volume name", name, "only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed, two characters at least")
	}
	v := Volume{Name: name, Path: e.path("volumes", name, "_data"), Created: time.Now(), Labels: labels}
	if err := os.Mkdir(e.path("volumes", name), 0o711); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return Volume{}, &fault.Error{Class: fault.Exists, Op: "create volume", On: name, Err: err}
		}
		return Volume{}, failed("create volume", name, err)
	}
	if err := os.MkdirAll(v.Path, 0o755); err != nil {
		return Volume{}, failed("create volume", name, err)
	}
	return v, save(e.path("volumes", name, "volume.json"), &v)
}

// Volumes lists the named volumes.
func (e *Engine) Volumes(ctx context.Context) ([]Volume, error) {
	ids, err := e.ids("volumes")
	if err != nil {
		return nil, err
	}
	out := make([]Volume, 0, len(ids))
	for _, name := range ids {
		v, err := load[Volume](&e.records, e.path("volumes", name, "volume.json"))
		if fault.ClassOf(err) == fault.NotFound {
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, *v)
	}
	return out, nil
}

func (e *Engine) volumePaths(c *ContainerConfig) (map[string]string, error) {
	out := map[string]string{}
	for _, m := range c.Mounts {
		if m.Type != "volume" {
			continue
		}
		name := m.Source
		out[name] = e.path("volumes", name, "_data")
		// A crash between the volume's directory and its inside is mended here.
		if err := os.MkdirAll(out[name], 0o755); err != nil {
			return nil, failed("open volume", name, err)
		}
	}
	return out, nil
}

func volumesAsked(c *ContainerConfig) map[string]string {
	out := map[string]string{}
	for _, m := range c.Mounts {
		switch m.Type {
		case "volume":
			out[m.Source] = filepath.Join("volumes", m.Source)
		case "image":
			out[viewKey(m)] = filepath.Join("views", m.Source)
		}
	}
	return out
}
