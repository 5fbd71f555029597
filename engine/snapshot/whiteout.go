package snapshot

import (
	"path/filepath"
	"syscall"

	"sampan/internal/linux"
)

// Names in layer tars (OCI image spec, layer.md, "Whiteouts").
const (
	whiteoutPrefix = ".wh."
	opaqueMark     = ".wh..wh..opq"
	opaqueAttr     = "trusted.overlay.opaque" // kernel.org, overlayfs.rst
)

// form is how a layer's folder says that something below is gone.
type form uint8

const (
	overlayForm form = iota // character device 0:0; attribute on a folder
	fileForm                // files named as in the tar
)

func (f form) whiteout(dir int, name string) error {
	if f == fileForm {
		return f.mark(dir, whiteoutPrefix+name)
	}
	return linux.MknodAt(dir, name, syscall.S_IFCHR, 0)
}

// hideBelow makes the folder name in dir hide what lower layers have in it.
func (f form) hideBelow(dir int, name string) error {
	if f == overlayForm {
		return linux.SetXattrAt(dir, name, opaqueAttr, []byte("y"))
	}
	if name == "." {
		return f.mark(dir, opaqueMark)
	}
	fd, err := linux.OpenAt(dir, name, syscall.O_RDONLY|syscall.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	return f.mark(fd, opaqueMark)
}

func (f form) mark(dir int, name string) error {
	fd, err := linux.OpenAt(dir, name, syscall.O_WRONLY|syscall.O_CREAT, 0o600)
	if err == nil {
		syscall.Close(fd)
	}
	return err
}

func (f form) isWhiteout(s syscall.Stat_t) bool {
	return f == overlayForm && s.Mode&syscall.S_IFMT == syscall.S_IFCHR && s.Rdev == 0
}

// hides reports whether the layer folder root says that path (no slash in
// front) is gone.
func (f form) hides(root, path string) bool {
	if f == fileForm {
		var s syscall.Stat_t
		return syscall.Lstat(filepath.Join(root, filepath.Dir(path), whiteoutPrefix+filepath.Base(path)), &s) == nil
	}
	var s syscall.Stat_t
	return syscall.Lstat(filepath.Join(root, path), &s) == nil && f.isWhiteout(s)
}

// opaque reports whether the folder path hides what lower layers have in it.
func (f form) opaque(path string) (bool, error) {
	if f == fileForm {
		var s syscall.Stat_t
		return syscall.Lstat(filepath.Join(path, opaqueMark), &s) == nil, nil
	}
	v, ok, err := linux.Xattr(path, opaqueAttr)
	return ok && string(v) == "y", err
}
