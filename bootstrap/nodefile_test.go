package bootstrap

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/client-go/tools/clientcmd"
)

// cluster makes a state directory as a program leaves it.
func cluster(t *testing.T) (state string, pki *PKI) {
	t.Helper()
	state = t.TempDir()
	pki, err := LoadPKI(PKIConfig{Dir: filepath.Join(state, "pki")})
	if err != nil {
		t.Fatal(err)
	}
	r := Record{State: state, Run: t.TempDir(), Node: "one", Address: "10.9.0.1",
		Config: Saved{Pods: "10.1.0.0/16", Services: "10.2.0.0/16", Domain: "my.cluster", Port: 7443}}
	if err := r.write(); err != nil {
		t.Fatal(err)
	}
	return state, pki
}

func TestNodeFile(t *testing.T) {
	state, pki := cluster(t)
	made, err := NewNodeFile(state, "two", "", []net.IP{net.IPv4(10, 9, 0, 2)})
	if err != nil {
		t.Fatal(err)
	}
	data, err := made.Encode()
	if err != nil {
		t.Fatal(err)
	}
	f, err := decodeNodeFile(data)
	if err != nil {
		t.Fatal(err)
	}
	if f.Node != "two" || f.Server != "https://10.9.0.1:7443" || f.Cluster != (ClusterFacts{"10.1.0.0/16", "10.2.0.0/16", "my.cluster"}) {
		t.Errorf("got %s at %s in %+v", f.Node, f.Server, f.Cluster)
	}
	roots := x509.NewCertPool()
	roots.AddCert(pki.CA)
	for _, c := range []struct {
		pair         *Pair
		name, groups string
		usage        x509.ExtKeyUsage
	}{
		{&f.Agent, "system:node:two", "system:nodes", x509.ExtKeyUsageClientAuth},
		{&f.Proxy, "system:kube-proxy", "", x509.ExtKeyUsageClientAuth},
		{&f.DNS, "system:serviceaccount:kube-system:coredns", "system:serviceaccounts system:serviceaccounts:kube-system", x509.ExtKeyUsageClientAuth},
		{&f.Serving, "system:node:two", "system:nodes", x509.ExtKeyUsageServerAuth},
	} {
		pair, err := tls.X509KeyPair(c.pair.Cert, c.pair.Key)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{c.usage}}); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if s := pair.Leaf.Subject; s.CommonName != c.name || strings.Join(s.Organization, " ") != c.groups {
			t.Errorf("got %v, want %s of %q", s, c.name, c.groups)
		}
		if c.usage == x509.ExtKeyUsageServerAuth && (pair.Leaf.VerifyHostname("two") != nil || pair.Leaf.VerifyHostname("10.9.0.2") != nil) {
			t.Errorf("it serves as %v %v", pair.Leaf.DNSNames, pair.Leaf.IPAddresses)
		}
	}
	// Every tool that reads kubeconfigs can use it.
	if config, err := clientcmd.RESTConfigFromKubeConfig(data); err != nil || config.Host != f.Server || len(config.KeyData) == 0 {
		t.Errorf("as a kubeconfig: %v, %v", config, err)
	}
}

func TestMembership(t *testing.T) {
	state, _ := cluster(t)
	made, err := NewNodeFile(state, "two", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	data, err := made.Encode()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "two.kubeconfig")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	elsewhere, _ := cluster(t)
	foreign, err := NewNodeFile(elsewhere, "two", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	foreignData, _ := foreign.Encode()

	for _, c := range []struct {
		it     string
		cfg    Config
		before []byte // what it joined with before
		node   string // empty: a cluster of its own
		says   string // the error
	}{
		{it: "is a cluster of its own unless told otherwise"},
		{it: "is the node that the file names", cfg: Config{Join: file}, node: "two"},
		{it: "is what it was before", before: data, node: "two"},
		{it: "may be told again", cfg: Config{Join: file}, before: data, node: "two"},
		{it: "cannot have another name", cfg: Config{Join: file, NodeName: "three"}, says: "is for two"},
		{it: "does not change sides", cfg: Config{Join: file}, before: foreignData, says: "is the node two of the cluster at"},
		{it: "does not give up its own cluster", cfg: Config{Join: file, State: state}, says: "has a cluster of its own"},
	} {
		t.Run(c.it, func(t *testing.T) {
			if c.cfg.State == "" {
				c.cfg.State = t.TempDir()
			}
			c.cfg.Run = t.TempDir()
			if c.before != nil {
				if err := os.WriteFile(keptFile(c.cfg.State), c.before, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			p, err := New(c.cfg)
			if err != nil {
				t.Fatal(err)
			}
			f, err := p.membership()
			switch {
			case c.says != "":
				if err == nil || !strings.Contains(err.Error(), c.says) {
					t.Errorf("got %v, want an error that says %q", err, c.says)
				}
			case err != nil:
				t.Error(err)
			case c.node == "" && f != nil, c.node != "" && f == nil:
				t.Errorf("got %v, want the node %q", f, c.node)
			case f != nil && (p.cfg.NodeName != c.node || p.cfg.Pods.String() != "10.1.0.0/16" || p.cfg.ClusterDomain != "my.cluster"):
				t.Errorf("the configuration is %+v", p.cfg)
			}
		})
	}
}
