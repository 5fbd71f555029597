package upstream

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	etcdURL      = "http://127.0.0.1:12379"
	upstreamPort = "16443"
	ourPort      = "17443"
)

// startEtcd runs upstream's etcd on a data directory until it is stopped.
func startEtcd(t *testing.T, dir, data string, more ...string) *daemon {
	t.Helper()
	return start(t, dir, "etcd", append([]string{"--data-dir=" + data, "--listen-client-urls=" + etcdURL, "--advertise-client-urls=" + etcdURL,
		"--listen-peer-urls=http://127.0.0.1:12380", "--log-level=warn"}, more...)...)
}

// kubeAPIServer runs upstream's on the etcd at etcdURL, or the one that more
// names, and returns when it answers.
func kubeAPIServer(t *testing.T, dir string, more ...string) (*daemon, *rest.Config) {
	t.Helper()
	path := func(name string) string { return filepath.Join(dir, name) }
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	block := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	for name, data := range map[string][]byte{"key": block, "tokens": []byte("secret,admin,admin,system:masters\n")} {
		if err := os.WriteFile(path(name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if len(more) == 0 {
		more = []string{"--etcd-servers=" + etcdURL}
	}
	d := start(t, dir, "kube-apiserver", append([]string{"--secure-port=" + upstreamPort, "--bind-address=127.0.0.1",
		"--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none", "--cert-dir=" + path("certificates"), "--token-auth-file=" + path("tokens"),
		"--authorization-mode=Node,RBAC", "--service-cluster-ip-range=10.96.0.0/16", "--allow-privileged=true",
		"--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file=" + path("key"), "--service-account-signing-key-file=" + path("key"),
		// What upstream's own test of storage paths needs for its objects.
		"--disable-admission-plugins=ServiceAccount,TaintNodesByCondition"}, more...)...)
	cfg := &rest.Config{Host: "https://127.0.0.1:" + upstreamPort, BearerToken: "secret", QPS: -1, TLSClientConfig: rest.TLSClientConfig{Insecure: true}}
	within(t, "kube-apiserver", func(ctx context.Context) error {
		if d.cmd.ProcessState != nil {
			return fmt.Errorf("it has ended: %s", d.lastWords())
		}
		if err := ready(ctx, cfg); err != nil {
			return fmt.Errorf("%w\n%s", err, d.lastWords())
		}
		return nil
	})
	return d, cfg
}

// ours is this program, with its directories.
type ours struct {
	t   *testing.T
	dir string
}

func (o ours) store() string { return filepath.Join(o.dir, "state", "store") }

// call runs one of its commands.
func (o ours) call(args ...string) {
	o.t.Helper()
	bin := os.Getenv("SAMPAN")
	if bin == "" {
		bin = filepath.Join("..", "..", "bin", "sampan")
	}
	all := append([]string{"--state", filepath.Join(o.dir, "state"), "--run", filepath.Join(o.dir, "run")}, args...)
	if out, err := exec.Command(bin, all...).CombinedOutput(); err != nil {
		log, _ := os.ReadFile(filepath.Join(o.dir, "run", "sampan.log"))
		o.t.Fatalf("sampan %v: %v\n%s\n%s", args, err, out, log[max(0, len(log)-3000):])
	}
}

// up starts it; it is gone after the test.
func (o ours) up(more ...string) *rest.Config {
	o.t.Helper()
	kubeconfig := filepath.Join(o.dir, "kubeconfig")
	o.t.Cleanup(func() { o.call("reset", "--yes", "--kubeconfig", kubeconfig) })
	o.call(append([]string{"up", "--detach", "--port", ourPort, "--kubelet-port", "17250", "--kubeconfig", kubeconfig}, more...)...)
	cfg, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		o.t.Fatal(err)
	}
	cfg.QPS = -1
	return cfg
}

func ready(ctx context.Context, cfg *rest.Config) error {
	cfg = rest.CopyConfig(cfg)
	cfg.APIPath = "/"
	c, err := rest.UnversionedRESTClientFor(plain(cfg))
	if err != nil {
		return err
	}
	return c.Get().AbsPath("/readyz").Do(ctx).Error()
}
