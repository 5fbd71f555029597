package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// schema is as much of OpenAPI v3 as says which values a field takes.
type schema struct {
	Ref        string                                  `json:"$ref"`
	Type       string                                  `json:"type"`
	Format     string                                  `json:"format"`
	Enum       []any                                   `json:"enum"`
	Properties map[string]*schema                      `json:"properties"`
	Required   []string                                `json:"required"`
	Items      *schema                                 `json:"items"`
	Additional *schema                                 `json:"additionalProperties"`
	AllOf      []*schema                               `json:"allOf"`
	OneOf      []*schema                               `json:"oneOf"`
	GVKs       []struct{ Group, Version, Kind string } `json:"x-kubernetes-group-version-kind"`
}

// resource is a kind as it is served.
type resource struct {
	group, version, kind, plural string
	namespaced                   bool
	verbs                        []string
	subs                         map[string]string // of subresources: the kind
}

func (r *resource) base() string {
	if r.group == "" {
		return "/api/" + r.version
	}
	return "/apis/" + r.group + "/" + r.version
}

// api is what upstream serves.
type api struct {
	schemas   map[string]*schema
	byKind    map[string]*schema // "group/version/Kind"
	resources map[string]*resource
	paths     []string // documents of OpenAPI v3
}

func get[T any](ctx context.Context, s *side, path string) (out T, err error) {
	a, err := s.send(ctx, request{method: "GET", path: path})
	if err == nil && a.status != http.StatusOK {
		err = fmt.Errorf("%s: GET %s: %d %s", s.name, path, a.status, a.body)
	}
	if err == nil {
		err = json.Unmarshal(a.body, &out)
	}
	return out, err
}

// readAPI reads what s serves, from its discovery and its OpenAPI.
func readAPI(ctx context.Context, s *side) (*api, error) {
	p := &api{schemas: map[string]*schema{}, byKind: map[string]*schema{}, resources: map[string]*resource{}}
	index, err := get[struct {
		Paths map[string]struct{ ServerRelativeURL string }
	}](ctx, s, "/openapi/v3")
	if err != nil {
		return nil, err
	}
	p.paths = slices.Sorted(maps.Keys(index.Paths))
	for _, path := range p.paths {
		if !strings.HasPrefix(path, "api/v1") && strings.Count(path, "/") != 2 {
			continue
		}
		doc, err := get[struct {
			Components struct{ Schemas map[string]*schema }
		}](ctx, s, "/openapi/v3/"+path)
		if err != nil {
			return nil, err
		}
		for name, sch := range doc.Components.Schemas {
			p.schemas[name] = sch
			for _, k := range sch.GVKs {
				p.byKind[k.Group+"/"+k.Version+"/"+k.Kind] = sch
			}
		}
		list, err := get[struct {
			GroupVersion string
			Resources    []struct {
				Name, Kind string
				Namespaced bool
				Verbs      []string
			}
		}](ctx, s, "/"+path)
		if err != nil {
			return nil, err
		}
		group, version, ok := strings.Cut(list.GroupVersion, "/")
		if !ok {
			group, version = "", group
		}
		for _, r := range list.Resources {
			if name, sub, ok := strings.Cut(r.Name, "/"); ok {
				for _, of := range p.resources {
					if of.plural == name && of.group == group && of.version == version {
						of.subs[sub] = r.Kind
					}
				}
				continue
			}
			p.resources[list.GroupVersion+"/"+r.Kind] = &resource{group: group, version: version, kind: r.Kind, plural: r.Name,
				namespaced: r.Namespaced, verbs: r.Verbs, subs: map[string]string{}}
		}
	}
	return p, nil
}

// resolve follows references.
func (p *api) resolve(s *schema) *schema {
	for s != nil {
		switch {
		case s.Ref != "":
			s = p.schemas[s.Ref[strings.LastIndexByte(s.Ref, '/')+1:]]
		case len(s.AllOf) == 1 && len(s.Properties) == 0:
			s = s.AllOf[0]
		default:
			return s
		}
	}
	return &schema{}
}

// refersTo says whether s is the named type.
func refersTo(s *schema, suffix string) bool {
	if s == nil {
		return false
	}
	return strings.HasSuffix(s.Ref, suffix) || len(s.AllOf) == 1 && refersTo(s.AllOf[0], suffix)
}
