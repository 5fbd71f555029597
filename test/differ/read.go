package main

import (
	"fmt"
	"net/url"
)

// deletes are the ways to delete an object, and to fail to.
func (m *maker) deletes() {
	if m.chance(2) {
		meta := m.obj["metadata"].(map[string]any)
		meta["finalizers"] = []any{"example.com/held"}
	}
	m.create()
	params := pick(m.rand, "", "", "gracePeriodSeconds=0", "gracePeriodSeconds=5", "gracePeriodSeconds=-1", "gracePeriodSeconds=x", "propagationPolicy=Foreground",
		"propagationPolicy=Orphan", "propagationPolicy=Background", "propagationPolicy=Odd", "orphanDependents=true", "orphanDependents=x", "dryRun=All", "dryRun=Some", "ignoreStoreReadErrorWithClusterBreakingPotential=x")
	body := pick(m.rand, "", "", "{}", `{"propagationPolicy":"Foreground"}`, `{"orphanDependents":true,"propagationPolicy":"Orphan"}`, `{"gracePeriodSeconds":3}`,
		`{"preconditions":{"uid":"$UID"}}`, `{"preconditions":{"uid":"00000000-0000-0000-0000-000000000000"}}`, `{"preconditions":{"resourceVersion":"$RV"}}`, `{"preconditions":{"resourceVersion":"1"}}`,
		`{"kind":"DeleteOptions","apiVersion":"v1","dryRun":["All"]}`, `{"dryRun":["Some"]}`, `{"kind":"Pod","apiVersion":"v1"}`, `{"bogus":1}`, `x`, `{"gracePeriodSeconds":"x"}`, `{"kind":"DeleteOptions","apiVersion":"none/v9"}`,
		`{"propagationPolicy":"Odd"}`, `{"gracePeriodSeconds":-5}`)
	q := request{method: "DELETE", path: m.path(), query: params, body: body}
	if body != "" {
		q.header = contentType(pick(m.rand, jsonType, jsonType, jsonType, yamlType, "text/plain"))
	}
	m.add(false, q)
	m.read(jsonType)
	if m.chance(2) {
		m.add(false, request{method: "DELETE", path: m.path()})
	}
	if m.chance(3) {
		m.add(false, request{method: "PATCH", path: m.path(), body: `{"metadata":{"finalizers":` + pick(m.rand, "null", `["example.com/other"]`, `["example.com/held","example.com/other"]`) + `}}`, header: contentType(mergePatch)})
		m.read(jsonType)
	}
}

// several makes three objects.
func (m *maker) several() {
	first := m.name
	for i := range 3 {
		m.name = first + string(rune('a'+i))
		if m.seed.resource.kind == "IPAddress" {
			m.name = fmt.Sprintf("192.168.%d.%d", 250+i, 1+m.number%250)
		}
		if m.seed.resource.group == "apiextensions.k8s.io" || m.seed.resource.group == "apiregistration.k8s.io" {
			m.name = first // its name is given
			if i > 0 {
				break
			}
		}
		meta := m.obj["metadata"].(map[string]any)
		meta["name"] = m.name
		meta["labels"].(map[string]any)["n"] = fmt.Sprint(i)
		m.create()
	}
}

func (m *maker) mine() string {
	return "labelSelector=" + url.QueryEscape(fmt.Sprintf("case=c%d", m.number))
}

// lists are the ways to ask for several objects.
func (m *maker) lists() {
	m.several()
	accept := pick(m.rand, jsonType, jsonType, tableType, partials, tableType+","+jsonType, "application/json;as=Table;v=v1beta1;g=meta.k8s.io", "*/*", "application/yaml")
	header := map[string]string{"Accept": accept}
	switch m.rand.IntN(6) {
	case 0: // in chunks
		m.add(false, request{method: "GET", path: m.list(), query: query(m.mine(), "limit=2"), header: header})
		m.add(false, request{method: "GET", path: m.list(), query: query(m.mine(), "limit=2", "continue=$CONTINUE"), header: header})
		m.add(false, request{method: "GET", path: m.list(), query: query(m.mine(), "limit=1", "resourceVersion=$LISTRV", "resourceVersionMatch=Exact"), header: header})
	case 1: // selectors, of which many can't be
		m.add(false, request{method: "GET", path: m.list(), header: header, query: query(m.mine(), "fieldSelector="+url.QueryEscape(pick(m.rand,
			"metadata.name="+m.name, "metadata.name!="+m.name, "metadata.name=x,metadata.namespace="+m.namespace, "spec.nodeName=", "status.phase=Running", "spec.bogus=1", "metadata.labels.a=b", "x", "=", "metadata.name",
			"metadata.name==a\\,b", "type=Opaque", "reason=Because", "involvedObject.kind!=Pod", "metadata.namespace!=x", "spec.unschedulable=true", "spec.signerName=x", "status.successful=1", "spec.clusterIP=None")))})
	case 2:
		m.add(false, request{method: "GET", path: m.list(), header: header, query: "labelSelector=" + url.QueryEscape(fmt.Sprintf("case=c%d,", m.number)+pick(m.rand,
			"n", "!n", "n in (0,1)", "n notin (0)", "n=0", "n==1", "n!=2", "n in ()", "n in (", "a b", "n>0", "n<x", "n=", "n=b c", "-x=1", "n in (0,0)", "x/y/z=1", ",", "n>1,n<9"))})
	case 3: // revisions
		m.add(false, request{method: "GET", path: m.list(), query: m.mine(), header: contentType(jsonType)})
		m.add(false, request{method: "GET", path: m.list(), header: header, query: query(m.mine(), pick(m.rand,
			"resourceVersion=0", "resourceVersion=$LISTRV", "resourceVersion=$LISTRV&resourceVersionMatch=NotOlderThan", "resourceVersion=$RV&resourceVersionMatch=Exact", "resourceVersion=0&resourceVersionMatch=Exact",
			"resourceVersionMatch=Exact", "resourceVersion=x", "resourceVersion=-1", "resourceVersion=1&resourceVersionMatch=Odd", "resourceVersion=0&limit=1", "continue=x", "continue=x&resourceVersion=5", "limit=-1", "limit=x",
			"resourceVersion=5&resourceVersionMatch=NotOlderThan&continue=x", "resourceVersion=0&resourceVersionMatch=NotOlderThan&limit=1", "sendInitialEvents=true", "allowWatchBookmarks=x", "timeoutSeconds=x"))})
	case 4: // all namespaces
		r := m.seed.resource
		m.add(false, request{method: "GET", path: r.base() + "/" + r.plural, query: m.mine(), header: header})
	default:
		m.add(false, request{method: "DELETE", path: m.list(), header: contentType(jsonType), query: query(m.mine(), pick(m.rand, "", "dryRun=All", "limit=1", "propagationPolicy=Odd", "fieldSelector=spec.bogus%3D1", "resourceVersion=0")),
			body: pick(m.rand, "", "", `{"kind":"DeleteOptions","apiVersion":"v1"}`, `{"gracePeriodSeconds":0}`, `{"preconditions":{"uid":"x"}}`, "x")})
		m.add(false, request{method: "GET", path: m.list(), query: m.mine()})
	}
}

// watches ask for what has happened since a revision.
func (m *maker) watches() {
	m.create()
	m.add(true, request{method: "GET", path: m.list(), query: m.mine()})
	m.add(false, request{method: "PATCH", path: m.path(), body: `{"metadata":{"labels":{"new":"v"}}}`, header: contentType(mergePatch)})
	m.add(false, request{method: "PATCH", path: m.path(), body: `{"metadata":{"labels":{"n":"1"},"annotations":{"x":"y"}}}`, header: contentType(mergePatch)})
	m.add(false, request{method: "DELETE", path: m.path(), query: "gracePeriodSeconds=0"})
	header := map[string]string{"Accept": pick(m.rand, jsonType, tableType, partial)}
	m.add(false, request{method: "GET", path: m.list(), header: header, query: query("watch=1&timeoutSeconds=1", m.mine()+pick(m.rand, "", "%2Cnew", "%2C!new", "%2Cn%3D1"), pick(m.rand, "resourceVersion=$LISTRV", "resourceVersion=$LISTRV", "resourceVersion=$RV", "resourceVersion=0", "",
		"sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&resourceVersion=$LISTRV", "sendInitialEvents=true", "resourceVersion=x", "resourceVersionMatch=Exact", "limit=1&resourceVersion=$LISTRV",
		"resourceVersion=$LISTRV&fieldSelector=metadata.name%3D"+m.name, "sendInitialEvents=false&resourceVersionMatch=NotOlderThan", "resourceVersion=1", "continue=x"))})
}
