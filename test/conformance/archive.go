package main

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// container is the part of an image's configuration that our images set.
type container struct {
	User         string              `json:"User,omitempty"`
	Env          []string            `json:"Env,omitempty"`
	Entrypoint   []string            `json:"Entrypoint,omitempty"`
	Cmd          []string            `json:"Cmd,omitempty"`
	WorkingDir   string              `json:"WorkingDir,omitempty"`
	ExposedPorts map[string]struct{} `json:"ExposedPorts,omitempty"`
}

// img is one image: directories that become its layers, lowest first.
type img struct {
	names  []string
	layers []string
	config container
}

// writeArchive writes images in the format of `docker save`. A layer that
// several images have is written once.
func writeArchive(path string, images []img) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), "images-")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	defer tmp.Close()
	out := tar.NewWriter(tmp)
	ids := map[string]string{} // directory to digest
	type entry struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	var manifest []entry
	for _, im := range images {
		e := entry{RepoTags: im.names}
		var diffs []string
		for _, dir := range im.layers {
			if ids[dir] == "" {
				if ids[dir], err = addLayer(out, dir); err != nil {
					return fmt.Errorf("layer %s: %w", dir, err)
				}
			}
			e.Layers = append(e.Layers, ids[dir]+".tar")
			diffs = append(diffs, "sha256:"+ids[dir])
		}
		config, err := json.Marshal(map[string]any{
			"architecture": arch(), "os": "linux", "created": "2026-01-01T00:00:00Z", "config": im.config,
			"rootfs": map[string]any{"type": "layers", "diff_ids": diffs},
		})
		if err != nil {
			return err
		}
		sum := sha256.Sum256(config)
		e.Config = hex.EncodeToString(sum[:]) + ".json"
		if err := addBytes(out, e.Config, config); err != nil {
			return err
		}
		manifest = append(manifest, e)
	}
	data, err := json.Marshal(manifest)
	if err == nil {
		err = addBytes(out, "manifest.json", data)
	}
	if err == nil {
		err = out.Close()
	}
	if err == nil {
		err = tmp.Close()
	}
	if err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

func addBytes(out *tar.Writer, name string, data []byte) error {
	err := out.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(data)), Typeflag: tar.TypeReg})
	if err == nil {
		_, err = out.Write(data)
	}
	return err
}

// addLayer packs a directory and returns its digest.
func addLayer(out *tar.Writer, dir string) (string, error) {
	tmp, err := os.CreateTemp("", "layer-")
	if err != nil {
		return "", err
	}
	defer os.Remove(tmp.Name())
	defer tmp.Close()
	sum := sha256.New()
	layer := tar.NewWriter(io.MultiWriter(tmp, sum))
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		return addFile(layer, dir, path)
	})
	if err == nil {
		err = layer.Close()
	}
	if err != nil {
		return "", err
	}
	id := hex.EncodeToString(sum.Sum(nil))
	size, err := tmp.Seek(0, io.SeekCurrent)
	if err == nil {
		_, err = tmp.Seek(0, io.SeekStart)
	}
	if err == nil {
		err = out.WriteHeader(&tar.Header{Name: id + ".tar", Mode: 0o644, Size: size, Typeflag: tar.TypeReg})
	}
	if err == nil {
		_, err = io.Copy(out, tmp)
	}
	return id, err
}

func addFile(layer *tar.Writer, dir, path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	link := ""
	if info.Mode()&fs.ModeSymlink != 0 {
		if link, err = os.Readlink(path); err != nil {
			return err
		}
	}
	h, err := tar.FileInfoHeader(info, link)
	if err != nil {
		return err
	}
	h.Name, _ = filepath.Rel(dir, path)
	if info.IsDir() {
		h.Name += "/"
	}
	h.Uname, h.Gname = "", ""
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		h.Uid, h.Gid = int(s.Uid), int(s.Gid)
	}
	if err := layer.WriteHeader(h); err != nil || !info.Mode().IsRegular() {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(layer, f)
	return err
}
