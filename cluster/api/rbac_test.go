package api_test

import (
	"fmt"
	"strings"
	"testing"
)

// A change of a role counts for the very next request, and reviews agree with
// what happens.
func TestRolesCountAtOnce(t *testing.T) {
	w := newWorld(t)
	admin, ann := w.as("admin", "system:masters"), w.as("ann", "staff")
	const roles, bindings = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles", "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings"
	do := func(want int, method, path, body string) string {
		t.Helper()
		code, _, answer := w.do(admin, method, path, body)
		if code != want {
			t.Fatalf("%s %s: %d %s, want %d", method, path, code, answer, want)
		}
		return answer
	}
	sees := func(want bool) {
		t.Helper()
		code, _, answer := w.do(ann, "GET", "/api/v1/namespaces/default/configmaps", "")
		if (code == 200) != want {
			t.Errorf("a list is answered with %d %s", code, answer)
		}
		_, _, answer = w.do(ann, "POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
			`{"apiVersion":"authorization.k8s.io/v1","kind":"SelfSubjectAccessReview","spec":{"resourceAttributes":{"verb":"list","resource":"configmaps","namespace":"default"}}}`)
		if got := strings.Contains(answer, `"allowed":true`); got != want {
			t.Errorf("a review says %s", answer)
		}
		answer = do(201, "POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews",
			`{"apiVersion":"authorization.k8s.io/v1","kind":"SubjectAccessReview","spec":{"user":"ann","groups":["staff"],"resourceAttributes":{"verb":"list","resource":"configmaps","namespace":"default"}}}`)
		if got := strings.Contains(answer, `"allowed":true`); got != want {
			t.Errorf("a review of another says %s", answer)
		}
		_, _, answer = w.do(ann, "POST", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews",
			`{"apiVersion":"authorization.k8s.io/v1","kind":"SelfSubjectRulesReview","spec":{"namespace":"default"}}`)
		if got := strings.Contains(answer, `"configmaps"`); got != want {
			t.Errorf("the list of rules says %s", answer)
		}
	}
	role := func(resource string) string {
		return fmt.Sprintf(`{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"Role","metadata":{"name":"r"},"rules":[{"apiGroups":[""],"resources":[%q],"verbs":["list"]}]}`, resource)
	}
	sees(false)
	do(201, "POST", bindings, `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"RoleBinding","metadata":{"name":"b"},"roleRef":{"kind":"Role","name":"r"},"subjects":[{"kind":"Group","name":"staff"}]}`)
	code, _, answer := w.do(ann, "GET", "/api/v1/namespaces/default/configmaps", "")
	if code != 403 || !strings.Contains(answer, `in the namespace \"default\": RBAC: role.rbac.authorization.k8s.io \"r\" not found`) {
		t.Errorf("%d %s", code, answer)
	}
	do(201, "POST", roles, role("configmaps"))
	sees(true)
	do(200, "PUT", roles+"/r", role("secrets"))
	sees(false)
	do(200, "PUT", roles+"/r", role("configmaps"))
	sees(true)
	do(200, "DELETE", bindings+"/b", "")
	sees(false)

	// Narrowed to one name, a list can be let see one object.
	do(201, "PUT", roles+"/one", strings.Replace(strings.Replace(role("configmaps"), `"name":"r"`, `"name":"one"`, 1), `"verbs"`, `"resourceNames":["x"],"verbs"`, 1))
	do(201, "POST", bindings, `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"RoleBinding","metadata":{"name":"one"},"roleRef":{"kind":"Role","name":"one"},"subjects":[{"kind":"User","name":"ann"}]}`)
	if code, _, answer := w.do(ann, "GET", "/api/v1/namespaces/default/configmaps?fieldSelector=metadata.name%3Dx", ""); code != 200 {
		t.Errorf("the list of one: %d %s", code, answer)
	}
	if code, _, _ := w.do(ann, "GET", "/api/v1/namespaces/default/configmaps", ""); code != 403 {
		t.Errorf("the list of all: %d", code)
	}
}
