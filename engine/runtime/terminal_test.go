package runtime

import (
	"context"
	"io"
	"strings"
	"testing"
)

func TestWhoAttachesToATerminalSeesWhatCameBefore(t *testing.T) {
	p := newPod(t, newRuntime(t))
	ctx := context.Background()
	cfg := container(t, p, "c", "echo", "prompt", "copy")
	cfg.TTY, cfg.Stdin = true, true
	if _, err := p.Start(ctx, cfg); err != nil {
		t.Fatal(err)
	}
	waitLog(t, cfg.LogPath, "prompt")
	for _, first := range []bool{true, false} {
		in, typed := io.Pipe()
		out := &waiter{want: "ahoy\r\nahoy\r\n", found: make(chan struct{})}
		attached, leave := context.WithCancel(ctx)
		go func() {
			typed.Write([]byte("ahoy\n"))
			<-out.found
			if first {
				leave()
			} else {
				typed.Write([]byte{4})
			}
		}()
		if err := p.Attach(attached, "c", Streams{Stdin: in, Stdout: out}); err != nil && first != (attached.Err() != nil) {
			t.Fatal(err)
		}
		leave()
		typed.Close()
		if got := strings.HasPrefix(out.String(), "prompt\r\n"); got != first {
			t.Errorf("first to attach %v: got %q", first, out.String())
		}
	}
}
