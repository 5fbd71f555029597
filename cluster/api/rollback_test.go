package api_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/api"
	"sampan/cluster/kind/oldversion"
)

const rollbacks = "/namespaces/default/deployments/web/rollback"

func TestADeploymentIsRolledBackByARequestOfItsOldVersions(t *testing.T) {
	w := newWorld(t, func(c *api.Config) {
		all := c.Kinds.All()
		oldversion.Serve(all)
		for _, k := range all {
			c.Kinds.Add(k)
		}
	})
	admin := w.admin()
	for _, path := range []string{"/api/v1/namespaces", "/apis/apps/v1/namespaces/default/deployments"} {
		body := map[string]string{
			"/api/v1/namespaces": `{"metadata":{"name":"default"}}`,
			"/apis/apps/v1/namespaces/default/deployments": `{"metadata":{"name":"web","annotations":{"kept":"yes"}},"spec":{"selector":{"matchLabels":{"a":"b"}},
				"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i"}]}}}}`,
		}[path]
		if code, _, answer := w.do(admin, "POST", path, body); code != http.StatusCreated && code != http.StatusConflict {
			t.Fatalf("POST %s: %d %s", path, code, answer)
		}
	}
	for _, test := range []struct {
		it, version, body string
		code              int
		message           string
		annotations       string // afterwards
	}{
		{it: "to the revision before", version: "extensions/v1beta1", body: `{"name":"web","rollbackTo":{}}`, code: 201,
			message: `rollback request for deployment "web" succeeded`, annotations: `{"deprecated.deployment.rollback.to":"0","kept":"yes"}`},
		{it: "to one that is named, with annotations", version: "apps/v1beta1", code: 201,
			body:    `{"kind":"DeploymentRollback","apiVersion":"apps/v1beta1","name":"web","updatedAnnotations":{"why":"slow"},"rollbackTo":{"revision":3}}`,
			message: `rollback request for deployment "web" succeeded`, annotations: `{"deprecated.deployment.rollback.to":"3","kept":"yes","why":"slow"}`},
		{it: "not if the body is about another", version: "apps/v1beta1", body: `{"name":"db","rollbackTo":{}}`, code: 400,
			message: "name in URL does not match name in DeploymentRollback object"},
		{it: "not if the body names none, or no revision there can be", version: "extensions/v1beta1", body: `{"rollbackTo":{"revision":-1},"updatedAnnotations":{"a b":""}}`, code: 422,
			message: `DeploymentRollback.apps "" is invalid: [updatedAnnotations: Invalid value: "a b": name part must consist of alphanumeric characters`},
		{it: "not in versions that have never had it", version: "apps/v1beta2", body: `{"name":"web","rollbackTo":{}}`, code: 404,
			message: "the server could not find the requested resource"},
		{it: "nor in today's", version: "apps/v1", body: `{"name":"web","rollbackTo":{}}`, code: 404,
			message: "the server could not find the requested resource"},
	} {
		t.Run(test.it, func(t *testing.T) {
			code, header, body := w.do(admin, "POST", "/apis/"+test.version+rollbacks, test.body)
			var status metav1.Status
			if err := json.Unmarshal([]byte(body), &status); err != nil || code != test.code || !strings.HasPrefix(status.Message, test.message) {
				t.Fatalf("%d %s, want %d %s", code, body, test.code, test.message)
			}
			if code != http.StatusCreated {
				return
			}
			if status.Status != metav1.StatusSuccess || status.Code != http.StatusOK || !strings.Contains(header.Get("Warning"), "is deprecated") {
				t.Errorf("answer %s with the warning %q", body, header.Get("Warning"))
			}
			_, _, body = w.do(admin, "GET", "/apis/apps/v1/namespaces/default/deployments/web", "")
			var d metav1.PartialObjectMetadata
			if err := json.Unmarshal([]byte(body), &d); err != nil {
				t.Fatal(err)
			}
			if got, _ := json.Marshal(d.Annotations); string(got) != test.annotations || d.Generation != 1 {
				t.Errorf("generation %d, annotations %s, want 1, %s", d.Generation, got, test.annotations)
			}
		})
	}
	t.Run("as discovery and the schema say", func(t *testing.T) {
		for version, has := range map[string]bool{"extensions/v1beta1": true, "apps/v1beta1": true, "apps/v1beta2": false, "apps/v1": false} {
			_, _, resources := w.do(admin, "GET", "/apis/"+version, "")
			if strings.Contains(resources, `{"name":"deployments/rollback","singularName":"","namespaced":true,"kind":"DeploymentRollback","verbs":["create"]}`) != has {
				t.Errorf("%s lists %s", version, resources)
			}
			_, _, schema := w.do(admin, "GET", "/openapi/v3/apis/"+version, "")
			if strings.Contains(schema, `/deployments/{name}/rollback"`) != has || strings.Contains(schema, `v1beta1.DeploymentRollback":{`) != has {
				t.Errorf("the schema of %s has a rollback: %v", version, !has)
			}
		}
	})
}
