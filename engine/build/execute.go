package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"sampan/engine/image"
	"sampan/engine/snapshot"
	"sampan/internal/durable"
	"sampan/internal/fault"
)

const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// built is a stage as far as it has come.
type built struct {
	config image.ConfigFile
	layers []snapshot.Layer
	// made is when the newest layer was made, or zero: a build that finds all
	// of them again gives the same image, not one that differs in its times.
	made time.Time
}

func (b *built) top() digest.Digest {
	if len(b.layers) == 0 {
		return ""
	}
	return b.layers[len(b.layers)-1].Chain
}

func (b *built) chain() []digest.Digest {
	out := make([]digest.Digest, len(b.layers))
	for i, l := range b.layers {
		out[i] = l.Chain
	}
	return out
}

// run is one build under way.
type run struct {
	*Builder
	req    Request
	file   string // name of the Dockerfile in errors
	src    *os.Root
	ignore ignoreList
	stages []stage
	done   map[int]*built
	global map[string]string
	number int // of the progress line's vertex
	lex    *shell.Lex
}

// Build makes the image of req.
func (b *Builder) Build(ctx context.Context, req Request) (image.Image, error) {
	if req.Output == nil {
		req.Output = io.Discard
	}
	if req.Dockerfile == "" {
		req.Dockerfile = filepath.Join(req.Context, "Dockerfile")
	}
	text, err := os.ReadFile(req.Dockerfile)
	if err != nil {
		return image.Image{}, &fault.Error{Class: fault.NotFound, Op: "read Dockerfile", On: req.Dockerfile, Err: err, Fix: "name it with: sampan build -f FILE CONTEXT"}
	}
	todo, err := plan(text, req.Dockerfile, req.Target, req.Args)
	if err != nil {
		return image.Image{}, err
	}
	stages := todo.stages
	src, err := os.OpenRoot(req.Context)
	if err != nil {
		return image.Image{}, &fault.Error{Class: fault.NotFound, Op: "open build context", On: req.Context, Err: err}
	}
	defer src.Close()
	r := &run{Builder: b, req: req, file: req.Dockerfile, src: src, stages: stages, done: map[int]*built{}, global: todo.global, lex: shell.NewLex(todo.escape)}
	if data, err := src.ReadFile(".dockerignore"); err == nil {
		if r.ignore, err = parseIgnore(data); err != nil {
			return image.Image{}, &fault.Error{Class: fault.Invalid, Op: "read .dockerignore", On: req.Context, Err: err}
		}
	} else if !errors.Is(err, os.ErrNotExist) {
		return image.Image{}, &fault.Error{Op: "read .dockerignore", On: req.Context, Err: err}
	}
	need := needed(stages)
	for _, s := range stages {
		if !need[s.index] {
			continue
		}
		if r.done[s.index], err = r.stage(ctx, s); err != nil {
			return image.Image{}, err
		}
	}
	return r.export(ctx, r.done[len(stages)-1])
}

func (r *run) export(ctx context.Context, b *built) (image.Image, error) {
	r.number++
	created := r.when(b)
	b.config.Created = &created
	name := ""
	if len(r.req.Tags) > 0 {
		name = r.req.Tags[0]
	}
	im, err := r.cfg.Images.Create(ctx, b.config, b.layers, name)
	if err != nil {
		return im, err
	}
	for _, t := range r.req.Tags[min(1, len(r.req.Tags)):] {
		if im, err = r.cfg.Images.Tag(ctx, im.ID.String(), t); err != nil {
			return im, err
		}
	}
	fmt.Fprintf(r.req.Output, "#%d exporting to image\n#%d writing image %s\n", r.number, r.number, im.ID)
	for _, t := range r.req.Tags {
		fmt.Fprintf(r.req.Output, "#%d naming to %s\n", r.number, t)
	}
	fmt.Fprintf(r.req.Output, "#%d DONE\n", r.number)
	return im, nil
}

func (r *run) now() time.Time {
	if !r.req.Created.IsZero() {
		return r.req.Created.UTC()
	}
	return time.Now().UTC()
}

func (r *run) when(b *built) time.Time {
	if r.req.Created.IsZero() && !b.made.IsZero() {
		return b.made
	}
	return r.now()
}

func (r *run) stage(ctx context.Context, s stage) (*built, error) {
	b, err := r.base(ctx, s)
	if err != nil {
		return nil, err
	}
	args := map[string]string{}
	for i, st := range s.steps {
		r.number++
		label := fmt.Sprintf("#%d [%s%d/%d] %s", r.number, stageName(s), i+2, len(s.steps)+1, st.text)
		fmt.Fprintln(r.req.Output, label)
		began := time.Now()
		cached, err := r.step(ctx, s, st, b, args)
		if err != nil {
			fmt.Fprintf(r.req.Output, "#%d ERROR: %v\n\n", r.number, err)
			return nil, &fault.Error{Class: fault.ClassOf(err), Op: "build", On: r.file + ":" + strconv.Itoa(st.line), Err: fmt.Errorf("%s: %w", st.text, err)}
		}
		if cached {
			fmt.Fprintf(r.req.Output, "#%d CACHED\n\n", r.number)
		} else {
			fmt.Fprintf(r.req.Output, "#%d DONE %.1fs\n\n", r.number, time.Since(began).Seconds())
		}
	}
	return b, nil
}

func stageName(s stage) string {
	if s.name == "" {
		return ""
	}
	return s.name + " "
}

func (r *run) base(ctx context.Context, s stage) (*built, error) {
	if s.from >= 0 {
		old := r.done[s.from]
		return &built{config: copyConfig(old.config), layers: slices.Clone(old.layers), made: old.made}, nil
	}
	b := &built{}
	if s.base == "scratch" {
		b.config.OS, b.config.Architecture = "linux", runtime.GOARCH
		b.config.Config.Env = []string{defaultPath}
		return b, nil
	}
	r.number++
	fmt.Fprintf(r.req.Output, "#%d [%s1/%d] FROM %s\n", r.number, stageName(s), len(s.steps)+1, s.base)
	im, err := r.image(ctx, s.base)
	if err != nil {
		return nil, &fault.Error{Class: fault.ClassOf(err), Op: "build", On: r.file + ":" + strconv.Itoa(s.line), Err: err}
	}
	fmt.Fprintf(r.req.Output, "#%d DONE\n\n", r.number)
	return r.of(im)
}

func (r *run) image(ctx context.Context, ref string) (image.Image, error) {
	im, err := r.cfg.Images.Get(ctx, ref)
	if fault.ClassOf(err) == fault.NotFound && r.req.Pull != nil {
		return r.req.Pull(ctx, ref)
	}
	return im, err
}

func (r *run) of(im image.Image) (*built, error) {
	b := &built{config: copyConfig(im.Config)}
	for _, c := range im.Chain {
		l, err := r.cfg.Snapshots.Layer(c)
		if err != nil {
			return nil, err
		}
		b.layers = append(b.layers, l)
	}
	return b, nil
}

func copyConfig(c image.ConfigFile) image.ConfigFile {
	c.Config.Env = slices.Clone(c.Config.Env)
	c.Config.Labels = maps.Clone(c.Config.Labels)
	c.Config.ExposedPorts = maps.Clone(c.Config.ExposedPorts)
	c.History = slices.Clone(c.History)
	return c
}

// step carries out one instruction. cached says that its layer was there.
func (r *run) step(ctx context.Context, s stage, st step, b *built, args map[string]string) (cached bool, err error) {
	scope := maps.Clone(args)
	for _, kv := range b.config.Config.Env {
		k, v, _ := strings.Cut(kv, "=")
		scope[k] = v
	}
	if e, ok := st.cmd.(instructions.SupportsSingleWordExpansion); ok {
		if _, arg := st.cmd.(*instructions.ArgCommand); !arg {
			err := e.Expand(func(word string) (string, error) {
				got, err := r.lex.ProcessWordWithMatches(word, envs(scope))
				return got.Result, err
			})
			if err != nil {
				return false, err
			}
		}
	}
	cfg := &b.config.Config
	by := st.text
	switch c := st.cmd.(type) {
	case *instructions.RunCommand:
		return r.runStep(ctx, c, b, args, by)
	case *instructions.CopyCommand:
		return r.copyStep(ctx, s, c, b, by)
	case *instructions.WorkdirCommand:
		cfg.WorkingDir = path.Join("/", abs(cfg.WorkingDir, c.Path))
		return r.layer(ctx, b, by, r.key("workdir", b, cfg.WorkingDir), func(root string) error {
			return r.inRoot(root, func(t *target) error { return closed(t.folder(cfg.WorkingDir)) })
		})
	case *instructions.ArgCommand:
		for _, a := range c.Args {
			if v, ok := r.global[a.Key]; ok && a.Value == nil {
				args[a.Key] = v
			}
			if err := declare(r.lex, a, args, r.req.Args); err != nil {
				return false, err
			}
		}
	case *instructions.EnvCommand:
		for _, kv := range c.Env {
			cfg.Env = append(slices.DeleteFunc(cfg.Env, func(e string) bool { return strings.HasPrefix(e, kv.Key+"=") }), kv.Key+"="+kv.Value)
		}
	case *instructions.LabelCommand:
		if cfg.Labels == nil {
			cfg.Labels = map[string]string{}
		}
		for _, kv := range c.Labels {
			cfg.Labels[kv.Key] = kv.Value
		}
	case *instructions.UserCommand:
		cfg.User = c.User
	case *instructions.ExposeCommand:
		if cfg.ExposedPorts == nil {
			cfg.ExposedPorts = map[string]struct{}{}
		}
		for _, word := range c.Ports {
			ports, err := r.lex.ProcessWords(word, envs(scope))
			if err != nil {
				return false, err
			}
			for _, p := range ports {
				port, proto, _ := strings.Cut(p, "/")
				if proto == "" {
					proto = "tcp"
				}
				if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || proto != "tcp" && proto != "udp" && proto != "sctp" {
					return false, &fault.Error{Class: fault.Invalid, Op: "read port", On: p, Err: errors.New("want a port from 1 to 65535, or port/udp; ranges are not supported")}
				}
				cfg.ExposedPorts[port+"/"+proto] = struct{}{}
			}
		}
	case *instructions.EntrypointCommand:
		cfg.Entrypoint = r.argv(b, c.ShellDependantCmdLine)
		cfg.Cmd = nil // docs.docker.com: ENTRYPOINT takes away the base image's CMD
	case *instructions.CmdCommand:
		cfg.Cmd = r.argv(b, c.ShellDependantCmdLine)
	default:
		return false, &fault.Error{Class: fault.Invalid, Op: "build", Err: errors.New(st.cmd.Name() + " is not supported")}
	}
	r.history(b, by, true)
	return false, nil
}

func closed(fd int, _ bool, err error) error {
	if err == nil {
		err = os.NewFile(uintptr(fd), "").Close()
	}
	return err
}

func abs(dir, p string) string {
	if path.IsAbs(p) {
		return p
	}
	return path.Join("/", dir, p)
}

func (r *run) argv(b *built, c instructions.ShellDependantCmdLine) []string {
	if !c.PrependShell {
		return c.CmdLine
	}
	sh := b.config.Config.Shell
	if len(sh) == 0 {
		sh = []string{"/bin/sh", "-c"}
	}
	return append(slices.Clone(sh), strings.Join(c.CmdLine, " "))
}

func (r *run) history(b *built, by string, empty bool) {
	now := r.when(b)
	b.config.History = append(b.config.History, ocispec.History{Created: &now, CreatedBy: by, Comment: "sampan build", EmptyLayer: empty})
}

func (r *run) runStep(ctx context.Context, c *instructions.RunCommand, b *built, args map[string]string, by string) (bool, error) {
	cfg := b.config.Config
	req := RunRequest{Args: r.argv(b, c.ShellDependantCmdLine), Dir: abs("/", cfg.WorkingDir), User: cfg.User,
		Output: &prefixed{w: r.req.Output, prefix: "#" + strconv.Itoa(r.number) + " "}}
	if !slices.ContainsFunc(cfg.Env, func(e string) bool { return strings.HasPrefix(e, "PATH=") }) {
		req.Env = append(req.Env, defaultPath)
	}
	for _, k := range slices.Sorted(maps.Keys(args)) {
		req.Env = append(req.Env, k+"="+args[k])
	}
	req.Env = append(req.Env, cfg.Env...)
	key := r.key("run", b, req.Args, req.Env, req.Dir, req.User)
	return r.layer(ctx, b, by, key, func(root string) error {
		req.RootFS = root
		code, err := r.cfg.Runner.Run(ctx, req)
		if err != nil {
			return err
		}
		if code != 0 {
			return &fault.Error{Class: fault.Invalid, Op: "run", On: strings.Join(req.Args, " "), Err: fmt.Errorf("exit code %d", code)}
		}
		return nil
	})
}

func (r *run) copyStep(ctx context.Context, s stage, c *instructions.CopyCommand, b *built, by string) (bool, error) {
	src, ignore := r.src, r.ignore
	if c.From != "" {
		from, err := r.other(ctx, s, c.From)
		if err != nil {
			return false, err
		}
		root, end, err := r.mounted(ctx, from.chain())
		if err != nil {
			return false, err
		}
		defer end()
		if src, err = os.OpenRoot(root); err != nil {
			return false, err
		}
		defer src.Close()
		ignore = ignoreList{}
	}
	t := &target{mode: -1}
	if c.Chmod != "" {
		var err error
		if t.mode, err = strconv.ParseInt(c.Chmod, 8, 32); err != nil || t.mode < 0 || t.mode > 0o7777 {
			return false, &fault.Error{Class: fault.Invalid, Op: "read --chmod", On: c.Chmod, Err: errors.New("want an octal mode such as 0755")}
		}
	}
	items, many, err := gather(src, c.SourcePaths, ignore)
	if err != nil {
		return false, &fault.Error{Class: fault.NotFound, Op: "copy", Err: err}
	}
	if many && !strings.HasSuffix(c.DestPath, "/") && len(c.SourcePaths) > 1 {
		return false, &fault.Error{Class: fault.Invalid, Op: "copy", On: c.DestPath, Err: errors.New("with several sources the destination must end with /")}
	}
	dest := abs(b.config.Config.WorkingDir, c.DestPath)
	if strings.HasSuffix(c.DestPath, "/") || c.DestPath == "." {
		dest = strings.TrimSuffix(dest, "/") + "/"
	}
	h := sha256.New()
	if err := sum(h, src, items); err != nil {
		return false, &fault.Error{Op: "copy", Err: err}
	}
	key := r.key("copy", b, hex.EncodeToString(h.Sum(nil)), dest, c.Chown, c.Chmod, many)
	return r.layer(ctx, b, by, key, func(root string) error {
		return r.inRoot(root, func(in *target) error {
			in.mode = t.mode
			if err := in.owner(c.Chown); err != nil {
				return &fault.Error{Class: fault.Invalid, Op: "copy", Err: err}
			}
			return in.put(src, items, dest, many)
		})
	})
}

// other is what COPY --from means: an earlier stage or an image.
func (r *run) other(ctx context.Context, s stage, ref string) (*built, error) {
	if i := find(r.stages, ref, s.index); i >= 0 {
		return r.done[i], nil
	}
	im, err := r.image(ctx, ref)
	if err != nil {
		return nil, err
	}
	return r.of(im)
}

func (r *run) inRoot(root string, fn func(*target) error) error {
	d, err := os.Open(root)
	if err != nil {
		return err
	}
	defer d.Close()
	return fn(&target{root: d, mode: -1})
}

// key names a step's result: what it stands on, and all that it is made of.
func (r *run) key(kind string, b *built, parts ...any) string {
	var h hash.Hash = sha256.New()
	fmt.Fprintf(h, "1 %s %s %d ", kind, b.top(), r.req.Created.Unix())
	if err := json.NewEncoder(h).Encode(parts); err != nil {
		panic(err) // strings only
	}
	return hex.EncodeToString(h.Sum(nil))
}

// layer adds the layer that fn makes, or the one that it made last time.
func (r *run) layer(ctx context.Context, b *built, by, key string, fn func(root string) error) (cached bool, err error) {
	file := filepath.Join(r.cfg.Dir, "cache", key)
	if data, err := os.ReadFile(file); err == nil && !r.req.NoCache {
		chain, made, _ := strings.Cut(string(data), " ")
		at, timeErr := time.Parse(time.RFC3339Nano, made)
		if l, err := r.cfg.Snapshots.Layer(digest.Digest(chain)); err == nil && timeErr == nil && l.Parent == b.top() {
			b.layers, b.made = append(b.layers, l), at
			r.history(b, by, false)
			return true, nil
		}
	}
	id, root, end, err := r.writable(ctx, b.chain())
	if err != nil {
		return false, err
	}
	defer end()
	if err := fn(root); err != nil {
		return false, err
	}
	l, err := r.cfg.Snapshots.Commit(ctx, id, snapshot.DiffOptions{MaxTime: r.req.Created})
	if err != nil {
		return false, err
	}
	b.layers, b.made = append(b.layers, l), r.now()
	r.history(b, by, false)
	return false, durable.WriteFile(file, []byte(l.Chain.String()+" "+b.made.Format(time.RFC3339Nano)), 0o600)
}

func (r *run) mounted(ctx context.Context, chain []digest.Digest) (root string, end func(), err error) {
	_, root, end, err = r.writable(ctx, chain)
	return root, end, err
}

// writable mounts a snapshot above chain; end takes it away.
func (r *run) writable(ctx context.Context, chain []digest.Digest) (id, root string, end func(), err error) {
	root, err = os.MkdirTemp(r.cfg.Dir, "root")
	if err != nil {
		return "", "", nil, &fault.Error{Op: "build", On: r.cfg.Dir, Err: err}
	}
	id = "build-" + filepath.Base(root) + "-" + strconv.Itoa(os.Getpid())
	snaps := r.cfg.Snapshots
	if err = snaps.Prepare(ctx, id, chain); err == nil {
		if err = snaps.Mount(ctx, id, root, snapshot.MountOptions{Volatile: true}); err != nil {
			snaps.Remove(ctx, id)
		}
	}
	if err != nil {
		os.Remove(root)
		return "", "", nil, err
	}
	return id, root, func() {
		// Also after a cancelled build.
		ctx := context.WithoutCancel(ctx)
		err := snaps.Unmount(ctx, root)
		if err == nil {
			err = errors.Join(snaps.Remove(ctx, id), os.Remove(root))
		}
		if err != nil {
			r.cfg.Log.Warn("build left a snapshot", "key", id, "err", err)
		}
	}, nil
}

// prefixed puts a prefix before every line.
type prefixed struct {
	w      io.Writer
	prefix string
	inside bool
}

func (p *prefixed) Write(b []byte) (int, error) {
	for line := range strings.Lines(string(b)) {
		if !p.inside {
			line = p.prefix + line
		}
		p.inside = !strings.HasSuffix(line, "\n")
		if _, err := io.WriteString(p.w, line); err != nil {
			return 0, err
		}
	}
	return len(b), nil
}
