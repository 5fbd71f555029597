// Package stream is the kubelet's HTTP API: logs, exec, attach, port-forward,
// the list of pods, and figures.
//
// It authenticates nobody and knows no TLS: whoever serves it does.
package stream

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"sampan/internal/fault"
	"sampan/node/pod"
)

// Pods is what the API needs to know of the node's pods.
type Pods interface {
	Pods() []*corev1.Pod
	// Pod returns a pod with its status as last reported. An empty uid matches
	// the newest of that name. Its error is a fault.NotFound.
	Pod(namespace, name string, uid types.UID) (*corev1.Pod, error)
	// Ended returns a channel that closes when a container of the pod does not
	// run any more, and at once if it does not.
	Ended(ctx context.Context, uid types.UID, containerID string) <-chan struct{}
	// Explain says in words what the node does about a pod.
	Explain(ctx context.Context, uid types.UID) []string
}

// Config is what the API needs. All fields but Log are required.
type Config struct {
	Pods     Pods
	Runtime  pod.Runtime
	LogDir   string
	NodeName string
	Log      *slog.Logger
}

type server struct {
	Config
	mux *http.ServeMux
}

// New returns the API as a handler. Paths and answers are the kubelet's.
func New(c Config) http.Handler {
	if c.Log == nil {
		c.Log = slog.Default()
	}
	s := &server{Config: c, mux: http.NewServeMux()}
	s.mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "ok") })
	s.mux.HandleFunc("GET /pods", s.pods)
	s.mux.HandleFunc("GET /pods/", s.pods)
	s.mux.HandleFunc("GET /runningpods/", s.pods)
	s.mux.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", s.logs)
	for _, path := range []string{"/exec/{namespace}/{pod}/{container}", "/exec/{namespace}/{pod}/{uid}/{container}"} {
		s.both(path, s.exec)
	}
	for _, path := range []string{"/attach/{namespace}/{pod}/{container}", "/attach/{namespace}/{pod}/{uid}/{container}"} {
		s.both(path, s.attach)
	}
	for _, path := range []string{"/portForward/{namespace}/{pod}", "/portForward/{namespace}/{pod}/{uid}"} {
		s.both(path, s.portForward)
	}
	for _, path := range []string{"/run/{namespace}/{pod}/{container}", "/run/{namespace}/{pod}/{uid}/{container}"} {
		s.mux.HandleFunc("POST "+path, s.run)
	}
	s.mux.HandleFunc("GET /why/{namespace}/{pod}", s.why)
	s.mux.HandleFunc("GET /stats/summary", s.summary)
	s.mux.HandleFunc("GET /metrics", s.metrics)
	return s
}

func (s *server) both(path string, h http.HandlerFunc) {
	s.mux.HandleFunc("GET "+path, h)
	s.mux.HandleFunc("POST "+path, h)
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer func() {
		if p := recover(); p != nil {
			if p == http.ErrAbortHandler {
				panic(p)
			}
			s.Log.Error("panic", "path", r.URL.Path, "panic", p, "stack", string(debug.Stack()))
			http.Error(w, "internal error", http.StatusInternalServerError)
		}
	}()
	s.mux.ServeHTTP(w, r)
}

func (s *server) pods(w http.ResponseWriter, r *http.Request) {
	list := corev1.PodList{TypeMeta: metav1.TypeMeta{Kind: "PodList", APIVersion: "v1"}, Items: []corev1.Pod{}}
	for _, p := range s.Pods.Pods() {
		list.Items = append(list.Items, *p)
	}
	slices.SortFunc(list.Items, func(a, b corev1.Pod) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	answer(w, &list)
}

// why is not the kubelet's: it serves `sampan why pod`, a reason in each line.
func (s *server) why(w http.ResponseWriter, r *http.Request) {
	p, err := s.Pods.Pod(r.PathValue("namespace"), r.PathValue("pod"), "")
	if err != nil {
		refuse(w, err, http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	for _, line := range s.Pods.Explain(r.Context(), p.UID) {
		fmt.Fprintln(w, line)
	}
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	// A client that went away is nobody's error.
	_ = json.NewEncoder(w).Encode(v)
}

// refuse answers with an error as the kubelet does: text, and 404 for a pod
// that is not here.
func refuse(w http.ResponseWriter, err error, otherwise int) {
	code := otherwise
	if fault.ClassOf(err) == fault.NotFound {
		code = http.StatusNotFound
	}
	http.Error(w, err.Error(), code)
}

// found is the pod and container that a path names.
func (s *server) found(r *http.Request) (*corev1.Pod, *corev1.ContainerStatus, error) {
	p, err := s.Pods.Pod(r.PathValue("namespace"), r.PathValue("pod"), types.UID(r.PathValue("uid")))
	if err != nil {
		return nil, nil, err
	}
	name := r.PathValue("container")
	for _, list := range [][]corev1.ContainerStatus{p.Status.ContainerStatuses, p.Status.InitContainerStatuses, p.Status.EphemeralContainerStatuses} {
		for i := range list {
			if list[i].Name == name {
				return p, &list[i], nil
			}
		}
	}
	return nil, nil, &fault.Error{Class: fault.NotFound, Op: "find container", On: name, Err: fmt.Errorf("container %q not found in pod %q", name, p.Name)}
}

// running is the runtime's ID of a container that runs.
func (s *server) running(r *http.Request) (string, error) {
	_, c, err := s.found(r)
	if err != nil {
		return "", err
	}
	if c.State.Running == nil {
		return "", &fault.Error{Class: fault.NotFound, Op: "find running container", On: c.Name,
			Err: fmt.Errorf("container not found (%q)", c.Name)}
	}
	return bare(c.ContainerID), nil
}

// bare is a container ID without the runtime's name.
func bare(id string) string {
	if _, after, ok := strings.Cut(id, "://"); ok {
		return after
	}
	return id
}

// sandbox is the runtime's ID of a pod's ready sandbox.
func (s *server) sandbox(ctx context.Context, p *corev1.Pod) (string, error) {
	ids, err := pod.Sandboxes(ctx, s.Runtime, p.UID)
	if err != nil {
		return "", err
	}
	o, err := pod.Observe(ctx, s.Runtime, ids, nil)
	if err != nil {
		return "", err
	}
	box := o.Sandbox()
	if box == nil || box.State != runtimeapi.PodSandboxState_SANDBOX_READY {
		return "", &fault.Error{Class: fault.NotFound, Op: "find sandbox of pod", On: p.Namespace + "/" + p.Name}
	}
	return box.Id, nil
}
