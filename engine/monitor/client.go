package monitor

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"syscall"

	"sampan/engine/monitor/wire"
	"sampan/internal/fault"
)

func itoa(n int) string { return strconv.Itoa(n) }

func isNoChild(err error) bool { return errors.Is(err, syscall.ECHILD) }

// Client is a connection to one monitor. It is safe for concurrent use.
type Client struct {
	Pid int // the monitor's

	conn *net.UnixConn
	push func(wire.Reply)
	done chan struct{} // closed when the connection has ended

	mu    sync.Mutex // guards all below
	seq   uint32
	calls map[uint32]*call
	err   error
	unmet bool // Dial failed: its error says so, and push does not
}

type call struct {
	reply   chan answer
	records []wire.Reply
	want    int // records still to come; -1 before the listing
}

type answer struct {
	reply   wire.Reply
	fds     []int
	records []wire.Reply
}

// Dial connects to the monitor of the pod in dir; fault.NotFound if none
// listens. Processes' ends are handed to push in order, from the client's own
// goroutine, until the connection ends; then push gets a zero Reply, once. A Dial
// that fails tells by its error only.
func Dial(ctx context.Context, dir string, push func(wire.Reply)) (*Client, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, &fault.Error{Class: fault.NotFound, Op: "find monitor", On: dir, Err: err}
	}
	defer d.Close()
	addr := &net.UnixAddr{Net: "unixpacket", Name: "/proc/self/fd/" + itoa(int(d.Fd())) + "/" + socketName}
	conn, err := net.DialUnix("unixpacket", nil, addr)
	if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, &fault.Error{Class: fault.NotFound, Op: "find monitor", On: dir, Err: err}
	}
	if err != nil {
		return nil, &fault.Error{Class: fault.Unavailable, Op: "connect to monitor", On: dir, Err: err}
	}
	c := &Client{conn: conn, push: push, done: make(chan struct{}), calls: map[uint32]*call{}}
	go c.read()
	hello, err := c.Call(ctx, wire.Request{Header: wire.Header{Type: wire.Hello}, Version: wire.Version})
	if err != nil {
		// The monitor may well live, and whoever hears of an end by push waits
		// for its process.
		c.mu.Lock()
		c.unmet = true
		c.mu.Unlock()
		c.Close()
		return nil, err
	}
	c.Pid = int(hello.Pid)
	return c, nil
}

// Close ends the connection and waits for the client's goroutine. It must not
// be called from push.
func (c *Client) Close() {
	c.conn.Close()
	<-c.done
}

// Done is closed when the connection has ended, from either side.
func (c *Client) Done() <-chan struct{} { return c.done }

// Call sends a request with descriptors, which stay the caller's, and waits for
// the answer. A wire.Failed is returned as a reply, not as an error.
func (c *Client) Call(ctx context.Context, req wire.Request, fds ...int) (wire.Reply, error) {
	a, err := c.do(ctx, req, fds)
	closeAll(a.fds)
	return a.reply, err
}

// CallFD is Call for a request that is answered with a descriptor; -1 if none came.
func (c *Client) CallFD(ctx context.Context, req wire.Request, fds ...int) (wire.Reply, int, error) {
	a, err := c.do(ctx, req, fds)
	if len(a.fds) == 0 {
		return a.reply, -1, err
	}
	closeAll(a.fds[1:])
	return a.reply, a.fds[0], err
}

// List asks for all processes the monitor knows.
func (c *Client) List(ctx context.Context) ([]wire.Reply, error) {
	a, err := c.do(ctx, wire.Request{Header: wire.Header{Type: wire.List}}, nil)
	return a.records, err
}

func (c *Client) do(ctx context.Context, req wire.Request, fds []int) (answer, error) {
	k := &call{reply: make(chan answer, 1), want: -1}
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return answer{}, c.err
	}
	c.seq++
	req.Seq = c.seq
	c.calls[req.Seq] = k
	c.mu.Unlock()
	b := req.Append(nil)
	var rights []byte
	if len(fds) > 0 {
		rights = syscall.UnixRights(fds...)
	}
	fail := func(err error) (answer, error) {
		c.mu.Lock()
		delete(c.calls, req.Seq)
		c.mu.Unlock()
		return answer{}, err
	}
	if len(b) > wire.MaxMessage || len(fds) > wire.MaxFDs {
		return fail(&fault.Error{Class: fault.Invalid, Op: "ask monitor", On: req.ID, Err: syscall.EMSGSIZE})
	}
	if _, _, err := c.conn.WriteMsgUnix(b, rights, nil); err != nil {
		return fail(&fault.Error{Class: fault.Unavailable, Op: "ask monitor", On: req.ID, Err: err})
	}
	select {
	case a, ok := <-k.reply:
		if !ok {
			return answer{}, &fault.Error{Class: fault.Unavailable, Op: "ask monitor", On: req.ID, Err: io.ErrUnexpectedEOF, Fix: "the monitor has ended; its containers with it"}
		}
		return a, nil
	case <-ctx.Done():
		return fail(ctx.Err())
	}
}

// read is the client's goroutine.
func (c *Client) read() {
	b, oob := make([]byte, wire.MaxMessage), make([]byte, syscall.CmsgSpace(4*4))
	var err error
	for {
		var n, oobn int
		n, oobn, _, _, err = c.conn.ReadMsgUnix(b, oob)
		if err != nil || n == 0 {
			break
		}
		var r wire.Reply
		if r, err = wire.DecodeReply(b[:n]); err != nil {
			break
		}
		fds := received(oob[:oobn])
		if r.Seq == 0 {
			closeAll(fds)
			c.push(r)
			continue
		}
		c.deliver(r, fds)
	}
	c.conn.Close()
	c.mu.Lock()
	c.err = &fault.Error{Class: fault.Unavailable, Op: "read from monitor", On: itoa(c.Pid), Err: errors.Join(io.ErrUnexpectedEOF, err)}
	calls, unmet := c.calls, c.unmet
	c.calls = nil
	c.mu.Unlock()
	for _, k := range calls {
		close(k.reply)
	}
	if !unmet {
		c.push(wire.Reply{})
	}
	close(c.done)
}

func (c *Client) deliver(r wire.Reply, fds []int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.calls[r.Seq]
	if k == nil { // its caller has gone
		closeAll(fds)
		return
	}
	switch r.Type {
	case wire.Listing:
		k.want = int(r.Count)
	case wire.Record:
		k.records = append(k.records, r)
		k.want--
	default:
		k.want = 0
	}
	if k.want == 0 {
		delete(c.calls, r.Seq)
		k.reply <- answer{reply: r, fds: fds, records: k.records}
	}
}

func received(oob []byte) []int {
	if len(oob) == 0 {
		return nil
	}
	msgs, err := syscall.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	var out []int
	for i := range msgs {
		if fds, err := syscall.ParseUnixRights(&msgs[i]); err == nil {
			out = append(out, fds...)
		}
	}
	for _, fd := range out {
		syscall.CloseOnExec(fd)
	}
	return out
}

func closeAll(fds []int) {
	for _, fd := range fds {
		syscall.Close(fd)
	}
}
