package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// platform is our program with its directories.
type platform struct{ sampan, dir, profiles string }

func (b *bench) platform() *platform {
	return &platform{sampan: b.sampan, dir: filepath.Join(b.dir, "sampan"), profiles: b.profiles}
}

func (p *platform) kubeconfig() string { return filepath.Join(p.dir, "kubeconfig") }

// command prepares a command of the program.
func (p *platform) command(ctx context.Context, args ...string) *exec.Cmd {
	all := append([]string{"--state", filepath.Join(p.dir, "state"), "--run", filepath.Join(p.dir, "run")}, args...)
	c := exec.CommandContext(ctx, p.sampan, all...)
	c.Env = append(os.Environ(), "KUBECONFIG="+p.kubeconfig())
	return c
}

func (p *platform) call(ctx context.Context, args ...string) (string, error) {
	return call(p.command(ctx, args...))
}

func (p *platform) up(ctx context.Context, more ...string) error {
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return err
	}
	_, err := p.call(ctx, append([]string{"up", "--detach", "--kubeconfig", p.kubeconfig()}, more...)...)
	return err
}

// reset removes every trace; it is called also after an interruption.
func (p *platform) reset() error {
	ctx := context.Background()
	_, err := p.call(ctx, "reset", "--yes")
	if p.profiles != "" {
		log, _ := os.ReadFile(filepath.Join(p.dir, "run", "sampan.log"))
		_ = os.WriteFile(filepath.Join(p.profiles, "sampan.log"), log, 0o644)
	}
	return errors.Join(err, os.RemoveAll(p.dir))
}

// usage is what processes cost together, as sampan status has it.
type usage struct {
	Processes int     `json:"processes"`
	RSS       float64 `json:"rssBytes"`
	Private   float64 `json:"privateBytes"`
}

type status struct {
	PID      int   `json:"pid"`
	Program  usage `json:"program"`
	Monitors usage `json:"monitors"`
	All      usage `json:"all"`
}

func (p *platform) status(ctx context.Context) (s status, err error) {
	out, err := p.call(ctx, "status", "-o", "json")
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal([]byte(out), &s)
}

const (
	asJSON     = "application/json"
	asProtobuf = "application/vnd.kubernetes.protobuf"
)

// clientOf makes a client with a connection and without limits of its own.
func clientOf(kubeconfig, contentType string, warn rest.WarningHandler) (*kubernetes.Clientset, error) {
	cfg, err := configOf(kubeconfig, contentType)
	if err != nil {
		return nil, err
	}
	cfg.WarningHandler = warn
	return kubernetes.NewForConfig(cfg)
}

func configOf(kubeconfig, contentType string) (*rest.Config, error) {
	cfg, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	cfg.QPS, cfg.ContentType = -1, contentType
	if contentType == asProtobuf {
		cfg.AcceptContentTypes = asProtobuf + "," + asJSON
	}
	// client-go shares connections between configurations that are equal; a
	// dialer makes this one unlike any other.
	cfg.Dial = (&net.Dialer{}).DialContext
	return cfg, nil
}

// profile saves where the program's CPU time goes for some seconds, if asked
// to; what it returns is closed at the end.
func (p *platform) profile(ctx context.Context, name string, seconds int) <-chan struct{} {
	done := make(chan struct{})
	if p == nil || p.profiles == "" {
		close(done)
		return done
	}
	go func() {
		defer close(done)
		name := strings.NewReplacer(" ", "-", ",", "", "/", "-").Replace(name)
		if err := p.keep(ctx, name+".cpu", fmt.Sprintf("/debug/pprof/profile?seconds=%d", seconds)); err != nil {
			fmt.Fprintln(os.Stderr, "bench: profile:", err)
		}
	}()
	return done
}

// keep saves the answer of a path of the API.
func (p *platform) keep(ctx context.Context, name, path string) error {
	if p.profiles == "" {
		return nil
	}
	c, err := clientOf(p.kubeconfig(), asJSON, rest.NoWarnings{})
	if err != nil {
		return err
	}
	body, err := c.CoreV1().RESTClient().Get().RequestURI(path).Stream(ctx)
	if err != nil {
		return err
	}
	defer body.Close()
	if err := os.MkdirAll(p.profiles, 0o755); err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(p.profiles, name+".pprof"))
	if err != nil {
		return err
	}
	_, err = io.Copy(f, body)
	return errors.Join(err, f.Close())
}
