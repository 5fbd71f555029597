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
	"runtime"
	"strconv"
	"strings"
)

// busybox builds the program of upstream's sources, because Debian's build does
// other than upstream's in small things: its shell drops variables such as data-1.
func (c *cache) busybox() (built string, err error) {
	built = filepath.Join(c.dir, "busybox")
	return built, c.once("busybox", built, func() error {
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
	}, "busybox.go")
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
