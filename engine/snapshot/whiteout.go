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

// A layer's folder says as overlayfs does that something below is gone: by a
// character device 0:0, and by an attribute of a folder.

func whiteout(dir int, name string) error { return linux.MknodAt(dir, name, syscall.S_IFCHR, 0) }

// hideBelow makes the folder name in dir hide what lower layers have in it.
func hideBelow(dir int, name string) error {
	return linux.SetXattrAt(dir, name, opaqueAttr, []byte("y"))
}

func isWhiteout(s syscall.Stat_t) bool {
	return s.Mode&syscall.S_IFMT == syscall.S_IFCHR && s.Rdev == 0
}

// hides reports whether the layer folder root says that path (no slash in
// front) is gone.
func hides(root, path string) bool {
	var s syscall.Stat_t
	return syscall.Lstat(filepath.Join(root, path), &s) == nil && isWhiteout(s)
}

// opaque reports whether the folder path hides what lower layers have in it.
func opaque(path string) (bool, error) {
	v, ok, err := linux.Xattr(path, opaqueAttr)
	return ok && string(v) == "y", err
}
