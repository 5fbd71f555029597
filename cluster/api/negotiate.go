package api

import (
	"cmp"
	"fmt"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/object"
	"sampan/cluster/request"
)

// accepted is the form in which the client wants the answer.
type accepted struct {
	mediaType string // one of object's
	as        string // "", "Table", "PartialObjectMetadata", "PartialObjectMetadataList"
	version   string // of as: "v1" or "v1beta1"
	pretty    bool
}

// offer says which forms an endpoint has.
type offer struct {
	protobuf bool // kinds declared at run time have none
	plain    bool // has no other form than the object's own
	yamlOff  bool // streams come as JSON or protobuf only
}

var jsonAccepted = accepted{mediaType: object.JSON}

// negotiate finds the first form that the client accepts and the endpoint
// has. (RFC 9110, 12.5.1; KEP-555 for "as".)
func negotiate(r *http.Request, o offer) (accepted, error) {
	header := r.Header.Get("Accept")
	if header == "" || header == object.JSON || header == "*/*" {
		a := jsonAccepted
		a.pretty = wantsPretty(r)
		return a, nil
	}
	for _, c := range clauses(header) {
		if a, ok := o.match(c); ok {
			a.pretty = a.mediaType == object.JSON && wantsPretty(r)
			return a, nil
		}
	}
	return accepted{}, notAcceptable(o.mediaTypes())
}

func (o offer) mediaTypes() []string {
	types := []string{object.JSON}
	if !o.yamlOff {
		types = append(types, object.YAML)
	}
	if o.protobuf {
		types = append(types, object.Protobuf)
	}
	return types
}

func (o offer) match(c clause) (accepted, bool) {
	a := accepted{mediaType: c.mediaType}
	switch c.mediaType {
	case "*/*", "application/*":
		a.mediaType = object.JSON
	default:
		if !slices.Contains(o.mediaTypes(), c.mediaType) {
			return a, false
		}
	}
	as := c.params["as"]
	if as == "" {
		return a, true
	}
	if o.plain || c.params["g"] != metav1.GroupName || c.params["v"] != "v1" && c.params["v"] != "v1beta1" {
		return a, false
	}
	a.as, a.version = as, c.params["v"]
	switch as {
	case "Table":
		return a, a.mediaType != object.Protobuf // Table has no protobuf form
	case "PartialObjectMetadata":
		return a, true
	case "PartialObjectMetadataList":
		return a, !o.yamlOff // events have one object each
	}
	return a, false
}

// clause is one media range of an Accept header.
type clause struct {
	mediaType string
	params    map[string]string
	quality   float64
}

// maxClauses bounds the work that a header can make.
const maxClauses = 32

// clauses splits an Accept header, best first. What cannot be parsed is left
// out, as if it had not been written.
func clauses(header string) []clause {
	var all []clause
	for part := range strings.SplitSeq(header, ",") {
		if len(all) == maxClauses {
			break
		}
		mt, params, err := mime.ParseMediaType(part)
		if err != nil {
			continue
		}
		c := clause{mediaType: mt, params: params, quality: 1}
		if q, given := params["q"]; given {
			if v, err := strconv.ParseFloat(q, 64); err == nil && v >= 0 && v <= 1 {
				c.quality = v
			}
		}
		if c.quality > 0 {
			all = append(all, c)
		}
	}
	slices.SortStableFunc(all, func(a, b clause) int {
		switch {
		case a.quality > b.quality:
			return -1
		case a.quality < b.quality:
			return 1
		}
		return 0
	})
	return all
}

// wantsPretty: the query says so, or a person's tool asks. (Upstream:
// negotiation.isPrettyPrint.)
func wantsPretty(r *http.Request) bool {
	if r.URL.RawQuery != "" {
		if q := r.URL.Query(); q.Has("pretty") {
			return isTrue(q, "pretty")
		}
	}
	agent := r.UserAgent()
	return strings.HasPrefix(agent, "curl") || strings.HasPrefix(agent, "Wget") || strings.HasPrefix(agent, "Mozilla/5.0")
}

// bodyType is the media type of the request's body, JSON if it names none.
func bodyType(r *http.Request, protobuf bool) (string, error) {
	header := r.Header.Get("Content-Type")
	switch header {
	case "", object.JSON:
		return object.JSON, nil
	case object.Protobuf:
		if protobuf {
			return object.Protobuf, nil
		}
	}
	types := offer{protobuf: protobuf}.mediaTypes()
	mt, _, err := mime.ParseMediaType(header)
	if err != nil || !slices.Contains(types, mt) {
		return "", unsupportedMediaType(types)
	}
	return mt, nil
}

// The two errors below are upstream's (endpoints/handlers/negotiation).
func notAcceptable(types []string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure,
		Code: http.StatusNotAcceptable, Reason: metav1.StatusReasonNotAcceptable,
		Message: "only the following media types are accepted: " + strings.Join(types, ", ")}}
}

// otherShape refuses to make one object of a list, or the other way round.
// Upstream says so after the request is carried out, and names its own type.
func otherShape(as, is string, r request.Request, suffix string) error {
	group, _, _ := strings.Cut(r.Kind.GVK.Group, ".")
	return &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure,
		Code: http.StatusNotAcceptable, Reason: metav1.StatusReasonNotAcceptable,
		Message: fmt.Sprintf("you requested %s, but the requested %s (*%s.%s%s)", as, is, cmp.Or(group, "core"), r.Kind.GVK.Kind, suffix)}}
}

func unsupportedMediaType(types []string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure,
		Code: http.StatusUnsupportedMediaType, Reason: metav1.StatusReasonUnsupportedMediaType,
		Message: "the body of the request was in an unknown format - accepted media types include: " + strings.Join(types, ", ")}}
}
