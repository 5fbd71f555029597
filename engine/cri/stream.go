package cri

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"syscall"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-streaming/pkg/streaming"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	utilexec "k8s.io/utils/exec"

	"sampan/engine"
	engineruntime "sampan/engine/runtime"
	"sampan/internal/fault"
	"sampan/internal/linux"
)

var (
	errNotCreated = errors.New("container has been started before")
	errStandalone = errors.New("it is a stand-alone container")
)

func itoa(n int) string { return strconv.Itoa(n) }

// maxSyncOutput is how much of a stream ExecSync returns; the rest is
// discarded (CVE-2022-1708).
const maxSyncOutput = 16 << 20

// ExecSync runs a command and returns what it put out.
func (s *Server) ExecSync(ctx context.Context, r *runtimeapi.ExecSyncRequest) (*runtimeapi.ExecSyncResponse, error) {
	run := ctx
	if r.Timeout > 0 {
		var cancel context.CancelFunc
		run, cancel = context.WithTimeout(ctx, time.Duration(r.Timeout)*time.Second)
		defer cancel()
	}
	var stdout, stderr capped
	exit, err := s.engine.Exec(run, r.ContainerId, engine.Exec{Args: r.Cmd}, engineruntime.Streams{Stdout: &stdout, Stderr: &stderr})
	if err != nil {
		if run.Err() == context.DeadlineExceeded && ctx.Err() == nil {
			err = fmt.Errorf("command %q timed out: timeout %ds exceeded: %w", r.Cmd, r.Timeout, context.DeadlineExceeded)
		}
		return nil, rpc(err)
	}
	return &runtimeapi.ExecSyncResponse{Stdout: stdout.Bytes(), Stderr: stderr.Bytes(), ExitCode: int32(exit.Code)}, nil
}

// capped keeps the first 16 MiB that are written to it.
type capped struct{ bytes.Buffer }

func (c *capped) Write(p []byte) (int, error) {
	if room := maxSyncOutput - c.Len(); len(p) > room {
		c.Buffer.Write(p[:room])
		return len(p), nil
	}
	return c.Buffer.Write(p)
}

// Streams carries exec, attach and port-forward as function calls.
func (s *Server) Streams() streaming.Runtime { return streams{s} }

type streams struct{ s *Server }

// Exec returns a k8s.io/utils/exec.ExitError if the command ended with a code
// other than 0.
func (x streams) Exec(ctx context.Context, id string, cmd []string, in io.Reader, out, errOut io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	exit, err := x.s.engine.Exec(ctx, id, engine.Exec{Args: cmd, TTY: tty}, connect(ctx, in, out, errOut, tty, resize))
	if err != nil {
		return rpc(err)
	}
	if exit.Code != 0 {
		return utilexec.CodeExitError{Code: exit.Code, Err: fmt.Errorf("command terminated with exit code %d", exit.Code)}
	}
	return nil
}

// Attach connects to the container's own process.
func (x streams) Attach(ctx context.Context, id string, in io.Reader, out, errOut io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	return rpc(x.s.engine.Attach(ctx, id, connect(ctx, in, out, errOut, tty, resize)))
}

// connect makes the engine's streams of the CRI's. A nil pointer in an
// interface must not become a stream.
func connect(ctx context.Context, in io.Reader, out, errOut io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize) engineruntime.Streams {
	st := engineruntime.Streams{Stdin: in}
	if out != nil {
		st.Stdout = out
	}
	if errOut != nil && !tty {
		st.Stderr = errOut
	}
	if resize != nil {
		sizes := make(chan engineruntime.Size)
		go func() {
			defer close(sizes)
			for {
				select {
				case <-ctx.Done():
					return
				case size, ok := <-resize:
					if !ok {
						return
					}
					select {
					case sizes <- engineruntime.Size{Width: size.Width, Height: size.Height}:
					case <-ctx.Done():
						return
					}
				}
			}
		}()
		st.Resize = sizes
	}
	return st
}

// PortForward connects a stream to a port on the sandbox's loopback interface.
func (x streams) PortForward(ctx context.Context, id string, port int32, stream io.ReadWriteCloser) error {
	defer stream.Close()
	box, err := x.s.engine.Sandbox(ctx, id)
	if err != nil {
		return rpc(err)
	}
	if box.State != engine.SandboxReady {
		return rpc(&fault.Error{Class: fault.Conflict, Op: "forward a port of sandbox", On: id, Err: errors.New("sandbox is not running")})
	}
	conn, err := dial(ctx, box.NetNS, port)
	if err != nil {
		return rpc(&fault.Error{Class: fault.Unavailable, Op: "connect to port " + itoa(int(port)) + " of sandbox", On: id, Err: err})
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close(); stream.Close() })
	defer stop()
	up := make(chan error, 1)
	go func() {
		_, err := io.Copy(conn, stream)
		if c, ok := conn.(*net.TCPConn); ok {
			_ = c.CloseWrite() // the far end may have closed already
		}
		up <- err
	}()
	_, err = io.Copy(stream, conn)
	// What the program sends is at its end: nothing it could be told matters.
	stream.Close()
	<-up
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrClosedPipe) {
		err = nil
	}
	return err
}

// dial connects from inside a network namespace, over IPv4 and else IPv6. The
// socket stays in the namespace it was made in; the thread that made it ends.
func dial(ctx context.Context, netns string, port int32) (net.Conn, error) {
	try := func() (net.Conn, error) {
		var d net.Dialer
		p := strconv.Itoa(int(port))
		conn, err := d.DialContext(ctx, "tcp4", net.JoinHostPort("127.0.0.1", p))
		if err != nil {
			if six, err6 := d.DialContext(ctx, "tcp6", net.JoinHostPort("::1", p)); err6 == nil {
				return six, nil
			}
		}
		return conn, err
	}
	if netns == "" {
		return try()
	}
	var conn net.Conn
	err := within(netns, func() (err error) { conn, err = try(); return err })
	return conn, err
}

// within runs fn on a thread of its own inside a network namespace.
func within(netns string, fn func() error) error {
	return linux.OnThread(func() error {
		f, err := os.Open(netns)
		if err != nil {
			return err
		}
		err = linux.Setns(int(f.Fd()), syscall.CLONE_NEWNET)
		f.Close()
		if err != nil {
			return err
		}
		return fn()
	})
}
