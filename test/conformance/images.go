package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
)

const (
	e2eImages  = "registry.k8s.io/e2e-test-images/"
	kubernetes = "k8s.io/kubernetes"
)

// images makes the archive of everything that conformance runs in containers.
// Each is upstream's program, or Debian's build where upstream takes Alpine's, or
// does what the image it stands for is documented to do. None knows a spec.
func (c *cache) images() (string, error) {
	archive := filepath.Join(c.dir, "images.tar")
	return archive, c.once("images", archive, func() error {
		work := filepath.Join(c.dir, "rootfs")
		if err := os.RemoveAll(work); err != nil {
			return err
		}
		for _, b := range []struct{ out, pkg string }{
			{"agnhost/agnhost", kubernetes + "/test/images/agnhost"},
			{"nnp/usr/local/bin/nnp", kubernetes + "/test/images/nonewprivs"},
			{"sample-apiserver/sample-apiserver", "k8s.io/sample-apiserver"},
			{"etcd/usr/local/bin/etcd", "go.etcd.io/etcd/server/v3"},
			{"pause/pause", "./pause"},
		} {
			if err := c.goBuild(filepath.Join(work, b.out), b.pkg); err != nil {
				return err
			}
		}
		if err := os.Chmod(filepath.Join(work, "nnp/usr/local/bin/nnp"), 0o755|os.ModeSetuid|os.ModeSetgid); err != nil {
			return err
		}
		sources, err := c.moduleDir(kubernetes)
		if err != nil {
			return err
		}
		steps := []func() error{
			func() error { return busybox(c, filepath.Join(work, "busybox")) },
			func() error {
				return c.debian(filepath.Join(work, "debian"), "libc-bin", "curl", "netcat-openbsd", "bind9-dnsutils", "iproute2", "libc6")
			},
			// The script of Debian's package would make this link.
			func() error { return os.Symlink("nc.openbsd", filepath.Join(work, "debian/bin/nc")) },
			func() error { return c.debian(filepath.Join(work, "nginx"), "nginx-light") },
			// It writes its process id there, and no init has made the folder.
			func() error { return os.MkdirAll(filepath.Join(work, "nginx/run"), 0o755) },
			func() error { return agnhostFiles(filepath.Join(work, "agnhost"), sources) },
			func() error {
				return os.CopyFS(filepath.Join(work, "nautilus"), os.DirFS(filepath.Join(sources, "test/images/nautilus/html")))
			},
			func() error {
				return os.CopyFS(filepath.Join(work, "kitten"), os.DirFS(filepath.Join(sources, "test/images/kitten/html")))
			},
			func() error {
				return put(filepath.Join(work, "alpine/etc/os-release"), "NAME=\"Alpine Linux\"\nID=alpine\nVERSION_ID=3.21.0\nPRETTY_NAME=\"Alpine Linux v3.21\"\n")
			},
		}
		for _, step := range steps {
			if err := step(); err != nil {
				return err
			}
		}
		at := func(names ...string) (dirs []string) {
			for _, n := range names {
				dirs = append(dirs, filepath.Join(work, n))
			}
			return dirs
		}
		path := []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
		agnhost := container{Env: path, Entrypoint: []string{"/agnhost"}, Cmd: []string{"pause"},
			ExposedPorts: map[string]struct{}{"80/tcp": {}, "8080/tcp": {}, "8081/tcp": {}, "9376/tcp": {}, "5000/tcp": {}}}
		server := agnhost
		server.Cmd = []string{"test-webserver"}
		return writeArchive(archive, []img{
			{[]string{e2eImages + "agnhost:2.66.1", e2eImages + "agnhost:2.55"}, at("busybox", "debian", "agnhost"), agnhost},
			{[]string{e2eImages + "nautilus:1.8"}, at("busybox", "debian", "agnhost", "nautilus"), server},
			{[]string{e2eImages + "kitten:1.8"}, at("busybox", "debian", "agnhost", "alpine", "kitten"), server},
			{[]string{e2eImages + "busybox:1.37.0-2"}, at("busybox"), container{Env: path, Cmd: []string{"sh"}}},
			{[]string{"registry.k8s.io/pause:3.10.2"}, at("pause"), container{Env: path, User: "65535:65535", Entrypoint: []string{"/pause"}, WorkingDir: "/"}},
			{[]string{e2eImages + "nginx:1.27.0-2"}, at("busybox", "nginx"), container{Env: path, Cmd: []string{"nginx", "-g", "daemon off;"}}},
			{[]string{e2eImages + "glibc-dns-testing:2.1.1"}, at("busybox", "debian"), container{Env: path, Cmd: []string{"sh"}}},
			{[]string{e2eImages + "nonewprivs:1.4"}, at("busybox", "nnp"), container{Env: path, Cmd: []string{"nnp"}}},
			{[]string{e2eImages + "sample-apiserver:1.29.2"}, at("busybox", "sample-apiserver"), container{Env: path, Entrypoint: []string{"/sample-apiserver"}}},
			{[]string{"registry.k8s.io/etcd:3.7.0-0"}, at("busybox", "etcd"), container{Env: path}},
		})
	}, "go.mod", "go.sum", "images.go", "debian.go", "archive.go", "pause/main.go")
}

// busybox builds the program and lays it out as the official image does: every
// applet a link in /bin, and the few files of /etc. It is built of upstream's
// sources because Debian's build does other than upstream's in small things:
// its shell drops variables such as data-1.
func busybox(c *cache, root string) error {
	built := filepath.Join(c.dir, "busybox")
	err := c.once("busybox", built, func() error {
		src, err := c.debianSource("busybox")
		if err != nil {
			return err
		}
		defer os.RemoveAll(src)
		if err := c.runAt(src, "make", "defconfig"); err != nil {
			return err
		}
		config := filepath.Join(src, ".config")
		data, err := os.ReadFile(config)
		if err != nil {
			return err
		}
		// tc wants headers of older kernels.
		text := strings.NewReplacer("# CONFIG_STATIC is not set", "CONFIG_STATIC=y", "CONFIG_TC=y", "# CONFIG_TC is not set").Replace(string(data))
		if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
			return err
		}
		if err := c.runAt(src, "make", "-j", strconv.Itoa(runtime.NumCPU())); err != nil {
			return err
		}
		return os.Rename(filepath.Join(src, "busybox"), built)
	}, "debian.go")
	if err != nil {
		return err
	}
	for _, d := range []string{"bin", "dev", "etc", "home", "proc", "root", "sys", "tmp", "usr/bin", "usr/sbin", "sbin", "var/run", "var/tmp"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			return err
		}
	}
	for _, d := range []string{"tmp", "var/tmp"} {
		if err := os.Chmod(filepath.Join(root, d), 0o777|os.ModeSticky); err != nil {
			return err
		}
	}
	program := filepath.Join(root, "bin/busybox")
	if err := copyFile(program, built, 0o755); err != nil {
		return err
	}
	applets, err := exec.Command(program, "--list").Output()
	if err != nil {
		return err
	}
	for _, a := range strings.Fields(string(applets)) {
		if a == "busybox" {
			continue
		}
		if err := os.Symlink("/bin/busybox", filepath.Join(root, "bin", a)); err != nil {
			return err
		}
	}
	for name, text := range map[string]string{
		"passwd": "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\nwww-data:x:33:33:www-data:/var/www:/bin/false\nnobody:x:65534:65534:nobody:/home:/bin/false\n",
		"group":  "root:x:0:\ndaemon:x:1:\nadm:x:4:\nwww-data:x:33:\nnogroup:x:65534:\n", "shadow": "root:*:::::::\n",
		"nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
	} {
		if err := put(filepath.Join(root, "etc", name), text); err != nil {
			return err
		}
	}
	return nil
}

// agnhostFiles adds to the program what its Dockerfile does.
func agnhostFiles(root, sources string) error {
	if err := os.MkdirAll(filepath.Join(root, "uploads"), 0o755); err != nil {
		return err
	}
	for _, f := range []string{"localhost.crt", "localhost.key"} {
		data, err := os.ReadFile(filepath.Join(sources, "test/images/agnhost/porter", f))
		if err == nil {
			err = put(filepath.Join(root, f), string(data))
		}
		if err != nil {
			return err
		}
	}
	const users = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\nuser-defined-in-image:x:1000:1000::/home/user-defined-in-image:/bin/sh\n"
	const groups = "root:x:0:\nnogroup:x:65534:\nuser-defined-in-image:x:1000:\ngroup-defined-in-image:x:50000:user-defined-in-image\n"
	if err := put(filepath.Join(root, "etc/passwd"), users); err != nil {
		return err
	}
	if err := put(filepath.Join(root, "etc/group"), groups); err != nil {
		return err
	}
	return os.Symlink("agnhost", filepath.Join(root, "agnhost-2"))
}

func put(path, text string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text), 0o644)
}
