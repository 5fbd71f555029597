package api

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"

	"golang.org/x/net/websocket"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
	"k8s.io/streaming/pkg/httpstream/wsstream"
)

// Protocols of streams. A kubelet speaks v4 and the plain port-forward
// protocol over SPDY; kubectl speaks v5 and a SPDY connection inside a
// WebSocket. (KEP-4006.)
const (
	protocolV4          = "v4.channel.k8s.io"
	protocolV5          = "v5.channel.k8s.io"
	protocolPortForward = "portforward.k8s.io"
	protocolTunnel      = "SPDY/3.1+portforward.k8s.io"
)

// Channels of a WebSocket that carries a command's streams.
const (
	stdinChannel = iota
	stdoutChannel
	stderrChannel
	errorChannel
	resizeChannel
	channels
)

// translate joins a v5 WebSocket to a v4 SPDY connection. The two carry the
// same streams; what v5 adds is that the client can close its stdin.
func (c *call) translate(ctx context.Context, t *target) {
	if !t.stdin && !t.stdout && !t.stderr {
		c.fail(apierrors.NewBadRequest("you must specify at least 1 of stdin, stdout, stderr"))
		return
	}
	conn, err := c.spdy(ctx, t, protocolV4)
	if err != nil {
		c.fail(err)
		return
	}
	far, err := spdy.NewClientConnection(conn)
	if err != nil {
		conn.Close()
		c.fail(t.unreachable(err))
		return
	}
	defer far.Close()
	streams, err := openStreams(far, t)
	if err != nil {
		c.fail(t.unreachable(err))
		return
	}
	near := wsstream.NewConn(map[string]wsstream.ChannelProtocolConfig{
		protocolV5: {Binary: true, Channels: channelsFor(t)},
	})
	c.code = http.StatusSwitchingProtocols
	_, ours, err := near.Open(c.w, c.r)
	if err != nil {
		return // Open has answered
	}
	defer near.Close()
	stop := context.AfterFunc(ctx, func() { far.Close(); near.Close() })
	defer stop()
	join(far, streams, ours)
}

func channelsFor(t *target) []wsstream.ChannelType {
	all := make([]wsstream.ChannelType, channels)
	for i := range all {
		all[i] = wsstream.IgnoreChannel
	}
	if t.stdin {
		all[stdinChannel] = wsstream.ReadChannel
	}
	if t.stdout {
		all[stdoutChannel] = wsstream.WriteChannel
	}
	if t.stderr && !t.tty {
		all[stderrChannel] = wsstream.WriteChannel
	}
	all[errorChannel] = wsstream.WriteChannel
	all[resizeChannel] = wsstream.ReadChannel // also says when the client is gone
	return all
}

// openStreams opens what the kubelet waits for, the error stream first.
func openStreams(far httpstream.Connection, t *target) ([channels]httpstream.Stream, error) {
	var s [channels]httpstream.Stream
	for _, want := range []struct {
		on      bool
		channel int
		kind    string
	}{
		{true, errorChannel, corev1.StreamTypeError},
		{t.stdin, stdinChannel, corev1.StreamTypeStdin},
		{t.stdout, stdoutChannel, corev1.StreamTypeStdout},
		{t.stderr && !t.tty, stderrChannel, corev1.StreamTypeStderr},
		{t.tty, resizeChannel, corev1.StreamTypeResize},
	} {
		if !want.on {
			continue
		}
		stream, err := far.CreateStream(http.Header{corev1.StreamType: {want.kind}})
		if err != nil {
			return s, fmt.Errorf("open stream %s: %w", want.kind, err)
		}
		s[want.channel] = stream
	}
	return s, nil
}

// join copies until the far side has said how the command ended, or either
// side is gone.
func join(far httpstream.Connection, theirs [channels]httpstream.Stream, ours []io.ReadWriteCloser) {
	var out, in sync.WaitGroup
	for _, ch := range []int{stdoutChannel, stderrChannel, errorChannel} {
		if theirs[ch] != nil {
			out.Go(func() { io.Copy(ours[ch], theirs[ch]) })
		}
	}
	if s := theirs[stdinChannel]; s != nil {
		s := s
		in.Go(func() {
			io.Copy(s, ours[stdinChannel])
			s.Close()
		})
	}
	in.Go(func() {
		var to io.Writer = io.Discard
		if s := theirs[resizeChannel]; s != nil {
			to = s
		}
		io.Copy(to, ours[resizeChannel]) // ends with the WebSocket
		far.Close()
	})
	out.Wait()
	far.Close()
	for _, s := range ours {
		s.Close() // the copies into the far side end by this
	}
	in.Wait()
}

// tunnel carries a SPDY connection of the client to the kubelet inside the
// binary messages of a WebSocket.
func (c *call) tunnel(ctx context.Context, t *target) {
	far, err := c.spdy(ctx, t, protocolPortForward)
	if err != nil {
		c.fail(err)
		return
	}
	defer far.Close()
	c.code = http.StatusSwitchingProtocols
	server := websocket.Server{
		Handshake: func(config *websocket.Config, _ *http.Request) error {
			config.Protocol = []string{protocolTunnel}
			return nil
		},
		Handler: func(near *websocket.Conn) {
			near.PayloadType = websocket.BinaryFrame
			stop := context.AfterFunc(ctx, func() { far.Close(); near.Close() })
			defer stop()
			var both sync.WaitGroup
			both.Go(func() { io.Copy(far, near); far.Close() })
			both.Go(func() { io.Copy(near, far); near.Close() })
			both.Wait()
		},
	}
	server.ServeHTTP(c.w, c.r)
}
