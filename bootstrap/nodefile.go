package bootstrap

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/yaml"

	"sampan/cluster/auth"
	"sampan/internal/fault"
)

// NodeFile is all that a machine needs to join a cluster: where the API is,
// what the cluster is like, and keys for each part of a node that speaks to it.
// As a file it is a kubeconfig with a context for each part; what a kubeconfig
// has no words for is in an extension of its cluster.
type NodeFile struct {
	Node    string // its name
	Server  string // URL of the API
	CA      []byte // PEM
	Agent   Pair   // system:node:NAME
	Proxy   Pair   // system:kube-proxy
	DNS     Pair   // the service account of the cluster's DNS
	Serving Pair   // of the node's own API
	Cluster ClusterFacts
}

// ClusterFacts are what all nodes of a cluster have to agree on.
type ClusterFacts struct {
	Pods     string `json:"podRange"`
	Services string `json:"serviceRange"`
	Domain   string `json:"clusterDomain"`
}

// The names in the file.
const (
	agentEntry   = "node"
	proxyEntry   = "proxy"
	dnsEntry     = "dns"
	servingEntry = "serving" // a user entry that is no user: kubectl hides its key as it does the others'
	factsEntry   = "sampan"
)

// NewNodeFile signs what a machine needs to join as the node called name. It
// has to be called where the cluster was started. server is empty for the API
// on the address of this machine; ips are addresses under which others than
// the API server reach the node's own API, which it needs no entry for.
func NewNodeFile(state, name, server string, ips []net.IP) (*NodeFile, error) {
	if why := validation.IsDNS1123Subdomain(name); len(why) > 0 {
		return nil, &fault.Error{Class: fault.Invalid, Op: "name node", On: name, Err: errors.New(why[0])}
	}
	r, err := readRecord(savedPath(state))
	if err != nil {
		return nil, err
	}
	switch {
	case r.Config.Joined:
		return nil, &fault.Error{Class: fault.Invalid, Op: "let a node join through", On: state,
			Err: errors.New("this machine joined a cluster itself"), Fix: "run it where the cluster was started"}
	case r.Node == name:
		return nil, &fault.Error{Class: fault.Exists, Op: "name node", On: name, Err: errors.New("it is this machine's name"), Fix: "choose another"}
	case server == "" && r.Address == "":
		return nil, &fault.Error{Class: fault.Unavailable, Op: "let a node join through", On: state,
			Err: errors.New("the address of the API is not known"), Fix: "start the cluster first: sampan up; or give --server"}
	case server == "":
		server = "https://" + r.apiAddress()
	}
	authority, err := Authority(filepath.Join(state, "pki"))
	if err != nil {
		return nil, err
	}
	f := &NodeFile{Node: name, Server: server, CA: authority.CAPEM,
		Cluster: ClusterFacts{Pods: r.Config.Pods, Services: r.Config.Services, Domain: r.Config.Domain}}
	node, proxy, dns := auth.Node(name), auth.Component("kube-proxy"), auth.ServiceAccount("kube-system", "coredns")
	var errs [4]error
	f.Agent, errs[0] = authority.Client(node.Name, auth.Nodes)
	f.Proxy, errs[1] = authority.Client(proxy.Name)
	f.DNS, errs[2] = authority.Client(dns.Name, "system:serviceaccounts", "system:serviceaccounts:kube-system")
	f.Serving, errs[3] = authority.Server(node.Name, []string{auth.Nodes}, []string{name}, ips)
	return f, errors.Join(errs[:]...)
}

// pairs are the file's entries with keys.
func (f *NodeFile) pairs() map[string]*Pair {
	return map[string]*Pair{agentEntry: &f.Agent, proxyEntry: &f.Proxy, dnsEntry: &f.DNS, servingEntry: &f.Serving}
}

// Encode is the file's text.
func (f *NodeFile) Encode() ([]byte, error) {
	facts, err := json.Marshal(f.Cluster)
	if err != nil {
		return nil, err
	}
	k := kubeconfigFile{APIVersion: "v1", Kind: "Config", CurrentContext: agentEntry, Clusters: []namedCluster{{Name: "sampan"}}}
	k.Clusters[0].Cluster.Server, k.Clusters[0].Cluster.CA = f.Server, f.CA
	k.Clusters[0].Cluster.Extensions = []namedExtension{{Name: factsEntry, Extension: facts}}
	for _, name := range []string{agentEntry, proxyEntry, dnsEntry, servingEntry} {
		u, c := namedUser{Name: name}, namedContext{Name: name}
		u.User.Cert, u.User.Key = f.pairs()[name].Cert, f.pairs()[name].Key
		c.Context.Cluster, c.Context.User = "sampan", name
		k.Users = append(k.Users, u)
		if name != servingEntry {
			k.Contexts = append(k.Contexts, c)
		}
	}
	return yaml.Marshal(k)
}

// readNodeFile reads what NewNodeFile made.
func readNodeFile(path string) (*NodeFile, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, &fault.Error{Class: fault.NotFound, Op: "read node file", On: path, Err: err,
			Fix: "make one where the cluster was started: sampan node-kubeconfig NAME"}
	}
	f, err := decodeNodeFile(data)
	if err != nil {
		return nil, &fault.Error{Class: fault.Invalid, Op: "read node file", On: path, Err: err,
			Fix: "make one where the cluster was started: sampan node-kubeconfig NAME"}
	}
	return f, nil
}

func decodeNodeFile(data []byte) (*NodeFile, error) {
	var k kubeconfigFile
	if err := yaml.Unmarshal(data, &k); err != nil {
		return nil, err
	}
	if len(k.Clusters) != 1 {
		return nil, errors.New("it does not name one cluster")
	}
	c := k.Clusters[0].Cluster
	f := &NodeFile{Server: c.Server, CA: c.CA}
	facts := false
	for _, e := range c.Extensions {
		if e.Name == factsEntry {
			facts = true
			if err := json.Unmarshal(e.Extension, &f.Cluster); err != nil {
				return nil, err
			}
		}
	}
	if !facts {
		return nil, errors.New("it is a kubeconfig, but not one for a node to join with")
	}
	pairs := f.pairs()
	for _, u := range k.Users {
		if p := pairs[u.Name]; p != nil {
			*p = Pair{Cert: u.User.Cert, Key: u.User.Key}
		}
	}
	for name, p := range pairs {
		if _, err := tls.X509KeyPair(p.Cert, p.Key); err != nil {
			return nil, errors.Join(errors.New("keys of "+name), err)
		}
	}
	block, _ := pem.Decode(f.Agent.Cert)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, err
	}
	name, ok := strings.CutPrefix(cert.Subject.CommonName, auth.Node("").Name)
	if !ok {
		return nil, errors.New("its certificate is of " + cert.Subject.CommonName + ", not of a node")
	}
	f.Node = name
	return f, nil
}

// configure makes c that of a node of the file's cluster.
func (f *NodeFile) configure(c Config) (Config, error) {
	if c.NodeName != "" && c.NodeName != f.Node {
		return c, &fault.Error{Class: fault.Invalid, Op: "name node", On: c.NodeName,
			Err: errors.New("the file to join with is for " + f.Node), Fix: "leave --node-name out, or make a file for that name"}
	}
	var err error
	if c.Pods, err = netip.ParsePrefix(f.Cluster.Pods); err != nil {
		return c, err
	}
	if c.Services, err = netip.ParsePrefix(f.Cluster.Services); err != nil {
		return c, err
	}
	c.NodeName, c.ClusterDomain = f.Node, f.Cluster.Domain
	return c, nil
}
