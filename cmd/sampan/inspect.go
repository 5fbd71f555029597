package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"sampan/engine"
	"sampan/engine/image"
	"sampan/internal/fault"
)

func newInspectCommand(g *globals) *cobra.Command {
	var kind string
	cmd := &cobra.Command{
		Use:     "inspect [flags] NAME|ID...",
		Short:   "Show all that is known of containers or images, as JSON",
		Example: "  sampan inspect web\n  sampan inspect --type image nginx:1.29",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := g.engine(cmd.Context())
			if err != nil {
				return err
			}
			defer e.Close()
			found := []any{}
			err = each(args, func(ref string) error {
				v, err := inspect(cmd.Context(), e, kind, ref)
				if err == nil {
					found = append(found, v)
				}
				return err
			})
			enc := json.NewEncoder(g.out)
			enc.SetIndent("", "    ")
			return errors.Join(enc.Encode(found), err)
		},
	}
	cmd.Flags().StringVar(&kind, "type", "", "container or image (default: whichever has the name)")
	return cmd
}

func inspect(ctx context.Context, e *engine.Engine, kind, ref string) (any, error) {
	if kind != "" && kind != "container" && kind != "image" {
		return nil, usage("--type %s: want container or image", kind)
	}
	if kind != "image" {
		c, err := e.Inspect(ctx, ref)
		if err == nil {
			return containerView(e, c), nil
		}
		if kind == "container" || fault.ClassOf(err) != fault.NotFound {
			return nil, err
		}
	}
	img, err := e.Images.Get(ctx, ref)
	if err == nil {
		return imageView(img), nil
	}
	if kind == "" && fault.ClassOf(err) == fault.NotFound {
		err = &fault.Error{Class: fault.NotFound, Op: "inspect", On: ref, Err: fmt.Errorf("no such object: %s", ref),
			Fix: "list what there is with sampan ps -a and sampan images"}
	}
	return nil, err
}

type object = map[string]any

// containerView has the names of Docker's API.
func containerView(e *engine.Engine, c engine.Container) any {
	s, cfg := c.Status, c.Config
	status := string(s.State)
	if s.State == engine.Unknown {
		status = "exited"
	}
	argv := append(append([]string{}, cfg.Entrypoint...), cfg.Command...)
	env, workdir, user, entrypoint, command := cfg.Env, cfg.WorkingDir, cfg.User, cfg.Entrypoint, cfg.Command
	if img, err := e.Images.Get(context.Background(), c.Image); err == nil {
		i := img.Config.Config
		env = append(append([]string{}, i.Env...), env...)
		if workdir == "" {
			workdir = i.WorkingDir
		}
		if user == "" {
			user = i.User
		}
		if len(entrypoint) == 0 {
			entrypoint = i.Entrypoint
			if len(command) == 0 {
				command = i.Cmd
			}
		}
		argv = append(append([]string{}, entrypoint...), command...)
	}
	path := ""
	if len(argv) > 0 {
		path, argv = argv[0], argv[1:]
	}
	mounts := []object{}
	for _, m := range cfg.Mounts {
		mounts = append(mounts, object{"Type": m.Type, "Source": m.Source, "Destination": m.Target, "RW": !m.ReadOnly, "Propagation": m.Propagation})
	}
	network := object{}
	sandbox, err := e.Sandbox(context.Background(), c.Sandbox)
	if err == nil {
		ip := ""
		if len(sandbox.IPs) > 0 && s.State == engine.Running {
			ip = sandbox.IPs[0].String()
		}
		network = object{"SandboxID": sandbox.ID, "SandboxKey": sandbox.NetNS, "IPAddress": ip,
			"Networks": object{string(sandbox.Config.Network): object{"IPAddress": ip}}}
	}
	r := cfg.Resources
	return object{
		"Id": c.ID, "Created": stamp(c.Created), "Path": path, "Args": argv, "Image": c.Image, "Name": "/" + cfg.Name,
		"RestartCount": s.Restarts, "Driver": e.Snapshots.Name(), "Platform": "linux", "LogPath": cfg.LogPath, "Mounts": mounts,
		"State": object{"Status": status, "Running": s.State == engine.Running, "Paused": false, "Restarting": false,
			"OOMKilled": s.OOMKilled, "Dead": false, "Pid": s.Pid, "ExitCode": s.ExitCode, "Error": s.Error,
			"StartedAt": stamp(s.Started), "FinishedAt": stamp(s.Finished)},
		"Config": object{"Hostname": sandbox.Config.Hostname, "User": user, "Tty": cfg.TTY, "OpenStdin": cfg.Stdin, "StdinOnce": cfg.StdinOnce,
			"Env": env, "Cmd": command, "Entrypoint": entrypoint, "Image": cfg.Image, "WorkingDir": workdir, "Labels": cfg.Labels},
		"HostConfig": object{"NetworkMode": string(sandbox.Config.Network), "AutoRemove": cfg.AutoRemove, "Privileged": cfg.Privileged,
			"ReadonlyRootfs": cfg.ReadOnlyRootFS, "CapAdd": cfg.CapAdd, "CapDrop": cfg.CapDrop, "OomScoreAdj": cfg.OOMScoreAdj,
			"Memory": r.MemoryBytes, "MemorySwap": r.SwapBytes, "CpuShares": r.CPUShares, "CpuPeriod": r.CPUPeriod, "CpuQuota": r.CPUQuota,
			"CpusetCpus": r.CPUs, "PidsLimit": r.Pids, "LogConfig": object{"Type": cfg.LogFormat}},
		"NetworkSettings": network,
	}
}

func imageView(img image.Image) any {
	layers := make([]string, len(img.DiffIDs))
	for i, d := range img.DiffIDs {
		layers[i] = d.String()
	}
	names := make([]string, len(img.Names))
	for i, n := range img.Names {
		names[i] = familiarName(n)
	}
	created := ""
	if img.Config.Created != nil {
		created = stamp(*img.Config.Created)
	}
	return object{
		"Id": img.ID, "RepoTags": names, "RepoDigests": append([]string{}, img.Digests...), "Created": created, "Author": img.Config.Author,
		"Architecture": img.Config.Architecture, "Variant": img.Config.Variant, "Os": img.Config.OS, "Size": img.Size,
		"Config": img.Config.Config, "RootFS": object{"Type": "layers", "Layers": layers},
		"Metadata": object{"LastTagTime": stamp(img.Loaded)},
	}
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }
