package bootstrap

import (
	"encoding/json"
	"os"
	"path/filepath"

	"sigs.k8s.io/yaml"

	"sampan/internal/fault"
)

// Kubeconfig is what a client needs to reach an instance as one user.
type Kubeconfig struct {
	Server string // URL: https://127.0.0.1:6443
	CA     []byte // PEM
	User   string // the name of the entry; who it is says the certificate
	Client Pair
	Name   string // of cluster and context; default: "sampan"
}

// Write puts the kubeconfig into path, mode 0600, replacing what is there.
// The directory is made if it does not exist.
func (k Kubeconfig) Write(path string) error {
	if k.Name == "" {
		k.Name = "sampan"
	}
	if k.User == "" {
		k.User = AdminUser
	}
	data, err := yaml.Marshal(k.file())
	if err != nil {
		return &fault.Error{Op: "encode kubeconfig", On: path, Err: err}
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return &fault.Error{Op: "make directory of kubeconfig", On: path, Err: err}
	}
	return writeFile(path, data, 0o600)
}

// The types below are the part of upstream's format (client-go,
// tools/clientcmd/api/v1) that is used here; that package would cost its
// whole scheme at start.
type kubeconfigFile struct {
	APIVersion     string         `json:"apiVersion"`
	Kind           string         `json:"kind"`
	Clusters       []namedCluster `json:"clusters"`
	Users          []namedUser    `json:"users"`
	Contexts       []namedContext `json:"contexts"`
	CurrentContext string         `json:"current-context"`
	Preferences    struct{}       `json:"preferences"`
}

type namedCluster struct {
	Name    string `json:"name"`
	Cluster struct {
		Server string `json:"server"`
		CA     []byte `json:"certificate-authority-data"`

		Extensions []namedExtension `json:"extensions,omitempty"`
	} `json:"cluster"`
}

type namedExtension struct {
	Name      string          `json:"name"`
	Extension json.RawMessage `json:"extension"`
}

type namedUser struct {
	Name string `json:"name"`
	User struct {
		Cert []byte `json:"client-certificate-data"`
		Key  []byte `json:"client-key-data"`
	} `json:"user"`
}

type namedContext struct {
	Name    string `json:"name"`
	Context struct {
		Cluster string `json:"cluster"`
		User    string `json:"user"`
	} `json:"context"`
}

func (k Kubeconfig) file() kubeconfigFile {
	f := kubeconfigFile{APIVersion: "v1", Kind: "Config", CurrentContext: k.Name,
		Clusters: []namedCluster{{Name: k.Name}}, Users: []namedUser{{Name: k.User}}, Contexts: []namedContext{{Name: k.Name}}}
	f.Clusters[0].Cluster.Server, f.Clusters[0].Cluster.CA = k.Server, k.CA
	f.Users[0].User.Cert, f.Users[0].User.Key = k.Client.Cert, k.Client.Key
	f.Contexts[0].Context.Cluster, f.Contexts[0].Context.User = k.Name, k.User
	return f
}
