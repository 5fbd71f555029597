package main

import (
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"strings"

	"sigs.k8s.io/yaml"
)

//go:embed seeds
var seedFiles embed.FS

// seed is a valid object.
type seed struct {
	resource *resource
	schema   *schema
	text     string // JSON; the name is made of "x"
}

// readSeeds reads all valid objects; every kind that upstream serves and that
// can be created has one.
func readSeeds(p *api) ([]*seed, error) {
	var all []*seed
	err := fs.WalkDir(seedFiles, "seeds", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := seedFiles.ReadFile(path)
		if err != nil {
			return err
		}
		for _, doc := range strings.Split(string(data), "\n---\n") {
			text, err := yaml.YAMLToJSON([]byte(doc))
			if err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
			var what struct{ APIVersion, Kind string }
			if err := json.Unmarshal(text, &what); err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
			s := &seed{resource: p.resources[what.APIVersion+"/"+what.Kind], text: string(text)}
			if s.resource == nil {
				return fmt.Errorf("%s: upstream serves no %s %s", path, what.APIVersion, what.Kind)
			}
			s.schema = p.byKind[s.resource.group+"/"+s.resource.version+"/"+s.resource.kind]
			all = append(all, s)
		}
		return nil
	})
	return all, err
}

// object is the seed for a case, with names of its own.
func (s *seed) object(number int, namespace string) (obj map[string]any, name string) {
	own := fmt.Sprintf("c%d", number)
	text := strings.ReplaceAll(strings.ReplaceAll(s.text, "x.example.com", own+".example.com"), "$NS", namespace)
	if s.resource.kind == "IPAddress" {
		text = strings.ReplaceAll(text, "192.168.7.7", fmt.Sprintf("192.168.%d.%d", number/250%250, 1+number%250))
	}
	if err := json.Unmarshal([]byte(text), &obj); err != nil {
		panic(err) // it was read before
	}
	meta := obj["metadata"].(map[string]any)
	if meta["name"] == "x" {
		meta["name"] = own
	}
	labels, _ := meta["labels"].(map[string]any)
	if labels == nil {
		labels = map[string]any{}
		meta["labels"] = labels
	}
	labels["case"] = own
	return obj, meta["name"].(string)
}
