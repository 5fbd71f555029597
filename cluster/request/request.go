// Package request says who asks for what, as a value. It decides nothing.
package request

import (
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sampan/cluster/kind"
)

// Request is one call of the API, after routing and authentication.
type Request struct {
	Verb        string // as RBAC names them: "create", "get", "list", "watch", "update", "patch", "delete", "deletecollection"
	Kind        *kind.Kind
	GVK         schema.GroupVersionKind // the version asked for; one of Kind.GVKs()
	Namespace   string                  // empty for cluster-wide objects, and for lists over all namespaces
	Name        string                  // empty for create with generateName, and for lists
	Subresource string                  // "status", "scale", …; empty for the object itself
	User        User
	DryRun      bool

	// Fields and Labels are what a list, watch or deletecollection is narrowed
	// down to, for authorization: a node may list its own pods. Nil: nothing.
	Fields fields.Selector
	Labels labels.Selector

	FieldManager    string // who owns the fields written; empty: derived from the user agent by the caller
	FieldValidation string // "Strict", "Warn" or "Ignore"; empty: "Warn"
	Force           bool   // apply: take over fields that others own

	// Warn adds a text for the Warning header. It may be nil.
	Warn func(text string)

	// Annotate adds to what the audit log says about the request; of several
	// values of one key the first counts. A detail is kept only where the log
	// has bodies as well. Nil: nobody listens, which spares making the text.
	Annotate func(key, value string, detail bool)
}

// Note annotates the request in the audit log, if there is one. Keys are as
// upstream's: "pod-security.kubernetes.io/enforce-policy".
func (r *Request) Note(key, value string) {
	if r.Annotate != nil {
		r.Annotate(key, value, false)
	}
}

// User is an authenticated identity. A controller of this process has one as
// well (system:serviceaccount:kube-system:replicaset-controller): nobody is
// exempt from authorization because it was convenient.
type User struct {
	Name   string
	UID    string
	Groups []string
	Extra  map[string][]string
}

// Path names the object asked for, as upstream's error texts do.
func (r Request) Path() string {
	if r.Namespace == "" {
		return r.Name
	}
	return r.Namespace + "/" + r.Name
}
