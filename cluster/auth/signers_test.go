package auth

import (
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	"sampan/cluster/auth/policy"
	"sampan/cluster/client/clienttest"
	"sampan/cluster/kind"
	"sampan/cluster/kind/certificates"
	"sampan/cluster/kind/core"
	"sampan/cluster/kind/kindtest"
	"sampan/cluster/kind/rbac"
)

func TestSignersAreNamedOrAllOfADomain(t *testing.T) {
	z := authorizer(t,
		kindtest.Read(t, rbac.ClusterRole(), `{metadata: {name: one}, rules: [{apiGroups: [certificates.k8s.io], resources: [signers], resourceNames: [x.io/a], verbs: [sign]}]}`),
		kindtest.Read(t, rbac.ClusterRole(), `{metadata: {name: all}, rules: [{apiGroups: [certificates.k8s.io], resources: [signers], resourceNames: ["y.io/*"], verbs: [approve]}]}`),
		kindtest.Read(t, rbac.ClusterRoleBinding(), `{metadata: {name: one}, subjects: [{kind: User, name: ann}], roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: one}}`),
		kindtest.Read(t, rbac.ClusterRoleBinding(), `{metadata: {name: all}, subjects: [{kind: User, name: ann}], roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: all}}`))
	for _, tc := range []struct {
		verb, signer string
		want         bool
	}{
		{"sign", "x.io/a", true}, {"sign", "x.io/b", false}, {"approve", "x.io/a", false}, {"approve", "y.io/anything", true}, {"approve", "z.y.io/a", false},
	} {
		if got := z.MaySigner(t.Context(), user("ann"), tc.verb, tc.signer); got != tc.want {
			t.Errorf("%s for %s: %v", tc.verb, tc.signer, got)
		}
	}
	if z.MaySigner(t.Context(), user("bob"), "sign", "x.io/a") {
		t.Error("bob signs")
	}
}

func TestANodeReadsAnswersToItsOwnRequests(t *testing.T) {
	fake := clienttest.New(t, kind.NewTable(core.Kinds(), rbac.Kinds(), certificates.Kinds()),
		&certificatesv1.PodCertificateRequest{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: "mine"}, Spec: certificatesv1.PodCertificateRequestSpec{NodeName: "box"}},
		&certificatesv1.PodCertificateRequest{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: "theirs"}, Spec: certificatesv1.PodCertificateRequestSpec{NodeName: "other"}})
	z := NewAuthorizer(NewNodeRule(fake), NewRBAC(RBACConfig{Objects: fake, Policy: policy.Bootstrap()}))
	for _, tc := range []struct {
		verb, name, sub, of string
		want                bool
	}{
		{verb: "create", want: true},
		{verb: "get", name: "mine", want: true},
		{verb: "get", name: "theirs"},
		{verb: "list"},
		{verb: "list", of: "box", want: true},
		{verb: "watch", of: "box", want: true},
		{verb: "watch", of: "other"},
		{verb: "update", name: "mine", sub: "status"},
		{verb: "delete", name: "mine"},
	} {
		a := Attributes{User: Node("box"), Verb: tc.verb, Group: certificatesv1.GroupName, Version: "v1", Resource: "podcertificaterequests", Subresource: tc.sub, Namespace: "d", Name: tc.name}
		if tc.of != "" {
			a.Namespace, a.Fields = "", fields.OneTermEqualSelector("spec.nodeName", tc.of).Requirements()
		}
		if got, why := z.Allowed(t.Context(), a); got != tc.want {
			t.Errorf("%+v: %v %s", tc, got, why)
		}
	}
}
