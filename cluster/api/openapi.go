package api

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"sampan/cluster/aggregate"
	"sampan/cluster/object"
	openapi "sampan/cluster/schema"
)

// openapi answers /openapi/v2, /openapi/v3 and what is below it. (KEP-2896.)
func (c *call) openapi(segments []string) bool {
	switch {
	case len(segments) == 1 && segments[0] == "v2":
		return c.openapiV2()
	case len(segments) == 1 && segments[0] == "v3":
		index, err := c.s.cfg.Schemas.Index()
		if err != nil {
			c.fail(err)
			return true
		}
		type link struct {
			URL string `json:"serverRelativeURL"`
		}
		doc := struct {
			Paths map[string]link `json:"paths"`
		}{map[string]link{}}
		for path, hash := range index {
			doc.Paths[path] = link{"/openapi/v3/" + path + "?hash=" + url.QueryEscape(hash)}
		}
		if a := c.others(); a != nil {
			for gv := range a.State().Remotes() {
				delete(doc.Paths, openapi.Path(gv)) // who answers describes too
			}
			for gv, url := range a.Documents(c.r.Context()) {
				doc.Paths[openapi.Path(gv)] = link{url}
			}
		}
		c.sendJSON("application/json", doc)
		return true
	case len(segments) == 3 && segments[0] == "v3" && segments[1] == "api":
		return c.openapiOf(schema.GroupVersion{Version: segments[2]}, strings.Join(segments[1:], "/"))
	case len(segments) == 4 && segments[0] == "v3" && segments[1] == "apis":
		gv := schema.GroupVersion{Group: segments[2], Version: segments[3]}
		if a := c.others(); a != nil {
			if to := a.State().At(gv); to != nil {
				c.passOn(to)
				return true
			}
		}
		return c.openapiOf(gv, strings.Join(segments[1:], "/"))
	}
	return false
}

// openapiV2 answers with the whole API in one document.
func (c *call) openapiV2() bool {
	form, contentType, ok := formV2(c.r.Header.Get("Accept"))
	if !ok {
		c.fail(notAcceptable([]string{object.JSON, protobufV2}))
		return true
	}
	var others []*openapi.Other
	if a := c.others(); a != nil {
		others = c.s.older.read(c, a)
	}
	c.w.Header().Set("Vary", "Accept")
	if c.unchanged(`"` + c.s.cfg.Schemas.HashV2(form, others...) + `"`) {
		return true
	}
	doc, err := c.s.cfg.Schemas.OpenAPIV2(form, others...)
	if err != nil {
		c.fail(err)
		return true
	}
	c.sendDocument(contentType, doc)
	return true
}

// sendDocument answers with a document that is kept packed: who takes gzip gets
// it as it is, also on this machine, because that is less work than to unpack it.
func (c *call) sendDocument(contentType string, doc *openapi.Document) {
	h, size := c.w.Header(), doc.Size()
	zipped := size > gzipAbove && c.takesGzip()
	if zipped {
		h.Set("Content-Encoding", "gzip")
		h.Add("Vary", "Accept-Encoding")
		size = doc.GzipSize()
	}
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(size))
	c.code = http.StatusOK
	c.w.WriteHeader(http.StatusOK)
	if c.r.Method == http.MethodHead {
		return
	}
	var err error
	if zipped {
		err = doc.WriteGzip(c.w)
	} else {
		_, err = doc.WriteTo(c.w)
	}
	if err != nil {
		return // the client has left
	}
	c.size += size
}

// olderDocuments are the documents of version 2 of other servers as they were
// last read.
type olderDocuments struct {
	mu   sync.Mutex // guards below
	docs map[schema.GroupVersion]*openapi.Other
}

// read has the other servers asked. A document that is none is left out: it is
// its server's.
func (o *olderDocuments) read(c *call, a *aggregate.Aggregator) (all []*openapi.Other) {
	now := map[schema.GroupVersion]*openapi.Other{}
	o.mu.Lock()
	before := o.docs
	o.mu.Unlock()
	for _, doc := range a.OlderDocuments(c.r.Context()) {
		read := before[doc.GroupVersion]
		if read == nil || read.Digest != doc.Digest {
			var err error
			if read, err = openapi.ReadOther(doc.GroupVersion, doc.Digest, doc.Data); err != nil {
				c.s.cfg.Log.Debug("OpenAPI version 2 of an aggregated API cannot be read", "group", doc.GroupVersion.String(), "err", err)
				continue
			}
		}
		now[doc.GroupVersion] = read
		all = append(all, read)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.docs = now
	return all
}

// The media types of OpenAPI documents as protobuf, and what clients ask for
// them with, which is no media type by RFC 9110: there is no "@" in one.
// (Upstream: kube-openapi/pkg/handler, handler3.)
const (
	protobufV2      = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
	protobufV2Asked = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
	protobufV3      = "application/com.github.proto-openapi.spec.v3.v1.0+protobuf"
	protobufV3Asked = "application/com.github.proto-openapi.spec.v3@v1.0+protobuf"
)

func formV2(accept string) (form openapi.Form, contentType string, ok bool) {
	return formOf(accept, protobufV2, protobufV2Asked)
}

// formOf is the form that a client prefers, and its name.
func formOf(accept, protobuf, asked string) (form openapi.Form, contentType string, ok bool) {
	if accept == "" {
		return openapi.JSON, object.JSON, true
	}
	for _, clause := range clauses(strings.ReplaceAll(accept, asked, protobuf)) {
		switch clause.mediaType {
		case object.JSON, "application/*", "*/*":
			return openapi.JSON, object.JSON, true
		case protobuf:
			return openapi.Protobuf, protobuf, true
		}
	}
	return 0, "", false
}

func (c *call) openapiOf(gv schema.GroupVersion, path string) bool {
	index, err := c.s.cfg.Schemas.Index()
	if err != nil {
		c.fail(err)
		return true
	}
	if _, ok := index[path]; !ok {
		return false
	}
	form, contentType, ok := formOf(c.r.Header.Get("Accept"), protobufV3, protobufV3Asked)
	if !ok {
		c.fail(notAcceptable([]string{object.JSON, protobufV3}))
		return true
	}
	doc, hash, err := c.s.cfg.Schemas.OpenAPIV3(gv, form)
	if err != nil {
		c.fail(err)
		return true
	}
	h := c.w.Header()
	if asked := c.r.URL.Query().Get("hash"); asked != "" {
		if asked != hash {
			h.Set("Location", c.r.URL.Path+"?hash="+url.QueryEscape(hash))
			c.code = http.StatusMovedPermanently
			c.w.WriteHeader(http.StatusMovedPermanently)
			return true
		}
		// The address names the content, so it may be kept for ever.
		h.Set("Cache-Control", "public, immutable")
		h.Set("Expires", c.s.cfg.Now().Add(365*24*time.Hour).UTC().Format(http.TimeFormat))
	} else {
		h.Set("Cache-Control", "no-cache, private")
	}
	h.Set("Vary", "Accept")
	if c.unchanged(`"` + hash + `"`) {
		return true
	}
	c.sendBytes(http.StatusOK, contentType, doc)
	return true
}
