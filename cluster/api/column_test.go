package api_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/api"
	"sampan/cluster/kind"
)

// rows is what a client shows of path: the headings, then the first cells of each row.
func (w *world) rows(path string, cells int) (rows []string) {
	w.t.Helper()
	_, _, body := w.do(w.admin(), "GET", path, "", "Accept", asTable)
	var table metav1.Table
	if err := json.Unmarshal([]byte(body), &table); err != nil || table.Kind != "Table" {
		w.t.Fatalf("%v: %s", err, body)
	}
	var headings []string
	for _, c := range table.ColumnDefinitions {
		headings = append(headings, c.Name)
	}
	rows = append(rows, strings.Join(headings, " "))
	for _, r := range table.Rows {
		rows = append(rows, strings.TrimSuffix(fmt.Sprintln(r.Cells[:cells]...), "\n"))
	}
	return rows
}

func TestAScaleAsATableHasColumnsOfItsOwn(t *testing.T) {
	w := newWorld(t)
	if code, _, body := w.do(w.admin(), "POST", "/apis/apps/v1/namespaces/shop/deployments", `{"metadata":{"name":"web"},"spec":{"replicas":3,
		"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i"}]}}}}`); code != 201 {
		t.Fatalf("%d %s", code, body)
	}
	const path = "/apis/apps/v1/namespaces/shop/deployments/web/scale"
	if got, want := strings.Join(w.rows(path, 3), "; "), "Name Desired Available Age; web 3 0"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	_, _, body := w.do(w.admin(), "GET", path+"?includeObject=Object", "", "Accept", asTable)
	if !strings.Contains(body, `"kind":"Scale"`) {
		t.Errorf("the row's object is no Scale: %s", body)
	}
}

func TestRowsAreInTheOrderOfTheKindAndListsAreNot(t *testing.T) {
	w := newWorld(t, func(c *api.Config) {
		c.Kinds.ByGVK(corev1.SchemeGroupVersion.WithKind("ConfigMap")).Order = func(a, b kind.Object) int { return strings.Compare(b.GetName(), a.GetName()) }
	})
	w.put(3, 1)
	const path = "/api/v1/namespaces/shop/configmaps"
	if got, want := strings.Join(w.rows(path, 1)[1:], " "), "c002 c001 c000"; got != want {
		t.Errorf("rows %q, want %q", got, want)
	}
	_, _, body := w.do(w.admin(), "GET", path, "")
	if strings.Index(body, "c000") > strings.Index(body, "c002") {
		t.Errorf("the list is in another order: %s", body)
	}
}
