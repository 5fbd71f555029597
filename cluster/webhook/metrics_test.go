package webhook_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sampan/cluster/client/clienttest"
	"sampan/cluster/kind"
	"sampan/cluster/kind/core"
	"sampan/cluster/webhook"
	"sampan/internal/counted"
)

func TestCallsAreCounted(t *testing.T) {
	s, ca := hook(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/no" {
			w.WriteHeader(http.StatusTeapot)
			return
		}
		echo(w, r)
	})
	registry := prometheus.NewRegistry()
	c, err := webhook.New(webhook.Config{Objects: clienttest.New(t, kind.NewTable(core.Kinds())), Metrics: webhook.NewMetrics(registry)})
	if err != nil {
		t.Fatal(err)
	}
	for _, call := range []struct {
		path  string
		ca    []byte
		fails bool
	}{{"/yes", ca, false}, {"/yes", ca, false}, {"/no", ca, true}, {"/yes", nil, true}} {
		var answer map[string]any
		err := c.Post(t.Context(), webhook.Call{Target: webhook.Target{URL: s.URL + call.path, CA: call.ca}, Timeout: time.Minute}, map[string]any{}, &answer)
		if (err != nil) != call.fails {
			t.Fatalf("%s: %v", call.path, err)
		}
	}
	var text strings.Builder
	if err := counted.Write(&text, registry, "rest_client_"); err != nil {
		t.Fatal(err)
	}
	host := strings.TrimPrefix(s.URL, "https://")
	for _, want := range []string{
		`rest_client_requests_total{code="200",host="` + host + `",method="POST"} 2`,
		`rest_client_requests_total{code="418",host="` + host + `",method="POST"} 1`,
		`rest_client_requests_total{code="<error>",host="` + host + `",method="POST"} 1`,
		`rest_client_request_duration_seconds_count{host="` + host + `",verb="POST"} 4`,
	} {
		if !strings.Contains(text.String(), want+"\n") {
			t.Errorf("there is no line %s in\n%s", want, text.String())
		}
	}
}
