package main

import (
	"archive/tar"
	"compress/bzip2"
	"errors"
	"fmt"
	"io"
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

// debianSource unpacks upstream's part of a source package, without Debian's
// patches, into a directory that the caller removes.
func (c *cache) debianSource(name string) (string, error) {
	apt := filepath.Join(c.dir, "debs", "source-"+name)
	if err := os.MkdirAll(filepath.Join(apt, "lists", "partial"), 0o755); err != nil {
		return "", err
	}
	archives, err := filepath.Glob(filepath.Join(apt, "*.orig.tar.bz2"))
	if err != nil {
		return "", err
	}
	if len(archives) == 0 {
		release, err := exec.Command("sh", "-c", ". /etc/os-release && echo $VERSION_CODENAME").Output()
		if err != nil {
			return "", err
		}
		// Lists of their own: the machine's settings stay as they are.
		list := fmt.Sprintf("deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian %s main\n", strings.TrimSpace(string(release)))
		if err := put(filepath.Join(apt, "sources.list"), list); err != nil {
			return "", err
		}
		settings := []string{"apt-get", "-q", "-o", "Dir::Etc::sourcelist=" + filepath.Join(apt, "sources.list"), "-o", "Dir::Etc::sourceparts=/dev/null",
			"-o", "Dir::State::lists=" + filepath.Join(apt, "lists"), "-o", "APT::Sandbox::User=root", "-o", "Acquire::Languages=none"}
		if err := c.runAt(apt, append(settings, "update")...); err != nil {
			return "", err
		}
		if err := c.runAt(apt, append(settings, "source", "--download-only", name)...); err != nil {
			return "", err
		}
		if archives, err = filepath.Glob(filepath.Join(apt, "*.orig.tar.bz2")); err != nil {
			return "", err
		}
	}
	if len(archives) != 1 {
		return "", fmt.Errorf("source package %s: %d archives *.orig.tar.bz2 in %s, want one", name, len(archives), apt)
	}
	f, err := os.Open(archives[0])
	if err != nil {
		return "", err
	}
	defer f.Close()
	to, err := os.MkdirTemp(c.dir, "source-")
	if err != nil {
		return "", err
	}
	if err := untar(bzip2.NewReader(f), to); err != nil {
		return "", errors.Join(fmt.Errorf("unpack %s: %w", archives[0], err), os.RemoveAll(to))
	}
	return to, nil
}

// untar unpacks an archive below dir, without the first element of its names.
func untar(from io.Reader, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for r := tar.NewReader(from); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		_, name, _ := strings.Cut(strings.TrimPrefix(filepath.ToSlash(h.Name), "./"), "/")
		if name == "" {
			continue
		}
		switch h.Typeflag {
		case tar.TypeDir:
			err = root.MkdirAll(strings.TrimSuffix(name, "/"), 0o755)
		case tar.TypeSymlink:
			err = root.Symlink(h.Linkname, name)
		case tar.TypeReg:
			if err = root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
				return err
			}
			var f *os.File
			if f, err = root.OpenFile(name, os.O_CREATE|os.O_WRONLY, h.FileInfo().Mode().Perm()); err == nil {
				_, err = io.Copy(f, r)
				err = errors.Join(err, f.Close())
				// make goes by the times.
				err = errors.Join(err, root.Chtimes(name, h.ModTime, h.ModTime))
			}
		}
		if err != nil {
			return err
		}
	}
}
