package schema

import (
	"encoding/json"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/kube-openapi/pkg/schemaconv"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"sampan/cluster/kind"
)

// customModel is the name of a custom resource's schema, upstream's:
// "com.example.stable.v1.CronTab".
func customModel(gvk schema.GroupVersionKind) string {
	labels := strings.Split(gvk.Group, ".")
	slices.Reverse(labels)
	return strings.Join(labels, ".") + "." + gvk.Version + "." + gvk.Kind
}

// customSchemas adds the schemas of a custom resource and of its list to all,
// and returns the names of the generated ones that they refer to.
func (k one) customSchemas(v2 bool, all definitions) (refers []string, err error) {
	own, err := k.Custom.Schema(v2)
	if err != nil {
		return nil, err
	}
	list, err := json.Marshal(k.customList(v2))
	if err != nil {
		return nil, err
	}
	all[k.model()], all[k.listModel()] = own, list
	return []string{metaV1 + "ObjectMeta", metaV1 + "ListMeta"}, nil
}

// customList is the schema of a list. (Upstream:
// apiextensions-apiserver/pkg/controller/openapi/builder.)
func (k one) customList(v2 bool) object {
	refer := func(name, text string) object {
		if v2 {
			return object{"$ref": "#/definitions/" + name, "description": text}
		}
		return object{"allOf": []any{ref(name)}, "description": text}
	}
	item := ref(k.model())
	if v2 {
		item = object{"$ref": "#/definitions/" + k.model()}
	}
	return object{
		"type":        "object",
		"description": k.Custom.List + " is a list of " + k.gvk.Kind,
		"required":    []string{"items"},
		"properties": object{
			"apiVersion": object{"type": "string", "description": apiVersionText},
			"kind":       object{"type": "string", "description": kindText},
			"metadata": refer(metaV1+"ListMeta", "Standard list metadata. "+
				"More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds"),
			"items": object{"type": "array", "items": item, "description": "List of " + k.Plural +
				". More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md"},
		},
		"x-kubernetes-group-version-kind": []any{object{
			"group": k.gvk.Group, "version": k.gvk.Version, "kind": k.Custom.List}},
	}
}

const (
	apiVersionText = "APIVersion defines the versioned schema of this representation of an object. Servers should convert recognized schemas to the latest internal value, " +
		"and may reject unrecognized values. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources"
	kindText = "Kind is a string value representing the REST resource this object represents. Servers may infer this from the endpoint the client submits requests to. " +
		"Cannot be updated. In CamelCase. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds"
)

// customKey keeps a custom kind's types with it.
type customKey struct{}

// customTypes are the types of all versions of a custom kind.
func customTypes(k *kind.Kind) (managedfields.TypeConverter, error) {
	if kept, ok := k.Custom.Kept.Load(customKey{}); ok {
		return kept.(*types), nil
	}
	t := &types{custom: true}
	if err := t.add(metaV1 + "ObjectMeta"); err != nil {
		return nil, err
	}
	models := map[string]*spec.Schema{}
	for _, f := range k.Faces() {
		text, err := f.Kind.Custom.Schema(false)
		if err != nil {
			return nil, err
		}
		s := &spec.Schema{}
		if err := json.Unmarshal(text, s); err != nil {
			return nil, err
		}
		models[customModel(f.GVK)] = s
		t.gvks = append(t.gvks, f.GVK)
	}
	own, err := schemaconv.ToSchemaFromOpenAPI(models, false)
	if err != nil {
		return nil, err
	}
	for _, d := range own.Types {
		if !t.seen[d.Name] {
			t.parser.Schema.Types = append(t.parser.Schema.Types, d)
		}
	}
	kept, _ := k.Custom.Kept.LoadOrStore(customKey{}, t.ready())
	return kept.(*types), nil
}
