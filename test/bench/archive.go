package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// guestArchive writes the guest's image as docker save does.
func (b *bench) guestArchive() (path string, err error) {
	guest, err := os.ReadFile(b.bins.bin("guest"))
	if err != nil {
		return "", err
	}
	path = filepath.Join(b.dir, "guest.tar")
	return path, writeImage(path, guestImage, []string{"/guest"}, []file{{name: "guest", mode: 0o755, data: guest}})
}

// manySmallFiles are n files of about 2 kB, 500 in each folder. What they say
// depends on a word.
func manySmallFiles(n int, word string) (files []file) {
	content := bytes.Repeat([]byte("0123456789abcdef"), 128)
	for i := range n {
		if i%500 == 0 {
			files = append(files, file{name: fmt.Sprintf("d%03d/", i/500), mode: 0o755})
		}
		files = append(files, file{name: fmt.Sprintf("d%03d/f%03d", i/500, i%500), mode: 0o644, data: append(fmt.Appendf(nil, "%s %d", word, i), content...)})
	}
	return files
}

// file is one of a layer; a folder's name ends with a slash.
type file struct {
	name string
	mode int64
	data []byte
}

// when everything was changed, so that two runs make the same bytes.
var when = time.Unix(1_700_000_000, 0)

func writeFiles(to io.Writer, files []file) error {
	t := tar.NewWriter(to)
	for _, f := range files {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: f.mode, ModTime: when, Size: int64(len(f.data))}
		if strings.HasSuffix(f.name, "/") {
			h.Typeflag = tar.TypeDir
		}
		if err := t.WriteHeader(h); err != nil {
			return err
		}
		if _, err := t.Write(f.data); err != nil {
			return err
		}
	}
	return t.Close()
}

// writeImage writes an image with one layer as docker save does.
func writeImage(path, name string, entrypoint []string, files []file) error {
	var layer bytes.Buffer
	if err := writeFiles(&layer, files); err != nil {
		return err
	}
	sum := sha256.Sum256(layer.Bytes())
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "created": when.UTC(), "config": map[string]any{"Entrypoint": entrypoint}, "history": []map[string]any{{"created": when.UTC(), "created_by": "bench"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + hex.EncodeToString(sum[:])}},
	})
	if err != nil {
		return err
	}
	id := sha256.Sum256(config)
	configName := hex.EncodeToString(id[:]) + ".json"
	manifest, err := json.Marshal([]map[string]any{{"Config": configName, "RepoTags": []string{name}, "Layers": []string{"layer.tar"}}})
	if err != nil {
		return err
	}
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	err = writeFiles(out, []file{{configName, 0o644, config}, {"layer.tar", 0o644, layer.Bytes()}, {"manifest.json", 0o644, manifest}})
	return errors.Join(err, out.Close())
}
