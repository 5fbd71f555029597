package verb_test

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/types"

	"sampan/cluster/kind"
)

// The rules of metadata, as upstream has them kind by kind.
func TestMetadataOfUpdates(t *testing.T) {
	s := serve(t)
	s.mustCreate("deployments", deployment)
	s.mustCreate("configmaps", `{"metadata":{"name":"c"}}`)
	s.mustCreate("leases", `{"metadata":{"name":"l"}}`)
	s.mustCreate("services", `{"metadata":{"name":"s"},"spec":{"clusterIP":"None","ports":[{"port":80}],"selector":{"a":"b"}}}`)
	const lone = `metadata.finalizers[0]: Invalid value: "mine": name is neither a standard finalizer name nor is it fully qualified`
	for _, c := range []struct{ it, what, metadata, want string }{
		{"a finalizer has a domain", "configmaps/c", `{"finalizers":["mine"]}`, lone},
		{"also in a status", "services/s/status", `{"finalizers":["mine"]}`, lone},
		{"or is one of Kubernetes' own", "configmaps/c", `{"finalizers":["orphan","example.com/mine"]}`, ""},
		{"but in groups that take any", "leases/l", `{"finalizers":["mine"]}`, ""},
		{"a generateName is one", "configmaps/c", `{"generateName":"Bad_Name!"}`, `metadata.generateName: Invalid value: "Bad_Name!": a lowercase RFC 1123 subdomain`},
		{"where upstream looks", "services/s", `{"generateName":"Bad_Name!"}`, ""},
		{"in a status it is a part of a path", "services/s/status", `{"generateName":"a/b"}`, `metadata.generateName: Invalid value: "a/b": may not contain '/'`},
		{"an owner may be one", "services/s/status", `{"ownerReferences":[{"apiVersion":"v1","kind":"Event","name":"e","uid":"u"}]}`, "/v1, Kind=Event is disallowed from being an owner"},
		{"the end is the server's to say", "services/s/status", `{"deletionTimestamp":"2026-01-01T00:00:00Z"}`, "metadata.deletionTimestamp: Invalid value"},
		{"and the time until then", "deployments/web/status", `{"deletionGracePeriodSeconds":1}`, "metadata.deletionGracePeriodSeconds: Invalid value: 1: field is immutable"},
	} {
		_, err := s.patch(c.what, types.MergePatchType, `{"metadata":`+c.metadata+`}`)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.it, err)
		case c.want != "":
			s.status(err, 422, c.want)
		}
	}
}

func TestAStatusChangesMetadataAsUpstreamLetsIt(t *testing.T) {
	s := serve(t)
	s.mustCreate("deployments", deployment)
	s.mustCreate("persistentvolumeclaims", `{"metadata":{"name":"p"},"spec":{"accessModes":["ReadWriteOnce"],"resources":{"requests":{"storage":"1Gi"}}}}`)
	const metadata = `{"metadata":{"labels":{"new":"v"},"annotations":{"new":"v"},"generateName":"g",
		"ownerReferences":[{"apiVersion":"v1","kind":"Pod","name":"p","uid":"u"}]}}`
	for _, c := range []struct {
		it, what string
		labels   bool
	}{
		{"a claim's takes all that is not the server's", "persistentvolumeclaims/p/status", true},
		{"a deployment's leaves the labels", "deployments/web/status", false},
	} {
		obj, err := s.patch(c.what, types.MergePatchType, metadata)
		if err != nil {
			t.Fatalf("%s: %v", c.it, err)
		}
		if got := obj.GetLabels()["new"] == "v"; got != c.labels || obj.GetAnnotations()["new"] != "v" || obj.GetGenerateName() != "g" || len(obj.GetOwnerReferences()) != 1 {
			t.Errorf("%s: got %s", c.it, text(obj))
		}
		if owned := fieldsOf(obj); !strings.Contains(owned, "f:annotations") || strings.Contains(owned, "f:labels") != c.labels {
			t.Errorf("%s: owned are %s", c.it, owned)
		}
	}
}

func fieldsOf(obj kind.Object) (all string) {
	for _, m := range obj.GetManagedFields() {
		if m.Subresource == "status" {
			all += string(m.FieldsV1.GetRawBytes())
		}
	}
	return all
}

func TestOwnersThatAreGivenTwice(t *testing.T) {
	s := serve(t)
	const twice = `"ownerReferences":[{"apiVersion":"v1","kind":"Pod","name":"p","uid":"u"},{"apiVersion":"v1","kind":"Pod","name":"p","uid":"u"}]`
	const after = ".metadata.ownerReferences contains duplicate entries after mutating admission happens; API server dedups"
	obj := s.mustCreate("configmaps", `{"metadata":{"name":"c",`+twice+`}}`)
	if len(obj.GetOwnerReferences()) != 1 || len(s.warns) != 1 || !strings.Contains(s.warns[0], "duplicate entries; API server dedups") || !strings.HasSuffix(s.warns[0], "observed: u") {
		t.Errorf("created: %s, %q", text(obj), s.warns)
	}
	s.warns = nil
	obj, err := s.patch("configmaps/c", types.MergePatchType, `{"metadata":{`+twice+`}}`)
	if err != nil || len(obj.GetOwnerReferences()) != 1 || len(s.warns) != 1 || !strings.HasPrefix(s.warns[0], after) {
		t.Errorf("patched: %s, %v, %q", text(obj), err, s.warns)
	}
}
