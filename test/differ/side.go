package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"k8s.io/client-go/tools/clientcmd"
)

// side is one of the two API servers.
type side struct {
	name   string
	url    string
	client *http.Client

	daemons []*exec.Cmd
	logs    []string
}

// administrator is who sends the requests, on both sides the same.
const (
	administrator = "kubernetes-admin"
	masters       = "system:masters"
	serviceRange  = "10.97.0.0/16"
)

// start starts a program that ends with this one.
func (s *side) start(dir, path string, args ...string) error {
	log := filepath.Join(dir, filepath.Base(path)+".log")
	f, err := os.Create(log)
	if err != nil {
		return err
	}
	defer f.Close()
	cmd := exec.Command(path, args...)
	cmd.Stdout, cmd.Stderr = f, f
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return err
	}
	s.daemons, s.logs = append(s.daemons, cmd), append(s.logs, log)
	return nil
}

func (s *side) stop() {
	if s == nil {
		return
	}
	for i := len(s.daemons) - 1; i >= 0; i-- {
		_ = s.daemons[i].Process.Kill()
		_ = s.daemons[i].Wait()
	}
}

// startUpstream starts etcd and kube-apiserver. Of the admission plugins those
// are on that are by default; there is no other of upstream's programs.
func startUpstream(ctx context.Context, b binaries, dir string) (*side, error) {
	s := &side{name: "upstream", url: "https://127.0.0.1:16443"}
	path := func(name string) string { return filepath.Join(dir, name) }
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return s, err
	}
	certificate, err := selfSigned(key)
	if err != nil {
		return s, err
	}
	s.client = newClient(&tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{{Certificate: [][]byte{certificate}, PrivateKey: key}}})
	if err := errors.Join(
		os.MkdirAll(dir, 0o700),
		os.WriteFile(path("key"), pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}), 0o600),
		os.WriteFile(path("ca"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}), 0o600),
	); err != nil {
		return s, err
	}
	const etcd, peer = "http://127.0.0.1:12379", "http://127.0.0.1:12380"
	if err := s.start(dir, b.etcd, "--data-dir="+path("etcd"), "--listen-client-urls="+etcd, "--advertise-client-urls="+etcd, "--unsafe-no-fsync",
		"--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer, "--initial-cluster=default="+peer, "--log-level=warn"); err != nil {
		return s, err
	}
	if err := s.start(dir, b.apiserver, "--etcd-servers="+etcd, "--secure-port=16443", "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1",
		"--endpoint-reconciler-type=none", "--cert-dir="+path("certificates"), "--client-ca-file="+path("ca"), "--authorization-mode=Node,RBAC",
		"--service-cluster-ip-range="+serviceRange, "--allow-privileged=true", "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file="+path("key"), "--service-account-signing-key-file="+path("key"),
		"--max-requests-inflight=0", "--max-mutating-requests-inflight=0", "--enable-priority-and-fairness=false"); err != nil {
		return s, err
	}
	return s, s.ready(ctx)
}

// selfSigned is a certificate of the administrator, and the authority for it.
func selfSigned(key *rsa.PrivateKey) ([]byte, error) {
	t := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: administrator, Organization: []string{masters}},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	return x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
}

// startOurs starts this program's API server alone.
func startOurs(ctx context.Context, b binaries, dir string) (*side, error) {
	s := &side{name: "ours", url: "https://127.0.0.1:26443"}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return s, err
	}
	kubeconfig := filepath.Join(dir, "kubeconfig")
	if err := s.start(dir, b.sampan, "--state", filepath.Join(dir, "state"), "--run", filepath.Join(dir, "run"), "up", "--api-only", "--strict-versions",
		"--listen", "127.0.0.1", "--port", "26443", "--service-range", serviceRange, "--kubeconfig", kubeconfig); err != nil {
		return s, err
	}
	err := until(ctx, func() error {
		cfg, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
		if err != nil {
			return err
		}
		pair, err := tls.X509KeyPair(cfg.CertData, cfg.KeyData)
		s.client = newClient(&tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{pair}})
		return err
	})
	return s, errors.Join(err, s.ready(ctx))
}

func newClient(t *tls.Config) *http.Client {
	return &http.Client{Timeout: time.Minute, Transport: &http.Transport{TLSClientConfig: t, MaxIdleConnsPerHost: 16, DisableCompression: true}}
}

// ready waits until the side answers.
func (s *side) ready(ctx context.Context) error {
	err := until(ctx, func() error {
		a, err := s.send(ctx, request{method: "GET", path: "/readyz"})
		if err == nil && a.status != http.StatusOK {
			err = fmt.Errorf("%d %s", a.status, a.body)
		}
		return err
	})
	if err == nil {
		return nil
	}
	for _, log := range s.logs {
		text, _ := os.ReadFile(log)
		err = fmt.Errorf("%w\n%s: %s", err, filepath.Base(log), text[max(0, len(text)-2000):])
	}
	return fmt.Errorf("%s is not ready: %w", s.name, err)
}

// until calls f until it succeeds, for two minutes at the most.
func until(ctx context.Context, f func() error) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return err
		}
	}
}
