package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// subresources are requests for parts of an object.
func (m *maker) subresources() {
	r := m.seed.resource
	subs := slices.Sorted(maps.Keys(r.subs))
	subs = slices.DeleteFunc(subs, func(s string) bool {
		return slices.Contains([]string{"proxy", "exec", "attach", "portforward", "log"}, s)
	})
	if len(subs) == 0 {
		m.odds()
		return
	}
	m.create()
	if m.wary() {
		m.read(jsonType)
		return
	}
	sub := pick(m.rand, subs...)
	path := m.path() + "/" + sub
	m.title += " " + sub
	method := pick(m.rand, "PUT", "PUT", "PATCH")
	switch sub {
	case "scale":
		n := pick[any](m.rand, 3, 0, -1, "x", nil)
		body := map[string]any{"apiVersion": "autoscaling/v1", "kind": pick(m.rand, "Scale", "Scale", "Scale", "Odd"), "metadata": map[string]any{"name": pick(m.rand, m.name, m.name, "other"), "namespace": m.namespace}, "spec": map[string]any{"replicas": n}}
		if m.chance(3) {
			body["metadata"].(map[string]any)["resourceVersion"] = pick(m.rand, "$RV", "1")
		}
		m.add(false, request{method: "GET", path: path})
		m.part(method, path, body)
	case "eviction":
		body := map[string]any{"apiVersion": pick(m.rand, "policy/v1", "policy/v1", "policy/v1beta1", "v1"), "kind": "Eviction", "metadata": map[string]any{"name": pick(m.rand, m.name, "other", ""), "namespace": m.namespace}}
		if m.chance(2) {
			body["deleteOptions"] = pick[any](m.rand, map[string]any{"gracePeriodSeconds": 0}, map[string]any{"preconditions": map[string]any{"uid": "x"}}, map[string]any{"dryRun": []any{"All"}}, "x")
		}
		m.add(false, request{method: "POST", path: path, body: encode(body), header: contentType(jsonType)})
	case "binding":
		body := map[string]any{"apiVersion": "v1", "kind": "Binding", "metadata": map[string]any{"name": pick(m.rand, m.name, "other"), "annotations": map[string]any{"bound": "x"}},
			"target": pick[any](m.rand, map[string]any{"kind": "Node", "name": "n1"}, map[string]any{"name": "n1"}, map[string]any{"kind": "Pod", "name": "n1"}, map[string]any{"kind": "Node"}, nil)}
		m.add(false, request{method: "POST", path: path, body: encode(body), header: contentType(jsonType), query: m.dry()})
		m.add(false, request{method: "POST", path: path, body: encode(body), header: contentType(jsonType)})
		m.read(tableType)
	case "token":
		body := map[string]any{"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": pick[any](m.rand, map[string]any{"audiences": []any{"a"}, "expirationSeconds": 3600}, map[string]any{}, map[string]any{"expirationSeconds": 5}, map[string]any{"expirationSeconds": int64(1) << 33},
			map[string]any{"audiences": []any{"a"}, "boundObjectRef": map[string]any{"kind": "Secret", "apiVersion": "v1", "name": "none"}}, map[string]any{"boundObjectRef": map[string]any{"kind": "Odd", "apiVersion": "v1", "name": "none"}}, map[string]any{"boundObjectRef": map[string]any{"kind": "Pod", "apiVersion": "v1", "name": "none", "uid": "x"}})}
		m.add(false, request{method: "POST", path: path, body: encode(body), header: contentType(jsonType)})
	case "ephemeralcontainers":
		spec := m.obj["spec"].(map[string]any)
		spec["ephemeralContainers"] = []any{m.make(m.api.byKind["/v1/Pod"], "", 0), map[string]any{"name": "e", "image": "i"}}[1:]
		if m.chance(2) {
			s := m.api.resolve(m.seed.schema.Properties["spec"])
			_, said := m.value(spec["ephemeralContainers"], s.Properties["ephemeralContainers"], "ephemeralContainers", "spec.ephemeralContainers")
			m.title += ": " + said
		}
		m.part(method, path, m.obj)
		m.read(jsonType)
	default:
		m.status(sub)
		m.part(method, path, m.obj)
		m.read(pick(m.rand, tableType, jsonType))
		if m.chance(2) {
			m.add(false, request{method: "GET", path: path})
		}
	}
}

// part writes a subresource.
func (m *maker) part(method, path string, body map[string]any) {
	q := request{method: method, path: path, body: encode(body), header: contentType(jsonType), query: query(m.strictness(), m.dry())}
	if method == "PATCH" {
		q.header = contentType(pick(m.rand, mergePatch, strategic, applyPatch))
		if q.header["Content-Type"] == applyPatch {
			q.query = query("fieldManager=part", pick(m.rand, "", "force=true"))
		}
	}
	m.add(false, q)
}

// status makes a status, by the schema, and says something about the rest.
func (m *maker) status(sub string) {
	s := m.api.resolve(m.seed.schema)
	switch {
	case s.Properties["status"] != nil:
		m.obj["status"] = m.make(s.Properties["status"], "status", 2)
		m.title += fmt.Sprintf(": status = %.80s", show(m.obj["status"]))
	default:
		m.change()
	}
	if sub == "approval" {
		m.obj["status"] = map[string]any{"conditions": []any{map[string]any{"type": pick(m.rand, "Approved", "Denied", "Failed", "Odd", ""), "status": pick(m.rand, "True", "False", ""), "reason": "R", "message": "m"}}}
	}
	if m.chance(3) {
		m.change()
	}
}

// odds are requests that are wrong before their object is looked at, or that
// few clients send.
func (m *maker) odds() {
	if m.chance(2) {
		m.create()
	}
	path := pick(m.rand, m.path(), m.path(), m.list(), m.list(), m.path()+"/bogus", m.path()+"/status", m.seed.resource.base(), m.seed.resource.base()+"/bogus", strings.Replace(m.list(), m.namespace, "none", 1), m.path()+"/", m.list()+"/", m.path()+"/status/x", strings.TrimSuffix(m.seed.resource.base(), m.seed.resource.version)+"v9/"+m.seed.resource.plural)
	q := request{method: pick(m.rand, "GET", "GET", "HEAD", "OPTIONS", "PUT", "POST", "POST", "DELETE", "PATCH", "TRACE", "ODD", "CONNECTED"), path: path, header: map[string]string{}}
	if q.method == "PUT" || q.method == "POST" || q.method == "PATCH" {
		text := encode(m.obj)
		q.body = pick(m.rand, text, text, "", "{", "[]", "null", `"x"`, `{"apiVersion":"v1"}`, `{"kind":"Odd","apiVersion":"v1"}`, `{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"x"}}`, strings.Replace(text, `"metadata":`, `"metadata":{"name":"first"},"metadata":`, 1),
			text+text, strings.Replace(text, "v1", "v9", 1), "\x00\x01", `{"metadata":{"name":"\ud800"}}`, strings.Repeat("[", 20000), "a: b: c", "- x", "k8s\x00\x01\x02")
		q.header["Content-Type"] = pick(m.rand, jsonType, jsonType, yamlType, "text/plain", "", "application/xml", mergePatch, strategic, applyPatch, jsonPatch, "application/vnd.kubernetes.protobuf", "application/json; charset=utf-8", "bad type/")
		q.query = query(m.strictness(), pick(m.rand, "", "", "dryRun=Some", "fieldManager="+strings.Repeat("m", 200), "fieldManager=a%00b", "fieldValidation=Odd", "pretty=true", "dryRun=All", "fieldManager=ok", "bogus=1"))
		if m.wary() {
			q.query = query(q.query, "dryRun=All")
		}
		m.made = append(m.made, m.path())
	}
	if m.chance(3) {
		q.header["Accept"] = pick(m.rand, tableType, partial, partials, "text/html", "application/xml", "application/json;as=Odd;v=v1;g=meta.k8s.io", "application/json;as=Table;v=v9;g=meta.k8s.io", "application/yaml", "*/*", "application/*", "x", "application/json;stream=watch", "application/json;profile=nothing")
	}
	if m.chance(8) {
		q.header["Impersonate-User"] = pick(m.rand, "nobody", "system:serviceaccount:none:sa", "system:anonymous", "system:node:n1")
		if m.chance(3) {
			q.header["Impersonate-Group"] = pick(m.rand, "g", "system:masters", "system:authenticated")
		}
	}
	if q.method == "GET" && m.chance(3) {
		q.query = pick(m.rand, "watch=x&timeoutSeconds=1", "watch=false", "resourceVersion=0", "resourceVersion=x", "resourceVersion=99999999", "pretty=1", "bogus=1", "includeObject=None", "includeObject=Object", "includeObject=Odd")
	}
	if strings.TrimSuffix(path, "/") == m.list() && !m.seed.resource.namespaced {
		q.query = query(q.query, m.mine()) // the others are those of cases that run beside this one, or of a server itself
	}
	m.add(false, q)
}

// fixed are the cases that do not depend on the seed: the documents.
func fixed(p *api) []func(*maker) {
	var all []func(*maker)
	plain := func(path, accept string) {
		all = append(all, func(m *maker) {
			m.title = "document " + path
			q := request{method: "GET", path: path}
			if accept != "" {
				q.header = map[string]string{"Accept": accept}
			}
			m.steps = append(m.steps, step{q, "document", false})
		})
	}
	for _, path := range []string{"/api", "/apis"} {
		plain(path, "")
		plain(path, "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json")
	}
	for _, path := range []string{"/healthz", "/livez", "/readyz", "/healthz/ping", "/healthz/none", "/livez/ping", "/.well-known/openid-configuration", "/", "/none", "/apis/none", "/apis/none/v1", "/api/v2", "/apis/apps/v1/none", "/api/v1/none", "/openapi/none", "/openapi/v3/none",
		"/api/", "/apis/", "/api/v1/", "/apis/apps/", "/apis/apps/v1/", "/logs/", "/version/"} {
		plain(path, "")
	}
	for _, path := range p.paths {
		if strings.HasPrefix(path, "api/") || strings.HasPrefix(path, "apis/") {
			plain("/"+path, "")
		}
	}
	return all
}
