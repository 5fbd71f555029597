// Package cri is the engine's face towards Kubernetes: the CRI's
// RuntimeService and ImageService (k8s.io/cri-api v1), a file per group of
// RPCs, called as functions by the node or served on a socket.
//
// It translates between the CRI's words and the engine's and keeps no state of
// its own beyond the last CPU reading of each container. It is the only part
// of the engine that knows the words of Kubernetes.
package cri

import (
	"context"
	"errors"
	"log/slog"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"sampan/engine"
	"sampan/internal/fault"
)

// Config is what a Server needs.
type Config struct {
	Engine  *engine.Engine
	Network Network // nil: sandboxes have a loopback interface only
	Version string  // of the program
	Log     *slog.Logger
	// LogMaxBytes and LogMaxFiles bound a container's log. The monitor rotates
	// it, also while nobody else runs. Default 10 MiB and 5 files.
	LogMaxBytes int64
	LogMaxFiles int
}

// Server implements both CRI services. What it has not implemented answers
// Unimplemented.
type Server struct {
	runtimeapi.UnimplementedRuntimeServiceServer
	runtimeapi.UnimplementedImageServiceServer

	config Config
	engine *engine.Engine
	log    *slog.Logger

	urls urls // of streams; used only while a socket is served

	mu  sync.Mutex // guards cpu
	cpu map[string]cpuReading
}

// New checks the configuration. It starts nothing; the engine's Run has to be
// running for container events.
func New(c Config) (*Server, error) {
	if c.Engine == nil {
		return nil, &fault.Error{Class: fault.Invalid, Op: "make CRI services", Err: errors.New("no engine given")}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.LogMaxBytes == 0 {
		c.LogMaxBytes = 10 << 20
	}
	if c.LogMaxFiles == 0 {
		c.LogMaxFiles = 5
	}
	return &Server{config: c, engine: c.Engine, log: c.Log, cpu: map[string]cpuReading{}}, nil
}

// rpcError is a failure that is a gRPC status on a socket and a fault to a
// caller in process.
type rpcError struct {
	error
	code codes.Code
}

func (e rpcError) GRPCStatus() *status.Status { return status.New(e.code, e.Error()) }
func (e rpcError) Unwrap() error              { return e.error }

// rpc gives an error of the engine's the code that a kubelet expects.
func rpc(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := err.(rpcError); ok {
		return err
	}
	code := codes.Unknown
	switch fault.ClassOf(err) {
	case fault.Invalid:
		code = codes.InvalidArgument
	case fault.NotFound:
		code = codes.NotFound
	case fault.Exists:
		code = codes.AlreadyExists
	case fault.Conflict:
		code = codes.FailedPrecondition
	case fault.Forbidden:
		code = codes.PermissionDenied
	case fault.Unavailable:
		code = codes.Unavailable
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		code = codes.DeadlineExceeded
	case errors.Is(err, context.Canceled):
		code = codes.Canceled
	}
	return rpcError{err, code}
}

func invalid(op, on, why, fix string) error {
	return rpc(&fault.Error{Class: fault.Invalid, Op: op, On: on, Err: errors.New(why), Fix: fix})
}
