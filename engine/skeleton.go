package engine

import (
	"os"
	"path/filepath"
)

// skeleton is a directory with what every container has something mounted on.
// As the lowest layer it spares each container, also in its writable layer,
// the making of these, and of a copy of the image's /etc to put three empty
// files into; and what a container changed does not show them.
func (e *Engine) skeleton() (string, error) {
	dir := e.path("skeleton")
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	tmp, err := os.MkdirTemp(e.path(), ".skeleton-")
	if err != nil {
		return "", failed("make directory", dir, err)
	}
	defer os.RemoveAll(tmp) // gone if all went well
	for _, sub := range []string{"dev", "etc", "proc", "sys"} {
		if err := os.Mkdir(filepath.Join(tmp, sub), 0o755); err != nil {
			return "", failed("make directory", dir, err)
		}
	}
	for _, name := range initFiles {
		if err := os.WriteFile(filepath.Join(tmp, "etc", name), nil, 0o644); err != nil {
			return "", failed("make file", name, err)
		}
	}
	if err := os.Chmod(tmp, 0o755); err != nil {
		return "", failed("make directory", dir, err)
	}
	err = os.Rename(tmp, dir)
	if _, there := os.Stat(dir); there == nil { // somebody else's is as good
		err = nil
	}
	return dir, failed("make directory", dir, err)
}
