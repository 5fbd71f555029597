package api_test

import (
	"net/http"
	"strings"
	"testing"
)

func TestMetricsOfWhoAsksAndOfHealth(t *testing.T) {
	w := newWorld(t)
	admin := w.admin()
	w.do(admin, "GET", "/readyz", "")
	w.do(admin, "GET", "/livez/ping", "")
	w.do(w.as(""), "GET", "/version", "", "Authorization", "Bearer nonsense")
	w.do(w.as("jo@example.com"), "GET", "/api", "")
	code, _, text := w.do(admin, "GET", "/metrics/slis", "")
	if code != http.StatusOK {
		t.Fatalf("%d %s", code, text)
	}
	for _, want := range []string{"# TYPE kubernetes_healthcheck gauge\n", `kubernetes_healthcheck{name="ping",type="readyz"} 1` + "\n",
		`kubernetes_healthchecks_total{name="ping",status="success",type="livez"} 1` + "\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("/metrics/slis has no %s:\n%s", want, text)
		}
	}
	_, _, text = w.do(admin, "GET", "/metrics", "")
	for _, want := range []string{`authentication_attempts{result="error"} 1` + "\n", `authenticated_user_requests{username="email_id"} 1` + "\n",
		`authenticated_user_requests{username="admin"} 4` + "\n", `authentication_duration_seconds_count{result="error"} 1` + "\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("/metrics has no %s", want)
		}
	}
}
