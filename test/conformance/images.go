package main

import (
	"os"
	"path/filepath"
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
	}, "go.mod", "go.sum", "images.go", "layout.go", "busybox.go", "debian.go", "archive.go", "pause/main.go")
}
