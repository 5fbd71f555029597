package api_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/websocket"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/cri-streaming/pkg/streaming/portforward"
	kubeletexec "k8s.io/cri-streaming/pkg/streaming/remotecommand"
	utilexec "k8s.io/utils/exec"

	"sampan/cluster/api"
	"sampan/cluster/client"
)

// kubelet is a node's port: the streaming library that nodes use, and
// commands that are answered here.
type kubelet struct {
	conns chan net.Conn
	over  chan struct{}
	once  sync.Once
	calls chan string
}

// Accept, Close and Addr make it a listener on pipes: a connection without
// any buffer shows whether the two sides ever wait for each other.
func (k *kubelet) Accept() (net.Conn, error) {
	select {
	case c := <-k.conns:
		return c, nil
	case <-k.over:
		return nil, net.ErrClosed
	}
}

func (k *kubelet) Close() error   { k.once.Do(func() { close(k.over) }); return nil }
func (k *kubelet) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "pipe"} }

func newKubelet(t *testing.T) *kubelet {
	t.Helper()
	k := &kubelet{conns: make(chan net.Conn), over: make(chan struct{}), calls: make(chan string, 100)}
	s := &http.Server{Handler: k}
	done := make(chan struct{})
	go func() { defer close(done); s.Serve(k) }()
	t.Cleanup(func() { s.Close(); <-done })
	return k
}

func (k *kubelet) DialNode(_ context.Context, node string) (net.Conn, error) {
	if node != "box" {
		return nil, errors.New("no route to " + node)
	}
	here, there := net.Pipe()
	select {
	case k.conns <- there:
		return here, nil
	case <-k.over:
		return nil, net.ErrClosed
	}
}

func (k *kubelet) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	k.calls <- r.Method + " " + r.URL.String()
	part := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	switch part[0] {
	case "containerLogs":
		if part[2] == "waiting" {
			http.Error(w, `container "main" in pod "waiting" is waiting to start: ContainerCreating`, http.StatusBadRequest)
			return
		}
		io.WriteString(w, "line 1\nline 2\n")
	case "exec", "attach":
		o, err := kubeletexec.NewOptions(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		cmd := r.URL.Query()["command"]
		if part[0] == "attach" {
			cmd = []string{"cat"}
		}
		kubeletexec.ServeExec(w, r, k, part[2], "", part[3], cmd, o, time.Minute, time.Minute, kubeletexec.SupportedStreamingProtocols)
	case "portForward":
		o, err := portforward.NewV4Options(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		portforward.ServePortForward(w, r, k, part[2], "", o, time.Minute, time.Minute, []string{"portforward.k8s.io"})
	case "page":
		w.Header().Set("Content-Type", "text/html")
		io.WriteString(w, `<a href="/rewriteme">test</a>`)
	default:
		fmt.Fprintf(w, "kubelet saw %s, authorization %q", r.URL.Path, r.Header.Get("Authorization"))
	}
}

func (k *kubelet) ExecInContainer(_ context.Context, _, _, _ string, cmd []string, in io.Reader, out, errs io.WriteCloser, tty bool, resize <-chan kubeletexec.TerminalSize, _ time.Duration) error {
	switch cmd[0] {
	case "cat":
		_, err := io.Copy(out, in)
		return err
	case "fail":
		io.WriteString(errs, "it failed\n")
		return utilexec.CodeExitError{Err: errors.New("command terminated with exit code 3"), Code: 3}
	case "size":
		s := <-resize
		fmt.Fprintf(out, "%dx%d", s.Width, s.Height)
	case "much":
		_, err := out.Write(bytes.Repeat([]byte("0123456789abcdef"), 1<<16))
		return err
	default:
		fmt.Fprint(out, strings.Join(cmd, " "))
	}
	return nil
}

func (k *kubelet) PortForward(_ context.Context, _, _ string, port int32, s io.ReadWriteCloser) error {
	defer s.Close()
	line, err := bufio.NewReader(s).ReadString('\n')
	fmt.Fprintf(s, "%d says %s", port, line)
	return err
}

// nodeWorld has pods on node box: web with one container, duo with two and an
// init container, waiting, and lost, which has no node.
func nodeWorld(t *testing.T) (*world, *kubelet) {
	t.Helper()
	k := newKubelet(t)
	w := newWorld(t, func(c *api.Config) { c.Dialer = k })
	add := func(name, node string, containers ...string) {
		t.Helper()
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: corev1.PodSpec{NodeName: node}}
		for _, c := range containers {
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: c, Image: "i"})
		}
		if name == "duo" {
			p.Spec.InitContainers = []corev1.Container{{Name: "first", Image: "i"}}
		}
		made, err := client.Create(t.Context(), w.all, p)
		if err != nil {
			t.Fatal(err)
		}
		made = made.DeepCopy()
		made.Status.Phase = corev1.PodRunning
		if node == "" {
			made.Status.Phase = corev1.PodPending
		}
		if _, err := client.UpdateStatus(t.Context(), w.all, made); err != nil {
			t.Fatal(err)
		}
	}
	add("web", "box", "main")
	add("duo", "box", "a", "b")
	add("waiting", "box", "main")
	add("lost", "", "main")
	add("far", "elsewhere", "main")
	if _, err := client.Create(t.Context(), w.all, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "box"}}); err != nil {
		t.Fatal(err)
	}
	return w, k
}

func TestWayToTheKubelet(t *testing.T) {
	w, k := nodeWorld(t)
	c := w.admin()
	const pods = "/api/v1/namespaces/default/pods/"
	for _, tc := range []struct {
		path string
		code int
		says string
		call string // what the kubelet gets
	}{
		{"web/log", 200, "line 1\nline 2\n", "GET /containerLogs/default/web/main"},
		{"web/log?container=main&follow=true&tailLines=5&previous=false&timestamps=true", 200, "line 1", "GET /containerLogs/default/web/main?follow=true&tailLines=5&timestamps=true"},
		{"web/log?container=x", 400, "container x is not valid for pod web", ""},
		{"duo/log", 400, "a container name must be specified for pod duo, choose one of: [a b] or one of the init containers: [first]", ""},
		{"duo/log?container=first", 200, "line 1", "GET /containerLogs/default/duo/first"},
		{"waiting/log", 400, `is waiting to start: ContainerCreating`, "GET /containerLogs/default/waiting/main"},
		{"lost/log", 200, "", ""},
		{"far/log", 500, "error dialing backend: no route to elsewhere", ""},
		{"none/log", 404, `pods \"none\" not found`, ""},
		{"web/log?tailLines=-1", 422, "tailLines: Invalid value: -1: must be greater than or equal to 0", ""},
		{"web/log?sinceSeconds=x", 400, "", ""},
		{"lost/exec?command=x&stdout=1", 400, "pod lost does not have a host assigned", ""},
		{"web/exec?command=x&stdout=1", 400, "Upgrade request required", ""},
		{"web/portforward?ports=0", 400, "must be a number from 1 to 65535", ""},
	} {
		t.Run(tc.path, func(t *testing.T) {
			code, _, body := w.do(c, "GET", pods+tc.path, "")
			if code != tc.code || !strings.Contains(body, tc.says) {
				t.Errorf("%d %s, want %d %s", code, body, tc.code, tc.says)
			}
			var call string
			select {
			case call = <-k.calls:
			default:
			}
			if call != tc.call {
				t.Errorf("the kubelet got %q, want %q", call, tc.call)
			}
		})
	}
	t.Run("nodes/proxy, without the client's credentials", func(t *testing.T) {
		code, _, body := w.do(c, "GET", "/api/v1/nodes/box/proxy/stats/summary", "", "Authorization", "Basic eDp5")
		if code != 200 || body != `kubelet saw /stats/summary, authorization ""` {
			t.Errorf("%d %s", code, body)
		}
	})
}

func TestLinksLeadBackThroughTheProxy(t *testing.T) {
	w, _ := nodeWorld(t)
	code, _, body := w.do(w.admin(), "GET", "/api/v1/nodes/box/proxy/page", "")
	if want := `<a href="/api/v1/nodes/box/proxy/rewriteme">test</a>`; code != 200 || body != want {
		t.Errorf("%d %s, want %s", code, body, want)
	}
}

func TestALogOverAWebSocketEnds(t *testing.T) {
	w, _ := nodeWorld(t)
	base, err := websocket.NewConfig("wss"+strings.TrimPrefix(w.url, "https")+"/api/v1/namespaces/default/pods/web/log", w.url)
	if err != nil {
		t.Fatal(err)
	}
	base.Protocol = []string{"binary.k8s.io"}
	base.TlsConfig = w.admin().Transport.(*http.Transport).TLSClientConfig.Clone()
	base.TlsConfig.NextProtos = nil // a WebSocket begins as HTTP/1.1
	ws, err := base.DialContext(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	var got []byte
	for {
		var message []byte
		if err = websocket.Message.Receive(ws, &message); err != nil {
			break
		}
		got = append(got, message...)
	}
	if err != io.EOF || string(got) != "line 1\nline 2\n" {
		t.Errorf("%q, %v; want the two lines and the end", got, err)
	}
}

func TestCommandsThroughKubectl(t *testing.T) {
	w, _ := nodeWorld(t)
	for _, protocol := range []string{"websocket", "spdy"} {
		t.Run(protocol, func(t *testing.T) {
			t.Setenv("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", strconv.FormatBool(protocol == "websocket"))
			for _, tc := range []struct {
				args, stdin, says string
				fails             bool
			}{
				{args: "exec web -- hello there", says: "hello there"},
				{args: "exec -i web -- cat", stdin: strings.Repeat("much input\n", 20_000), says: strings.Repeat("much input\n", 20_000)},
				{args: "exec web -- fail", says: "it failed\ncommand terminated with exit code 3", fails: true},
				{args: "exec web -c x -- hello", says: "container x is not valid for pod web", fails: true},
				{args: "exec duo -c b -- hello", says: "hello"},
				{args: "attach -i web", stdin: "attached\n", says: "attached"},
				{args: "logs web", says: "line 2"},
			} {
				out, err := w.kubectl(tc.stdin, strings.Fields(tc.args)...)
				if (err != nil) != tc.fails || !strings.Contains(out, tc.says) {
					t.Errorf("%s: %v: %.300s", tc.args, err, out)
				}
			}
		})
	}
}

func TestStreamsByWebSocket(t *testing.T) {
	w, _ := nodeWorld(t)
	run := func(t *testing.T, o *corev1.PodExecOptions, s remotecommand.StreamOptions) error {
		t.Helper()
		config := w.config("application/json")
		config.GroupVersion, config.NegotiatedSerializer, config.APIPath = &corev1.SchemeGroupVersion, scheme.Codecs, "/api"
		rc, err := rest.RESTClientFor(config)
		if err != nil {
			t.Fatal(err)
		}
		url := rc.Post().Resource("pods").Namespace("default").Name("web").SubResource("exec").VersionedParams(o, scheme.ParameterCodec).URL()
		e, err := remotecommand.NewWebSocketExecutor(config, "GET", url.String())
		if err != nil {
			t.Fatal(err)
		}
		return e.StreamWithContext(t.Context(), s)
	}
	t.Run("carries the terminal's size", func(t *testing.T) {
		var out bytes.Buffer
		err := run(t, &corev1.PodExecOptions{Command: []string{"size"}, Stdin: true, Stdout: true, TTY: true},
			remotecommand.StreamOptions{Stdin: bytes.NewReader(nil), Stdout: &out, Tty: true, TerminalSizeQueue: &oneSize{}})
		if err != nil || out.String() != "120x40" {
			t.Errorf("%q, %v", out.String(), err)
		}
	})
	t.Run("carries a megabyte whole", func(t *testing.T) {
		var out bytes.Buffer
		err := run(t, &corev1.PodExecOptions{Command: []string{"much"}, Stdout: true}, remotecommand.StreamOptions{Stdout: &out})
		if err != nil || out.Len() != 1<<20 {
			t.Errorf("%d bytes, %v", out.Len(), err)
		}
	})
}

type oneSize struct{ sent bool }

func (s *oneSize) Next() *remotecommand.TerminalSize {
	if s.sent {
		return nil
	}
	s.sent = true
	return &remotecommand.TerminalSize{Width: 120, Height: 40}
}

func TestPortForwardThroughKubectl(t *testing.T) {
	w, _ := nodeWorld(t)
	for _, websocket := range []string{"true", "false"} {
		t.Run("websocket="+websocket, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), "kubectl", "port-forward", "pod/web", ":8080")
			cmd.Env = append(os.Environ(), "KUBECONFIG="+w.kubeconfig(), "HOME="+t.TempDir(), "KUBECTL_PORT_FORWARD_WEBSOCKETS="+websocket)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() { cmd.Process.Kill(); cmd.Wait() }()
			line, err := bufio.NewReader(out).ReadString('\n') // Forwarding from 127.0.0.1:40001 -> 8080
			if err != nil {
				t.Fatal(err)
			}
			for range 3 {
				conn, err := net.Dial("tcp", strings.Fields(line)[2])
				if err != nil {
					t.Fatal(err)
				}
				io.WriteString(conn, "hi\n")
				got, err := io.ReadAll(conn)
				if string(got) != "8080 says hi\n" {
					t.Errorf("%q, %v", got, err)
				}
				conn.Close()
			}
		})
	}
}

func TestProxyToPodsAndServices(t *testing.T) {
	w, _ := nodeWorld(t)
	pod := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(rw, "%s %s %s", r.Method, r.URL, r.Header.Get("Authorization"))
	}))
	defer pod.Close()
	host, port, err := net.SplitHostPort(pod.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	web, err := client.Get[*corev1.Pod](t.Context(), w.all, "default", "web")
	if err != nil {
		t.Fatal(err)
	}
	web = web.DeepCopy()
	web.Status.PodIP, web.Status.PodIPs = host, []corev1.PodIP{{IP: host}}
	if _, err := client.UpdateStatus(t.Context(), w.all, web); err != nil {
		t.Fatal(err)
	}
	c := w.admin()
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	const ns = "/api/v1/namespaces/default/"
	for _, tc := range []struct {
		method, path string
		code         int
		body         string
	}{
		{"GET", "pods/web:" + port + "/proxy/a/b?x=1", 200, "GET /a/b?x=1 "},
		{"POST", "pods/http:web:" + port + "/proxy/", 200, "POST / "},
		{"GET", "pods/web:" + port + "/proxy", 301, ""},
		{"DELETE", "pods/web:" + port + "/proxy?x=1", 200, "DELETE /?x=1 "}, // a redirect would make it a GET
		{"OPTIONS", "pods/web:" + port + "/proxy?x=1", 200, "OPTIONS /?x=1 "},
		{"OPTIONS", "pods/web/log", 405, ""},
		{"GET", "pods/web:1/proxy/", 503, ""},
		{"GET", "pods/ftp:web:1/proxy/", 400, ""},
		{"GET", "services/none/proxy/", 404, ""},
	} {
		code, _, body := w.do(c, tc.method, ns+tc.path, "")
		if code != tc.code || tc.body != "" && body != tc.body {
			t.Errorf("%s: %d %s, want %d %s", tc.path, code, body, tc.code, tc.body)
		}
	}
}
