package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// upstream is a control plane of upstream's programs: etcd without TLS, the
// others with the flags that kubeadm gives and the limits of their clients
// raised.
type upstream struct {
	bench   *bench
	dir     string
	daemons []*daemon
}

const upstreamPort = "16443"

func (u *upstream) path(name string) string { return filepath.Join(u.dir, name) }
func (u *upstream) kubeconfig() string      { return u.path("admin") }

func (u *upstream) pids() (all []int) {
	for _, d := range u.daemons {
		all = append(all, d.pid())
	}
	return all
}

// newUpstream is a control plane on no state, of which nothing runs yet.
func (b *bench) newUpstream() (*upstream, error) {
	dir, err := os.MkdirTemp(b.dir, "upstream-")
	if err != nil {
		return nil, err
	}
	u := &upstream{bench: b, dir: dir}
	return u, u.files()
}

// openUpstream starts a control plane on no state, and returns when the API
// answers. The controller manager gets more flags. To end it is the caller's,
// also after an error.
func (b *bench) openUpstream(ctx context.Context, manager ...string) (*upstream, error) {
	u, err := b.newUpstream()
	if err == nil {
		err = u.serve(ctx)
	}
	if err != nil {
		return u, err
	}
	manager = append([]string{"--kubeconfig=" + u.path("manager"), "--leader-elect=false", "--service-account-private-key-file=" + u.path("key"),
		"--root-ca-file=" + u.path("certificates/apiserver.crt"), "--use-service-account-credentials=true", "--kube-api-qps=5000", "--kube-api-burst=5000",
		"--cert-dir=" + u.path("certificates")}, manager...)
	if _, err := u.run("kube-controller-manager", manager...); err != nil {
		return u, err
	}
	_, err = u.run("kube-scheduler", "--kubeconfig="+u.path("scheduler"), "--leader-elect=false", "--kube-api-qps=5000", "--kube-api-burst=5000")
	return u, err
}

// serve starts etcd and the API server, and returns when it answers.
func (u *upstream) serve(ctx context.Context) error {
	etcd, err := u.run("etcd", "--data-dir="+u.path("etcd"), "--listen-client-urls=http://127.0.0.1:12379", "--advertise-client-urls=http://127.0.0.1:12379",
		"--listen-peer-urls=http://127.0.0.1:12380", "--initial-advertise-peer-urls=http://127.0.0.1:12380", "--initial-cluster=default=http://127.0.0.1:12380", "--log-level=warn")
	if err != nil {
		return err
	}
	api, err := u.run("kube-apiserver", "--etcd-servers=http://127.0.0.1:12379", "--secure-port="+upstreamPort, "--bind-address=127.0.0.1",
		"--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none", "--cert-dir="+u.path("certificates"), "--token-auth-file="+u.path("tokens"),
		"--authorization-mode=Node,RBAC", "--service-cluster-ip-range=10.97.0.0/16", "--allow-privileged=true", "--enable-bootstrap-token-auth=true",
		"--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file="+u.path("key"), "--service-account-signing-key-file="+u.path("key"))
	if err != nil {
		return err
	}
	return api.ready(ctx, 2*time.Minute, func(ctx context.Context) error {
		select {
		case <-etcd.done:
			return fmt.Errorf("etcd has ended: %s", etcd.lastWord())
		default:
		}
		return answers(ctx, u.kubeconfig())
	})
}

func (u *upstream) run(name string, args ...string) (*daemon, error) {
	d, err := u.bench.start(name, u.bench.bins.bin(name), nil, args...)
	if err == nil {
		u.daemons = append(u.daemons, d)
	}
	return d, err
}

// close ends it all. Its state goes with the run's directory: a kubelet's
// volumes may still be mounted there.
func (u *upstream) close() {
	if u == nil {
		return
	}
	for i := len(u.daemons) - 1; i >= 0; i-- {
		u.daemons[i].stop()
	}
	u.daemons = nil
}

// files makes what the programs are started with.
func (u *upstream) files() error {
	if err := os.MkdirAll(u.path("certificates"), 0o700); err != nil {
		return err
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	block := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	err = os.WriteFile(u.path("key"), block, 0o600)
	var tokens string
	for _, who := range []struct{ name, user, group string }{
		{"admin", "admin", "system:masters"},
		{"manager", "system:kube-controller-manager", ""},
		{"scheduler", "system:kube-scheduler", ""},
		{"kubelet", "system:node:bench", "system:nodes"},
		{"proxy", "system:kube-proxy", ""},
	} {
		token := rand.Text()
		tokens += fmt.Sprintf("%s,%s,%s,%q\n", token, who.user, who.name, who.group)
		cfg := clientcmdapi.NewConfig()
		cfg.Clusters["c"] = &clientcmdapi.Cluster{Server: "https://127.0.0.1:" + upstreamPort, InsecureSkipTLSVerify: true}
		cfg.AuthInfos["u"] = &clientcmdapi.AuthInfo{Token: token}
		cfg.Contexts["x"] = &clientcmdapi.Context{Cluster: "c", AuthInfo: "u"}
		cfg.CurrentContext = "x"
		err = errors.Join(err, clientcmd.WriteToFile(*cfg, u.path(who.name)))
	}
	return errors.Join(err, os.WriteFile(u.path("tokens"), []byte(tokens), 0o600))
}

// answers tells whether an API server is ready.
func answers(ctx context.Context, kubeconfig string) error {
	c, err := clientOf(kubeconfig, asJSON, rest.NoWarnings{})
	if err != nil {
		return err
	}
	return c.CoreV1().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
}

// usable waits until pods can be made: the default service account exists.
func usable(ctx context.Context, kubeconfig string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	c, err := clientOf(kubeconfig, asJSON, rest.NoWarnings{})
	if err != nil {
		return err
	}
	for {
		if _, err = c.CoreV1().ServiceAccounts("default").Get(ctx, "default", metav1.GetOptions{}); err == nil {
			return nil
		}
		if pause(ctx, 20*time.Millisecond) != nil {
			return fmt.Errorf("no default service account: %w", err)
		}
	}
}
