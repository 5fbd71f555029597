package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// perGroup is how many definitions share a group: operators bring a few each.
const perGroup = 4

// definitionNumber makes a definition as operators bring them: one to three
// versions, each with 50 to 300 fields, most of them described and many
// bounded, rules in CEL, columns and a status. The same number makes the same
// definition.
func definitionNumber(n int) *apiextensionsv1.CustomResourceDefinition {
	r := rand.New(rand.NewPCG(uint64(n), 1))
	kind := fmt.Sprintf("Widget%04d", n)
	plural, singular := fmt.Sprintf("widget%04ds", n), fmt.Sprintf("widget%04d", n)
	d := &apiextensionsv1.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{Name: plural + "." + groupOf(n), Labels: map[string]string{"app": "bench"}},
		Spec: apiextensionsv1.CustomResourceDefinitionSpec{
			Group: groupOf(n), Scope: apiextensionsv1.NamespaceScoped,
			Names: apiextensionsv1.CustomResourceDefinitionNames{Plural: plural, Singular: singular, Kind: kind, ListKind: kind + "List",
				ShortNames: []string{fmt.Sprintf("w%04d", n)}, Categories: []string{"widgets"}},
		},
	}
	fields := 50 + r.IntN(251)
	for i, name := range []string{"v1", "v1beta1", "v1alpha1"}[:1+r.IntN(3)] {
		d.Spec.Versions = append(d.Spec.Versions, versionOf(r, name, fields, i == 0))
	}
	return d
}

func groupOf(n int) string { return fmt.Sprintf("operator%03d.bench.example.com", n/perGroup) }

func resourceOf(n int) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: groupOf(n), Version: "v1", Resource: fmt.Sprintf("widget%04ds", n)}
}

// customResource is an object of a definition's first version.
func customResource(n int, name string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": groupOf(n) + "/v1", "kind": fmt.Sprintf("Widget%04d", n),
		"metadata": map[string]any{"name": name, "labels": map[string]any{"app": "bench"}},
		"spec": map[string]any{"replicas": int64(2), "maxReplicas": int64(5), "image": "registry.example.com/widget:1.2.3",
			"schedule": "0 3 * * *", "options": map[string]any{"verbosity": "info", "region": "north"}},
	}}
}

func versionOf(r *rand.Rand, name string, fields int, stored bool) apiextensionsv1.CustomResourceDefinitionVersion {
	s := &sketch{r: r, left: fields}
	spec := s.object("the desired state of the widget", 0)
	spec.Properties["replicas"] = number("the number of instances that should run", 0, 1000)
	spec.Properties["maxReplicas"] = number("the number of instances that may run at most", 1, 1000)
	spec.Properties["image"] = words("the image that the instances run", 512)
	spec.Properties["schedule"] = words("when backups are made, in the form of cron", 100)
	spec.Properties["options"] = apiextensionsv1.JSONSchemaProps{Type: "object", Description: "further options by name", MaxProperties: new(int64(64)),
		AdditionalProperties: &apiextensionsv1.JSONSchemaPropsOrBool{Allows: true, Schema: &apiextensionsv1.JSONSchemaProps{Type: "string", MaxLength: new(int64(256))}}}
	spec.Required = []string{"replicas", "image"}
	spec.XValidations = apiextensionsv1.ValidationRules{
		{Rule: "!has(self.maxReplicas) || self.replicas <= self.maxReplicas", Message: "replicas must not exceed maxReplicas"},
		{Rule: "self.image.contains(':')", Message: "the image must have a tag"},
		{Rule: "!has(self.options) || self.options.all(name, size(self.options[name]) > 0)", Message: "options have values"},
		{Rule: "!has(oldSelf.schedule) || has(self.schedule)", Message: "a schedule cannot be taken away"},
	}
	condition := apiextensionsv1.JSONSchemaProps{Type: "object", Required: []string{"type", "status"}, Properties: map[string]apiextensionsv1.JSONSchemaProps{
		"type": words("the aspect that is reported", 316), "status": words("True, False or Unknown", 20), "reason": words("one word for the cause", 1024),
		"message":            words("what a person wants to know of it", 32768),
		"lastTransitionTime": {Type: "string", Format: "date-time", Description: "when the status was another one last"},
		"observedGeneration": {Type: "integer", Format: "int64", Description: "the generation that this is about"},
	}}
	status := apiextensionsv1.JSONSchemaProps{Type: "object", Description: "what was observed of the widget", Properties: map[string]apiextensionsv1.JSONSchemaProps{
		"replicas": number("the number of instances that run", 0, 1000), "selector": words("what selects the instances", 1024),
		"conditions": {Type: "array", Description: "how it is, aspect by aspect", XListType: new("map"), XListMapKeys: []string{"type"},
			Items: &apiextensionsv1.JSONSchemaPropsOrArray{Schema: &condition}},
	}}
	return apiextensionsv1.CustomResourceDefinitionVersion{
		Name: name, Served: true, Storage: stored,
		Schema: &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{Type: "object",
			Description: "A widget is one instance of the service that this operator looks after.",
			Required:    []string{"spec"}, Properties: map[string]apiextensionsv1.JSONSchemaProps{
				"apiVersion": {Type: "string", Description: "the versioned schema of this representation of an object"},
				"kind":       {Type: "string", Description: "the resource that this object represents"},
				"metadata":   {Type: "object"}, "spec": spec, "status": status}}},
		Subresources: &apiextensionsv1.CustomResourceSubresources{Status: &apiextensionsv1.CustomResourceSubresourceStatus{},
			Scale: &apiextensionsv1.CustomResourceSubresourceScale{SpecReplicasPath: ".spec.replicas", StatusReplicasPath: ".status.replicas", LabelSelectorPath: new(".status.selector")}},
		AdditionalPrinterColumns: []apiextensionsv1.CustomResourceColumnDefinition{
			{Name: "Ready", Type: "string", JSONPath: `.status.conditions[?(@.type=="Ready")].status`},
			{Name: "Replicas", Type: "integer", JSONPath: ".spec.replicas"},
			{Name: "Image", Type: "string", JSONPath: ".spec.image", Priority: 1},
			{Name: "Age", Type: "date", JSONPath: ".metadata.creationTimestamp"},
		},
	}
}

// sketch makes fields until none are left.
type sketch struct {
	r    *rand.Rand
	left int
	made int
}

// object is an object of some fields, of which some are objects and lists again.
func (s *sketch) object(text string, depth int) apiextensionsv1.JSONSchemaProps {
	own := apiextensionsv1.JSONSchemaProps{Type: "object", Description: text, Properties: map[string]apiextensionsv1.JSONSchemaProps{}}
	most := 3 + s.r.IntN(10)
	if depth == 0 {
		most = s.left
	}
	for i := 0; i < most && s.left > 0; i++ {
		s.left--
		s.made++
		name := fmt.Sprintf("%s%d", fieldNames[s.r.IntN(len(fieldNames))], s.made)
		own.Properties[name] = s.field(depth)
	}
	return own
}

func (s *sketch) field(depth int) apiextensionsv1.JSONSchemaProps {
	text := fieldTexts[s.r.IntN(len(fieldTexts))]
	kinds := 10
	if depth >= 4 {
		kinds = 7
	}
	switch s.r.IntN(kinds) {
	case 0:
		return number(text, 0, float64(s.r.IntN(100_000)))
	case 1:
		return apiextensionsv1.JSONSchemaProps{Type: "boolean", Description: text, Default: &apiextensionsv1.JSON{Raw: []byte("false")}}
	case 2:
		p := words(text, 63)
		p.Pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
		return p
	case 3:
		p := apiextensionsv1.JSONSchemaProps{Type: "string", Description: text}
		for _, v := range []string{"Always", "IfNotPresent", "Never"} {
			raw, _ := json.Marshal(v) // a string
			p.Enum = append(p.Enum, apiextensionsv1.JSON{Raw: raw})
		}
		return p
	case 4:
		return apiextensionsv1.JSONSchemaProps{Description: text, XIntOrString: true,
			AnyOf: []apiextensionsv1.JSONSchemaProps{{Type: "integer"}, {Type: "string"}}}
	case 5:
		return apiextensionsv1.JSONSchemaProps{Type: "array", Description: text, MaxItems: new(int64(32)), XListType: new("atomic"),
			Items: &apiextensionsv1.JSONSchemaPropsOrArray{Schema: &apiextensionsv1.JSONSchemaProps{Type: "string"}}}
	case 6:
		return words(text, 1024)
	case 7:
		items := s.object("one of them", depth+1)
		items.Properties["name"] = words("its name", 63)
		items.Required = []string{"name"}
		return apiextensionsv1.JSONSchemaProps{Type: "array", Description: text, MaxItems: new(int64(16)), XListType: new("map"), XListMapKeys: []string{"name"},
			Items: &apiextensionsv1.JSONSchemaPropsOrArray{Schema: &items}}
	}
	return s.object(text, depth+1)
}

func words(text string, most int64) apiextensionsv1.JSONSchemaProps {
	return apiextensionsv1.JSONSchemaProps{Type: "string", Description: text, MaxLength: &most}
}

func number(text string, least, most float64) apiextensionsv1.JSONSchemaProps {
	return apiextensionsv1.JSONSchemaProps{Type: "integer", Format: "int32", Description: text, Minimum: &least, Maximum: &most}
}

var fieldNames = []string{"name", "endpoint", "secretRef", "timeout", "retention", "storageClass", "resources", "affinity", "issuer", "backup", "listener",
	"parameters", "policy", "template", "probe", "replication", "monitor", "certificate", "volume", "quota"}

var fieldTexts = []string{
	"how the component is reached from outside of the cluster; it has to be resolvable by all members",
	"the reference to the object that has the credentials, which has to be in the same namespace as the widget itself",
	"what happens when the operation does not end in time. More info: https://bench.example.com/docs/concepts/operations#timeouts",
	"if it is not set, the operator chooses a value by the resources that are available to the instance when it starts",
	"set by the operator, and only read by users",
	"overrides the value of the parent for this component alone. It cannot be changed once the widget has been made, because the data that is there depends on it",
	"the class that is used for what is made on behalf of this component",
}
