package cri

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-streaming/pkg/streaming"

	"sampan/internal/fault"
)

// maxMessage is what kubelet and containerd use.
const maxMessage = 16 << 20

// urls is the server that gives streams addresses, while a socket is served.
type urls struct {
	mu     sync.Mutex // guards server
	server streaming.Server
}

// Serve answers on a unix socket until ctx ends. Streams are served over HTTP
// on a port of the loopback interface, by URLs that are good for one use.
func (s *Server) Serve(ctx context.Context, socket string) error {
	if err := os.MkdirAll(filepath.Dir(socket), 0o711); err != nil {
		return &fault.Error{Op: "make directory", On: filepath.Dir(socket), Err: err}
	}
	// A socket left by a process that was killed; a live one is kept by its
	// owner's lock on the state directory.
	if err := os.Remove(socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return &fault.Error{Op: "remove old socket", On: socket, Err: err}
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return &fault.Error{Op: "listen on", On: socket, Err: err}
	}
	defer listener.Close()
	if err := os.Chmod(socket, 0o660); err != nil {
		return &fault.Error{Op: "set the mode of", On: socket, Err: err}
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return &fault.Error{Op: "listen for streams on", On: "127.0.0.1", Err: err, Fix: "bring up lo"}
	}
	defer tcp.Close()
	config := streaming.DefaultConfig
	config.Addr = tcp.Addr().String()
	server, err := streaming.NewServer(config, s.Streams())
	if err != nil {
		return &fault.Error{Op: "make stream server", On: config.Addr, Err: err}
	}
	s.urls.set(server)
	defer s.urls.set(nil)

	g := grpc.NewServer(grpc.MaxRecvMsgSize(maxMessage), grpc.MaxSendMsgSize(maxMessage),
		grpc.ChainUnaryInterceptor(s.recoverUnary), grpc.ChainStreamInterceptor(s.recoverStream))
	runtimeapi.RegisterRuntimeServiceServer(g, s)
	runtimeapi.RegisterImageServiceServer(g, s)
	web := &http.Server{Handler: server}
	failed := make(chan error, 2)
	go func() { failed <- g.Serve(listener) }()
	go func() { failed <- web.Serve(tcp) }()
	select {
	case <-ctx.Done():
	case err = <-failed:
		failed <- nil
	}
	g.Stop()
	web.Close()
	for range 2 {
		<-failed
	}
	if err != nil {
		return &fault.Error{Op: "serve CRI on", On: socket, Err: err}
	}
	return nil
}

// recoverUnary keeps a panic in one call from ending the machine.
func (s *Server) recoverUnary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (out any, err error) {
	defer s.recovered(info.FullMethod, &err)
	return next(ctx, req)
}

func (s *Server) recoverStream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) (err error) {
	defer s.recovered(info.FullMethod, &err)
	return next(srv, stream)
}

func (s *Server) recovered(method string, err *error) {
	if p := recover(); p != nil {
		s.log.Error("a CRI call panicked", "method", method, "panic", p, "stack", string(debug.Stack()))
		*err = status.Errorf(codes.Internal, "%s: internal error: %v", method, p)
	}
}

func (u *urls) set(s streaming.Server) {
	u.mu.Lock()
	u.server = s
	u.mu.Unlock()
}

func (u *urls) get() (streaming.Server, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.server == nil {
		return nil, status.Error(codes.Unavailable, "streams have addresses only while the CRI socket is served: call Streams in process")
	}
	return u.server, nil
}

// Exec gives the address of a stream.
func (s *Server) Exec(ctx context.Context, r *runtimeapi.ExecRequest) (*runtimeapi.ExecResponse, error) {
	if err := s.running(ctx, r.ContainerId); err != nil {
		return nil, err
	}
	server, err := s.urls.get()
	if err != nil {
		return nil, err
	}
	return server.GetExec(r)
}

// Attach gives the address of a stream.
func (s *Server) Attach(ctx context.Context, r *runtimeapi.AttachRequest) (*runtimeapi.AttachResponse, error) {
	if err := s.running(ctx, r.ContainerId); err != nil {
		return nil, err
	}
	server, err := s.urls.get()
	if err != nil {
		return nil, err
	}
	return server.GetAttach(r)
}

// PortForward gives the address of a stream.
func (s *Server) PortForward(ctx context.Context, r *runtimeapi.PortForwardRequest) (*runtimeapi.PortForwardResponse, error) {
	if _, err := s.engine.Sandbox(ctx, r.PodSandboxId); err != nil {
		return nil, rpc(err)
	}
	server, err := s.urls.get()
	if err != nil {
		return nil, err
	}
	return server.GetPortForward(r)
}

func (s *Server) running(ctx context.Context, id string) error {
	c, err := s.engine.Inspect(ctx, id)
	if err != nil {
		return rpc(err)
	}
	if containerState(c) != runtimeapi.ContainerState_CONTAINER_RUNNING {
		return rpc(&fault.Error{Class: fault.Conflict, Op: "stream to container", On: id, Err: errors.New("container is not running")})
	}
	return nil
}
