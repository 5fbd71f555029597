package api_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/net/websocket"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// socket begins a watch as a browser does.
func (w *world) socket(t *testing.T, path, accept string) *websocket.Conn {
	t.Helper()
	cfg, err := websocket.NewConfig("wss"+strings.TrimPrefix(w.url, "https")+path, w.url)
	if err != nil {
		t.Fatal(err)
	}
	cfg.TlsConfig = w.admin().Transport.(*http.Transport).TLSClientConfig.Clone()
	cfg.TlsConfig.NextProtos = nil // a WebSocket begins as HTTP/1.1
	cfg.Header.Set("Accept", accept)
	ws, err := cfg.DialContext(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ws.Close() })
	return ws
}

func TestAWatchOverAWebSocket(t *testing.T) {
	w := newWorld(t)
	named := func(name string) string { return `{"metadata":{"name":"` + name + `"}}` }
	for _, name := range []string{"a", "b"} {
		if code, _, body := w.do(w.admin(), "POST", inDefault, named(name)); code != 201 {
			t.Fatalf("%d %s", code, body)
		}
	}
	// Each event is a message, those too that are there at once.
	ws := w.socket(t, inDefault+"?watch=1", "application/json")
	event := func() string {
		t.Helper()
		var text string
		if err := websocket.Message.Receive(ws, &text); err != nil {
			t.Fatal(err)
		}
		var e struct {
			Type   string
			Object metav1.PartialObjectMetadata
		}
		if err := json.Unmarshal([]byte(text), &e); err != nil {
			t.Fatalf("%v in %s", err, text)
		}
		return e.Type + " " + e.Object.Name
	}
	for _, want := range []string{"ADDED a", "ADDED b"} {
		if got := event(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if code, _, body := w.do(w.admin(), "DELETE", inDefault+"/a", ""); code != 200 {
		t.Fatalf("%d %s", code, body)
	}
	if got := event(); got != "DELETED a" {
		t.Errorf("got %s", got)
	}

	// In protobuf a message is the event alone.
	binary := w.socket(t, inDefault+"?watch=1&timeoutSeconds=1", "application/vnd.kubernetes.protobuf")
	var data []byte
	var e metav1.WatchEvent
	if err := websocket.Message.Receive(binary, &data); err != nil {
		t.Fatal(err)
	}
	if err := e.Unmarshal(data); err != nil || e.Type != "ADDED" || !strings.HasPrefix(string(e.Object.Raw), "k8s\x00") {
		t.Errorf("%v: %q", err, data)
	}
	if err := websocket.Message.Receive(binary, &data); err != io.EOF {
		t.Errorf("at the end: %v, want %v", err, io.EOF)
	}
}
