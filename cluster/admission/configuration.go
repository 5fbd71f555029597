package admission

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	"sampan/internal/fault"
)

// Configuration is what plugins are told, by their names: the contents of the
// file of --admission-control-config-file. The zero value tells none anything.
type Configuration map[string][]byte

// configurable are the plugins that can be told something.
var configurable = []string{"PodSecurity", "PodNodeSelector", "PodTolerationRestriction", "EventRateLimit", "ImagePolicyWebhook"}

// LoadConfiguration reads an AdmissionConfiguration of apiserver.config.k8s.io.
// A path in it is relative to its own directory. An empty path is no
// configuration.
func LoadConfiguration(path string) (Configuration, error) {
	if path == "" {
		return nil, nil
	}
	wrong := func(err error) error {
		return &fault.Error{Class: fault.Invalid, Op: "read admission configuration", On: path, Err: err,
			Fix: "see --admission-control-config-file"}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, wrong(err)
	}
	var file struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Plugins    []struct {
			Name          string                `json:"name"`
			Path          string                `json:"path"`
			Configuration *runtime.RawExtension `json:"configuration"`
		} `json:"plugins"`
	}
	if err := strictly(text, &file); err != nil {
		return nil, wrong(err)
	}
	if file.Kind != "AdmissionConfiguration" || file.APIVersion != "apiserver.config.k8s.io/v1" && file.APIVersion != "apiserver.k8s.io/v1alpha1" {
		return nil, wrong(fmt.Errorf("it is a %s of %s, want an AdmissionConfiguration of apiserver.config.k8s.io/v1", file.Kind, file.APIVersion))
	}
	c := Configuration{}
	for i, p := range file.Plugins {
		switch {
		case !slices.Contains(configurable, p.Name):
			return nil, wrong(fmt.Errorf("plugins[%d].name: %q takes no configuration; these do: %q", i, p.Name, configurable))
		case c[p.Name] != nil:
			return nil, wrong(fmt.Errorf("plugins[%d].name: %q is there twice", i, p.Name))
		case p.Configuration != nil:
			c[p.Name] = p.Configuration.Raw
		case p.Path != "":
			if !filepath.IsAbs(p.Path) {
				p.Path = filepath.Join(filepath.Dir(path), p.Path)
			}
			if c[p.Name], err = os.ReadFile(p.Path); err != nil {
				return nil, wrong(err)
			}
		}
	}
	return c, nil
}

// versioned reads what a plugin is told: an object of one group in one of its
// versions. It is an error to tell the plugin what it does not know.
func versioned(plugin string, text []byte, into any, kind string, apiVersions ...string) error {
	var is struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
	}
	err := yaml.Unmarshal(text, &is)
	if err == nil && (is.Kind != kind || !slices.Contains(apiVersions, is.APIVersion)) {
		err = fmt.Errorf("it is a %s of %s, want a %s of %s", is.Kind, is.APIVersion, kind, apiVersions[0])
	}
	if err == nil {
		err = strictly(text, into)
	}
	return misconfigured(plugin, err)
}

// strictly reads YAML. A field that nobody knows is an error, with its path.
func strictly(text []byte, into any) error {
	data, err := yaml.YAMLToJSONStrict(text)
	if err != nil {
		return err
	}
	unknown, err := json.UnmarshalStrict(data, into)
	return errors.Join(append(unknown, err)...)
}

// misconfigured says that a plugin cannot do what it is told. Nil stays nil.
func misconfigured(plugin string, err error) error {
	if err == nil {
		return nil
	}
	var known *fault.Error
	if errors.As(err, &known) {
		return err
	}
	return &fault.Error{Class: fault.Invalid, Op: "configure admission", On: plugin, Err: err, Fix: "mend the file of --admission-control-config-file"}
}
