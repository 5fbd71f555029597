package pod

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// What probes and hooks do to a container. Each returns nil for success; the
// error's text is what users read.

const maxOutput = 10 << 10

var errNoHandler = errors.New("missing handler: one of exec, httpGet, tcpSocket, grpc, sleep must be set")

// target is the container that a probe or hook is about.
type target struct {
	runtime Runtime
	pod     *corev1.Pod
	c       *corev1.Container
	id      string
	ip      string // the pod's
}

// check carries out a probe once.
func (t *target) check(ctx context.Context, p *corev1.Probe) error {
	timeout := time.Duration(max(p.TimeoutSeconds, 1)) * time.Second
	switch h := p.ProbeHandler; {
	case h.Exec != nil:
		return t.exec(ctx, expandAll(h.Exec.Command, t.literalEnv), timeout)
	case h.HTTPGet != nil:
		return t.http(ctx, h.HTTPGet, timeout, "kube-probe/1.37")
	case h.TCPSocket != nil:
		return t.tcp(ctx, h.TCPSocket, timeout)
	case h.GRPC != nil:
		return t.grpc(ctx, h.GRPC, timeout)
	}
	return errNoHandler
}

// hook carries out a lifecycle handler.
func (t *task) hook(ctx context.Context, c *corev1.Container, id string, h *corev1.LifecycleHandler) error {
	to := &target{runtime: t.c.Runtime, pod: t.pod, c: c, id: id}
	if ips := t.podIPs(); len(ips) > 0 {
		to.ip = ips[0]
	}
	switch {
	case h.Exec != nil:
		return to.exec(ctx, h.Exec.Command, 0)
	case h.HTTPGet != nil:
		return to.http(ctx, h.HTTPGet, 0, "kube-lifecycle/1.37")
	case h.TCPSocket != nil:
		return to.tcp(ctx, h.TCPSocket, 30*time.Second)
	case h.Sleep != nil:
		timer := time.NewTimer(time.Duration(h.Sleep.Seconds) * time.Second)
		defer timer.Stop()
		select {
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("container terminated before sleep hook finished")
		}
	}
	return errNoHandler
}

// literalEnv knows the variables that need no other object, as upstream does
// for the commands of probes.
func (t *target) literalEnv(name string) (string, bool) {
	for _, e := range t.c.Env {
		if e.Name == name && e.ValueFrom == nil {
			return e.Value, true
		}
	}
	return "", false
}

func (t *target) exec(ctx context.Context, command []string, timeout time.Duration) error {
	r, err := t.runtime.ExecSync(ctx, &runtimeapi.ExecSyncRequest{ContainerId: t.id, Cmd: command, Timeout: int64(timeout / time.Second)})
	if err != nil {
		if status.Code(err) == codes.DeadlineExceeded || errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("command timed out: %q timed out after %v", strings.Join(command, " "), timeout)
		}
		return err
	}
	if r.ExitCode != 0 {
		out := append(bytes.Clone(r.Stdout), r.Stderr...)
		return errors.New(string(out[:min(len(out), maxOutput)]))
	}
	return nil
}

func (t *target) http(ctx context.Context, h *corev1.HTTPGetAction, timeout time.Duration, agent string) error {
	port, err := t.port(h.Port)
	if err != nil {
		return err
	}
	host := h.Host
	if host == "" {
		host = t.ip
	}
	scheme := strings.ToLower(string(h.Scheme))
	if scheme == "" {
		scheme = "http"
	}
	u, err := url.Parse(h.Path)
	if err != nil {
		u = &url.URL{Path: h.Path}
	}
	u.Scheme, u.Host = scheme, net.JoinHostPort(host, strconv.Itoa(port))
	if u.Path == "" {
		u.Path = "/"
	} else if !strings.HasPrefix(u.Path, "/") {
		u.Path = "/" + u.Path
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", agent)
	req.Header.Set("Accept", "*/*")
	for _, f := range h.HTTPHeaders {
		if http.CanonicalHeaderKey(f.Name) == "Host" {
			req.Host = f.Value
			continue
		}
		req.Header.Add(f.Name, f.Value)
	}
	elsewhere := false
	client := &http.Client{Timeout: timeout,
		Transport: &http.Transport{
			DisableKeepAlives: true, DisableCompression: true,
			// A probe asks whether it answers, not who it is: upstream's rule.
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		},
		CheckRedirect: func(next *http.Request, via []*http.Request) error {
			if next.URL.Hostname() != via[0].URL.Hostname() {
				elsewhere = true
				return http.ErrUseLastResponse
			}
			if len(via) >= 10 {
				return errors.New("stopped after 10 redirects")
			}
			return nil
		},
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, maxOutput)); err != nil {
		return err
	}
	if !elsewhere && (resp.StatusCode < 200 || resp.StatusCode >= 400) {
		return fmt.Errorf("HTTP probe failed with statuscode: %d", resp.StatusCode)
	}
	return nil
}

func (t *target) tcp(ctx context.Context, h *corev1.TCPSocketAction, timeout time.Duration) error {
	port, err := t.port(h.Port)
	if err != nil {
		return err
	}
	host := h.Host
	if host == "" {
		host = t.ip
	}
	d := net.Dialer{Timeout: timeout}
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return err
	}
	return conn.Close()
}

func (t *target) grpc(ctx context.Context, h *corev1.GRPCAction, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	address := net.JoinHostPort(t.ip, strconv.Itoa(int(h.Port)))
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithUserAgent("kube-probe/1.37"))
	if err != nil {
		return err
	}
	defer conn.Close()
	service := ""
	if h.Service != nil {
		service = *h.Service
	}
	r, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: service}, grpc.WaitForReady(true))
	switch status.Code(err) {
	case codes.OK:
	case codes.Unimplemented:
		return fmt.Errorf("error: this server does not implement the grpc health protocol (grpc.health.v1.Health): %s", status.Convert(err).Message())
	case codes.DeadlineExceeded:
		return fmt.Errorf("timeout: failed to connect service %q within %v: %w", address, timeout, context.DeadlineExceeded)
	default:
		return fmt.Errorf("error: health rpc probe failed: %+v", err)
	}
	if r.Status != grpc_health_v1.HealthCheckResponse_SERVING {
		return fmt.Errorf("service unhealthy (responded with %q)", r.Status.String())
	}
	return nil
}

// port resolves the name of a port by the container's own.
func (t *target) port(p intstr.IntOrString) (int, error) {
	if p.Type == intstr.Int {
		return valid(p.IntValue())
	}
	for _, c := range t.c.Ports {
		if c.Name == p.StrVal {
			return valid(int(c.ContainerPort))
		}
	}
	n, err := strconv.Atoi(p.StrVal)
	if err != nil {
		return 0, fmt.Errorf("couldn't find port: %q in container %s", p.StrVal, t.c.Name)
	}
	return valid(n)
}

func valid(n int) (int, error) {
	if n < 1 || n > 65535 {
		return 0, fmt.Errorf("invalid port number: %d", n)
	}
	return n, nil
}
