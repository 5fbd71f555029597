package api_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"sampan/cluster/api"
)

const (
	inDefault = "/api/v1/namespaces/default/configmaps"
	revisions = "/apis/apps/v1/namespaces/default/controllerrevisions"
)

// named is the beginning of a ConfigMap.
func named(name string) string {
	return `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"` + name + `"},`
}

func nested(open, inner, end string, depth int) string {
	return strings.Repeat(open, depth) + inner + strings.Repeat(end, depth)
}

// bomb is a few hundred bytes of YAML that mean 10¹⁰ elements.
func bomb() string {
	b := "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c < 'k'; c++ {
		b += fmt.Sprintf("%c: &%c [%s]\n", c, c, strings.TrimSuffix(strings.Repeat("*"+string(c-1)+",", 10), ","))
	}
	return b
}

// echoes is 2 GB as JSON, in 12,000 nodes.
func echoes() string {
	return `a: &a "` + strings.Repeat("x", 200_000) + "\"\n" + "b: [" + strings.Repeat("*a,", 10_000) + "*a]\n"
}

func copies() string {
	b := `[{"op":"add","path":"/metadata/annotations","value":{"a":"` + strings.Repeat("x", 1000) + `"}}`
	for i := range 40 {
		b += fmt.Sprintf(`,{"op":"copy","from":"/metadata/annotations","path":"/metadata/annotations/b%d"}`, i)
	}
	return b + "]"
}

// bystander is a client that asks all the time. Its requests must all be
// answered well, whatever others do; stop ends it, as does the test's end.
func bystander(t *testing.T, w *world) (stop func()) {
	t.Helper()
	c := w.as("bystander", "system:masters")
	c.Timeout = time.Minute
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		for ctx.Err() == nil {
			resp, err := c.Get(w.url + inDefault + "/web")
			if err == nil {
				_, err = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				if err == nil && resp.StatusCode != http.StatusOK {
					err = fmt.Errorf("status %d", resp.StatusCode)
				}
			}
			if err != nil {
				ended <- err
				return
			}
			select {
			case <-ctx.Done():
			case <-time.After(5 * time.Millisecond):
			}
		}
		ended <- nil
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("another client was disturbed: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func TestHostileInput(t *testing.T) {
	w := newWorld(t)
	c := w.admin()
	if code, _, body := w.do(c, "POST", inDefault, configMap); code != 201 {
		t.Fatalf("%d %s", code, body)
	}
	bystander(t, w)
	const js, yaml, apply = "application/json", "application/yaml", "application/apply-patch+yaml"
	const merge, strategic, ops = "application/merge-patch+json", "application/strategic-merge-patch+json", "application/json-patch+json"
	for _, b := range []struct {
		it, method, path, contentType, body string
		code                                int
		says                                string
	}{
		{"more than a request may have", "POST", inDefault, js, named("a") + `"data":{"a":"` + strings.Repeat("x", 3<<20) + `"}}`, 413, "Request entity too large: limit is 3145728"},
		{"more than etcd takes", "POST", revisions, js, `{"metadata":{"name":"a"},"revision":1,"data":{"x":"` + strings.Repeat("x", 1700000) + `"}}`, 500, `"message":"etcdserver: request is too large","code":500`},
		{"more than a ConfigMap may have", "POST", inDefault, js, named("a") + `"data":{"a":"` + strings.Repeat("x", 1<<20+1) + `"}}`, 422, "Too long: may not be more than 1048576 bytes"},
		{"deep JSON", "POST", inDefault, js, nested(`{"a":`, "1", "}", 100000), 400, "exceeded max depth"},
		{"a deep field", "POST", inDefault, js, named("a") + `"data":` + nested("[", "", "]", 200000) + "}", 400, "exceeded max depth"},
		{"deep YAML, never closed", "POST", inDefault, yaml, strings.Repeat("[", 100000), 400, "exceeded max depth of 10000"},
		{"a YAML bomb", "POST", inDefault, yaml, bomb(), 400, "document contains excessive aliasing"},
		{"a YAML bomb applied", "PATCH", inDefault + "/web?fieldManager=m", apply, bomb(), 400, "document contains excessive aliasing"},
		{"a long text named often", "POST", inDefault, yaml, echoes(), 400, "document contains excessive aliasing"},
		{"a long text named often, applied", "PATCH", inDefault + "/web?fieldManager=m", apply, echoes(), 400, "document contains excessive aliasing"},
		{"duplicate keys, held to it", "POST", inDefault + "?fieldValidation=Strict", js, named("a") + `"data":{"a":"1","a":"2"},"data":{}}`, 400, `strict decoding error: duplicate field \"data.a\", duplicate field \"data\"`},
		{"a name that is not UTF-8", "POST", inDefault, js, named("u\xfftf") + `"data":{}}`, 422, "a lowercase RFC 1123 subdomain"},
		{"a content type that nobody has", "POST", inDefault, "text/plain", named("a") + `"data":{}}`, 415, "accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf"},
		{"a content type that is none", "POST", inDefault, "a/b/c;;;", named("a") + `"data":{}}`, 415, "UnsupportedMediaType"},
		{"a patch of no known type", "PATCH", inDefault + "/web", "application/xml", "{}", 415, "accepted media types include: application/json-patch+json"},
		{"broken protobuf", "POST", inDefault, protobuf, "k8s\x00\xff\xff\xff", 400, "unexpected EOF"},
		{"protobuf as JSON", "POST", inDefault, js, "k8s\x00\xff", 400, "invalid character"},
		{"nothing", "POST", inDefault, js, "", 400, "unexpected end of JSON input"},
		{"null", "POST", inDefault, js, "null", 422, "name or generateName is required"},
		{"a list", "POST", inDefault, js, "[]", 400, "cannot unmarshal array"},
		{"something after the end", "POST", inDefault, js, named("a") + `"data":{}}}}`, 400, "after top-level value"},
		{"a number beyond all", "POST", revisions, js, `{"metadata":{"name":"c"},"revision":1e400}`, 400, "cannot unmarshal number 1e400"},
		{"100,000 containers that are wrong", "POST", "/api/v1/namespaces/default/pods", js,
			`{"metadata":{"name":"p"},"spec":{"containers":[` + strings.TrimSuffix(strings.Repeat("{},", 100000), ",") + "]}}", 422, "spec.containers[0].name: Required value"},
		{"10,001 operations", "PATCH", inDefault + "/web", ops, "[" + strings.TrimSuffix(strings.Repeat(`{"op":"add","path":"/data/a","value":"x"},`, 10001), ",") + "]", 413, "The allowed maximum operations in a JSON patch is 10000, got 10001"},
		{"a patch that doubles the object 40 times", "PATCH", inDefault + "/web", ops, copies(), 413, "RequestEntityTooLarge"},
		{"a patch that is no list", "PATCH", inDefault + "/web", ops, `{"op":1}`, 400, "BadRequest"},
		{"a deep merge patch", "PATCH", inDefault + "/web", merge, nested(`{"a":`, "1", "}", 50000), 400, "invalid JSON patch"},
		{"a strategic patch that is no object", "PATCH", inDefault + "/web", strategic, `"x"`, 400, "cannot unmarshal string"},
		{"a directive that nobody knows", "PATCH", inDefault + "/web", strategic, `{"metadata":{"$patch":"explode"}}`, 400, "unknown patch type: explode"},
		{"a long selector that ends badly", "GET", inDefault + "?labelSelector=" + strings.Repeat("a,", 3000) + "(", "", "", 400, "found '('"},
		{"a selector by a field that is not indexed", "GET", inDefault + "?fieldSelector=spec.nope%3D1", "", "", 400, "is not a known field selector"},
		{"a negative limit, which is none", "GET", inDefault + "?limit=-1", "", "", 200, "ConfigMapList"},
		{"a token that is none", "GET", inDefault + "?limit=1&continue=abc", "", "", 400, "continue key is not valid"},
		{"a name of 100,000 letters", "GET", inDefault + "/" + strings.Repeat("a", 100000), "", "", 404, "NotFound"},
		{"a way out of the tree", "GET", "/api/v1/../../etc/passwd", "", "", 404, "could not find the requested resource"},
		{"a method that is none", "FOO", inDefault + "/web", "", "", 405, "MethodNotAllowed"},
	} {
		code, _, body := w.do(c, b.method, b.path, b.body, "Content-Type", b.contentType)
		if code != b.code || !strings.Contains(body, b.says) {
			t.Errorf("%s: %d %.300s, want %d with %s", b.it, code, body, b.code, b.says)
		}
	}
}

// fill makes objects of 900 kB, which a watch that begins with all has to send.
func (w *world) fill(n int) {
	w.t.Helper()
	for i := range n {
		body := named(fmt.Sprintf("big%d", i)) + `"data":{"a":"` + strings.Repeat("x", 900000) + `"}}`
		if code, _, answer := w.do(w.admin(), "POST", inDefault, body); code != 201 {
			w.t.Fatalf("%d %.300s", code, answer)
		}
	}
}

// TestAWatcherThatNeverReads loses its watch, and the log says why.
func TestAWatcherThatNeverReads(t *testing.T) {
	for _, proto := range []string{"http/1.1", "h2", "h2, nothing of the connection"} {
		t.Run(proto, func(t *testing.T) {
			w := newWorld(t, func(c *api.Config) { c.Limits.Write = 200 * time.Millisecond })
			if code, _, body := w.do(w.admin(), "POST", inDefault, configMap); code != 201 {
				t.Fatalf("%d %s", code, body)
			}
			w.fill(20)
			stop := bystander(t, w)
			conn := w.dial(strings.Fields(proto)[0][:2])
			if proto == "http/1.1" {
				fmt.Fprintf(conn, "GET %s?watch=1 HTTP/1.1\r\nHost: x\r\n\r\n", inDefault)
			} else {
				f := w.begin2(conn, proto == "h2, nothing of the connection")
				w.ask2(f, 1, inDefault+"?watch=1")
			}
			// The server gives up; until then what it holds for the watcher is
			// bounded by windows, and nobody reads here.
			deadline := time.Now().Add(time.Minute)
			for {
				_, _, body := w.do(w.admin(), "GET", "/metrics", "")
				if !strings.Contains(body, `apiserver_longrunning_requests{component="apiserver",group="",resource="configmaps",scope="namespace",subresource="",verb="WATCH",version="v1"} 1`) &&
					strings.Contains(body, "apiserver_terminated_watchers_total 1\n") {
					break
				}
				if time.Now().After(deadline) {
					t.Fatal("the watch goes on")
				}
				time.Sleep(20 * time.Millisecond) // between two looks
			}
			conn.Close()
			stop()
			w.end()
			if log := w.log.String(); !strings.Contains(log, "watch closed: its client does not read") {
				t.Errorf("the log does not say why: %s", log)
			}
		})
	}
}

// TestStreamsResetInALoop is CVE-2023-44487: requests that are given up as soon
// as they are sent.
func TestStreamsResetInALoop(t *testing.T) {
	w := newWorld(t)
	if code, _, body := w.do(w.admin(), "POST", inDefault, configMap); code != 201 {
		t.Fatalf("%d %s", code, body)
	}
	bystander(t, w)
	conn := w.dial("h2")
	go io.Copy(io.Discard, conn)
	f := w.begin2(conn, false)
	for id := uint32(1); id < 40000; id += 2 {
		if w.ask2(f, id, inDefault) != nil || f.WriteRSTStream(id, http2.ErrCodeCancel) != nil {
			return // the server had enough of it
		}
	}
	// It took all of them: then it must be at ease.
	if code, _, body := w.do(w.admin(), "GET", "/readyz", ""); code != 200 {
		t.Errorf("%d %s", code, body)
	}
}

// TestManyIdleConnections: they cost little, and others are served.
func TestManyIdleConnections(t *testing.T) {
	w := newWorld(t)
	if code, _, body := w.do(w.admin(), "POST", inDefault, configMap); code != 201 {
		t.Fatalf("%d %s", code, body)
	}
	bystander(t, w)
	var mu sync.Mutex
	var conns []net.Conn
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 50 {
				conn, err := net.Dial("tcp", strings.TrimPrefix(w.url, "https://"))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				conns = append(conns, conn)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	for i, conn := range conns {
		if i%2 == 0 {
			conn.Write([]byte{0x16, 0x03}) // half a handshake
		}
	}
	if code, _, body := w.do(w.as("late", "system:masters"), "GET", "/readyz", ""); code != 200 {
		t.Errorf("%d %s", code, body)
	}
	for _, conn := range conns {
		conn.Close()
	}
}

// dial opens a connection that speaks proto: "ht" for HTTP/1.1, or "h2".
func (w *world) dial(proto string) net.Conn {
	w.t.Helper()
	config := w.admin().Transport.(*http.Transport).TLSClientConfig.Clone()
	if proto == "h2" {
		config.NextProtos = []string{"h2"}
	}
	conn, err := tls.Dial("tcp", strings.TrimPrefix(w.url, "https://"), config)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { conn.Close() })
	return conn
}

// begin2 begins HTTP/2. With wide, the windows are such that only the kernel's
// buffers hold the server back.
func (w *world) begin2(conn net.Conn, wide bool) *http2.Framer {
	w.t.Helper()
	io.WriteString(conn, http2.ClientPreface)
	f := http2.NewFramer(conn, conn)
	var settings []http2.Setting
	if wide {
		settings = append(settings, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30})
	}
	if err := f.WriteSettings(settings...); err != nil {
		w.t.Fatal(err)
	}
	if wide {
		f.WriteWindowUpdate(0, 1<<30)
	}
	if err := f.WriteSettingsAck(); err != nil {
		w.t.Fatal(err)
	}
	return f
}

// ask2 sends a GET.
func (w *world) ask2(f *http2.Framer, id uint32, path string) error {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for _, h := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", "x"}, {":path", path}} {
		e.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]})
	}
	return f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: b.Bytes(), EndStream: true, EndHeaders: true})
}
