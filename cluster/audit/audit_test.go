package audit

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
)

// kept is a backend that keeps what it gets, and fails when told to.
type kept struct {
	mu      sync.Mutex // guards all below
	batches [][]*auditv1.Event
	err     error
}

func (k *kept) write(_ context.Context, events []*auditv1.Event) error {
	for _, e := range events {
		if _, err := json.Marshal(e); err != nil { // reads all of it, as a real one does
			return err
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.batches = append(k.batches, events)
	return k.err
}

func (k *kept) all() []*auditv1.Event {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Concat(k.batches...)
}

func (k *kept) sizes() (n []int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, b := range k.batches {
		n = append(n, len(b))
	}
	return n
}

// trailTo records by a policy to k.
func trailTo(t *testing.T, k *kept, rules string, d Delivery) *Trail {
	t.Helper()
	trail := &Trail{policy: policyOf(t, rules), log: slog.New(slog.DiscardHandler)}
	trail.add("test", k, d)
	return trail
}

var aMap = Attributes{User: User{Name: "jo", Groups: []string{"dev"}, Extra: map[string][]string{"a": {"b"}}},
	Verb: "create", Version: "v1", Namespace: "ns", Resource: "configmaps", Path: "/api/v1/namespaces/ns/configmaps"}

func asked() *http.Request {
	r := httptest.NewRequest("POST", "/api/v1/namespaces/ns/configmaps?fieldManager=x", nil)
	r.RemoteAddr = "10.0.0.9:4711"
	r.Header.Set("X-Forwarded-For", "10.0.0.7, 10.0.0.8")
	r.Header.Set("User-Agent", strings.Repeat("u", maxUserAgent+1))
	r.Header.Set(IDHeader, "mine")
	return r
}

const body = `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"m","managedFields":[{}]},"data":{"a":"1"}}`

// create is what the API does with a record.
func create(r *Record) {
	_ = r.Stage(auditv1.StageRequestReceived)
	r.Annotate("authorization.k8s.io/decision", "allow", false)
	r.Annotate("authorization.k8s.io/decision", "forbid", false)
	r.Annotate("patch", "secret", true)
	r.Request([]byte(body))
	r.Response([]byte(body))
	r.Code(201)
	_ = r.Stage(auditv1.StageResponseComplete)
}

func TestALevelSaysHowMuchIsRecorded(t *testing.T) {
	for _, tc := range []struct {
		level                     string
		events                    int
		request, response, detail bool
	}{
		{"None", 0, false, false, false}, {"Metadata", 2, false, false, false},
		{"Request", 2, true, false, true}, {"RequestResponse", 2, true, true, true},
	} {
		t.Run(tc.level, func(t *testing.T) {
			k := &kept{}
			if r := trailTo(t, k, "rules: [{level: "+tc.level+"}]", Defaults().File.Delivery).Begin(asked(), time.Unix(1, 0), aMap); r != nil {
				create(r)
			}
			events := k.all()
			if len(events) != tc.events {
				t.Fatalf("%d events, want %d", len(events), tc.events)
			}
			if tc.events == 0 {
				return
			}
			first, last := events[0], events[1]
			if first.Stage != auditv1.StageRequestReceived || first.ResponseStatus != nil || first.Annotations != nil || first.ObjectRef.Name != "" ||
				!first.StageTimestamp.Equal(&first.RequestReceivedTimestamp) {
				t.Errorf("the first event knows too much: %+v", first)
			}
			if (last.RequestObject != nil) != tc.request || (last.ResponseObject != nil) != tc.response || (last.Annotations["patch"] != "") != tc.detail {
				t.Errorf("the last event is %+v", last)
			}
			if last.Annotations["authorization.k8s.io/decision"] != "allow" || last.ObjectRef.Name != "m" || last.ResponseStatus.Code != 201 {
				t.Errorf("the last event is %+v", last)
			}
			if last.AuditID != "mine" || last.User.Username != "jo" || last.User.Extra["a"][0] != "b" || last.Verb != "create" ||
				last.RequestURI != "/api/v1/namespaces/ns/configmaps?fieldManager=x" || !strings.HasSuffix(last.UserAgent, "u...TRUNCATED") ||
				!slices.Equal(last.SourceIPs, []string{"10.0.0.7", "10.0.0.8", "10.0.0.9"}) {
				t.Errorf("the last event is %+v", last)
			}
		})
	}
}

func TestARequestWithoutANameGetsOne(t *testing.T) {
	r := httptest.NewRequest("GET", "/", nil)
	trail := trailTo(t, &kept{}, "rules: [{level: Metadata}]", Defaults().File.Delivery)
	if a, b := trail.Begin(r, time.Now(), aMap).ID(), trail.Begin(r, time.Now(), aMap).ID(); a == "" || a == b {
		t.Errorf("named %q and %q", a, b)
	}
}

func TestStagesAreLeftOut(t *testing.T) {
	k := &kept{}
	create(trailTo(t, k, "rules: [{level: Metadata, omitStages: [RequestReceived]}]", Defaults().File.Delivery).Begin(asked(), time.Now(), aMap))
	if events := k.all(); len(events) != 1 || events[0].Stage != auditv1.StageResponseComplete {
		t.Errorf("recorded %v", events)
	}
}

func TestAPanicIsRecorded(t *testing.T) {
	k := &kept{}
	trailTo(t, k, "rules: [{level: Metadata}]", Defaults().File.Delivery).Begin(asked(), time.Now(), aMap).Panicked("oh")
	e := k.all()[0]
	if e.Stage != auditv1.StagePanic || e.ResponseStatus.Code != 500 || e.ResponseStatus.Message != "APIServer panic'd: oh" {
		t.Errorf("recorded %+v", e)
	}
}

func TestManagedFieldsAreLeftOut(t *testing.T) {
	k := &kept{}
	trail := trailTo(t, k, "omitManagedFields: true\nrules: [{level: RequestResponse}]", Defaults().File.Delivery)
	for _, object := range []string{body, `{"kind":"List","items":[` + body + `]}`, `{"kind":"Table","rows":[{"cells":[1],"object":` + body + `}]}`} {
		r := trail.Begin(asked(), time.Now(), aMap)
		r.Request([]byte(object))
		r.Response([]byte(object))
		_ = r.Stage(auditv1.StageResponseComplete)
		events := k.all()
		e := events[len(events)-1]
		for _, raw := range [][]byte{e.RequestObject.Raw, e.ResponseObject.Raw} {
			if text := string(raw); strings.Contains(text, "managedFields") || !strings.Contains(text, `"a":"1"`) {
				t.Errorf("of %s is left %s", object, text)
			}
		}
	}
}

func TestTheLogIsALineForEachEvent(t *testing.T) {
	dir := t.TempDir()
	policyFile := filepath.Join(dir, "policy.yaml")
	if err := os.WriteFile(policyFile, []byte(head+"rules: [{level: RequestResponse}]"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, format := range []string{JSON, Legacy} {
		c := Defaults()
		c.PolicyFile, c.File.Path, c.File.Format = policyFile, filepath.Join(dir, "new", format+".log"), format
		trail, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		create(trail.Begin(asked(), time.Unix(1, 0).UTC(), aMap))
		f, err := os.Open(c.File.Path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		var lines []string
		for s := bufio.NewScanner(f); s.Scan(); {
			lines = append(lines, s.Text())
		}
		if len(lines) != 2 {
			t.Fatalf("%s: %d lines", format, len(lines))
		}
		if format == JSON {
			var e auditv1.Event
			if err := json.Unmarshal([]byte(lines[1]), &e); err != nil || e.Kind != "Event" || e.APIVersion != "audit.k8s.io/v1" || string(e.RequestObject.Raw) != body {
				t.Errorf("%s, error %v", lines[1], err)
			}
			continue
		}
		const want = `1970-01-01T00:00:01Z AUDIT: id="mine" stage="ResponseComplete" ip="10.0.0.7" method="create" user="jo" groups="\"dev\"" as="<self>" asgroups="<lookup>" user-agent=`
		if !strings.HasPrefix(lines[1], want) || !strings.HasSuffix(lines[1], `namespace="ns" uri="/api/v1/namespaces/ns/configmaps?fieldManager=x" response="201"`) {
			t.Errorf("%s", lines[1])
		}
	}
}

func TestTheLogIsRotated(t *testing.T) {
	dir := t.TempDir()
	f, err := newFile(FileConfig{Path: filepath.Join(dir, "audit.log"), Format: JSON, MaxSize: 1, MaxBackups: 5})
	if err != nil {
		t.Fatal(err)
	}
	e := &auditv1.Event{AuditID: types.UID(strings.Repeat("x", 400<<10))}
	for range 4 {
		if err := f.write(t.Context(), []*auditv1.Event{e}); err != nil {
			t.Fatal(err)
		}
	}
	files, err := filepath.Glob(filepath.Join(dir, "audit*.log"))
	if err != nil || len(files) != 2 {
		t.Errorf("there are %q, want the log and one before", files)
	}
}

func TestWhatCannotBeRecordedIsRefusedOnlyIfThatWasAsked(t *testing.T) {
	for mode, refused := range map[string]bool{Blocking: false, BlockingStrict: true} {
		d := Defaults().File.Delivery
		d.Mode = mode
		err := trailTo(t, &kept{err: errors.New("disk full")}, "rules: [{level: Metadata}]", d).Begin(asked(), time.Now(), aMap).Stage(auditv1.StageRequestReceived)
		if (err != nil) != refused {
			t.Errorf("%s: error %v", mode, err)
		}
	}
}

func TestLargeEventsAreCut(t *testing.T) {
	event := func(object int, id string) *auditv1.Event {
		e := &auditv1.Event{AuditID: types.UID(id), Level: auditv1.LevelRequest}
		r := &Record{rule: rule{level: auditv1.LevelRequest}}
		e.RequestObject = r.kept([]byte(`"`+strings.Repeat("x", object)+`"`), false)
		return e
	}
	k := &kept{}
	to := truncating{k, Delivery{MaxEvent: 1000, MaxBatch: 1000}}
	large := event(2000, "large")
	err := to.write(t.Context(), []*auditv1.Event{event(100, "a"), large, event(10, strings.Repeat("huge", 500)), event(600, "b")})
	if err == nil || !strings.Contains(err.Error(), "is too large even after truncating") {
		t.Errorf("error %v", err)
	}
	if large.RequestObject == nil {
		t.Error("the event was changed, and others share it")
	}
	events := k.all()
	if len(events) != 3 || events[1].RequestObject != nil || events[1].Annotations["audit.k8s.io/truncated"] != "true" || events[0].RequestObject == nil {
		t.Errorf("handed on were %+v", events)
	}
	if n := k.sizes(); len(n) != 2 {
		t.Errorf("in batches of %v, want two", n)
	}
}

func TestABatchGoesWhenItIsFullOrOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &kept{}
		trail := trailTo(t, k, "rules: [{level: Metadata}]", Delivery{Mode: Batch, Buffer: 100, Most: 3, Wait: 30 * time.Second})
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { trail.Run(ctx); close(done) }()
		events := func(n int) {
			r := trail.Begin(asked(), time.Now(), aMap)
			for range n {
				_ = r.Stage(auditv1.StageResponseComplete)
			}
			synctest.Wait()
		}
		events(2)
		if n := k.sizes(); len(n) != 0 {
			t.Errorf("sent %v at once", n)
		}
		time.Sleep(31 * time.Second)
		synctest.Wait()
		events(4)
		if n := k.sizes(); !slices.Equal(n, []int{2, 3}) {
			t.Errorf("sent %v, want the two that were old and the three that were full", n)
		}
		stop()
		<-done
		if n := k.sizes(); !slices.Equal(n, []int{2, 3, 1}) {
			t.Errorf("sent %v, want what was left at the end", n)
		}
	})
}

func TestAFullBufferDropsAndDoesNotWait(t *testing.T) {
	k := &kept{}
	trail := trailTo(t, k, "rules: [{level: Metadata}]", Delivery{Mode: Batch, Buffer: 2, Most: 10})
	r := trail.Begin(asked(), time.Now(), aMap)
	for range 5 {
		if err := r.Stage(auditv1.StageResponseComplete); err != nil {
			t.Error(err)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	trail.Run(ctx)
	if n := len(k.all()); n != 2 {
		t.Errorf("%d events came through a buffer of 2", n)
	}
}

func TestBatchesAreThrottled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &kept{}
		trail := trailTo(t, k, "rules: [{level: Metadata}]", Delivery{Mode: Batch, Buffer: 100, Most: 1, Throttle: true, Rate: 1, Burst: 2})
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { trail.Run(ctx); close(done) }()
		r := trail.Begin(asked(), time.Now(), aMap)
		for range 6 {
			_ = r.Stage(auditv1.StageResponseComplete)
		}
		time.Sleep(1500 * time.Millisecond)
		synctest.Wait()
		if n := len(k.all()); n != 3 {
			t.Errorf("%d batches after 1.5 s at one a second, two at once", n)
		}
		stop()
		<-done
		if n := len(k.all()); n != 6 {
			t.Errorf("%d events in all", n)
		}
	})
}

func TestAWebhookIsAskedAgain(t *testing.T) {
	var mu sync.Mutex
	var calls int
	var got auditv1.EventList
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if calls++; calls < 3 {
			http.Error(w, "not yet", http.StatusNotFound)
			return
		}
		if err := json.NewDecoder(r.Body).Decode(&got); err != nil || r.URL.Path != "/events" {
			http.Error(w, fmt.Sprint(err, r.URL.Path), http.StatusBadRequest)
		}
	}))
	defer s.Close()
	file := filepath.Join(t.TempDir(), "kubeconfig")
	text := `{apiVersion: v1, kind: Config, clusters: [{name: a, cluster: {server: "` + s.URL + `/events"}}], users: [{name: u, user: {}}], contexts: [{name: c, context: {cluster: a, user: u}}], current-context: c}`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	w, err := newWebhook(WebhookConfig{File: file, Backoff: time.Microsecond})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.write(t.Context(), []*auditv1.Event{{AuditID: "a"}, {AuditID: "b", ResponseStatus: &metav1.Status{Code: 200}}}); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if calls != 3 || got.Kind != "EventList" || len(got.Items) != 2 || got.Items[1].AuditID != "b" {
		t.Errorf("after %d calls it has %+v", calls, got)
	}
	calls = -10
	mu.Unlock()
	err = w.write(t.Context(), []*auditv1.Event{{}})
	mu.Lock()
	if err == nil || !strings.Contains(err.Error(), "404 Not Found: not yet") || calls != -10+tries {
		t.Errorf("after %d calls in vain: %v", calls+10, err)
	}
}

func TestAWrongConfigurationIsRefused(t *testing.T) {
	for _, tc := range []struct {
		change func(*Config)
		want   string
	}{
		{func(c *Config) { c.File.Mode = "fast" }, "invalid audit log mode fast"},
		{func(c *Config) { c.File.Format = "xml" }, "invalid audit log format xml"},
		{func(c *Config) { c.File.MaxAge = -1 }, "--audit-log-maxage -1 can't be a negative number"},
		{func(c *Config) { c.File.Version = "audit.k8s.io/v1beta1" }, "--audit-log-version"},
		{func(c *Config) { c.Webhook.File, c.Webhook.Most = "x", 0 }, "--audit-webhook-batch-max-size must be positive"},
		{func(c *Config) { c.File.Truncate, c.File.MaxEvent = true, 100<<20 }, "--audit-log-truncate-max-event-size is larger"},
		{func(c *Config) { c.PolicyFile = "/nowhere" }, "read audit policy /nowhere"},
	} {
		c := Defaults()
		c.PolicyFile, c.File.Path = "policy", filepath.Join(t.TempDir(), "log")
		tc.change(&c)
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("error %v, want %q", err, tc.want)
		}
	}
}

func TestWithoutAPolicyOrAPlaceNothingIsRecorded(t *testing.T) {
	for _, change := range []func(*Config){func(*Config) {}, func(c *Config) { c.PolicyFile = "x" }, func(c *Config) { c.File.Path = "x" }} {
		c := Defaults()
		change(&c)
		if trail, err := New(c); trail != nil || err != nil {
			t.Errorf("there is %v, error %v", trail, err)
		}
	}
}

func TestRecordsAreMadeAtOnceByMany(t *testing.T) {
	k := &kept{}
	trail := trailTo(t, k, "rules: [{level: Request}]", Delivery{Mode: Batch, Buffer: 1000, Most: 10})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { trail.Run(ctx); close(done) }()
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			r := trail.Begin(asked(), time.Now(), aMap)
			var notes sync.WaitGroup // webhooks that are asked at once
			for i := range 4 {
				notes.Go(func() { r.Annotate(fmt.Sprint(i), "x", false) })
				_ = r.Stage(auditv1.StageRequestReceived) // its event is being sent meanwhile
			}
			create(r)
			notes.Wait()
		})
	}
	all.Wait()
	stop()
	<-done
	if n := len(k.all()); n != 4*6 {
		t.Errorf("%d events, want %d", n, 4*6)
	}
	for _, e := range k.all() {
		if _, err := json.Marshal(e); err != nil {
			t.Error(err)
		}
	}
}
