package aggregate_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"sampan/cluster/aggregate"
	"sampan/cluster/client"
	"sampan/cluster/client/clienttest"
	"sampan/cluster/kind"
	"sampan/cluster/kind/apiregistration"
	"sampan/cluster/kind/core"
	"sampan/cluster/kind/discovery"
	"sampan/cluster/request"
)

var wardle = schema.GroupVersion{Group: "wardle.example.com", Version: "v1alpha1"}

// world is an Aggregator at work, and a server behind a service that it knows.
type world struct {
	*testing.T
	*clienttest.Fake
	aggregator *aggregate.Aggregator
	server     *httptest.Server
	old        atomic.Bool            // the server has no aggregated discovery
	broken     atomic.Bool            // the server answers 500
	flunders   atomic.Int32           // that the server keeps in each namespace
	held       atomic.Bool            // by a finalizer
	index      atomic.Pointer[string] // of its OpenAPI documents; nil: it has none
	described  atomic.Int32           // how often it was asked for them
	older      atomic.Pointer[string] // its OpenAPI document of version 2; nil: it has none
	told, same atomic.Int32           // how often it was asked for that, and had nothing new
	ahead      atomic.Int64           // how far the aggregator's clock is ahead
	front      *httptest.Server
}

func kinds() *kind.Table {
	return kind.NewTable(core.Kinds(), discovery.Kinds(), apiregistration.Kinds())
}

func newWorld(t *testing.T) *world {
	w := &world{T: t}
	w.server = httptest.NewUnstartedServer(http.HandlerFunc(w.serve))
	w.server.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	w.server.EnableHTTP2 = true
	w.server.StartTLS()
	t.Cleanup(w.server.Close)
	w.Fake = clienttest.New(t, kinds(), w.service(), w.slice(true))
	w.aggregator = start(t, w.Fake, w.server.TLS.Certificates[0], func() time.Time { return time.Now().Add(time.Duration(w.ahead.Load())) })
	w.front = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		to := w.aggregator.State().At(wardle)
		if to == nil {
			http.NotFound(rw, r)
			return
		}
		w.aggregator.Pass(r.Context(), rw, r, to, request.User{Name: "ann", UID: "7", Groups: []string{"shop"}})
	}))
	t.Cleanup(w.front.Close)
	return w
}

func start(t *testing.T, c client.Client, cert tls.Certificate, now func() time.Time) *aggregate.Aggregator {
	t.Helper()
	a, err := aggregate.New(aggregate.Config{Client: c, Certificate: cert, Log: slog.New(slog.DiscardHandler), Now: now,
		Own: []schema.GroupVersion{{Group: "authentication.k8s.io", Version: "v1"}}, Trust: aggregate.Trust{ClientCA: "CA", ProxyCA: "PROXY"}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return a
}

// serve is the server behind the service.
func (w *world) serve(rw http.ResponseWriter, r *http.Request) {
	if w.broken.Load() {
		http.Error(rw, "broken", http.StatusInternalServerError)
		return
	}
	switch {
	case r.URL.Path == "/apis" && !w.old.Load():
		rw.Header().Set("Content-Type", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")
		io.WriteString(rw, `{"kind":"APIGroupDiscoveryList","apiVersion":"apidiscovery.k8s.io/v2","items":[{"metadata":{"name":"wardle.example.com"},
"versions":[{"version":"v1alpha1","resources":[{"resource":"flunders","scope":"Namespaced","verbs":["delete","deletecollection","get","list"],"subresources":[{"subresource":"status"}]}]}]}]}`)
	case r.URL.Path == "/openapi/v3":
		w.described.Add(1)
		if index := w.index.Load(); index != nil {
			io.WriteString(rw, *index)
			return
		}
		http.NotFound(rw, r)
	case r.URL.Path == "/openapi/v2":
		w.told.Add(1)
		older := w.older.Load()
		if older == nil {
			http.NotFound(rw, r)
			return
		}
		tag := strconv.Quote(strconv.Itoa(len(*older)))
		rw.Header().Set("ETag", tag)
		if r.Header.Get("If-None-Match") == tag {
			w.same.Add(1)
			rw.WriteHeader(http.StatusNotModified)
			return
		}
		io.WriteString(rw, *older)
	case r.URL.Path == "/apis":
		io.WriteString(rw, `{"kind":"APIGroupList","groups":[]}`)
	case r.URL.Path == "/apis/wardle.example.com/v1alpha1":
		io.WriteString(rw, `{"kind":"APIResourceList","resources":[{"name":"flunders","kind":"Flunder","namespaced":true,"verbs":["get","list"]},
{"name":"flunders/status","kind":"Flunder","namespaced":true,"verbs":["get"]}]}`)
	case strings.HasSuffix(r.URL.Path, "/namespaces/shop/flunders"):
		if r.Header.Get("X-Remote-User") != "system:serviceaccount:kube-system:namespace-controller" {
			http.Error(rw, "who are you?", http.StatusForbidden)
			return
		}
		if r.Method == http.MethodDelete && !w.held.Load() {
			w.flunders.Store(0)
		}
		items := slices.Repeat([]string{`{"metadata":{"name":"a","finalizers":["example.com/hold"]}}`}, int(w.flunders.Load()))
		fmt.Fprintf(rw, `{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1","items":[%s]}`, strings.Join(items, ","))
	case strings.HasSuffix(r.URL.Path, "/whoami"):
		rw.Header().Set("Cache-Control", "private")
		fmt.Fprintf(rw, "%s %s %s %q %q %s", r.Header.Get("X-Remote-User"), r.Header.Get("X-Remote-Uid"), r.Header.Get("X-Remote-Group"),
			r.Header.Get("Authorization"), r.Header.Get("X-Remote-Extra-Scopes"), r.URL.RequestURI())
	case strings.HasSuffix(r.URL.Path, "/away"):
		http.Redirect(rw, r, "https://elsewhere.example.com/", http.StatusFound)
	case strings.HasSuffix(r.URL.Path, "/watch"):
		for i := range 3 {
			fmt.Fprintln(rw, i)
			http.NewResponseController(rw).Flush()
		}
		<-r.Context().Done()
	case strings.HasSuffix(r.URL.Path, "/upgrade"):
		conn, in, err := http.NewResponseController(rw).Hijack()
		if err != nil {
			http.Error(rw, err.Error(), http.StatusInternalServerError)
			return
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		line, _ := in.ReadString('\n')
		io.WriteString(conn, r.Header.Get("X-Remote-User")+": "+line)
	default:
		http.NotFound(rw, r)
	}
}

func (w *world) service() *corev1.Service {
	return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "api"},
		Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP, Ports: []corev1.ServicePort{{Port: 7443}}}}
}

func (w *world) slice(ready bool) *discoveryv1.EndpointSlice {
	host, text, _ := net.SplitHostPort(w.server.Listener.Addr().String())
	number, _ := strconv.Atoi(text)
	port, name := int32(number), ""
	return &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "api-1", Labels: map[string]string{discoveryv1.LabelServiceName: "api"}},
		AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: &name, Port: &port}},
		Endpoints: []discoveryv1.Endpoint{{Addresses: []string{host}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}}}}
}

func (w *world) register(change ...func(*apiregistrationv1.APIService)) {
	w.Helper()
	port := int32(7443)
	s := &apiregistrationv1.APIService{ObjectMeta: metav1.ObjectMeta{Name: apiregistration.Name(wardle)}, Spec: apiregistrationv1.APIServiceSpec{
		Group: wardle.Group, Version: wardle.Version, GroupPriorityMinimum: 2000, VersionPriority: 200, InsecureSkipTLSVerify: true,
		Service: &apiregistrationv1.ServiceReference{Namespace: "shop", Name: "api", Port: &port}}}
	for _, c := range change {
		c(s)
	}
	w.Put(s)
}

// reason waits until the server's condition has a reason, and returns its
// message.
func (w *world) reason(want string) string {
	w.Helper()
	var last string
	for range 1200 {
		s, err := client.Get[*apiregistrationv1.APIService](w.Context(), w, "", apiregistration.Name(wardle))
		if err != nil {
			w.Fatal(err)
		}
		if c := apiregistration.Condition(s); c != nil {
			if c.Reason == want {
				return c.Message
			}
			last = c.Reason + ": " + c.Message
		}
		time.Sleep(50 * time.Millisecond)
	}
	w.Fatalf("the condition is %q, want %s", last, want)
	return ""
}

func (w *world) ask(path string, header ...string) (int, http.Header, string) {
	w.Helper()
	req, err := http.NewRequest(http.MethodGet, w.front.URL+"/apis/wardle.example.com/v1alpha1"+path, nil)
	if err != nil {
		w.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		w.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		w.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(data)
}

// available waits until requests are passed on: the condition is seen by a
// watch.
func (w *world) available() {
	w.Helper()
	w.reason("Passed")
	for range 1200 {
		if code, _, _ := w.ask("/whoami"); code == http.StatusOK {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	w.Fatal("requests are not passed on")
}

func TestRequestsArePassedOn(t *testing.T) {
	w := newWorld(t)
	w.register()
	w.available()
	code, header, got := w.ask("/whoami?a=1&b=%20", "Authorization", "Bearer secret", "X-Remote-User", "root", "X-Remote-Extra-Scopes", "all")
	if want := `ann 7 shop "" "" /apis/wardle.example.com/v1alpha1/whoami?a=1&b=%20`; code != http.StatusOK || got != want {
		t.Errorf("%d %s\nwant %s", code, got, want)
	}
	if got := header.Values("Cache-Control"); !slices.Equal(got, []string{"private"}) {
		t.Errorf("Cache-Control %q: the other server's counts", got)
	}
	code, _, got = w.ask("/away")
	if code != http.StatusBadGateway || got != "the backend attempted to redirect this request, which is not permitted" {
		t.Errorf("redirected: %d %s", code, got)
	}
}

func TestWatchesStreamAndConnectionsAreUpgraded(t *testing.T) {
	w := newWorld(t)
	w.register()
	w.available()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, w.front.URL+"/apis/wardle.example.com/v1alpha1/flunders/watch", nil)
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for want := range 3 {
		if !lines.Scan() || lines.Text() != strconv.Itoa(want) {
			t.Fatalf("event %d: %q, %v", want, lines.Text(), lines.Err())
		}
	}
	stop()

	conn, err := net.Dial("tcp", w.front.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "GET /apis/wardle.example.com/v1alpha1/flunders/upgrade HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	in := bufio.NewReader(conn)
	answer, err := http.ReadResponse(in, nil)
	if err != nil || answer.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%v, %v", answer, err)
	}
	io.WriteString(conn, "hello\n")
	if line, err := in.ReadString('\n'); line != "ann: hello\n" {
		t.Errorf("%q, %v", line, err)
	}
}

func TestAvailabilityIsFoundOut(t *testing.T) {
	w := newWorld(t)
	w.register(func(s *apiregistrationv1.APIService) { s.Spec.Service.Name = "nowhere" })
	if got, want := w.reason("ServiceNotFound"), `service/nowhere in "shop" is not present`; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	if code, _, got := w.ask("/whoami"); code != http.StatusServiceUnavailable || got != "service unavailable\n" {
		t.Errorf("meanwhile %d %q", code, got)
	}
	w.register()
	w.available()
	w.Put(w.slice(false))
	w.reason("MissingEndpoints")
	w.Put(w.slice(true))
	if got := w.reason("Passed"); got != "all checks passed" {
		t.Errorf("message %q", got)
	}
	w.broken.Store(true)
	w.Put(w.slice(false))
	w.reason("MissingEndpoints")
	w.Put(w.slice(true))
	url := w.server.URL + "/apis/wardle.example.com/v1alpha1"
	if got, want := w.reason("FailedDiscoveryCheck"), "failing or missing response from "+url+": bad status from "+url+": 500"; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	w.broken.Store(false)
	w.reason("Passed") // by back-off: nothing in the cluster has changed
	pool := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: w.server.Certificate().Raw})
	w.register(func(s *apiregistrationv1.APIService) { s.Spec.InsecureSkipTLSVerify, s.Spec.CABundle = false, pool })
	if got := w.reason("FailedDiscoveryCheck"); !strings.Contains(got, "not api.shop.svc") {
		t.Errorf("a certificate for another name: %s", got)
	}
}

func TestWhatOthersServeIsKnown(t *testing.T) {
	for _, old := range []bool{false, true} {
		w := newWorld(t)
		w.old.Store(old)
		w.register()
		w.available()
		state := w.aggregator.State()
		v := state.At(wardle).Discovery
		if v.Freshness != apidiscoveryv2.DiscoveryFreshnessCurrent || len(v.Resources) != 1 || v.Resources[0].Resource != "flunders" ||
			v.Resources[0].Scope != apidiscoveryv2.ScopeNamespace || v.Resources[0].ResponseKind == nil ||
			len(v.Resources[0].Subresources) != 1 || v.Resources[0].Subresources[0].Subresource != "status" || v.Resources[0].Subresources[0].ResponseKind == nil {
			t.Errorf("old: %v: %+v", old, v)
		}
		if got := state.Priority(wardle); got != (aggregate.Priority{Group: 2000, Version: 200}) {
			t.Errorf("priority %v", got)
		}
		w.Put(w.slice(false))
		w.reason("MissingEndpoints")
		now := w.aggregator.State()
		if v := now.At(wardle).Discovery; v.Freshness != apidiscoveryv2.DiscoveryFreshnessStale || len(v.Resources) != 1 || now.Number == state.Number {
			t.Errorf("what is not there is not what it was, but stale: %+v", v)
		}
	}
}

func TestNamespacesAreEmptiedElsewhereToo(t *testing.T) {
	w := newWorld(t)
	w.register()
	w.available()
	flunders := wardle.WithResource("flunders")
	empty := func(want int, unsure int) {
		t.Helper()
		left, unknown, err := w.aggregator.Empty(t.Context(), "shop")
		if err != nil || len(left[flunders]) != want || len(unknown) != unsure {
			t.Errorf("left %v, unknown %v, %v; want %d and %d", left, unknown, err, want, unsure)
		}
	}
	empty(0, 0)
	w.flunders.Store(2)
	w.held.Store(true)
	empty(2, 0)
	w.held.Store(false)
	empty(0, 0)
	if n := w.flunders.Load(); n != 0 {
		t.Errorf("%d flunders are there still", n)
	}
	w.Put(w.slice(false))
	w.reason("MissingEndpoints")
	empty(0, 1)
}

// custom is a kind that somebody has declared at run time.
func custom(group string) *kind.Kind {
	k := &kind.Kind{GVK: schema.GroupVersionKind{Group: group, Version: "v1", Kind: "Thing"}, Plural: "things", Singular: "thing", Prefix: group + "/things"}
	k.Custom = &kind.Custom{Faces: []*kind.Kind{k}}
	return k
}

func TestOwnGroupsAreRegistered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mine := &apiregistrationv1.APIService{ObjectMeta: metav1.ObjectMeta{Name: "v1.mine.example.com"},
			Spec: apiregistrationv1.APIServiceSpec{Group: "mine.example.com", Version: "v1", GroupPriorityMinimum: 5, VersionPriority: 5}}
		left := mine.DeepCopy()
		left.Name, left.Spec.Group, left.Labels = "v1.left.example.com", "left.example.com", map[string]string{"kube-aggregator.kubernetes.io/automanaged": "true"}
		table := kinds()
		f := clienttest.New(t, table, mine, left)
		start(t, f, tls.Certificate{Certificate: [][]byte{{1}}}, nil)
		want := func(names ...string) {
			t.Helper()
			synctest.Wait()
			all, err := client.List[*apiregistrationv1.APIService](t.Context(), f, client.Query{})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, s := range all {
				got = append(got, s.Name+"="+s.Labels["kube-aggregator.kubernetes.io/automanaged"])
			}
			if !slices.Equal(got, names) {
				t.Errorf("APIServices\n%v, want\n%v", got, names)
			}
		}
		own := []string{"v1.=onstart", "v1.authentication.k8s.io=onstart", "v1.discovery.k8s.io=onstart", "v1.events.k8s.io=onstart"}
		want(append(slices.Clone(own), "v1.mine.example.com=")...)
		table.Add(custom("crd.example.com"))
		table.Add(custom("mine.example.com"))
		want("v1.=onstart", "v1.authentication.k8s.io=onstart", "v1.crd.example.com=true", "v1.discovery.k8s.io=onstart", "v1.events.k8s.io=onstart", "v1.mine.example.com=")
		if err := client.Delete[*apiregistrationv1.APIService](t.Context(), f, "", "v1.crd.example.com", nil); err != nil {
			t.Fatal(err)
		}
		want("v1.=onstart", "v1.authentication.k8s.io=onstart", "v1.crd.example.com=true", "v1.discovery.k8s.io=onstart", "v1.events.k8s.io=onstart", "v1.mine.example.com=")
		table.Remove(schema.GroupResource{Group: "crd.example.com", Resource: "things"})
		want(append(slices.Clone(own), "v1.mine.example.com=")...)
		cm, err := client.Get[*corev1.ConfigMap](t.Context(), f, "kube-system", "extension-apiserver-authentication")
		if err != nil || cm.Data["requestheader-client-ca-file"] != "PROXY" {
			t.Errorf("%v, %v", cm, err)
		}
		if err := client.Delete[*corev1.ConfigMap](t.Context(), f, "kube-system", cm.Name, nil); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if _, err := client.Get[*corev1.ConfigMap](t.Context(), f, "kube-system", cm.Name); err != nil {
			t.Errorf("it does not come back: %v", err)
		}
	})
}
