package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

var packageName = regexp.MustCompile(`^[a-z0-9][a-z0-9.+-]*$`)

// debian unpacks packages with everything they depend on, without running
// their scripts.
func (c *cache) debian(root string, packages ...string) error {
	args := append([]string{"depends", "--recurse", "--no-recommends", "--no-suggests", "--no-conflicts", "--no-breaks", "--no-replaces", "--no-enhances"}, packages...)
	out, err := exec.Command("apt-cache", args...).Output()
	if err != nil { // a machine may have no lists
		if err := c.aptUpdate(); err != nil {
			return err
		}
		if out, err = exec.Command("apt-cache", args...).Output(); err != nil {
			return fmt.Errorf("apt-cache %s: %w", strings.Join(args, " "), err)
		}
	}
	var all []string
	for line := range strings.Lines(string(out)) {
		name := strings.TrimRight(line, "\n")
		// What only the scripts of packages need, and alternatives that busybox has.
		if packageName.MatchString(name) && !slices.Contains([]string{"debconf", "cdebconf", "debconf-2.0", "dpkg", "tar", "perl-base", "mawk", "init-system-helpers"}, name) {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return c.debianOnly(root, slices.Compact(all)...)
}

func (c *cache) aptUpdate() error { return c.runAt(c.dir, "apt-get", "-q", "update") }

func (c *cache) debianOnly(root string, packages ...string) error {
	debs := filepath.Join(c.dir, "debs", filepath.Base(root))
	if err := os.MkdirAll(debs, 0o755); err != nil {
		return err
	}
	if files, _ := filepath.Glob(filepath.Join(debs, "*.deb")); len(files) < len(packages) {
		c.say("downloading %d Debian packages for %s", len(packages), filepath.Base(root))
		download := append([]string{"apt-get", "-q", "-o", "APT::Sandbox::User=root", "download"}, packages...)
		if err := c.runAt(debs, download...); err != nil { // or old ones
			if err := c.aptUpdate(); err != nil {
				return err
			}
			if err := c.runAt(debs, download...); err != nil {
				return err
			}
		}
	}
	files, err := filepath.Glob(filepath.Join(debs, "*.deb"))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(root, 0o755); err != nil {
		return err
	}
	for _, f := range files {
		if out, err := exec.Command("dpkg-deb", "-x", f, root).CombinedOutput(); err != nil {
			return fmt.Errorf("unpack %s: %w\n%s", f, err, out)
		}
	}
	for _, d := range []string{"usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info", "usr/share/i18n"} {
		if err := os.RemoveAll(filepath.Join(root, d)); err != nil {
			return err
		}
	}
	return nil
}
