package webhook_test

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/client/clienttest"
	"sampan/cluster/kind"
	"sampan/cluster/kind/core"
	"sampan/cluster/kind/discovery"
	"sampan/cluster/webhook"
)

// hook is a webhook that answers with what the function says.
func hook(t *testing.T, answer http.HandlerFunc) (*httptest.Server, []byte) {
	t.Helper()
	s := httptest.NewTLSServer(answer)
	t.Cleanup(s.Close)
	return s, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
}

func caller(t *testing.T, dial func(ctx context.Context, network, address string) (net.Conn, error), objects ...kind.Object) *webhook.Caller {
	t.Helper()
	c, err := webhook.New(webhook.Config{Objects: clienttest.New(t, kind.NewTable(core.Kinds(), discovery.Kinds()), objects...), Dial: dial})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func echo(w http.ResponseWriter, r *http.Request) {
	var asked map[string]any
	json.NewDecoder(r.Body).Decode(&asked)
	asked["query"], asked["path"], asked["agent"] = r.URL.RawQuery, r.URL.Path, r.UserAgent()
	json.NewEncoder(w).Encode(asked)
}

func TestWebhookAtAURLIsAskedAndTrustedByItsBundle(t *testing.T) {
	s, ca := hook(t, echo)
	c := caller(t, nil)
	var answer map[string]any
	call := webhook.Call{Target: webhook.Target{URL: s.URL + "/look", CA: ca}, Timeout: time.Minute, Announce: true}
	if err := c.Post(t.Context(), call, map[string]any{"is": "it"}, &answer); err != nil {
		t.Fatal(err)
	}
	if answer["is"] != "it" || answer["query"] != "timeout=1m0s" || answer["path"] != "/look" || answer["agent"] != "kube-apiserver-admission" {
		t.Errorf("the webhook saw %v", answer)
	}
	call.Target.CA = nil
	if err := c.Post(t.Context(), call, struct{}{}, &answer); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("without its bundle: %v, want an error about the certificate", err)
	}
	call.Target.CA = []byte("no PEM")
	if err := c.Post(t.Context(), call, struct{}{}, &answer); err == nil || !strings.Contains(err.Error(), "unable to parse bytes as PEM block") {
		t.Errorf("with nonsense as bundle: %v", err)
	}
	call.Target.URL = "http" + strings.TrimPrefix(s.URL, "https")
	if err := c.Post(t.Context(), call, struct{}{}, &answer); err == nil {
		t.Error("a webhook without TLS was called")
	}
}

func TestWebhookBehindAServiceIsReachedAtAReadyEndpoint(t *testing.T) {
	no, name, port := false, "https", int32(8443)
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "hooks", Name: "hook"},
		Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "https", Port: 9443}}}}
	slice := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: "hooks", Name: "hook-1",
		Labels: map[string]string{discoveryv1.LabelServiceName: "hook"}},
		Ports: []discoveryv1.EndpointPort{{Name: &name, Port: &port}},
		Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"10.0.0.1"}, Conditions: discoveryv1.EndpointConditions{Ready: &no}},
			{Addresses: []string{"10.0.0.2"}}}}
	var dialled string
	refuse := func(_ context.Context, _, address string) (net.Conn, error) {
		dialled = address
		return nil, errors.New("connection refused")
	}
	c := caller(t, refuse, service, slice)
	call := webhook.Call{Target: webhook.Target{Service: &webhook.Service{Namespace: "hooks", Name: "hook", Path: "look", Port: 9443}}, Timeout: time.Minute}
	err := c.Post(t.Context(), call, struct{}{}, nil)
	if want := `Post "https://hook.hooks.svc:9443/look": connection refused`; err == nil || err.Error() != want {
		t.Errorf("error %v\nwant  %s", err, want)
	}
	if dialled != "10.0.0.2:8443" {
		t.Errorf("dialled %q, want the ready endpoint's port", dialled)
	}
	call.Target.Service = &webhook.Service{Namespace: "hooks", Name: "hook", Port: 1}
	if err := c.Post(t.Context(), call, struct{}{}, nil); err == nil || !strings.Contains(err.Error(), `no service port 1 found for service "hook"`) {
		t.Errorf("of a port that is not there: %v", err)
	}
	call.Target.Service = &webhook.Service{Namespace: "hooks", Name: "other"}
	if err := c.Post(t.Context(), call, struct{}{}, nil); err == nil || !strings.Contains(err.Error(), `service "other" not found`) {
		t.Errorf("of a service that is not there: %v", err)
	}
}

func TestAnswerThatIsNoneIsAnError(t *testing.T) {
	for _, tc := range []struct {
		it     string
		answer http.HandlerFunc
		want   string
		status int32
	}{
		{"passes on the text of an error", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no such thing", 500) },
			"an error on the server (\"no such thing\") has prevented the request from succeeding", 500},
		{"does not follow elsewhere", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://example.com/", http.StatusTemporaryRedirect)
		}, "the server responded with the status code 307", 307},
		{"refuses what is no JSON", func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("hello")) }, "invalid character 'h'", 0},
	} {
		t.Run(tc.it, func(t *testing.T) {
			s, ca := hook(t, tc.answer)
			var answer map[string]any
			err := caller(t, nil).Post(t.Context(), webhook.Call{Target: webhook.Target{URL: s.URL, CA: ca}, Timeout: time.Minute}, struct{}{}, &answer)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("error %v, want one with %q", err, tc.want)
			}
			var status apierrors.APIStatus
			if errors.As(err, &status) != (tc.status != 0) || tc.status != 0 && status.Status().Code != tc.status {
				t.Errorf("error %#v, want status %d", err, tc.status)
			}
		})
	}
}

func TestWebhookThatHangsIsGivenUp(t *testing.T) {
	s, ca := hook(t, func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) // only then the end of the connection is seen
		<-r.Context().Done()
	})
	var answer map[string]any
	err := caller(t, nil).Post(t.Context(), webhook.Call{Target: webhook.Target{URL: s.URL, CA: ca}, Timeout: 10 * time.Millisecond, Announce: true}, struct{}{}, &answer)
	if err == nil || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "?timeout=10ms") {
		t.Errorf("error %v, want the deadline, and the timeout in the address", err)
	}
}
