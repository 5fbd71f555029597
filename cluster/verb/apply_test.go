package verb

import (
	"testing"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"sampan/cluster/kind"
	"sampan/cluster/kind/apps"
	"sampan/cluster/object"
	"sampan/cluster/schema"
)

// FuzzApply: whatever is applied, by whomever, the object that it is merged
// into is shared and stays as it is, and what is refused is the client's fault.
func FuzzApply(f *testing.F) {
	k := apps.Deployment()
	owners := object.NewOwners(schema.New(kind.NewTable([]*kind.Kind{k})).TypeConverter)
	const head = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: a}\n"
	first, _, err := object.Applied(k.GVK, []byte(head+"spec: {replicas: 2, selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i, ports: [{containerPort: 80}]}]}}}"), object.Strict)
	if err != nil {
		f.Fatal(err)
	}
	live, err := owners.Apply(k, k.GVK, "", nil, first, "one", false)
	if err != nil {
		f.Fatal(err)
	}
	before := live.DeepCopyObject()
	f.Add([]byte(head+"spec: {replicas: 3}"), "two", false)
	f.Add([]byte(head+"spec: {replicas: null, template: {spec: {containers: [{name: c, $patch: delete}]}}}"), "one", true)
	f.Add([]byte(head+"spec: {template: {spec: {containers: [{image: x}, {name: c}, {name: c}]}}}"), "\x00", true)
	f.Add([]byte(`{"metadata":{"managedFields":[{"manager":"x","fieldsV1":{"f:a":{"k:{":1}}}]}}`), "one", true)
	f.Fuzz(func(t *testing.T, data []byte, manager string, force bool) {
		config, _, err := object.Applied(k.GVK, data, object.Warn)
		if err == nil {
			_, err = owners.Apply(k, k.GVK, "", live, config, manager, force)
		}
		if !equality.Semantic.DeepEqual(live, before) {
			t.Fatal("the object that was applied to is shared and was written to")
		}
		if err != nil && apierrors.ReasonForError(err) == "InternalError" {
			t.Errorf("%q by %q: %v", data, manager, err)
		}
	})
}
