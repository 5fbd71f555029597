package api

import (
	"context"
	"net/http"
	"time"

	"golang.org/x/net/websocket"
	"k8s.io/streaming/pkg/httpstream/wsstream"

	"sampan/cluster/object"
)

// mostReceived bounds a message of a client that watches over a WebSocket: it
// has nothing to say.
const mostReceived = 64 << 10

// watchSocket runs a watch whose events are the messages of a WebSocket, one
// each: browsers cannot read a stream of bytes otherwise. The library answers
// 403 to who does not say where he comes from, as upstream's does. (Upstream:
// HandleWS in endpoints/handlers/watch.go.)
func (c *call) watchSocket(ctx context.Context, mediaType string, events func(context.Context)) {
	plain := c.w
	defer func() { c.w = plain }()
	c.code = http.StatusForbidden
	websocket.Handler(func(ws *websocket.Conn) {
		ws.MaxPayloadBytes = mostReceived
		ctx, leave := context.WithCancel(ctx)
		left := make(chan struct{})
		go func() { // whoever has taken over a connection must look himself whether its client is there
			defer close(left)
			defer leave()
			wsstream.IgnoreReceives(ws, 0)
		}()
		defer func() {
			leave()
			ws.Close()
			<-left
		}()
		c.w = &socketWriter{ResponseWriter: plain, ws: ws, text: mediaType != object.Protobuf}
		events(ctx)
		c.code = http.StatusSwitchingProtocols
	}).ServeHTTP(plain, c.r)
}

// socketWriter writes each event as a message.
type socketWriter struct {
	http.ResponseWriter // its headers

	ws   *websocket.Conn
	text bool
}

// WriteHeader does nothing: the status was written with the upgrade.
func (*socketWriter) WriteHeader(int) {}

// Write sends one event. A message has a length of its own, so that those of
// protobuf go without theirs.
func (s *socketWriter) Write(event []byte) (int, error) {
	var err error
	if s.text {
		err = websocket.Message.Send(s.ws, string(event))
	} else {
		err = websocket.Message.Send(s.ws, event[4:])
	}
	if err != nil {
		return 0, err
	}
	return len(event), nil
}

// FlushError does nothing: messages do not wait.
func (*socketWriter) FlushError() error { return nil }

// SetWriteDeadline has writes fail after t.
func (s *socketWriter) SetWriteDeadline(t time.Time) error { return s.ws.SetWriteDeadline(t) }
