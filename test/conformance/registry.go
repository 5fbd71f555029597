package main

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// registry serves the images of an archive that writeArchive made, read only,
// as the OCI distribution specification says. Specs that pull always find them here.
type registry struct {
	archive   *os.File
	manifests map[string][]byte  // by REPOSITORY:TAG and REPOSITORY@DIGEST
	blobs     map[string]section // by digest
}

// section is where in the archive a blob is.
type section struct{ at, size int64 }

func openRegistry(path string) (*registry, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	r := &registry{archive: f, manifests: map[string][]byte{}, blobs: map[string]section{}}
	if err := r.index(); err != nil {
		f.Close()
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return r, nil
}

func (r *registry) index() error {
	var images []struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	// Names in the archive are digests, see writeArchive.
	digest := func(name string) string {
		hex, _, _ := strings.Cut(name, ".")
		return "sha256:" + hex
	}
	for in := tar.NewReader(r.archive); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if h.Name == "manifest.json" {
			if err := json.NewDecoder(in).Decode(&images); err != nil {
				return err
			}
			continue
		}
		at, err := r.archive.Seek(0, io.SeekCurrent)
		if err != nil {
			return err
		}
		r.blobs[digest(h.Name)] = section{at, h.Size}
	}
	type descriptor struct {
		MediaType string `json:"mediaType"`
		Digest    string `json:"digest"`
		Size      int64  `json:"size"`
	}
	for _, im := range images {
		var layers []descriptor
		for _, l := range im.Layers {
			layers = append(layers, descriptor{"application/vnd.oci.image.layer.v1.tar", digest(l), r.blobs[digest(l)].size})
		}
		manifest, err := json.Marshal(map[string]any{
			"schemaVersion": 2, "mediaType": manifestType, "layers": layers,
			"config": descriptor{"application/vnd.oci.image.config.v1+json", digest(im.Config), r.blobs[digest(im.Config)].size},
		})
		if err != nil {
			return err
		}
		sum := sha256.Sum256(manifest)
		for _, name := range im.RepoTags {
			_, name, _ = strings.Cut(name, "/")
			repository, _, _ := strings.Cut(name, ":")
			r.manifests[name] = manifest
			r.manifests[repository+"@sha256:"+hex.EncodeToString(sum[:])] = manifest
		}
	}
	return nil
}

const manifestType = "application/vnd.oci.image.manifest.v1+json"

// serve listens on a port of 127.0.0.1 in this process's network namespace.
func (r *registry) serve() (address string, stop func() error, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	server := &http.Server{Handler: r, ReadHeaderTimeout: time.Minute}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	return l.Addr().String(), func() error {
		err := server.Close()
		if e := <-ended; !errors.Is(e, http.ErrServerClosed) {
			err = errors.Join(err, e)
		}
		return errors.Join(err, r.archive.Close())
	}, nil
}

func (r *registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if req.Method != http.MethodGet && req.Method != http.MethodHead {
		http.Error(w, `{"errors":[{"code":"UNSUPPORTED"}]}`, http.StatusMethodNotAllowed)
		return
	}
	path, found := strings.CutPrefix(req.URL.Path, "/v2/")
	if !found {
		http.NotFound(w, req)
		return
	}
	if path == "" {
		return
	}
	if repository, ref, is := strings.Cut(path, "/manifests/"); is {
		separator := ":"
		if strings.Contains(ref, ":") {
			separator = "@"
		}
		if manifest, found := r.manifests[repository+separator+ref]; found {
			sum := sha256.Sum256(manifest)
			w.Header().Set("Content-Type", manifestType)
			w.Header().Set("Docker-Content-Digest", "sha256:"+hex.EncodeToString(sum[:]))
			w.Header().Set("Content-Length", strconv.Itoa(len(manifest)))
			if req.Method == http.MethodGet {
				w.Write(manifest)
			}
			return
		}
		r.unknown(w, "MANIFEST_UNKNOWN")
		return
	}
	if _, digest, is := strings.Cut(path, "/blobs/"); is {
		if at, found := r.blobs[digest]; found {
			w.Header().Set("Content-Type", "application/octet-stream")
			http.ServeContent(w, req, "", time.Time{}, io.NewSectionReader(r.archive, at.at, at.size))
			return
		}
		r.unknown(w, "BLOB_UNKNOWN")
		return
	}
	r.unknown(w, "NAME_UNKNOWN")
}

func (r *registry) unknown(w http.ResponseWriter, code string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusNotFound)
	fmt.Fprintf(w, `{"errors":[{"code":%q,"message":"this registry has the suite's images only"}]}`, code)
}
