package api

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"sampan/cluster/kind"
	"sampan/cluster/request"
)

// deprecatedAPI is a version of a kind that will go, by the labels of upstream's
// apiserver_requested_deprecated_apis. removed is the release that will not have
// it, empty if nobody has said.
type deprecatedAPI struct{ group, version, resource, subresource, removed string }

// deprecated tells a client that what it asks for will go, and remembers it for
// the metrics and the audit trail.
func (c *call) deprecated(k *kind.Kind, r request.Request) {
	text := k.Deprecation(r.GVK)
	if text == "" {
		return
	}
	c.warn(text)
	c.old = &deprecatedAPI{group: r.GVK.Group, version: r.GVK.Version, resource: k.Plural, subresource: r.Subresource}
	if k.Custom == nil { // what is said of these is their author's, and no release is named
		_, rest, _ := strings.Cut(text, "unavailable in v")
		c.old.removed, _, _ = strings.Cut(rest, "+")
	}
}

// usedDeprecated says what the request has used that will go; nil if that is
// nothing, or if who asked may not.
func (c *call) usedDeprecated() *deprecatedAPI {
	if c.code == http.StatusForbidden {
		return nil
	}
	return c.old
}

// auditDeprecated notes it in the audit trail. (apiserver/pkg/endpoints/metrics
// MonitorRequest.)
func (c *call) auditDeprecated() {
	old := c.usedDeprecated()
	if old == nil {
		return
	}
	c.record.Annotate("k8s.io/deprecated", "true", false)
	if old.removed != "" {
		c.record.Annotate("k8s.io/removed-release", old.removed, false)
	}
}

// writeDeprecatedLocked says which were asked for since the program began.
func (m *metrics) writeDeprecatedLocked(b *bytes.Buffer, head func(name, typ, help string)) {
	if len(m.deprecated) == 0 {
		return
	}
	head("apiserver_requested_deprecated_apis", "gauge", "Gauge of deprecated APIs that have been requested, broken out by API group, version, resource, subresource, and removed_release.")
	for _, d := range slices.SortedFunc(maps.Keys(m.deprecated), func(x, y deprecatedAPI) int {
		return cmp.Or(cmp.Compare(x.group, y.group), cmp.Compare(x.resource, y.resource), cmp.Compare(x.version, y.version), cmp.Compare(x.subresource, y.subresource))
	}) {
		fmt.Fprintf(b, "apiserver_requested_deprecated_apis{group=%q,removed_release=%q,resource=%q,subresource=%q,version=%q} 1\n", d.group, d.removed, d.resource, d.subresource, d.version)
	}
}
