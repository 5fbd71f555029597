package encrypt

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	apiserverv1 "k8s.io/apiserver/pkg/apis/apiserver/v1"
	"sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// fingerprint tells contents of the file apart without keeping the secrets in
// it.
type fingerprint [sha256.Size]byte

func fingerprintOf(file string) (fingerprint, error) {
	data, err := os.ReadFile(file)
	return sha256.Sum256(data), err
}

// read reads and checks the file.
func read(file string) (*apiserverv1.EncryptionConfiguration, fingerprint, error) {
	data, err := os.ReadFile(file)
	content := fingerprint(sha256.Sum256(data))
	if err != nil {
		return nil, content, invalid(file, err)
	}
	c, err := parse(data)
	if err != nil {
		return nil, content, invalid(file, err)
	}
	return c, content, nil
}

// parse reads an EncryptionConfiguration, strictly: a misspelt field could
// leave secrets in the clear.
func parse(data []byte) (*apiserverv1.EncryptionConfiguration, error) {
	if len(data) == 0 {
		return nil, errors.New("it is empty")
	}
	data, err := yaml.YAMLToJSONStrict(data)
	if err != nil {
		return nil, err
	}
	c := &apiserverv1.EncryptionConfiguration{}
	strict, err := json.UnmarshalStrict(data, c)
	if err = errors.Join(append(strict, err)...); err != nil {
		return nil, err
	}
	if want := apiserverv1.SchemeGroupVersion.WithKind("EncryptionConfiguration"); c.GroupVersionKind() != want {
		return nil, fmt.Errorf("it is of apiVersion %q, kind %q; want %q, %q", c.APIVersion, c.Kind, want.GroupVersion(), want.Kind)
	}
	for _, r := range c.Resources {
		for _, p := range r.Providers {
			if p.KMS != nil {
				defaultKMS(p.KMS)
			}
		}
	}
	return c, validate(c).ToAggregate()
}

// defaultKMS fills in what upstream fills in.
func defaultKMS(c *apiserverv1.KMSConfiguration) {
	if c.APIVersion == "" {
		c.APIVersion = "v1"
	}
	if c.Timeout == nil {
		c.Timeout = &metav1.Duration{Duration: 3 * time.Second}
	}
}

// validate says what upstream says. (apiserver/pkg/apis/apiserver/validation.)
func validate(c *apiserverv1.EncryptionConfiguration) (errs field.ErrorList) {
	root := field.NewPath("resources")
	least := func(p *field.Path, what any) *field.Error {
		return field.Required(p, fmt.Sprintf("at least one %s is required", what))
	}
	if len(c.Resources) == 0 {
		return append(errs, least(root, root))
	}
	names := map[string]bool{}
	for i, rule := range c.Resources {
		resources, providers := root.Index(i).Child("resources"), root.Index(i).Child("providers")
		if len(rule.Resources) == 0 {
			errs = append(errs, least(resources, resources))
		}
		errs = append(errs, overlaps(rule.Resources, resources)...)
		for j, name := range rule.Resources {
			if why := wrongResource(name); why != "" {
				errs = append(errs, field.Invalid(resources.Index(j), name, why))
			}
		}
		if len(rule.Providers) == 0 {
			errs = append(errs, least(providers, providers))
		}
		for j, p := range rule.Providers {
			path := providers.Index(j)
			if err := onlyOne(p, path); err != nil {
				errs = append(errs, err)
			}
			switch {
			case p.KMS != nil:
				errs = append(errs, validateKMS(p.KMS, path.Child("kms"), names[p.KMS.Name])...)
				names[p.KMS.Name] = true
			case p.AESGCM != nil:
				errs = append(errs, validateKeys(p.AESGCM.Keys, path.Child("aesgcm", "keys"), 16, 24, 32)...)
			case p.AESCBC != nil:
				errs = append(errs, validateKeys(p.AESCBC.Keys, path.Child("aescbc", "keys"), 16, 24, 32)...)
			case p.Secretbox != nil:
				errs = append(errs, validateKeys(p.Secretbox.Keys, path.Child("secretbox", "keys"), 32)...)
			}
		}
	}
	return errs
}

// overlaps finds names of one list of which one would hide the other.
func overlaps(names []string, path *field.Path) (errs field.ErrorList) {
	var twice, hidden bool
	for i, name := range names {
		a := schema.ParseGroupResource(name)
		for j, other := range names {
			if i == j {
				continue
			}
			switch b := schema.ParseGroupResource(other); {
			case a == b:
				twice = true
			case a == everything, a.Group == b.Group && a.Resource == "*":
				hidden = true
			}
		}
	}
	if twice {
		errs = append(errs, field.Invalid(path, names, "the same resource cannot be specified multiple times"))
	}
	if hidden {
		errs = append(errs, field.Invalid(path, names, "using overlapping resources such as 'secrets' and '*.' in the same resource list is not allowed as they will be masked"))
	}
	return errs
}

func wrongResource(name string) string {
	gr := schema.ParseGroupResource(name)
	switch {
	case strings.ToLower(name) != name:
		return "resource name should not contain capital letters"
	case name == "*":
		return "use '*.' to encrypt all the resources from core API group or *.* to encrypt all resources"
	case name == "apiserveripinfo", name == "serviceipallocations", name == "servicenodeportallocations":
		return "resources which do not have REST API/s cannot be encrypted"
	case gr.Group == "events.k8s.io":
		return "'*.events.k8s.io' objects are stored using the 'events' API group in etcd. Use 'events' instead in the config file"
	case gr.Group == "extensions":
		return "'extensions' group has been removed and cannot be used for encryption"
	case gr.Group == "*" && gr.Resource != "*":
		return "encrypting the same resource across groups is not supported"
	}
	return ""
}

func onlyOne(p apiserverv1.ProviderConfiguration, path *field.Path) *field.Error {
	found := 0
	for _, is := range []bool{p.KMS != nil, p.AESGCM != nil, p.AESCBC != nil, p.Secretbox != nil, p.Identity != nil} {
		if is {
			found++
		}
	}
	switch {
	case found == 0:
		return field.Invalid(path, "", "provider does not contain any of the expected providers: KMS, AESGCM, AESCBC, Secretbox, Identity")
	case found > 1: // the value would show the keys
		return field.Invalid(path, "REDACTED", "more than one provider specified in a single element, should split into different list elements")
	}
	return nil
}

func validateKeys(keys []apiserverv1.Key, path *field.Path, sizes ...int) (errs field.ErrorList) {
	if len(keys) == 0 {
		return append(errs, field.Required(path, "at least one keys is required"))
	}
	for i, k := range keys {
		path := path.Index(i)
		if k.Name == "" {
			errs = append(errs, field.Required(path.Child("name"), "name is a mandatory field for a key"))
		}
		if k.Secret == "" {
			errs = append(errs, field.Required(path.Child("secret"), "secret is a mandatory field for a key"))
			continue
		}
		secret, err := base64.StdEncoding.DecodeString(k.Secret)
		if err != nil {
			errs = append(errs, field.Invalid(path.Child("secret"), "REDACTED", "secrets must be base64 encoded"))
		} else if !slices.Contains(sizes, len(secret)) {
			errs = append(errs, field.Invalid(path.Child("secret"), "REDACTED",
				fmt.Sprintf("secret is not of the expected length, got %d, expected one of %v", len(secret), sizes)))
		}
	}
	return errs
}

func validateKMS(c *apiserverv1.KMSConfiguration, path *field.Path, taken bool) (errs field.ErrorList) {
	name := path.Child("name")
	if c.Name == "" {
		errs = append(errs, field.Required(name, "name is a mandatory field for a provider"))
	}
	if c.APIVersion != "v1" && strings.Contains(c.Name, ":") {
		errs = append(errs, field.Invalid(name, c.Name, fmt.Sprintf("invalid KMS provider name %s, must not contain ':'", c.Name)))
	}
	if taken {
		errs = append(errs, field.Invalid(name, c.Name, fmt.Sprintf("duplicate KMS provider name %s, names must be unique", c.Name)))
	}
	if c.Timeout.Duration <= 0 {
		errs = append(errs, field.Invalid(path.Child("timeout"), c.Timeout, "timeout should be a positive value"))
	}
	endpoint := path.Child("endpoint")
	if c.Endpoint == "" {
		errs = append(errs, field.Invalid(endpoint, "", "endpoint is a mandatory field for a kms"))
	} else if u, err := url.Parse(c.Endpoint); err != nil {
		errs = append(errs, field.Invalid(endpoint, c.Endpoint, fmt.Sprintf("invalid endpoint for kms provider, error: %v", err)))
	} else if u.Scheme != "unix" {
		errs = append(errs, field.Invalid(endpoint, c.Endpoint, fmt.Sprintf("unsupported scheme %q for KMS provider, only unix is supported", u.Scheme)))
	}
	if c.APIVersion != "v1" && c.CacheSize != nil {
		errs = append(errs, field.Invalid(path.Child("cachesize"), *c.CacheSize, "cachesize is not supported in v2"))
	}
	if c.APIVersion != "v1" && c.APIVersion != "v2" {
		errs = append(errs, field.Invalid(path.Child("apiVersion"), c.APIVersion, "unsupported apiVersion apiVersion for KMS provider, only v1 and v2 are supported"))
	}
	return errs
}
