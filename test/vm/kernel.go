package vm

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Kernel is one of Debian's, unpacked.
type Kernel struct {
	Image string
	files map[string]string // module name → file
}

// wanted is the kernel the tests are written for; where the archive has it no
// more, the one that its metapackage depends on takes its place.
const wanted, metapackage = "linux-image-6.1.0-56-cloud-amd64", "linux-image-cloud-amd64"

// Fetch unpacks Debian's kernel into dir, once.
func Fetch(ctx context.Context, dir string) (*Kernel, error) {
	if k, err := open(dir); err == nil {
		return k, nil
	}
	if err := os.RemoveAll(dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	if err := download(ctx, dir, wanted); err != nil {
		name, other := dependency(ctx)
		if other == nil {
			other = download(ctx, dir, name)
		}
		if other != nil {
			return nil, errors.Join(err, other)
		}
	}
	debs, _ := filepath.Glob(filepath.Join(dir, "*.deb"))
	if len(debs) != 1 {
		return nil, fmt.Errorf("%s has %d packages, want one", dir, len(debs))
	}
	if out, err := exec.CommandContext(ctx, "dpkg", "-x", debs[0], dir).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("unpack %s: %w\n%s", debs[0], err, out)
	}
	if err := os.Remove(debs[0]); err != nil {
		return nil, err
	}
	return open(dir)
}

func download(ctx context.Context, dir, name string) error {
	cmd := exec.CommandContext(ctx, "apt-get", "download", "-qq", name)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("apt-get download %s: %w (apt-get update)\n%s", name, err, out)
	}
	return nil
}

// dependency is the kernel that the metapackage stands for.
func dependency(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "apt-cache", "depends", metapackage).Output()
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(out)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "Depends: "); ok {
			return name, nil
		}
	}
	return "", fmt.Errorf("%s names no kernel", metapackage)
}

func open(dir string) (*Kernel, error) {
	images, _ := filepath.Glob(filepath.Join(dir, "boot/vmlinuz-*"))
	if len(images) != 1 {
		return nil, fmt.Errorf("%s has %d kernels, want one", dir, len(images))
	}
	k := &Kernel{Image: images[0], files: map[string]string{}}
	err := filepath.WalkDir(filepath.Join(dir, "lib/modules"), func(path string, d fs.DirEntry, err error) error {
		if name, ok := strings.CutSuffix(filepath.Base(path), ".ko"); ok {
			k.files[module(name)] = path
		}
		return err
	})
	return k, err
}

// module is the kernel's own spelling of a module's name.
func module(name string) string { return strings.ReplaceAll(name, "-", "_") }

// Modules are the files of the modules named and of all they need, in an order
// in which they can be loaded. A name with a slash is a part of paths and means
// all modules that have it. One that is built into the kernel has no file.
func (k *Kernel) Modules(names []string) ([]string, error) {
	var order []string
	var visit func(name string) error
	visit = func(name string) error {
		path, ok := k.files[module(name)]
		if !ok || slices.Contains(order, path) {
			return nil
		}
		needs, err := depends(path)
		if err != nil {
			return err
		}
		for _, n := range needs {
			if err := visit(n); err != nil {
				return err
			}
		}
		order = append(order, path)
		return nil
	}
	for _, name := range names {
		meant := []string{name}
		if strings.Contains(name, "/") {
			meant = nil
			for m, path := range k.files {
				if strings.Contains(path, name) {
					meant = append(meant, m)
				}
			}
			slices.Sort(meant)
		}
		for _, m := range meant {
			if err := visit(m); err != nil {
				return nil, err
			}
		}
	}
	return order, nil
}

// depends reads which modules a module needs: "depends=a,b" in its .modinfo.
func depends(path string) ([]string, error) {
	f, err := elf.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read module %s: %w", path, err)
	}
	defer f.Close()
	s := f.Section(".modinfo")
	if s == nil {
		return nil, fmt.Errorf("read module %s: it has no .modinfo", path)
	}
	data, err := s.Data()
	if err != nil {
		return nil, err
	}
	for _, kv := range bytes.Split(data, []byte{0}) {
		if list, ok := strings.CutPrefix(string(kv), "depends="); ok && list != "" {
			return strings.Split(list, ","), nil
		}
	}
	return nil, nil
}
