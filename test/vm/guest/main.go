// Command guest is the first process of the tests' virtual machine: it finds
// the disk, makes the machine what the tests expect, runs them and switches it
// off. By the name "go" it is a stand-in for the go command, which the machine
// has not: it hands out the programs that were built before.
//
// It knows nothing of what is tested.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

func main() {
	var err error
	switch {
	case filepath.Base(os.Args[0]) == "go":
		err = build(os.Args[1:])
		if err == nil {
			return
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	case len(os.Args) > 1 && os.Args[1] == "suites":
		err = suites()
	default:
		err = boot()
	}
	if err != nil {
		fmt.Println("guest:", err)
	}
	syscall.Sync()
	// The machine ends here, whatever has happened.
	fmt.Println(syscall.Reboot(syscall.LINUX_REBOOT_CMD_POWER_OFF))
}

// boot changes from the initrd to the disk: a root that pivot_root works on.
func boot() error {
	if err := mounts([]mount{{"devtmpfs", "/dev", ""}, {"proc", "/proc", ""}, {"sysfs", "/sys", ""}}); err != nil {
		return err
	}
	if err := load("/modules"); err != nil {
		return err
	}
	var err error
	for range 500 { // a disk shows when the bus has been looked through
		if err = syscall.Mount("/dev/vda", "/disk", "ext4", syscall.MS_NOATIME, ""); !errors.Is(err, syscall.ENOENT) {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err != nil {
		return fmt.Errorf("mount the disk: %w", err)
	}
	for _, d := range []string{"dev", "proc", "sys"} {
		if err := syscall.Mount("/"+d, "/disk/"+d, "", syscall.MS_MOVE, ""); err != nil {
			return fmt.Errorf("move /%s: %w", d, err)
		}
	}
	if err := errors.Join(os.Chdir("/disk"), syscall.Mount(".", "/", "", syscall.MS_MOVE, ""), syscall.Chroot("."), os.Chdir("/")); err != nil {
		return fmt.Errorf("change the root: %w", err)
	}
	return syscall.Exec("/guest", []string{"/guest", "suites"}, []string{"PATH=/bin:/usr/bin", "HOME=/root", "TMPDIR=/tmp"})
}

type mount struct{ kind, dir, data string }

func mounts(list []mount) error {
	for _, m := range list {
		if err := os.MkdirAll(m.dir, 0o755); err != nil {
			return err
		}
		if err := syscall.Mount(m.kind, m.dir, m.kind, 0, m.data); err != nil && err != syscall.EBUSY {
			return fmt.Errorf("mount %s on %s: %w", m.kind, m.dir, err)
		}
	}
	return nil
}

// load loads the modules of a directory in the order that its file says.
func load(dir string) error {
	order, err := os.ReadFile(filepath.Join(dir, "order"))
	if err != nil {
		return err
	}
	for _, name := range strings.Fields(string(order)) {
		f, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		if err := finitModule(f); err != nil && err != syscall.EEXIST {
			fmt.Printf("guest: load %s: %v\n", name, err) // what needs it will fail and say so
		}
		f.Close()
	}
	return nil
}

// suite is one program to run; see package vm.
type suite struct {
	Name string
	Args []string
	Dir  string
	Env  []string
}

// suites runs what the disk says on the second serial line. The first one has
// what the kernel says.
func suites() error {
	out, err := os.OpenFile("/dev/ttyS1", os.O_WRONLY|syscall.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	say := func(format string, args ...any) { fmt.Fprintf(out, "#vm# "+format+"\n", args...) }
	if err := prepare(); err != nil {
		return err
	}
	data, err := os.ReadFile("/suites.json")
	if err != nil {
		return err
	}
	var list []suite
	if err := json.Unmarshal(data, &list); err != nil {
		return err
	}
	var u syscall.Utsname
	if err := syscall.Uname(&u); err != nil {
		return err
	}
	var release strings.Builder
	for _, c := range u.Release {
		if c != 0 {
			release.WriteByte(byte(c))
		}
	}
	uptime, _ := os.ReadFile("/proc/uptime")
	say("%s is up, %d processors, after %s s", release.String(), runtime.NumCPU(), strings.Fields(string(uptime))[0])
	for _, s := range list {
		say("run %s", s.Name)
		begin := time.Now()
		code, err := run(s, out)
		if err != nil {
			say("%s: %v", s.Name, err)
			code = -1
		}
		result, err := json.Marshal(map[string]any{"Name": s.Name, "Exit": code, "Seconds": time.Since(begin).Seconds()})
		if err != nil {
			return err
		}
		say("%s", result)
	}
	say("done")
	return nil
}

// service is where the suites run, as a service of an init system would: not
// in the root group, where rules are laxer.
const service = "/sys/fs/cgroup/system.slice/suites.service"

// prepare makes the machine look as a distribution does: version 2 of control
// groups with the options systemd gives it, and nothing else.
func prepare() error {
	if err := mounts([]mount{{"tmpfs", "/run", "mode=755"}, {"devpts", "/dev/pts", "ptmxmode=666"}, {"tmpfs", "/dev/shm", ""}, {"mqueue", "/dev/mqueue", ""},
		{"cgroup2", "/sys/fs/cgroup", "nsdelegate,memory_recursiveprot"}}); err != nil {
		return err
	}
	for link, to := range map[string]string{"/dev/fd": "/proc/self/fd", "/dev/stdin": "fd/0", "/dev/stdout": "fd/1", "/dev/stderr": "fd/2"} {
		if err := os.Symlink(to, link); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	if err := os.MkdirAll(service, 0o755); err != nil {
		return err
	}
	if err := syscall.Sethostname([]byte("vm")); err != nil {
		return err
	}
	return load("/modules")
}

// run runs a suite and reaps, as the first process must, whatever else ends
// meanwhile.
func run(s suite, out *os.File) (code int, err error) {
	group, err := os.Open(service)
	if err != nil {
		return 0, err
	}
	defer group.Close()
	p, err := os.StartProcess(s.Args[0], s.Args, &os.ProcAttr{Dir: s.Dir, Env: append(os.Environ(), s.Env...), Files: []*os.File{nil, out, out},
		Sys: &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(group.Fd()), Setsid: true}})
	if err != nil {
		return 0, err
	}
	for {
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &ws, 0, nil)
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return 0, err
		case pid == p.Pid && ws.Signaled():
			return 128 + int(ws.Signal()), nil
		case pid == p.Pid:
			return ws.ExitStatus(), nil
		}
	}
}

// build answers "go build … -o OUT PACKAGE" with the program that was built
// under the package's path, and nothing else.
func build(args []string) error {
	out := ""
	for i, a := range args[:max(len(args)-1, 0)] {
		if a == "-o" {
			out = args[i+1]
		}
	}
	if out == "" || args[0] != "build" {
		return fmt.Errorf("this machine has no go: cannot do %q", args)
	}
	pkg := args[len(args)-1]
	if strings.HasPrefix(pkg, ".") {
		dir, err := os.Getwd()
		if err != nil {
			return err
		}
		pkg = "sampan/" + strings.TrimPrefix(filepath.Join(dir, pkg), "/src/")
	}
	data, err := os.ReadFile(filepath.Join("/built", pkg))
	if err != nil {
		return fmt.Errorf("this machine has no go, and %s was not built before: %w", pkg, err)
	}
	return os.WriteFile(out, data, 0o755)
}
