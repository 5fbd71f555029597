// Package vm runs tests on another kernel: Debian's, in a virtual machine with
// version 2 of control groups alone, which many machines have and the one that
// develops this need not. The machine is emulated in software, has no network
// and no disk but one made for the run.
//
// The package knows how to make and boot the machine; vm_test.go knows what to
// run on it. It is no part of a plain "go test ./...": see docs/testing.md.
package vm

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// Machine is a virtual machine to be.
type Machine struct {
	Kernel *Kernel
	Init   string // the guest program (./guest), static
	Work   string // a directory of its own for the images
	Root   string // a directory that becomes the machine's root file system
	Memory int    // MiB
	Log    io.Writer
}

// Suite is one program that the machine runs. Its end decides.
type Suite struct {
	Name string
	Args []string
	Dir  string
	Env  []string
}

// Result is how a suite ended.
type Result struct {
	Name    string
	Exit    int
	Seconds float64
}

// loaded are the modules that the tests use: names and, with a slash,
// directories of which all are meant. What they need is found by itself.
var loaded = []string{"overlay", "veth", "bridge", "br_netfilter", "dummy", "tun", "vxlan", "fuse", "nf_conntrack_netlink",
	"ipv4/netfilter/nft_", "ipv6/netfilter/nft_", "net/netfilter/nft_"}

// disk are the modules that the machine needs to see its disk.
var disk = []string{"virtio_pci", "virtio_blk"}

// Run boots the machine, runs the suites one after the other and returns how
// each has ended. What they print goes to Log as it comes.
func (m *Machine) Run(ctx context.Context, suites []Suite) ([]Result, error) {
	if err := m.fill(suites); err != nil {
		return nil, err
	}
	initrd, image := filepath.Join(m.Work, "initrd"), filepath.Join(m.Work, "disk")
	if err := m.initrd(initrd); err != nil {
		return nil, err
	}
	if err := makeDisk(ctx, image, m.Root); err != nil {
		return nil, err
	}
	console := filepath.Join(m.Work, "console")
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", "-M", "q35,accel=tcg", "-cpu", "max", "-smp", "2", "-m", strconv.Itoa(m.Memory),
		"-kernel", m.Kernel.Image, "-initrd", initrd, "-append", "console=ttyS0 quiet panic=-1 mitigations=off",
		"-drive", "file="+image+",format=raw,if=virtio,cache=unsafe", "-display", "none", "-monitor", "none", "-no-reboot", "-nic", "none",
		"-serial", "file:"+console, "-serial", "stdio")
	cmd.Stderr = m.Log
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start qemu: %w (apt-get install qemu-system-x86)", err)
	}
	results, done := read(out, m.Log)
	err = cmd.Wait()
	if err == nil && !done {
		err = errors.New("the machine went off before it was through")
	}
	if err != nil {
		said, _ := os.ReadFile(console)
		return results, fmt.Errorf("%w; its console says:\n%s", err, said)
	}
	return results, nil
}

// read passes on what the guest prints and picks the results out of it: lines
// that begin with mark.
func read(from io.Reader, log io.Writer) (results []Result, done bool) {
	lines := bufio.NewReader(from)
	for {
		line, err := lines.ReadString('\n')
		said, ok := strings.CutPrefix(strings.TrimRight(line, "\r\n"), mark)
		var r Result
		switch {
		case ok && said == "done":
			done = true
		case ok && json.Unmarshal([]byte(said), &r) == nil:
			results = append(results, r)
		}
		io.WriteString(log, strings.ReplaceAll(line, "\r", ""))
		if err != nil {
			return results, done
		}
	}
}

// mark begins the guest's lines that are not the suites' output.
const mark = "#vm# "

// fill adds to the root what the guest program looks for there.
func (m *Machine) fill(suites []Suite) error {
	for _, d := range []string{"proc", "sys", "dev", "tmp", "run", "root", "etc", "var/lib", "bin", "usr/bin", "modules"} {
		if err := os.MkdirAll(filepath.Join(m.Root, d), 0o755); err != nil {
			return err
		}
	}
	if err := os.Chmod(filepath.Join(m.Root, "tmp"), 0o1777); err != nil {
		return err
	}
	data, err := json.Marshal(suites)
	if err != nil {
		return err
	}
	for name, text := range map[string]string{"suites.json": string(data),
		"etc/passwd": "root:x:0:0:root:/root:/bin/sh\n", "etc/group": "root:x:0:\n", "etc/hosts": "127.0.0.1 localhost\n", "etc/resolv.conf": "nameserver 127.0.0.1\n"} {
		if err := os.WriteFile(filepath.Join(m.Root, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	for to, from := range map[string]string{"guest": m.Init, "bin/busybox": "/bin/busybox"} {
		if err := copyFile(from, filepath.Join(m.Root, to)); err != nil {
			return err
		}
	}
	if err := os.Symlink("/guest", filepath.Join(m.Root, "usr/bin/go")); err != nil {
		return err
	}
	for _, tool := range []string{"sh", "sleep", "cp", "cat", "ls", "true", "false"} {
		if err := os.Symlink("busybox", filepath.Join(m.Root, "bin", tool)); err != nil {
			return err
		}
	}
	mods, err := m.Kernel.Modules(loaded)
	if err != nil {
		return err
	}
	var order strings.Builder
	for _, mod := range mods {
		fmt.Fprintln(&order, filepath.Base(mod))
		if err := copyFile(mod, filepath.Join(m.Root, "modules", filepath.Base(mod))); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(m.Root, "modules/order"), []byte(order.String()), 0o644)
}

// initrd has the guest program and the modules for the disk, in order.
func (m *Machine) initrd(path string) error {
	mods, err := m.Kernel.Modules(disk)
	if err != nil {
		return err
	}
	var a archive
	for _, d := range []string{"proc", "sys", "dev", "disk", "modules"} {
		a.add(d, 0o40755, nil)
	}
	program, err := os.ReadFile(m.Init)
	if err != nil {
		return err
	}
	a.add("init", 0o100755, program)
	var order strings.Builder
	for _, mod := range mods {
		data, err := os.ReadFile(mod)
		if err != nil {
			return err
		}
		a.add("modules/"+filepath.Base(mod), 0o100644, data)
		fmt.Fprintln(&order, filepath.Base(mod))
	}
	a.add("modules/order", 0o100644, []byte(order.String()))
	return os.WriteFile(path, a.end(), 0o644)
}

// makeDisk makes a file system image with the content of a directory. It is
// sparse: only what is written takes space.
func makeDisk(ctx context.Context, image, root string) error {
	f, err := os.Create(image)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Truncate(4<<30), f.Close()); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, "mkfs.ext4", "-q", "-F", "-O", "^has_journal", "-E", "root_owner=0:0,lazy_itable_init=1,nodiscard", "-d", root, image).CombinedOutput()
	if err != nil {
		return fmt.Errorf("mkfs.ext4 of %s: %w\n%s", root, err, out)
	}
	return nil
}

// copyFile links where it can: the images are large.
func copyFile(from, to string) error {
	if err := os.Remove(to); err != nil && !os.IsNotExist(err) {
		return err
	}
	if os.Link(from, to) == nil {
		return nil
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	st, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, st.Mode().Perm())
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
