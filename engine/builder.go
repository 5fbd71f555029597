package engine

import (
	"context"
	"os"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"sampan/engine/build"
	"sampan/engine/runtime"
	"sampan/internal/fault"
	"sampan/internal/logfile"
)

// Builder is a builder of images whose commands run in this engine: on the
// host's network, so that they can fetch, and else as containers do.
func (e *Engine) Builder() (*build.Builder, error) {
	return build.New(build.Config{Dir: e.path("build"), Images: e.Images, Snapshots: e.Snapshots, Runner: buildRunner{e}, Log: e.log})
}

type buildRunner struct{ e *Engine }

// Run runs one command of a build in a sandbox of its own, which ends with it.
func (b buildRunner) Run(ctx context.Context, r build.RunRequest) (code int, err error) {
	e := b.e
	id := "build-" + newID()[:16]
	if err := e.live(ctx); err != nil {
		return 0, err
	}
	// Not with what lives in memory: it has the log.
	dir, err := os.MkdirTemp(e.config.Run, "build-")
	if err != nil {
		return 0, failed("make directory in", e.config.Run, err)
	}
	defer os.RemoveAll(dir)
	s := &sandboxRecord{Sandbox: Sandbox{ID: id, Config: SandboxConfig{Network: NetworkHost}}}
	if err := e.writeFiles(dir, s); err != nil {
		return 0, err
	}
	acct, err := e.account(r.RootFS, r.User, false)
	if err != nil {
		return 0, err
	}
	c := &Container{ID: id, Config: ContainerConfig{Entrypoint: r.Args, WorkingDir: r.Dir, Env: r.Env}}
	seccomp, err := e.seccomp(&c.Config)
	if err != nil {
		return 0, err
	}
	// Only resolv.conf: what a bind's target leaves in the layer must not differ
	// from what the image has.
	var files []Mount
	if _, err := os.Lstat(r.RootFS + "/etc/resolv.conf"); err == nil {
		files = []Mount{{Type: "bind", Source: dir + "/resolv.conf", Target: "/etc/resolv.conf"}}
	}
	spec, err := compile(specInput{container: c, sandbox: &s.Sandbox, image: ocispec.ImageConfig{}, account: acct, files: files,
		seccomp: seccomp, cgroup: e.CgroupRoot() + "/build/" + id})
	if err != nil {
		return 0, err
	}
	pod, err := e.Runtime.StartPod(ctx, runtime.PodConfig{ID: id, HostNetwork: true, HostUTS: true, CgroupParent: e.CgroupRoot() + "/build"})
	if err != nil {
		return 0, err
	}
	defer func() {
		if e := pod.Close(context.WithoutCancel(ctx)); err == nil {
			err = e
		}
	}()
	log := dir + "/log"
	_, err = pod.Start(ctx, runtime.ContainerConfig{ID: id, Spec: spec, RootFS: r.RootFS, Cgroup: spec.Linux.CgroupsPath, LogPath: log, LogFormat: "cri"})
	if err != nil {
		if code, ok := runtime.ExitCodeOf(err); ok {
			if r.Output != nil {
				_, _ = r.Output.Write([]byte(err.Error() + "\n"))
			}
			return code, nil
		}
		return 0, err
	}
	done := make(chan struct{})
	var exit runtime.Exit
	var waited error
	go func() {
		defer close(done)
		exit, waited = pod.Wait(ctx, id)
	}()
	err = logfile.Read(ctx, log, logfile.Options{Follow: true, Tail: -1, Done: done}, func(en logfile.Entry) error {
		if r.Output == nil {
			return nil
		}
		line := en.Line
		if !en.Partial {
			line = append(line[:len(line):len(line)], '\n')
		}
		_, err := r.Output.Write(line)
		return err
	})
	if err != nil {
		return 0, err
	}
	<-done
	if waited != nil {
		return 0, waited
	}
	if ctx.Err() != nil {
		return 0, &fault.Error{Class: fault.Unavailable, Op: "run", On: r.Args[0], Err: ctx.Err()}
	}
	return exit.Code, nil
}
