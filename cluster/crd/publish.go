package crd

import (
	"encoding/json"

	structural "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	openapiv2 "k8s.io/apiextensions-apiserver/pkg/controller/openapi/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// Where the schemas of metadata are in a document of either version.
const (
	objectMeta = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
	inV2       = "#/definitions/"
	inV3       = "#/components/schemas/"
)

const metadataText = "Standard object's metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata"

// schema implements kind.Custom. It is what upstream publishes: the schema with
// the fields that every object has; nothing but "an object" where there is no
// structural schema, or, in version 2, where clients would take unknown fields
// for mistakes. (Upstream: controller/openapi/builder.)
func (f *form) schema(v2 bool) ([]byte, error) {
	// Who reads the documents does not use the objects: nothing is kept for it.
	var s *structural.Structural
	if m := f.made.Load(); m != nil {
		s = m.shape()
	} else {
		s = f.build()
	}
	if s != nil && len(structural.ValidateStructural(nil, s)) > 0 {
		s = nil
	}
	out := &spec.Schema{SchemaProps: spec.SchemaProps{Type: []string{"object"}}}
	if s != nil && !(v2 && (s.XPreserveUnknownFields || f.of.preserve)) {
		if v2 {
			out = openapiv2.ToStructuralOpenAPIV2(s.Unfold()).ToKubeOpenAPI()
			withoutDefaults(out)
		} else {
			out = s.Unfold().ToKubeOpenAPI()
		}
		addTypeMeta(out)
		out.SetProperty("metadata", metadata(v2))
		addEmbedded(out, v2)
	}
	gvk := f.of.gvk(f.name)
	out.AddExtension("x-kubernetes-group-version-kind", []any{map[string]any{
		"group": gvk.Group, "version": gvk.Version, "kind": gvk.Kind}})
	if len(f.selected) > 0 {
		var fields []any
		for _, s := range f.selected {
			fields = append(fields, map[string]any{"fieldPath": s.JSONPath[1:]})
		}
		out.AddExtension("x-kubernetes-selectable-fields", fields)
	}
	return json.Marshal(out)
}

func addTypeMeta(s *spec.Schema) {
	for _, name := range []string{"apiVersion", "kind"} {
		s.SetProperty(name, *spec.StringProperty().WithDescription(metav1.TypeMeta{}.SwaggerDoc()[name]))
	}
}

// metadata refers to the schema of metadata. In version 3 a reference has no
// siblings.
func metadata(v2 bool) spec.Schema {
	if v2 {
		return *spec.RefSchema(inV2 + objectMeta).WithDescription(metadataText)
	}
	out := spec.Schema{}
	out.AllOf = []spec.Schema{*spec.RefSchema(inV3 + objectMeta)}
	return *out.WithDescription(metadataText)
}

// addEmbedded adds to the schemas of embedded resources the fields that every
// object has.
func addEmbedded(s *spec.Schema, v2 bool) {
	for name, p := range s.Properties {
		addEmbedded(&p, v2)
		s.Properties[name] = p
	}
	if s.Items != nil && s.Items.Schema != nil {
		addEmbedded(s.Items.Schema, v2)
	}
	if s.AdditionalProperties != nil && s.AdditionalProperties.Schema != nil {
		addEmbedded(s.AdditionalProperties.Schema, v2)
	}
	if free, _ := s.Extensions.GetBool("x-kubernetes-preserve-unknown-fields"); free && v2 {
		return
	}
	if embedded, _ := s.Extensions.GetBool("x-kubernetes-embedded-resource"); !embedded {
		return
	}
	s.SetProperty("apiVersion", *spec.StringProperty().WithDescription("apiVersion defines the versioned schema of this representation of an object. " +
		"More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources"))
	s.SetProperty("kind", *spec.StringProperty().WithDescription("kind is a string value representing the type of this object. In CamelCase. " +
		"More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds"))
	s.SetProperty("metadata", metadata(v2))
	for _, name := range []string{"kind", "apiVersion"} {
		has := false
		for _, r := range s.Required {
			has = has || r == name
		}
		if !has {
			s.Required = append(s.Required, name)
		}
	}
}

// withoutDefaults drops defaults, which version 2 is published without.
func withoutDefaults(s *spec.Schema) {
	s.Default = nil
	for name, p := range s.Properties {
		withoutDefaults(&p)
		s.Properties[name] = p
	}
	if s.Items != nil && s.Items.Schema != nil {
		withoutDefaults(s.Items.Schema)
	}
	if s.AdditionalProperties != nil && s.AdditionalProperties.Schema != nil {
		withoutDefaults(s.AdditionalProperties.Schema)
	}
}
