package pod

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"sampan/internal/linux"
)

// listen makes a listener in a network namespace that has only lo. Sockets
// stay in the namespace they are made in, so dial is what has to be done there.
func listen(t *testing.T) (l net.Listener, do func(fn func())) {
	t.Helper()
	work, made := make(chan func()), make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread is thrown away
		err := linux.Unshare(syscall.CLONE_NEWNET)
		if err == nil {
			err = linux.LoopbackUp()
		}
		if err == nil {
			l, err = net.Listen("tcp", "127.0.0.1:0")
		}
		made <- err
		for fn := range work {
			fn()
		}
	}()
	if err := <-made; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { close(work); l.Close() })
	return l, func(fn func()) {
		done := make(chan struct{})
		work <- func() { defer close(done); fn() }
		<-done
	}
}

func port(l net.Listener) int { return l.Addr().(*net.TCPAddr).Port }

func TestHTTPProbes(t *testing.T) {
	mux := http.NewServeMux()
	code := func(path string, code int) {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(code) })
	}
	code("/ok", 200)
	code("/moved", 304)
	code("/bad", 503)
	mux.HandleFunc("/here", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/bad", 302) })
	mux.HandleFunc("/away", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "http://elsewhere.example/", 302) })
	mux.HandleFunc("/headers", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-A") != "1" || r.Host != "name" || r.Header.Get("User-Agent") != "kube-probe/1.37" || r.URL.RawQuery != "q=1" {
			w.WriteHeader(400)
		}
	})
	for _, secure := range []bool{false, true} {
		// The probe's transport dials from whatever thread; loopback of the test's own
		// namespace does as well as any for HTTP.
		s := httptest.NewUnstartedServer(mux)
		scheme := corev1.URISchemeHTTP
		if secure {
			s.StartTLS()
			scheme = corev1.URISchemeHTTPS
		} else {
			s.Start()
		}
		to := &target{ip: "127.0.0.1", c: &corev1.Container{Name: "c", Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: int32(port(s.Listener))}}}}
		for path, want := range map[string]string{"/ok": "", "/moved": "", "ok": "", "/away": "", "/headers?q=1": "",
			"/bad": "HTTP probe failed with statuscode: 503", "/here": "HTTP probe failed with statuscode: 503"} {
			err := to.check(context.Background(), &corev1.Probe{TimeoutSeconds: 5, ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{
				Path: path, Port: intstr.FromString("web"), Scheme: scheme, HTTPHeaders: []corev1.HTTPHeader{{Name: "X-A", Value: "1"}, {Name: "host", Value: "name"}}}}})
			if fmt.Sprint(err) != want && !(err == nil && want == "") {
				t.Errorf("%s %s: %v, want %q", scheme, path, err, want)
			}
		}
		s.Close()
		err := to.check(context.Background(), &corev1.Probe{TimeoutSeconds: 5, ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/x", Port: intstr.FromString("web"), Scheme: scheme}}})
		if err == nil || !strings.Contains(err.Error(), "connection refused") {
			t.Errorf("closed port: %v", err)
		}
	}
}

func TestTCPProbesInANetworkOfTheirOwn(t *testing.T) {
	l, do := listen(t)
	to := &target{ip: "127.0.0.1", c: &corev1.Container{Name: "c"}}
	probe := func(p intstr.IntOrString) error {
		var err error
		do(func() {
			err = to.check(context.Background(), &corev1.Probe{TimeoutSeconds: 5, ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: p}}})
		})
		return err
	}
	open := port(l)
	if err := probe(intstr.FromInt32(int32(open))); err != nil {
		t.Errorf("open port: %v", err)
	}
	l.Close()
	if err := probe(intstr.FromInt32(int32(open))); err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("closed port: %v", err)
	}
	if err := probe(intstr.FromString("nope")); err == nil || !strings.Contains(err.Error(), "couldn't find port") {
		t.Errorf("unknown name: %v", err)
	}
}

func TestGRPCProbes(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, h := grpc.NewServer(), health.NewServer()
	grpc_health_v1.RegisterHealthServer(s, h)
	h.SetServingStatus("sick", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	go s.Serve(l)
	defer s.Stop()
	to := &target{ip: "127.0.0.1", c: &corev1.Container{}}
	for service, want := range map[string]string{"": "", "sick": `service unhealthy (responded with "NOT_SERVING")`, "none": "error: health rpc probe failed"} {
		err := to.check(context.Background(), &corev1.Probe{TimeoutSeconds: 5, ProbeHandler: corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: int32(port(l)), Service: &service}}})
		if want == "" && err != nil || want != "" && (err == nil || !strings.HasPrefix(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", service, err, want)
		}
	}
}
