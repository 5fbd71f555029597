package engine

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"time"

	"sampan/internal/fault"
)

// Create makes a container in a sandbox: its record, its place in the root
// file system's layers, its name. Nothing runs.
func (e *Engine) Create(ctx context.Context, sandbox string, c ContainerConfig) (Container, error) {
	unlock, s, err := e.lockSandbox(ctx, sandbox)
	if err != nil {
		return Container{}, err
	}
	defer unlock()
	if s.Removed || s.Stopped {
		return Container{}, &fault.Error{Class: fault.Conflict, Op: "create container in sandbox", On: short(sandbox),
			Err: errors.New("the sandbox is not ready")}
	}
	return e.create(ctx, newID(), s, c)
}

// CreateStandalone makes a container that has a sandbox to itself, with the
// same ID. The sandbox runs while the container does.
func (e *Engine) CreateStandalone(ctx context.Context, sc SandboxConfig, c ContainerConfig) (Container, error) {
	if c.Name != "" && !validName(c.Name) {
		return Container{}, &fault.Error{Class: fault.Invalid, Op: "create container", On: c.Name,
			Err: errors.New("invalid container name (" + c.Name + "), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")}
	}
	if _, err := hostPorts(sc.Ports); err != nil {
		return Container{}, err
	}
	id := newID()
	s, err := e.createSandbox(ctx, id, sc, &c)
	if err != nil {
		return Container{}, err
	}
	unlock, r, err := e.lockSandbox(ctx, s.ID)
	if err != nil {
		return Container{}, err
	}
	defer unlock()
	var out Container
	made := c.Name == ""
	for try := 0; ; try++ {
		if made {
			c.Name = someName()
			if try > 3 {
				c.Name += "_" + id[:8]
			}
		}
		out, err = e.create(ctx, id, r, c)
		if !made || fault.ClassOf(err) != fault.Exists || try > 5 {
			break
		}
	}
	if err != nil {
		return Container{}, join(err, e.dropSandbox(r))
	}
	return out, nil
}

func (e *Engine) create(ctx context.Context, id string, s *sandboxRecord, c ContainerConfig) (Container, error) {
	img, err := e.Images.Get(ctx, c.Image)
	if err != nil {
		return Container{}, err
	}
	out := Container{ID: id, Sandbox: s.ID, Image: string(img.ID), Config: c, Created: time.Now(), Status: Status{State: Created}}
	if out.Config.LogPath == "" && out.Config.LogFormat != "none" {
		out.Config.LogPath = e.path("containers", id, id+"-json.log")
		if s.Volatile { // its place is in memory, which is none for a log
			out.Config.LogPath = e.logPath(id)
		}
		if out.Config.LogFormat == "" {
			out.Config.LogFormat = "json-file"
		}
	}
	// What is wrong with the configuration is said now, not at the start.
	if _, err := compile(specInput{container: &out, sandbox: &s.Sandbox, image: img.Config.Config.ImageConfig, volumes: volumesAsked(&c)}); err != nil {
		return Container{}, err
	}
	dir, commit, undo, err := e.begin(ctx, "containers", id, s.Volatile)
	if err != nil {
		return Container{}, err
	}
	fail := func(err error) (Container, error) {
		e.release("c", c.Name, id)
		clean := context.WithoutCancel(ctx)
		err = join(in("create container", short(id), err), e.Snapshots.Remove(clean, id))
		undo()
		return Container{}, err
	}
	if err := e.reserve(ctx, "c", c.Name, id, s.Volatile); err != nil {
		return fail(err)
	}
	if err := e.Snapshots.Prepare(ctx, id, img.Chain); err != nil {
		return fail(err)
	}
	if err := e.makeVolumes(ctx, &out.Config); err != nil {
		return fail(err)
	}
	if err := save(filepath.Join(dir, "config.json"), &containerRecord{Container: out}); err != nil {
		return fail(err)
	}
	if err := save(filepath.Join(dir, "status.json"), &out.Status); err != nil {
		return fail(err)
	}
	if err := commit(); err != nil {
		return fail(err)
	}
	e.events.emit(Event{Type: EventCreated, Sandbox: s.ID, Container: id, At: out.Created})
	return out, nil
}

// containerRecord is config.json: what does not change in a container's life.
type containerRecord struct {
	Container
}

// container reads a container as its records have it, which may be behind its
// monitor; see observe.
func (e *Engine) container(id string) (Container, error) {
	if id == "" || strings.ContainsAny(id, "/.") {
		return Container{}, noContainer(id)
	}
	r, err := load[containerRecord](&e.records, e.place("containers", id, "config.json"))
	if err == nil {
		var st *Status
		if st, err = load[Status](&e.records, e.place("containers", id, "status.json")); err == nil {
			c := r.Container
			c.Status = *st
			return c, nil
		}
	}
	if fault.ClassOf(err) == fault.NotFound {
		return Container{}, noContainer(id)
	}
	return Container{}, err
}

func (e *Engine) lockContainer(ctx context.Context, id string) (unlock func(), _ Container, err error) {
	if _, err := e.container(id); err != nil {
		return nil, Container{}, err
	}
	unlock, err = lock(ctx, e.place("containers", id, "lock"))
	if fault.ClassOf(err) == fault.NotFound {
		return nil, Container{}, noContainer(id)
	}
	if err != nil {
		return nil, Container{}, err
	}
	c, err := e.container(id)
	if err != nil {
		unlock()
		return nil, Container{}, err
	}
	return unlock, c, nil
}

func (e *Engine) saveStatus(c *Container) error {
	return save(e.place("containers", c.ID, "status.json"), &c.Status)
}
