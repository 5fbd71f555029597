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

func TestMetricsOfEtcdAndOfWhatWillGo(t *testing.T) {
	w := newWorld(t)
	admin := w.admin()
	if code, _, text := w.do(admin, "POST", "/api/v1/namespaces", `{"metadata":{"name":"shop"}}`); code != http.StatusCreated {
		t.Fatalf("%d %s", code, text)
	}
	const gauge = `apiserver_requested_deprecated_apis{group="",removed_release="",resource="endpoints",subresource="",version="v1"} 1` + "\n"
	if code, _, _ := w.do(w.as("jo"), "GET", "/api/v1/namespaces/shop/endpoints", ""); code != http.StatusForbidden {
		t.Errorf("%d", code)
	}
	if _, _, text := w.do(admin, "GET", "/metrics", ""); strings.Contains(text, "apiserver_requested_deprecated_apis") {
		t.Error("who may not has not used it")
	}
	w.do(admin, "GET", "/api/v1/namespaces/shop/endpoints", "")
	_, _, text := w.do(admin, "GET", "/metrics", "")
	for _, want := range []string{gauge,
		`etcd_requests_total{group="",operation="create",resource="namespaces"} 1` + "\n",
		`etcd_request_duration_seconds_bucket{group="",operation="create",resource="namespaces",le="60"} 1` + "\n",
		`etcd_request_duration_seconds_count{group="",operation="create",resource="namespaces"} 1` + "\n",
		`kubernetes_build_info{build_date="",compiler="gc",git_commit="",git_tree_state="clean",git_version="v1.37.2+sampan",go_version="go`} {
		if !strings.Contains(text, want) {
			t.Errorf("/metrics has no %s", want)
		}
	}
}
