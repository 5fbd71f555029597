package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"sigs.k8s.io/yaml"
)

// What each side chooses by itself, and time, are replaced by words, so that
// two answers can be compared.
var (
	uuids     = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	times     = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)`)
	ages      = regexp.MustCompile(`^\d+(s|m|m\d+s)$`)
	addresses = regexp.MustCompile(`10\.(97|230)\.\d+\.\d+`) // of the range, and of a ServiceCIDR that a case makes
	nodePorts = regexp.MustCompile(`:3\d{4}/`)
	tokens    = regexp.MustCompile(`kube-api-access-[a-z0-9]{5}`)
	currents  = regexp.MustCompile(`(current: |current resource version |in record \(|in record: |in precondition: |in the precondition \()\d+`)
	jwts      = regexp.MustCompile(`^[\w-]+\.([\w-]+)\.[\w-]+$`)
	pointers  = regexp.MustCompile(`0x?c[0-9a-f]{9}`)
	structs   = regexp.MustCompile(`(?s)Invalid value: [{\[].*[}\]]: `)
	whole     = regexp.MustCompile(`(?s)Invalid value: "\{\\".*\}": `)
	patches   = regexp.MustCompile(`(?s)\n(@@|  (core|volumes|[a-z]+)\.).*`)
	digests   = regexp.MustCompile(`X509SHA256=[0-9a-f]{64}`)
	servers   = regexp.MustCompile(`127\.0\.0\.1:[12]6443`)
)

// text replaces what a side chose inside of a text.
func (m memory) text(s string) string {
	if name := m["$NAME"]; name != "" {
		s = strings.ReplaceAll(s, name, "NAME")
	}
	if base := m[wanted]; base != "" {
		s = regexp.MustCompile(regexp.QuoteMeta(base)+`[b-df-hj-np-tv-z0-9]{5}`).ReplaceAllString(s, "NAME")
	}
	s = digests.ReplaceAllString(s, "X509SHA256=DIGEST")
	s = uuids.ReplaceAllString(s, "UID")
	s = tokens.ReplaceAllString(s, "kube-api-access-R")
	s = addresses.ReplaceAllString(s, "SERVICE-IP")
	s = nodePorts.ReplaceAllString(s, ":PORT/")
	s = currents.ReplaceAllString(s, "${1}RV")
	s = pointers.ReplaceAllString(s, "0xPOINTER")
	s = structs.ReplaceAllString(s, "Invalid value: {…}: ")
	s = whole.ReplaceAllString(s, "Invalid value: {…}: ")
	s = patches.ReplaceAllString(s, "")
	s = servers.ReplaceAllString(s, "SERVER")
	s = strings.ReplaceAll(s, "Key: /registry/", "Key: /") // upstream says both, as its cache has the object or not
	return times.ReplaceAllStringFunc(s, func(t string) string {
		at, err := time.Parse(time.RFC3339Nano, t)
		if err == nil && time.Since(at).Abs() < 2*time.Hour {
			return "TIME"
		}
		return t
	})
}

// body reads an answer's body: JSON as values (a stream of it as a list), all
// else as text.
func (m memory) body(a answer) any {
	switch of := a.header.Get("Content-Type"); {
	case strings.Contains(of, "yaml"):
		text, err := yaml.YAMLToJSON(a.body)
		if err != nil {
			return "not YAML: " + err.Error()
		}
		a.body = text
	case !strings.Contains(of, "json"):
		return m.text(string(a.body))
	}
	d := json.NewDecoder(bytes.NewReader(a.body))
	d.UseNumber()
	var all []any
	for {
		var v any
		err := d.Decode(&v)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			all = append(all, "not JSON: "+err.Error())
			break
		}
		all = append(all, m.value("", v))
	}
	if len(all) == 1 {
		return all[0]
	}
	return all
}

// value replaces in a value of a field what a side chose.
func (m memory) value(key string, v any) any {
	switch v := v.(type) {
	case map[string]any:
		for name, field := range v {
			v[name] = m.value(name, field)
		}
		return v
	case []any:
		for i := range v {
			v[i] = m.value(key, v[i])
		}
		return v
	case json.Number:
		if n, err := strconv.Atoi(v.String()); err == nil && strings.HasSuffix(strings.ToLower(key), "nodeport") && n >= 30000 && n < 34000 {
			return "PORT"
		}
		return v
	case string:
		switch {
		case key == "resourceVersion" && v != "" && v != "0":
			return "RV"
		case key == "continue" && v != "":
			return continued(v)
		case key == "token" && jwts.MatchString(v):
			return m.claims(v)
		case key == "cells" && ages.MatchString(v):
			return "AGE"
		case key == "collectionResourceVersion" || key == "resourceVersionHash":
			return "RV"
		}
		return m.text(v)
	}
	return v
}

// continued shows what a continue token says.
func continued(token string) any {
	data, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		return "opaque: " + err.Error()
	}
	var v map[string]any
	if err := json.Unmarshal(data, &v); err != nil {
		return "opaque: " + err.Error()
	}
	v["rv"] = "RV"
	if start, ok := v["start"].(string); ok {
		v["start"] = strings.TrimPrefix(start, "/") // a matter of the store's keys
	}
	return v
}

// claims shows what a signed token says.
func (m memory) claims(token string) any {
	data, err := base64.RawURLEncoding.DecodeString(jwts.FindStringSubmatch(token)[1])
	if err != nil {
		return "opaque: " + err.Error()
	}
	var v map[string]any
	if err := json.Unmarshal(data, &v); err != nil {
		return "opaque: " + err.Error()
	}
	for _, name := range []string{"iat", "nbf"} {
		delete(v, name)
	}
	if at, ok := v["exp"].(float64); ok {
		v["exp"] = fmt.Sprint(time.Until(time.Unix(int64(at), 0)).Round(time.Minute))
	}
	return m.value("", v)
}

// heard are the headers that are part of the API.
var heard = []string{"Content-Type", "Warning", "Retry-After", "Allow", "Location", "Cache-Control", "Www-Authenticate", "Accept-Patch"}

// normal is an answer without what a side chose.
func (m memory) normal(a answer) map[string]any {
	out := map[string]any{"status": a.status, "body": m.body(a)}
	for _, name := range heard {
		values := slices.Clone(a.header.Values(name))
		for i := range values {
			values[i] = m.text(values[i])
		}
		slices.Sort(values)
		if len(values) > 0 {
			all := make([]any, len(values))
			for i := range values {
				all[i] = values[i]
			}
			out["header "+name] = all
		}
	}
	return out
}

// learn remembers what a side named in an answer.
func (m memory) learn(a answer) {
	var got struct {
		Metadata struct {
			Name, UID, ResourceVersion, GenerateName, Continue string
		}
		Kind  string
		Items []json.RawMessage
	}
	if a.status >= 300 || json.Unmarshal(a.body, &got) != nil || got.Kind == "Status" {
		return
	}
	meta := got.Metadata
	if got.Items != nil || got.Kind == "Table" && meta.ResourceVersion != "" {
		m["$CONTINUE"], m["$LISTRV"] = meta.Continue, meta.ResourceVersion
		return
	}
	if meta.ResourceVersion != "" && meta.ResourceVersion != m["$RV"] {
		if m["$RV"] != "" {
			m["$OLDRV"] = m["$RV"]
		}
		m["$RV"] = meta.ResourceVersion
	}
	if meta.UID != "" {
		m["$UID"] = meta.UID
	}
	if meta.GenerateName != "" && strings.HasPrefix(meta.Name, meta.GenerateName) {
		m["$NAME"] = meta.Name
	}
}
