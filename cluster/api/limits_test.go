package api_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"testing"
	"time"

	flowv1 "k8s.io/api/flowcontrol/v1"

	"sampan/cluster/api"
	"sampan/cluster/auth"
	"sampan/cluster/flow"
)

// held is a health check that lasts until it is let go: a request under way.
type held struct {
	in   chan struct{}
	let  chan struct{}
	once sync.Once
}

func hold(c *api.Config) *held {
	h := &held{in: make(chan struct{}, 10), let: make(chan struct{})}
	c.Checks = append(c.Checks, api.Check{Name: "held", Run: func(ctx context.Context) error {
		h.in <- struct{}{}
		select {
		case <-h.let:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}})
	return h
}

func (h *held) release() { h.once.Do(func() { close(h.let) }) }

func TestTooManyRequests(t *testing.T) {
	var h *held
	w := newWorld(t, func(c *api.Config) {
		h = hold(c)
		c.Limits.Reading, c.Limits.Writing = 1, 1
	})
	monitor := w.as("prometheus", "system:monitoring")
	first := make(chan int)
	go func() {
		code, _, _ := w.do(monitor, "GET", "/readyz/held", "")
		first <- code
	}()
	<-h.in
	code, header, body := w.do(monitor, "GET", "/version", "")
	if code != 429 || header.Get("Retry-After") != "1" || body != "Too many requests, please try again later.\n" || header.Get("Content-Type") != "text/plain; charset=utf-8" {
		t.Errorf("%d %v %s", code, header, body)
	}
	if code, _, body := w.do(w.admin(), "GET", "/version", ""); code != 200 {
		t.Errorf("an administrator: %d %s", code, body)
	}
	if code, _, body := w.do(monitor, "POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", "{}"); code != 201 {
		t.Errorf("writing has a limit of its own: %d %s", code, body)
	}
	h.release()
	if code := <-first; code != 200 {
		t.Errorf("%d", code)
	}
	if code, _, body := w.do(monitor, "GET", "/version", ""); code != 200 {
		t.Errorf("afterwards: %d %s", code, body)
	}
}

func TestEveryAnswerSaysItsFlow(t *testing.T) {
	f, err := flow.New(flow.Config{})
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, func(c *api.Config) { c.Limits.Flow = f })
	w.put(1, 10)
	for _, path := range []string{"/version", "/api/v1/namespaces/shop/configmaps", "/api/v1/namespaces/shop/none", "/apis/x/y/z"} {
		for _, c := range []*http.Client{w.admin(), w.as("jane")} {
			_, h, _ := w.do(c, "GET", path, "")
			for _, name := range []string{flowv1.ResponseHeaderMatchedFlowSchemaUID, flowv1.ResponseHeaderMatchedPriorityLevelConfigurationUID} {
				if _, ok := h[http.CanonicalHeaderKey(name)]; !ok {
					t.Errorf("%s has no %s: %v", path, name, h)
				}
			}
		}
	}
	_, _, body := w.do(w.admin(), "GET", "/metrics", "")
	for _, want := range []string{
		`apiserver_flowcontrol_dispatched_requests_total{flow_schema="catch-all",priority_level="catch-all"} 4`,
		`apiserver_flowcontrol_current_executing_requests{flow_schema="exempt",priority_level="exempt"} 1`,
		`apiserver_request_total{code="200",component="apiserver",dry_run="",group="",resource="configmaps",scope="namespace",subresource="",verb="LIST",version="v1"} 1`,
		`apiserver_request_duration_seconds_count{component="apiserver",dry_run="",group="",resource="configmaps",scope="namespace",subresource="",verb="LIST",version="v1"} 2`,
		`apiserver_storage_objects{resource="configmaps"} 1`,
		`apiserver_resource_objects{group="apps",resource="deployments"} 0`,
		`apiserver_current_inflight_requests{request_kind="mutating"} 0`,
		`apiserver_current_inflight_requests{request_kind="readOnly"} 1`,
	} {
		if !strings.Contains(body, want+"\n") {
			t.Errorf("no %s", want)
		}
	}
	code, _, body := w.do(w.admin(), "GET", "/debug/api_priority_and_fairness/dump_requests?includeRequestDetails=1", "")
	if code != 200 || !strings.Contains(body, "/debug/api_priority_and_fairness/dump_requests") || !strings.Contains(body, "UserName") {
		t.Errorf("%d %s", code, body)
	}
}

// TestAWatchHoldsNoSeat: it has one until it has begun.
func TestAWatchHoldsNoSeat(t *testing.T) {
	f, err := flow.New(flow.Config{Seats: 1})
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, func(c *api.Config) { c.Limits.Flow = f })
	w.put(1, 10)
	c := w.as("viewer", auth.Masters)
	for _, query := range []string{"", "&resourceVersion=1", "&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"} {
		resp, err := c.Get(w.url + "/api/v1/namespaces/shop/configmaps?watch=1" + query)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode != 200 {
			continue // 410: the revision is too old, and said so
		}
		if line, err := bufio.NewReader(resp.Body).ReadString('\n'); err != nil || !strings.Contains(line, "ADDED") {
			t.Errorf("%s %v", line, err)
		}
	}
	deadline := time.Now().Add(time.Minute)
	const free = `apiserver_flowcontrol_current_executing_requests{flow_schema="exempt",priority_level="exempt"} 1` + "\n"
	for {
		if _, _, body := w.do(w.admin(), "GET", "/metrics", ""); strings.Contains(body, free) { // the one that asks
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("watches hold their seats:\n%s", body)
		}
	}
}

func TestRequestsHaveATime(t *testing.T) {
	w := newWorld(t, func(c *api.Config) { c.Limits.Request = 50 * time.Millisecond; hold(c) })
	code, _, body := w.do(w.admin(), "GET", "/readyz/held", "")
	if code != 500 || body != "internal server error: context deadline exceeded\n" {
		t.Errorf("%d %s", code, body)
	}
	if code, _, body := w.do(w.admin(), "GET", "/api/v1/nodes?timeout=soon", ""); code != 400 || !strings.Contains(body, `invalid timeout specified in the request URL - time: invalid duration \"soon\"`) {
		t.Errorf("%d %s", code, body)
	}
	// A body that comes too slowly.
	config := w.admin().Transport.(*http.Transport).TLSClientConfig.Clone()
	conn, err := tls.Dial("tcp", strings.TrimPrefix(w.url, "https://"), config)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST /api/v1/namespaces/default/configmaps HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n{", len(configMap))
	conn.SetReadDeadline(time.Now().Add(time.Minute))
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	data, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != 504 || !strings.Contains(string(data), `"message":"Timeout: request did not complete within the allotted timeout","reason":"Timeout"`) {
		t.Errorf("%d %s", resp.StatusCode, data)
	}
}

// TestShutdown: what is under way ends well, and nobody is told that all is
// well who asks whether to send more.
func TestShutdown(t *testing.T) {
	var h *held
	w := newWorld(t, func(c *api.Config) {
		h = hold(c)
		c.Limits.ShutdownDelay, c.Limits.ShutdownRetryAfter, c.Limits.ShutdownWatches = 100*time.Millisecond, true, 50*time.Millisecond
	})
	c := w.admin()
	watch, err := c.Get(w.url + "/api/v1/configmaps?watch=1")
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Body.Close()
	under := make(chan string)
	go func() {
		_, _, body := w.do(w.admin(), "GET", "/livez/held", "")
		under <- body
	}()
	// Not a live check: it is only asked of readyz.
	if body := <-under; !strings.Contains(body, "not found") {
		t.Errorf("%s", body)
	}
	go func() {
		_, _, body := w.do(w.admin(), "GET", "/readyz/held", "")
		under <- body
	}()
	<-h.in
	if code, _, body := w.do(c, "GET", "/readyz/shutdown", ""); code != 200 {
		t.Errorf("before: %d %s", code, body)
	}
	w.stop()
	// The watch ends after the delay, orderly.
	if _, err := io.ReadAll(watch.Body); err != nil {
		t.Errorf("the watch ended with %v", err)
	}
	late := w.as("late", auth.Masters)
	code, header, body := w.do(late, "GET", "/version", "")
	if code != 429 || header.Get("Retry-After") != "5" || body != "The apiserver is shutting down, please try again later.\n" {
		t.Errorf("after the delay: %d %v %s", code, header, body)
	}
	if code, _, body := w.do(w.as("late", auth.Masters), "GET", "/readyz/shutdown", ""); code != 500 || body != "internal server error: process is shutting down\n" {
		t.Errorf("readyz: %d %s", code, body)
	}
	if code, _, body := w.do(w.as("late", auth.Masters), "GET", "/livez", ""); code != 200 {
		t.Errorf("livez: %d %s", code, body)
	}
	h.release()
	if body := <-under; body != "ok" {
		t.Errorf("the request under way: %s", body)
	}
	if err := w.end(); err != nil {
		t.Error(err)
	}
}

func TestLimitsThatCannotBe(t *testing.T) {
	for want, l := range map[string]api.Limits{
		"--goaway-chance can not be less than 0 or greater than 0.02": {Goaway: 0.5},
		"--request-timeout can not be negative value":                 {Request: -1},
		"--shutdown-delay-duration can not be negative value":         {ShutdownDelay: -time.Second},
	} {
		newWorld(t, func(c *api.Config) {
			bad := *c
			bad.Limits = l
			if _, err := api.New(bad); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%+v: %v", l, err)
			}
		})
	}
}

func TestGoaway(t *testing.T) {
	w := newWorld(t, func(c *api.Config) { c.Limits.Goaway = 0.02 })
	c := w.admin()
	connections := 0
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) {
		if !i.Reused {
			connections++
		}
	}})
	for range 3000 {
		req, err := http.NewRequestWithContext(ctx, "GET", w.url+"/version", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if connections > 1 {
			return
		}
	}
	t.Error("one connection served 3,000 requests") // once in 10²⁶ runs
}
