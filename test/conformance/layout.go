package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// busybox lays the program out as the official image does: every applet a link
// in /bin, and the few files of /etc.
func busybox(c *cache, root string) error {
	built, err := c.busybox()
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
