package monitor

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"testing"

	"sampan/engine/monitor/wire"
)

// Whoever hears of a monitor's end waits for its process. So a caller that
// gave up on one that lives must not be told so: it would wait for ever.
func TestADialThatWasGivenUpIsNoEnd(t *testing.T) {
	dir := t.TempDir()
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Net: "unixpacket", Name: filepath.Join(dir, socketName)})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	silent := make(chan struct{})
	go func() { // a monitor that has no time to answer
		defer close(silent)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = conn.Read(make([]byte, wire.MaxMessage)) // the hello has come
		cancel()
		_, _ = conn.Read(make([]byte, wire.MaxMessage)) // until the caller leaves
	}()
	_, err = Dial(ctx, dir, func(m wire.Reply) { t.Errorf("push got %+v", m) })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the caller's own reason", err)
	}
	<-silent
}
