package runtime

import (
	"path"
	"slices"
	"strings"
	"syscall"

	"sampan/internal/fault"
	"sampan/internal/linux"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// mountOptions is what a mount's options say, sorted by who has to know.
type mountOptions struct {
	set, clear       uint64 // mount attributes
	recursiveSet     uint64 // of the whole tree
	bind, recursive  bool
	propagation      uint64
	recursivePropagt bool
	data             []string // for the file system
}

var attributes = map[string]struct{ set, clear uint64 }{
	"ro": {linux.AttrReadOnly, 0}, "rw": {0, linux.AttrReadOnly},
	"nosuid": {linux.AttrNoSuid, 0}, "suid": {0, linux.AttrNoSuid},
	"nodev": {linux.AttrNoDev, 0}, "dev": {0, linux.AttrNoDev},
	"noexec": {linux.AttrNoExec, 0}, "exec": {0, linux.AttrNoExec},
	"noatime": {linux.AttrNoAtime, linux.AttrAtime}, "atime": {0, linux.AttrAtime},
	"relatime": {0, linux.AttrAtime}, "norelatime": {0, linux.AttrAtime},
	"strictatime": {linux.AttrStrictAtime, linux.AttrAtime}, "nostrictatime": {0, linux.AttrAtime},
	"nodiratime": {linux.AttrNoDirAtime, 0}, "diratime": {0, linux.AttrNoDirAtime},
	"nosymfollow": {linux.AttrNoSymFollow, 0}, "symfollow": {0, linux.AttrNoSymFollow},
}

var propagations = map[string]uint64{
	"shared": linux.Shared, "slave": linux.Slave, "private": linux.Private, "unbindable": linux.Unbindable,
}

// parseOptions sorts OCI mount options (config.md, Linux mount options).
func parseOptions(opts []string) (mountOptions, error) {
	var o mountOptions
	for _, opt := range opts {
		if f, ok := attributes[opt]; ok {
			o.set = o.set&^(f.clear|f.set) | f.set
			o.clear |= f.clear
			continue
		}
		if p, ok := propagations[opt]; ok {
			o.propagation = p
			continue
		}
		if rest, ok := strings.CutPrefix(opt, "r"); ok {
			if p, ok := propagations[rest]; ok {
				o.propagation, o.recursivePropagt = p, true
				continue
			}
			if f, ok := attributes[rest]; ok && opt != "ro" && opt != "rw" {
				o.recursiveSet |= f.set
				continue
			}
		}
		switch opt {
		case "bind":
			o.bind = true
		case "rbind":
			o.bind, o.recursive = true, true
		case "", "defaults", "async", "nouser", "tmpcopyup":
			if opt == "tmpcopyup" {
				return o, &fault.Error{Class: fault.Invalid, Op: "read mount option", On: opt, Fix: "copying a directory's content into a tmpfs is not there yet"}
			}
		case "idmap", "ridmap":
			return o, &fault.Error{Class: fault.Invalid, Op: "read mount option", On: opt, Fix: "mounts with mapped ids are not there yet"}
		case "sync", "dirsync", "mand", "nomand", "remount", "silent", "loud", "iversion", "noiversion", "lazytime", "nolazytime":
			o.data = append(o.data, opt)
		default:
			o.data = append(o.data, opt)
		}
	}
	return o, nil
}

// source is what has to be known about a bind mount's source beforehand.
type source struct{ dir bool }

// mountPoint makes the directory (or file) that is mounted on. Whatever is
// there stays: making what exists fails harmlessly, and what is really missing
// shows when it is mounted on. By now the root is the container's, so links
// cannot lead out.
func (a *assembler) mountPoint(dst string, dir bool) {
	parts := strings.Split(strings.Trim(dst, "/"), "/")
	at := ""
	for i, p := range parts {
		at += "/" + p
		if i == len(parts)-1 && !dir {
			a.quiet("mknodat("+at+", S_IFREG)", linux.SysMknodat, cwd, a.str(at), num(syscall.S_IFREG|0o644), num(0))
			return
		}
		a.quiet("mkdirat("+at+")", linux.SysMkdirat, cwd, a.str(at), num(0o755))
	}
}

// attr is a struct mount_attr in the program's data.
func (a *assembler) attr(set, clear, propagation uint64) arg {
	return a.words(set, clear, propagation, 0)
}

// place moves a mount that is not attached yet to a path.
func (a *assembler) place(m arg, dst string) int {
	return a.op("move_mount(→ "+dst+")", linux.SysMoveMount, m, a.str(""), cwd, a.str(dst), num(linux.MoveFromEmpty|linux.MoveToLink))
}

// openSources clones all bind mounts' sources while the machine's root is still
// there, and before propagation is cut: so a mount asked to be shared remains a
// peer of its source.
func (a *assembler) openSources(mounts []specs.Mount, opts []mountOptions) []arg {
	out := make([]arg, len(mounts))
	for i, m := range mounts {
		if !opts[i].bind {
			continue
		}
		flags := linux.OpenTreeClone | syscall.O_CLOEXEC
		if opts[i].recursive {
			flags |= linux.AtRecursive
		}
		a.because("source of " + m.Destination)
		out[i] = a.result(a.op("open_tree("+m.Source+", OPEN_TREE_CLONE)", linux.SysOpenTree, cwd, a.str(m.Source), num(flags)))
	}
	return out
}

// bindMount attaches a source that openSources cloned.
func (a *assembler) bindMount(m specs.Mount, o mountOptions, src arg, dir bool) {
	a.because("mount " + m.Source + " on " + m.Destination)
	a.mountPoint(m.Destination, dir)
	if o.recursiveSet != 0 {
		a.op("mount_setattr(AT_RECURSIVE)", linux.SysMountSetattr, src, a.str(""), num(linux.AtEmptyPath|linux.AtRecursive), a.attr(o.recursiveSet, 0, 0), num(32))
	}
	prop, flags := o.propagation, linux.AtEmptyPath
	if prop == 0 {
		// Without an option: what happens on either side stays there.
		prop, o.recursivePropagt = linux.Private, true
	}
	if o.set|o.clear != 0 {
		a.op("mount_setattr("+strings.Join(m.Options, ",")+")", linux.SysMountSetattr, src, a.str(""), num(linux.AtEmptyPath), a.attr(o.set, o.clear, 0), num(32))
	}
	if o.recursivePropagt {
		flags |= linux.AtRecursive
	}
	if prop != linux.Shared {
		a.op("mount_setattr(propagation)", linux.SysMountSetattr, src, a.str(""), num(flags), a.attr(0, 0, prop), num(32))
	}
	a.place(src, m.Destination)
	if prop == linux.Shared {
		a.op("mount_setattr(MS_SHARED)", linux.SysMountSetattr, src, a.str(""), num(flags), a.attr(0, 0, prop), num(32))
	}
	a.close(src)
}

// newFS makes a file system that is not attached yet.
func (a *assembler) newFS(kind, source string, data []string, attrs uint64) arg {
	ctx := a.result(a.op("fsopen("+kind+")", linux.SysFsopen, a.str(kind), num(1))) // FSOPEN_CLOEXEC
	if source != "" {
		a.op("fsconfig(source="+source+")", linux.SysFsconfig, ctx, num(linux.ConfigString), a.str("source"), a.str(source), num(0))
	}
	for _, d := range data {
		if k, v, ok := strings.Cut(d, "="); ok {
			a.op("fsconfig("+d+")", linux.SysFsconfig, ctx, num(linux.ConfigString), a.str(k), a.str(v), num(0))
		} else {
			a.op("fsconfig("+d+")", linux.SysFsconfig, ctx, num(linux.ConfigFlag), a.str(k), num(0), num(0))
		}
	}
	a.op("fsconfig(FSCONFIG_CMD_CREATE)", linux.SysFsconfig, ctx, num(linux.ConfigCreate), num(0), num(0), num(0))
	m := a.result(a.op("fsmount()", linux.SysFsmount, ctx, num(1), num(attrs)))
	a.close(ctx)
	return m
}

// newMount makes a file system and attaches it.
func (a *assembler) newMount(m specs.Mount, o mountOptions) {
	a.because("mount " + m.Type + " on " + m.Destination)
	a.mountPoint(m.Destination, true)
	f := a.newFS(m.Type, m.Source, o.data, o.set)
	if m.Type == "proc" || m.Type == "sysfs" {
		// A link in the image at this place would let it choose what is masked
		// below: refuse it (openat2, RESOLVE_NO_SYMLINKS).
		how := a.words(uint64(syscall.O_DIRECTORY|linux.OPath|syscall.O_CLOEXEC), 0, linux.ResolveNoSymlinks)
		at := a.result(a.op("openat2("+m.Destination+", RESOLVE_NO_SYMLINKS)", linux.SysOpenat2, cwd, a.str(m.Destination), how, num(24)))
		a.op("move_mount(→ "+m.Destination+")", linux.SysMoveMount, f, a.str(""), at, a.str(""), num(linux.MoveFromEmpty|linux.MoveToEmpty))
		a.close(at)
	} else {
		a.place(f, m.Destination)
	}
	if o.propagation != 0 {
		flags := linux.AtEmptyPath
		if o.recursivePropagt {
			flags |= linux.AtRecursive
		}
		a.op("mount_setattr(propagation)", linux.SysMountSetattr, f, a.str(""), num(flags), a.attr(0, 0, o.propagation), num(32))
	}
	a.close(f)
}

// cgroupView is what a container sees at /sys/fs/cgroup: its own groups.
type cgroupView struct {
	unified string            // directory to show as a whole, on a machine with version 2 only
	dirs    map[string]string // name → directory, version 1
	names   []string          // of dirs, sorted
	links   map[string]string // a controller's name → the directory it shares
}

func (a *assembler) openView(v cgroupView) map[string]arg {
	out := map[string]arg{}
	clone := func(name, dir string) {
		a.because("control group " + dir + " for the container's view")
		out[name] = a.result(a.op("open_tree("+dir+", OPEN_TREE_CLONE)", linux.SysOpenTree, cwd, a.str(dir), num(linux.OpenTreeClone|syscall.O_CLOEXEC)))
	}
	if v.unified != "" {
		clone("", v.unified)
	}
	for _, n := range v.names {
		clone(n, v.dirs[n])
	}
	return out
}

// cgroupMount shows the container's groups, not the machine's.
func (a *assembler) cgroupMount(m specs.Mount, o mountOptions, v cgroupView, open map[string]arg) {
	a.because("mount the container's control groups on " + m.Destination)
	a.mountPoint(m.Destination, true)
	setattr := func(f arg, set uint64) {
		a.op("mount_setattr()", linux.SysMountSetattr, f, a.str(""), num(linux.AtEmptyPath), a.attr(set, 0, linux.Private), num(32))
	}
	if v.unified != "" {
		setattr(open[""], o.set)
		a.place(open[""], m.Destination)
		a.close(open[""])
		return
	}
	t := a.newFS("tmpfs", "tmpfs", []string{"mode=755", "size=0"}, o.set&^linux.AttrReadOnly)
	a.place(t, m.Destination)
	for _, n := range v.names {
		dst := path.Join(m.Destination, n)
		a.op("mkdirat("+dst+")", linux.SysMkdirat, cwd, a.str(dst), num(0o755))
		setattr(open[n], o.set)
		a.place(open[n], dst)
		a.close(open[n])
	}
	for _, name := range sortedKeys(v.links) {
		a.op("symlinkat("+name+")", linux.SysSymlinkat, a.str(v.links[name]), cwd, a.str(path.Join(m.Destination, name)))
	}
	if o.set&linux.AttrReadOnly != 0 {
		setattr(t, linux.AttrReadOnly)
	}
	a.close(t)
}

// openNull clones the machine's /dev/null, which the image has no say in.
func (a *assembler) openNull(p string) arg {
	a.because("to hide " + p)
	return a.result(a.op("open_tree(/dev/null, OPEN_TREE_CLONE)", linux.SysOpenTree, cwd, a.str("/dev/null"), num(linux.OpenTreeClone|syscall.O_CLOEXEC)))
}

// mask hides a path: a file behind null, a directory behind an empty one.
func (a *assembler) mask(p string, null arg) {
	a.because("hide " + p)
	isDir := a.quiet("openat("+p+", O_DIRECTORY)", linux.SysOpenat, cwd, a.str(p), num(syscall.O_DIRECTORY|linux.OPath|syscall.O_CLOEXEC))
	a.allow(a.place(null, p), syscall.ENOENT)
	a.close(null)
	j := a.jump()
	a.skip(isDir)
	t := a.newFS("tmpfs", "tmpfs", []string{"nr_inodes=1", "size=0"}, linux.AttrReadOnly|linux.AttrNoSuid|linux.AttrNoDev|linux.AttrNoExec)
	a.place(t, p)
	a.close(t)
	a.skip(j)
}

// readOnly mounts a path on itself without the right to write.
func (a *assembler) readOnly(p string) {
	a.because("make " + p + " read-only")
	there := a.op("openat("+p+")", linux.SysOpenat, cwd, a.str(p), num(linux.OPath|syscall.O_CLOEXEC))
	a.allow(there, syscall.ENOENT)
	f := a.result(there)
	j := a.jump()
	a.skip(there)
	t := a.result(a.op("open_tree("+p+", OPEN_TREE_CLONE)", linux.SysOpenTree, f, a.str(""), num(linux.OpenTreeClone|linux.AtEmptyPath|linux.AtRecursive|syscall.O_CLOEXEC)))
	a.op("mount_setattr(ro)", linux.SysMountSetattr, t, a.str(""), num(linux.AtEmptyPath|linux.AtRecursive), a.attr(linux.AttrReadOnly, 0, 0), num(32))
	a.op("move_mount(→ "+p+")", linux.SysMoveMount, t, a.str(""), f, a.str(""), num(linux.MoveFromEmpty|linux.MoveToEmpty))
	a.close(t)
	a.close(f)
	a.skip(j)
}

func sortedKeys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
