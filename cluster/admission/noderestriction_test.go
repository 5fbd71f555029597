package admission

import (
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"sampan/cluster/client/clienttest"
	"sampan/cluster/kind"
	"sampan/cluster/kind/coordination"
	"sampan/cluster/kind/core"
	"sampan/cluster/kind/kindtest"
	"sampan/cluster/request"
)

func TestANodeWritesWhatIsItsOwn(t *testing.T) {
	table := kind.NewTable(core.Kinds(), coordination.Kinds())
	pods, nodes, leases, accounts := core.Pod(), core.Node(), coordination.Lease(), core.ServiceAccount()
	read := func(k *kind.Kind, text string) kind.Object {
		if text == "" {
			return nil
		}
		return kindtest.Read(t, k, text)
	}
	fake := clienttest.New(t, table, read(nodes, `{metadata: {name: box, uid: u}}`),
		read(pods, `{metadata: {namespace: n, name: p, uid: "1"}, spec: {nodeName: box}}`),
		read(pods, `{metadata: {namespace: n, name: q, uid: "2"}, spec: {nodeName: other}}`))
	const mirror = `metadata: {namespace: n, name: m, annotations: {kubernetes.io/config.mirror: x}, ownerReferences: [{apiVersion: v1, kind: Node, name: box, uid: u, controller: true}]}`
	const mine, theirs = `{metadata: {namespace: n, name: p}, spec: {nodeName: box}}`, `{metadata: {namespace: n, name: q}, spec: {nodeName: other}}`
	token := func(name string, uid types.UID) *authenticationv1.TokenRequest {
		return &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{BoundObjectRef: &authenticationv1.BoundObjectReference{
			APIVersion: "v1", Kind: "Pod", Name: name, UID: uid}}}
	}
	for _, tc := range []struct {
		it       string
		op       Operation
		kind     *kind.Kind
		sub      string
		old, obj string
		body     *authenticationv1.TokenRequest
		want     string // of the error; empty: admitted
	}{
		{it: "not a pod", op: Create, kind: pods, obj: mine, want: `pod does not have "kubernetes.io/config.mirror" annotation, node "box" can only create mirror pods`},
		{it: "a mirror pod", op: Create, kind: pods, obj: `{` + mirror + `, spec: {nodeName: box}}`},
		{it: "not of another node", op: Create, kind: pods, obj: `{` + mirror + `, spec: {nodeName: other}}`, want: `node "box" can only create pods with spec.nodeName set to itself`},
		{it: "not without an owner", op: Create, kind: pods, obj: `{metadata: {name: m, annotations: {kubernetes.io/config.mirror: x}}, spec: {nodeName: box}}`,
			want: `node "box" can only create pods with an owner reference set to itself`},
		{it: "not with secrets", op: Create, kind: pods, obj: `{` + mirror + `, spec: {nodeName: box, volumes: [{name: v, secret: {secretName: s}}]}}`,
			want: `node "box" can not create pods that reference secrets (via secret volumes)`},
		{it: "not with config maps", op: Create, kind: pods, obj: `{` + mirror + `, spec: {nodeName: box, containers: [{name: c, envFrom: [{configMapRef: {name: s}}]}]}}`,
			want: `node "box" can not create pods that reference configmaps`},
		{it: "not an account", op: Create, kind: pods, obj: `{` + mirror + `, spec: {nodeName: box, serviceAccountName: s}}`,
			want: `node "box" can not create pods that reference serviceaccounts`},
		{it: "the end of its pod", op: Delete, kind: pods, old: mine},
		{it: "not of another's", op: Delete, kind: pods, old: theirs, want: `node "box" can only delete pods with spec.nodeName set to itself`},
		{it: "no spec", op: Update, kind: pods, old: mine, obj: mine, want: `unexpected operation "UPDATE", node "box" can only create and delete mirror pods`},
		{it: "the status of its pod", op: Update, kind: pods, sub: "status", old: mine, obj: mine},
		{it: "not of another's", op: Update, kind: pods, sub: "status", old: theirs, obj: theirs, want: `node "box" can only update pod status for pods with spec.nodeName set to itself`},
		{it: "no labels by the status", op: Update, kind: pods, sub: "status", old: mine, obj: `{metadata: {namespace: n, name: p, labels: {a: b}}, spec: {nodeName: box}}`,
			want: `node "box" cannot update labels through pod status`},
		{it: "nothing else of a pod", op: Create, kind: pods, sub: "binding", old: mine, want: `unexpected pod subresource "binding", only 'status' and 'eviction' are allowed`},
		{it: "its eviction", op: Create, kind: pods, sub: "eviction", old: mine},
		{it: "not another's", op: Create, kind: pods, sub: "eviction", old: theirs, want: `node box can only evict pods with spec.nodeName set to itself`},
		{it: "its Node", op: Create, kind: nodes, obj: `{metadata: {name: box, labels: {kubernetes.io/hostname: box, mine: x}}}`},
		{it: "not another", op: Create, kind: nodes, obj: `{metadata: {name: other}}`, want: `node "box" is not allowed to modify node "other"`},
		{it: "no label of the cluster's", op: Create, kind: nodes, obj: `{metadata: {name: box, labels: {node-role.kubernetes.io/control-plane: ""}}}`,
			want: `node "box" is not allowed to set the following labels: node-role.kubernetes.io/control-plane`},
		{it: "nor takes one away", op: Update, kind: nodes, old: `{metadata: {name: box, labels: {node-restriction.kubernetes.io/a: ""}}}`, obj: `{metadata: {name: box}}`,
			want: `is not allowed to modify labels: node-restriction.kubernetes.io/a`},
		{it: "no taints", op: Update, kind: nodes, old: `{metadata: {name: box}, spec: {taints: [{key: a, effect: NoSchedule}]}}`, obj: `{metadata: {name: box}}`,
			want: `node "box" is not allowed to modify taints`},
		{it: "its status", op: Update, kind: nodes, sub: "status", old: `{metadata: {name: box}}`, obj: `{metadata: {name: box}}`},
		{it: "its lease", op: Create, kind: leases, obj: `{metadata: {namespace: kube-node-lease, name: box}}`},
		{it: "not another's", op: Create, kind: leases, obj: `{metadata: {namespace: kube-node-lease, name: other}}`,
			want: `can only access node lease with the same name as the requesting node`},
		{it: "no other leases", op: Create, kind: leases, obj: `{metadata: {namespace: kube-system, name: box}}`,
			want: `can only access leases in the "kube-node-lease" system namespace`},
		{it: "a token of its pod", op: Create, kind: accounts, sub: "token", old: `{metadata: {namespace: n, name: a}}`, body: token("p", "1")},
		{it: "not of another's", op: Create, kind: accounts, sub: "token", old: `{metadata: {namespace: n, name: a}}`, body: token("q", "1"),
			want: `the UID in the bound object reference (1) does not match the UID in record. The object might have been deleted and then recreated`},
		{it: "not without a uid", op: Create, kind: accounts, sub: "token", old: `{metadata: {namespace: n, name: a}}`, body: token("p", ""),
			want: `node requested token with a pod binding without a uid`},
		{it: "not without a pod", op: Create, kind: accounts, sub: "token", old: `{metadata: {namespace: n, name: a}}`, body: &authenticationv1.TokenRequest{},
			want: `node requested token not bound to a pod`},
	} {
		t.Run(tc.kind.Plural+": "+tc.it, func(t *testing.T) {
			a := &Attempt{Operation: tc.op, Object: read(tc.kind, tc.obj), Old: read(tc.kind, tc.old), Request: request.Request{Kind: tc.kind, GVK: tc.kind.GVK,
				Subresource: tc.sub, User: request.User{Name: "system:node:box", Groups: []string{"system:nodes"}}}}
			if tc.body != nil {
				a.Body = tc.body
			}
			for _, o := range []kind.Object{a.Object, a.Old} {
				if m, ok := o.(metav1.Object); ok {
					a.Request.Namespace, a.Request.Name = m.GetNamespace(), m.GetName()
				}
			}
			err := NodeRestriction{fake}.Mutate(t.Context(), a)
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.HasSuffix(err.Error(), "is forbidden: "+tc.want)) {
				t.Errorf("%v\nwant %q", err, tc.want)
			}
			a.Request.User.Groups = nil
			if err := (NodeRestriction{fake}).Mutate(t.Context(), a); err != nil {
				t.Errorf("who is no node: %v", err)
			}
		})
	}
}
