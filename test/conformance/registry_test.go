package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"path/filepath"
	"testing"
)

func TestTheRegistryServesWhatIsInTheArchive(t *testing.T) {
	dir := t.TempDir()
	if err := put(filepath.Join(dir, "layer/a"), "hello"); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "images.tar")
	if err := writeArchive(path, []img{{[]string{"registry.k8s.io/team/x:1"}, []string{filepath.Join(dir, "layer")}, container{Cmd: []string{"x"}}}}); err != nil {
		t.Fatal(err)
	}
	r, err := openRegistry(path)
	if err != nil {
		t.Fatal(err)
	}
	address, stop, err := r.serve()
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	}()
	get := func(path string, want int) ([]byte, string) {
		t.Helper()
		res, err := http.Get("http://" + address + path)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		data, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != want {
			t.Fatalf("%s: %d %s, %v; want %d", path, res.StatusCode, data, err, want)
		}
		return data, res.Header.Get("Docker-Content-Digest")
	}
	get("/v2/", 200)
	get("/v2/team/x/manifests/2", 404)
	get("/v2/team/y/manifests/1", 404)
	data, digest := get("/v2/team/x/manifests/1", 200)
	if again, _ := get("/v2/team/x/manifests/"+digest, 200); string(again) != string(data) {
		t.Errorf("by digest: %s, want %s", again, data)
	}
	var manifest struct {
		Config struct{ Digest string }
		Layers []struct {
			Digest string
			Size   int
		}
	}
	if err := json.Unmarshal(data, &manifest); err != nil || len(manifest.Layers) != 1 {
		t.Fatalf("manifest %s, %v; want one layer", data, err)
	}
	for _, d := range []string{manifest.Config.Digest, manifest.Layers[0].Digest} {
		blob, _ := get("/v2/team/x/blobs/"+d, 200)
		if sum := sha256.Sum256(blob); "sha256:"+hex.EncodeToString(sum[:]) != d {
			t.Errorf("blob %s has another digest", d)
		}
	}
}
