package auth

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/selection"

	"sampan/cluster/auth/policy"
	"sampan/cluster/client"
	"sampan/cluster/request"
)

// NodeRule allows a node what it needs for the pods that are bound to it: their
// secrets, config maps, claims and tokens, and its own Node, lease and
// CSINode. What is no single node's it may as the role system:node says.
// (Upstream: plugin/pkg/auth/authorizer/node.)
//
// Where upstream keeps a graph, this looks at the node's pods in the cache:
// there are some hundred at most, and they are found by an index.
type NodeRule struct {
	objects client.Reader
	rules   []rbacv1.PolicyRule
}

// NewNodeRule returns the rule. objects is read unchecked.
func NewNodeRule(objects client.Reader) *NodeRule {
	return &NodeRule{objects: objects, rules: policy.Node()}
}

// NodeName is the node that u is; false for all others.
func NodeName(u request.User) (string, bool) {
	name, ok := strings.CutPrefix(u.Name, nodePrefix)
	return name, ok && slices.Contains(u.Groups, Nodes)
}

// Rules implements Rule: what depends on pods cannot be listed.
func (n *NodeRule) Rules(_ context.Context, u request.User, _ string) ([]rbacv1.PolicyRule, bool, error) {
	if _, ok := NodeName(u); ok {
		return nil, true, errors.New("node authorizer does not support user rule resolution")
	}
	return nil, false, nil
}

// Decide implements Rule.
func (n *NodeRule) Decide(ctx context.Context, a Attributes) (Decision, string, error) {
	return allowing(n.allows(ctx, a))
}

func (n *NodeRule) allows(ctx context.Context, a Attributes) (bool, string) {
	node, ok := NodeName(a.User)
	if !ok {
		return false, ""
	}
	if node == "" {
		return false, fmt.Sprintf("unknown node for user %q", a.User.Name)
	}
	why := ""
	switch (schema.GroupResource{Group: a.Group, Resource: a.Resource}) {
	case schema.GroupResource{Resource: "secrets"}, schema.GroupResource{Resource: "configmaps"}:
		why = n.named(ctx, node, a)
	case schema.GroupResource{Resource: "persistentvolumeclaims"}:
		if a.Subresource == "status" {
			if a.Verb != "update" && a.Verb != "patch" {
				return false, "can only get/update/patch this type"
			}
			why = n.related(ctx, node, a)
			break
		}
		why = n.single(ctx, node, a)
	case schema.GroupResource{Resource: "persistentvolumes"},
		schema.GroupResource{Group: "resource.k8s.io", Resource: "resourceclaims"},
		schema.GroupResource{Group: storagev1.GroupName, Resource: "volumeattachments"}:
		why = n.single(ctx, node, a)
	case schema.GroupResource{Resource: "serviceaccounts"}:
		why = n.account(ctx, node, a)
	case schema.GroupResource{Group: coordinationv1.GroupName, Resource: "leases"}:
		why = lease(node, a)
	case schema.GroupResource{Group: storagev1.GroupName, Resource: "csinodes"}:
		why = csiNode(node, a)
	case schema.GroupResource{Group: "resource.k8s.io", Resource: "resourceslices"}:
		why = slice(node, a)
	case schema.GroupResource{Group: certificatesv1.GroupName, Resource: "podcertificaterequests"}:
		why = n.podCertificate(ctx, node, a)
	case schema.GroupResource{Resource: "nodes"}:
		why = own(node, a)
	case schema.GroupResource{Resource: "pods"}:
		why = n.pod(ctx, node, a)
	default:
		for i := range n.rules {
			if covers(&n.rules[i], &a) {
				return true, ""
			}
		}
		return false, ""
	}
	switch why {
	case "":
		return true, ""
	case unsaid:
		return false, ""
	}
	return false, why
}

// The functions below say why not, in upstream's words; empty is yes.

// unsaid is a refusal that upstream gives no reason for.
const unsaid = "no"

// among says whether a verb is one of some.
func among(verb string, of ...string) bool { return slices.Contains(of, verb) }

// named: an object that is read by name, also by a list or watch of it alone.
func (n *NodeRule) named(ctx context.Context, node string, a Attributes) string {
	switch {
	case !among(a.Verb, "get", "list", "watch"):
		return "can only read resources of this type"
	case a.Subresource != "":
		return "cannot read subresource"
	case a.Namespace == "":
		return "can only read namespaced object of this type"
	}
	return n.related(ctx, node, a)
}

func (n *NodeRule) single(ctx context.Context, node string, a Attributes) string {
	switch {
	case a.Verb != "get":
		return "can only get individual resources of this type"
	case a.Subresource != "":
		return "cannot get subresource"
	}
	return n.related(ctx, node, a)
}

func (n *NodeRule) account(ctx context.Context, node string, a Attributes) string {
	switch {
	case a.Verb == "get" && a.Subresource == "":
		return n.named(ctx, node, a)
	case a.Verb != "create" || a.Name == "":
		return "can only create tokens for individual service accounts"
	case a.Subresource != "token":
		return "can only create token subresource of serviceaccount"
	}
	return n.related(ctx, node, a)
}

// lease: on create the name is not known yet; admission looks at it.
func lease(node string, a Attributes) string {
	switch {
	case !among(a.Verb, "get", "create", "update", "patch", "delete"):
		return "can only get, create, update, patch, or delete a node lease"
	case a.Namespace != corev1.NamespaceNodeLease:
		return fmt.Sprintf("can only access leases in the %q system namespace", corev1.NamespaceNodeLease)
	case a.Verb != "create" && a.Name != node:
		return "can only access node lease with the same name as the requesting node"
	}
	return ""
}

func csiNode(node string, a Attributes) string {
	switch {
	case a.Subresource != "":
		return "cannot authorize CSINode subresources"
	case !among(a.Verb, "get", "create", "update", "patch", "delete"):
		return "can only get, create, update, patch, or delete a CSINode"
	case a.Verb != "create" && a.Name != node:
		return "can only access CSINode with the same name as the requesting node"
	}
	return ""
}

// slice: a slice that exists is the node's if it says so, which nobody serves
// yet, so that those by name are refused.
func slice(node string, a Attributes) string {
	switch {
	case a.Subresource != "":
		return "cannot authorize ResourceSlice subresources"
	case a.Verb == "create":
		return ""
	case among(a.Verb, "get", "update", "patch", "delete"):
		return noRelation(node)
	case !among(a.Verb, "watch", "list", "deletecollection"):
		return "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, delete, deletecollection"
	case !narrowed(a, "spec.nodeName", node):
		return "can only list/watch/deletecollection resourceslices with nodeName field selector"
	}
	return ""
}

// podCertificate: a node asks for certificates of its pods, which admission
// looks at, and reads the answers.
func (n *NodeRule) podCertificate(ctx context.Context, node string, a Attributes) string {
	switch {
	case a.Subresource != "":
		return "nodes may not access the status subresource of PodCertificateRequests"
	case a.Verb == "create":
		return ""
	case a.Verb == "get":
		if r, ok := object[*certificatesv1.PodCertificateRequest](ctx, n.objects, a.Namespace, a.Name); !ok || string(r.Spec.NodeName) != node {
			return noRelation(node)
		}
		return ""
	case !among(a.Verb, "list", "watch"):
		return fmt.Sprintf("nodes may not %s podcertificaterequests", a.Verb)
	case !narrowed(a, "spec.nodeName", node):
		return "can only list/watch podcertificaterequests with nodeName field selector"
	}
	return ""
}

// own: a node's own Node. Whether it writes its own, admission looks at.
func own(node string, a Attributes) string {
	switch {
	case a.Subresource == "" && among(a.Verb, "create", "update", "patch"),
		a.Subresource == "status" && among(a.Verb, "update", "patch"):
		return ""
	case a.Subresource != "" || !among(a.Verb, "get", "list", "watch"):
		return unsaid
	case a.Name == "":
		return fmt.Sprintf("node '%s' cannot read all nodes, only its own Node object", node)
	case a.Name != node:
		return fmt.Sprintf("node '%s' cannot read '%s', only its own Node object", node, a.Name)
	}
	return ""
}

// pod: which pods a node writes, admission looks at.
func (n *NodeRule) pod(ctx context.Context, node string, a Attributes) string {
	switch {
	case a.Subresource == "status" && among(a.Verb, "update", "patch"),
		a.Subresource == "eviction" && a.Verb == "create",
		a.Subresource == "" && among(a.Verb, "create", "delete"):
		return ""
	case a.Subresource != "" || !among(a.Verb, "get", "list", "watch"):
		return unsaid
	case a.Verb == "get":
		return n.single(ctx, node, a)
	case narrowed(a, "spec.nodeName", node):
		return ""
	case a.Name != "":
		return n.related(ctx, node, a)
	}
	return "can only list/watch pods with spec.nodeName field selector"
}

func narrowed(a Attributes, field, value string) bool {
	return slices.ContainsFunc(a.Fields, func(r fields.Requirement) bool {
		return r.Field == field && r.Operator == selection.Equals && r.Value == value
	})
}

func noRelation(node string) string {
	return fmt.Sprintf("no relationship found between node '%s' and this object", node)
}

// related: the object named in a belongs to one of the node's pods.
func (n *NodeRule) related(ctx context.Context, node string, a Attributes) string {
	if a.Name == "" {
		return "No Object name found"
	}
	namespace, name, resource := a.Namespace, a.Name, a.Resource
	switch resource {
	case "persistentvolumes": // is a pod's through its claim
		v, ok := object[*corev1.PersistentVolume](ctx, n.objects, "", name)
		if !ok || v.Spec.ClaimRef == nil {
			return noRelation(node)
		}
		resource, namespace, name = "persistentvolumeclaims", v.Spec.ClaimRef.Namespace, v.Spec.ClaimRef.Name
	case "volumeattachments":
		if v, ok := object[*storagev1.VolumeAttachment](ctx, n.objects, "", name); !ok || v.Spec.NodeName != node {
			return noRelation(node)
		}
		return ""
	}
	pods, err := client.List[*corev1.Pod](ctx, n.objects, client.Query{Namespace: namespace, Index: "spec.nodeName", Value: node})
	if err != nil {
		return noRelation(node)
	}
	for _, p := range pods {
		if p.Namespace == namespace && uses(p, resource, name) {
			return ""
		}
	}
	if resource == "secrets" && n.ofVolume(ctx, node, namespace, name) {
		return ""
	}
	return noRelation(node)
}

// ofVolume: the Secret is named by a PersistentVolume that one of the node's
// pods claims, in whichever namespace that pod is.
func (n *NodeRule) ofVolume(ctx context.Context, node, namespace, name string) bool {
	pods, err := client.List[*corev1.Pod](ctx, n.objects, client.Query{Index: "spec.nodeName", Value: node})
	if err != nil {
		return false
	}
	return slices.ContainsFunc(pods, func(p *corev1.Pod) bool {
		return slices.ContainsFunc(claimsOf(p), func(claimName string) bool {
			c, ok := object[*corev1.PersistentVolumeClaim](ctx, n.objects, p.Namespace, claimName)
			if !ok || c.Spec.VolumeName == "" {
				return false
			}
			v, ok := object[*corev1.PersistentVolume](ctx, n.objects, "", c.Spec.VolumeName)
			return ok && v.Spec.ClaimRef != nil && v.Spec.ClaimRef.Namespace == c.Namespace && v.Spec.ClaimRef.Name == c.Name &&
				volumeUsesSecret(v, namespace, name)
		})
	})
}

// object reads one object; false if it, or its kind, is not there.
func object[T client.Typed](ctx context.Context, r client.Reader, namespace, name string) (T, bool) {
	var none T
	if r.Kinds().ByType(reflect.TypeFor[T]()) == nil {
		return none, false
	}
	obj, err := client.Get[T](ctx, r, namespace, name)
	return obj, err == nil
}
