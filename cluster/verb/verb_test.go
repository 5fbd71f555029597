package verb_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/admission"
	"sampan/cluster/client"
	"sampan/cluster/kind"
	"sampan/cluster/kind/apiextensions"
	"sampan/cluster/kind/apps"
	"sampan/cluster/kind/coordination"
	"sampan/cluster/kind/core"
	"sampan/cluster/kind/networking"
	"sampan/cluster/kind/policy"
	"sampan/cluster/object"
	"sampan/cluster/request"
	"sampan/cluster/schema"
	"sampan/cluster/store"
	"sampan/cluster/verb"
)

// everyone lets all but mallory in.
type everyone struct{}

func (everyone) Authorize(_ context.Context, r request.Request) error {
	if r.User.Name == "mallory" {
		return apierrors.NewForbidden(r.Kind.GroupResource(), r.Name, fmt.Errorf("User %q cannot", r.User.Name))
	}
	return nil
}

// server is an API on a store of its own, with the kinds of core and apps.
type server struct {
	*testing.T
	api   *verb.API
	store *store.Store
	kinds *kind.Table
	warns []string
}

func serve(t *testing.T, plugins ...any) *server {
	t.Helper()
	kinds := kind.NewTable(core.Kinds(), apps.Kinds(), coordination.Kinds(), policy.Kinds(), networking.Kinds(), apiextensions.Kinds())
	db, err := store.Open(t.Context(), store.Config{Dir: t.TempDir(), Kinds: kinds, Codec: object.Storage{}, CheckShared: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("the store found writes to shared objects: %v", err)
		}
	})
	api, err := verb.New(verb.Config{Kinds: kinds, Store: db, Schemas: schema.New(kinds),
		Admission: admission.NewChain(plugins...), Authorizer: everyone{}})
	if err != nil {
		t.Fatal(err)
	}
	return &server{T: t, api: api, store: db, kinds: kinds}
}

// ask is a request of ann about "plural", "plural/name" or "plural/name/sub".
func (s *server) ask(verb, what string) request.Request {
	s.Helper()
	parts := append(strings.Split(what, "/"), "", "")
	for _, k := range s.kinds.All() {
		if k.Plural == parts[0] {
			ns := "default"
			if k.Cluster {
				ns = ""
			}
			return request.Request{Verb: verb, Kind: k, GVK: k.GVK, Namespace: ns, Name: parts[1], Subresource: parts[2],
				User: request.User{Name: "ann"}, FieldManager: "ann", FieldValidation: "Strict",
				Warn: func(text string) { s.warns = append(s.warns, text) }}
		}
	}
	s.Fatalf("no kind is called %s", parts[0])
	return request.Request{}
}

func asJSON(text string) verb.Body { return verb.Body{Data: []byte(text), MediaType: object.JSON} }

func (s *server) create(plural, body string) (kind.Object, error) {
	s.Helper()
	return s.api.Create(s.Context(), s.ask("create", plural), asJSON(body))
}

func (s *server) mustCreate(plural, body string) kind.Object {
	s.Helper()
	obj, err := s.create(plural, body)
	if err != nil {
		s.Fatalf("create %s: %v", plural, err)
	}
	return obj
}

func (s *server) get(what string) (kind.Object, error) {
	s.Helper()
	return s.api.Get(s.Context(), s.ask("get", what), metav1.GetOptions{})
}

// text is obj as JSON, for failures and for comparing parts of it.
func text(obj any) string {
	data, err := json.Marshal(obj)
	if err != nil {
		return err.Error()
	}
	return string(data)
}

// status checks an error's code and that its message contains part.
func (s *server) status(err error, code int32, part string) {
	s.Helper()
	status, ok := err.(apierrors.APIStatus)
	if !ok {
		s.Errorf("got %v (%T), want a status with code %d", err, err, code)
		return
	}
	if got := status.Status(); got.Code != code || !strings.Contains(got.Message, part) {
		s.Errorf("got %d %q\nwant %d with %q", got.Code, got.Message, code, part)
	}
}

const deployment = `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web","labels":{"a":"1"}},"spec":{"replicas":2,
	"selector":{"matchLabels":{"app":"web"}},"template":{"metadata":{"labels":{"app":"web"}},
	"spec":{"containers":[{"name":"c","image":"i:1","ports":[{"containerPort":80}]}]}}}}`

func TestCreate(t *testing.T) {
	s := serve(t)
	t.Run("stores the object with what the server decides", func(t *testing.T) {
		obj := s.mustCreate("configmaps", `{"metadata":{"name":"web"},"data":{"port":"80"}}`)
		if obj.GetUID() == "" || obj.GetResourceVersion() == "" || obj.GetCreationTimestamp() == (metav1.Time{}) || obj.GetNamespace() != "default" {
			t.Errorf("uid, resourceVersion, creationTimestamp and namespace are set by the server; got %s", text(obj))
		}
		got, err := s.get("configmaps/web")
		if err != nil || got.(*corev1.ConfigMap).Data["port"] != "80" {
			t.Errorf("get after create: %v %v", got, err)
		}
		if got := obj.GetManagedFields(); len(got) != 1 || got[0].Manager != "ann" || got[0].Operation != "Update" ||
			string(got[0].FieldsV1.Raw) != `{"f:data":{".":{},"f:port":{}}}` {
			t.Errorf("managedFields: %s", text(got))
		}
	})
	t.Run("asks who it is before it looks at the body", func(t *testing.T) {
		r := s.ask("create", "configmaps")
		r.User.Name = "mallory"
		_, err := s.api.Create(t.Context(), r, asJSON("no JSON"))
		s.status(err, 403, "mallory")
	})
	t.Run("refuses a name that is taken", func(t *testing.T) {
		_, err := s.create("configmaps", `{"metadata":{"name":"web"}}`)
		s.status(err, 409, `configmaps "web" already exists`)
	})
	t.Run("names the field that does not exist", func(t *testing.T) {
		_, err := s.create("configmaps", `{"metadata":{"name":"x"},"spec":{}}`)
		s.status(err, 400, `ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: unknown field "spec"`)
	})
	t.Run("only warns of it if asked to", func(t *testing.T) {
		r := s.ask("create", "configmaps")
		r.FieldValidation = "Warn"
		s.warns = nil
		_, err := s.api.Create(t.Context(), r, asJSON(`{"metadata":{"name":"warned"},"spec":{}}`))
		if err != nil || len(s.warns) != 1 || s.warns[0] != `unknown field "spec"` {
			t.Errorf("warnings %q, error %v", s.warns, err)
		}
	})
	t.Run("names the wrong type", func(t *testing.T) {
		_, err := s.create("configmaps", `{"metadata":{"name":"x"},"data":{"a":1}}`)
		s.status(err, 400, `ConfigMap in version "v1" cannot be handled as a ConfigMap: json: cannot unmarshal number into Go struct field ConfigMap.data of type string`)
	})
	t.Run("says what is invalid and where", func(t *testing.T) {
		_, err := s.create("configmaps", `{"metadata":{"name":"X"},"data":{"a/b":""}}`)
		s.status(err, 422, `metadata.name: Invalid value: "X"`)
		s.status(err, 422, `data[a/b]: Invalid value`)
	})
	t.Run("wants a name", func(t *testing.T) {
		_, err := s.create("configmaps", `{}`)
		s.status(err, 422, "name or generateName is required")
	})
	t.Run("chooses a name", func(t *testing.T) {
		obj := s.mustCreate("configmaps", `{"metadata":{"generateName":"web-"}}`)
		if name := obj.GetName(); len(name) != len("web-")+5 || !strings.HasPrefix(name, "web-") {
			t.Errorf("name %q", name)
		}
	})
	t.Run("stores nothing on a dry run", func(t *testing.T) {
		r := s.ask("create", "configmaps")
		r.DryRun = true
		obj, err := s.api.Create(t.Context(), r, asJSON(`{"metadata":{"name":"ghost"}}`))
		if err != nil || obj.GetUID() == "" {
			t.Errorf("dry run: %v %v", obj, err)
		}
		_, err = s.get("configmaps/ghost")
		s.status(err, 404, `configmaps "ghost" not found`)
	})
	t.Run("refuses another namespace and a resourceVersion", func(t *testing.T) {
		_, err := s.create("configmaps", `{"metadata":{"name":"x","namespace":"other"}}`)
		s.status(err, 400, "the namespace of the provided object does not match the namespace sent on the request")
		_, err = s.create("configmaps", `{"metadata":{"name":"x","resourceVersion":"7"}}`)
		s.status(err, 400, "resourceVersion should not be set on objects to be created")
	})
	t.Run("drops the namespace of what lives in none", func(t *testing.T) {
		if obj := s.mustCreate("namespaces", `{"metadata":{"name":"n","namespace":"x"}}`); obj.GetNamespace() != "" {
			t.Errorf("got %s", text(obj))
		}
	})
	t.Run("begins at generation 1 and without a status", func(t *testing.T) {
		obj := s.mustCreate("deployments", strings.Replace(deployment, `"spec":{"replicas"`, `"status":{"replicas":9},"spec":{"replicas"`, 1))
		if obj.GetGeneration() != 1 || strings.Contains(text(obj), `"replicas":9`) {
			t.Errorf("got %s", text(obj))
		}
	})
}

func (s *server) reader() client.Reader { return verb.NewReader(s.kinds, s.store) }
