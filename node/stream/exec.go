package stream

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
)

// Limits of streams, the kubelet's.
const (
	idleTimeout     = 4 * time.Hour
	creationTimeout = 30 * time.Second
)

// streams finds the running container that a request names, and which of its
// streams are asked for. It has answered if ok is false.
func (s *server) streams(w http.ResponseWriter, r *http.Request) (id string, o *remotecommand.Options, ok bool) {
	id, err := s.running(r)
	if err == nil {
		o, err = remotecommand.NewOptions(r)
	}
	if err != nil {
		refuse(w, err, http.StatusBadRequest)
	}
	return id, o, err == nil
}

// exec runs a command in a container, its streams over SPDY or WebSocket.
func (s *server) exec(w http.ResponseWriter, r *http.Request) {
	id, o, ok := s.streams(w, r)
	if !ok {
		return
	}
	command := r.URL.Query()["command"]
	if len(command) == 0 {
		refuse(w, fmt.Errorf("you must specify a command: ?command=…"), http.StatusBadRequest)
		return
	}
	remotecommand.ServeExec(w, r, s.at(id), r.PathValue("pod"), r.PathValue("uid"), r.PathValue("container"), command, o,
		idleTimeout, creationTimeout, remotecommand.SupportedStreamingProtocols)
}

// attach joins the streams of a container's own process.
func (s *server) attach(w http.ResponseWriter, r *http.Request) {
	id, o, ok := s.streams(w, r)
	if !ok {
		return
	}
	remotecommand.ServeAttach(w, r, s.at(id), r.PathValue("pod"), r.PathValue("uid"), r.PathValue("container"), o,
		idleTimeout, creationTimeout, remotecommand.SupportedStreamingProtocols)
}

// portForward joins connections to ports inside the pod.
func (s *server) portForward(w http.ResponseWriter, r *http.Request) {
	p, err := s.Pods.Pod(r.PathValue("namespace"), r.PathValue("pod"), types.UID(r.PathValue("uid")))
	if err != nil {
		refuse(w, err, http.StatusBadRequest)
		return
	}
	id, err := s.sandbox(r.Context(), p)
	if err != nil {
		refuse(w, err, http.StatusInternalServerError)
		return
	}
	o, err := portforward.NewV4Options(r)
	if err != nil {
		refuse(w, err, http.StatusBadRequest)
		return
	}
	portforward.ServePortForward(w, r, s.at(id), p.Name, string(p.UID), o, idleTimeout, creationTimeout, portforward.SupportedProtocols)
}

// run runs a command and answers with all it wrote.
func (s *server) run(w http.ResponseWriter, r *http.Request) {
	id, err := s.running(r)
	if err != nil {
		refuse(w, err, http.StatusBadRequest)
		return
	}
	out, err := s.Runtime.ExecSync(r.Context(), &runtimeapi.ExecSyncRequest{ContainerId: id, Cmd: strings.Split(r.FormValue("cmd"), " ")})
	if err != nil {
		refuse(w, err, http.StatusInternalServerError)
		return
	}
	if _, err := w.Write(append(out.Stdout, out.Stderr...)); err != nil {
		return // the client went away
	}
	if out.ExitCode != 0 {
		fmt.Fprintf(w, "command exited with code %d\n", out.ExitCode)
	}
}

// place is a container or sandbox that streams go to.
type place struct {
	s  *server
	id string
}

func (s *server) at(id string) *place { return &place{s, id} }

func (p *place) ExecInContainer(ctx context.Context, name, uid, container string, command []string, in io.Reader, out, err io.WriteCloser,
	tty bool, resize <-chan remotecommand.TerminalSize, timeout time.Duration) error {
	return p.s.Runtime.Streams().Exec(ctx, p.id, command, in, out, err, tty, resize)
}

func (p *place) AttachContainer(ctx context.Context, name, uid, container string, in io.Reader, out, err io.WriteCloser,
	tty bool, resize <-chan remotecommand.TerminalSize) error {
	return p.s.Runtime.Streams().Attach(ctx, p.id, in, out, err, tty, resize)
}

func (p *place) PortForward(ctx context.Context, name, uid string, port int32, stream io.ReadWriteCloser) error {
	return p.s.Runtime.Streams().PortForward(ctx, p.id, port, stream)
}
