package admission

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"slices"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/client/clienttest"
	"sampan/cluster/kind"
	"sampan/cluster/kind/certificates"
	"sampan/cluster/kind/core"
	"sampan/cluster/kind/kindtest"
	"sampan/cluster/request"
)

// signers are verbs and signers that ann has.
type signers []string

func (s signers) MaySigner(_ context.Context, u request.User, verb, signer string) bool {
	return u.Name == "ann" && slices.Contains(s, verb+" "+signer)
}

func askFor(t *testing.T, groups ...string) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "x", Organization: groups}}, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

func TestWhoAsksIsWrittenDown(t *testing.T) {
	r := &certificatesv1.CertificateSigningRequest{Spec: certificatesv1.CertificateSigningRequestSpec{Username: "root", Groups: []string{"system:masters"},
		Extra: map[string]certificatesv1.ExtraValue{"a": {"b"}}}}
	a := &Attempt{Operation: Create, Object: r, Request: request.Request{Kind: certificates.CertificateSigningRequest(),
		User: request.User{Name: "ann", UID: "1", Groups: []string{"g"}, Extra: map[string][]string{"x": {"y"}}}}}
	if err := (Certificates{}).Mutate(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	if s := r.Spec; s.Username != "ann" || s.UID != "1" || !slices.Equal(s.Groups, []string{"g"}) || len(s.Extra) != 1 || s.Extra["x"][0] != "y" {
		t.Errorf("asked by %+v", s)
	}
}

func TestConditionsHaveTimes(t *testing.T) {
	before := metav1.NewTime(kindtest.Now.Add(-time.Hour))
	old := &certificatesv1.CertificateSigningRequest{Status: certificatesv1.CertificateSigningRequestStatus{Conditions: []certificatesv1.CertificateSigningRequestCondition{
		{Type: "Approved", Status: corev1.ConditionTrue, LastTransitionTime: before, LastUpdateTime: before}}}}
	now := &certificatesv1.CertificateSigningRequest{Status: certificatesv1.CertificateSigningRequestStatus{Conditions: []certificatesv1.CertificateSigningRequestCondition{
		{Type: "Approved", Status: corev1.ConditionTrue, LastUpdateTime: before}, {Type: "Failed", Status: corev1.ConditionTrue}}}}
	a := &Attempt{Operation: Update, Object: now, Old: old, Request: request.Request{Kind: certificates.CertificateSigningRequest(), Subresource: "status"}}
	if err := (Certificates{Now: func() time.Time { return kindtest.Now }}).Mutate(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	c := now.Status.Conditions
	if !c[0].LastTransitionTime.Equal(&before) || !c[1].LastTransitionTime.Time.Equal(kindtest.Now) || !c[1].LastUpdateTime.Time.Equal(kindtest.Now) {
		t.Errorf("conditions %+v", c)
	}
}

func TestSignersHaveRights(t *testing.T) {
	csr, bundle, pod := certificates.CertificateSigningRequest(), certificates.ClusterTrustBundle(), certificates.PodCertificateRequest()
	asked := func(signer string, groups ...string) *certificatesv1.CertificateSigningRequest {
		return &certificatesv1.CertificateSigningRequest{ObjectMeta: metav1.ObjectMeta{Name: "r"}, Spec: certificatesv1.CertificateSigningRequestSpec{SignerName: signer, Request: askFor(t, groups...)}}
	}
	signed := asked("x.io/s")
	signed.Status.Certificate = []byte("c")
	of := func(signer string) *certificatesv1.ClusterTrustBundle {
		return &certificatesv1.ClusterTrustBundle{ObjectMeta: metav1.ObjectMeta{Name: "b"}, Spec: certificatesv1.ClusterTrustBundleSpec{SignerName: signer}}
	}
	issued := func(ago time.Duration) *certificatesv1.PodCertificateRequest {
		at := metav1.NewTime(kindtest.Now.Add(-ago))
		return &certificatesv1.PodCertificateRequest{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: certificatesv1.PodCertificateRequestSpec{SignerName: "x.io/s"},
			Status: certificatesv1.PodCertificateRequestStatus{NotBefore: &at}}
	}
	open := &certificatesv1.PodCertificateRequest{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: certificatesv1.PodCertificateRequestSpec{SignerName: "x.io/s"}}
	owned := of("y.io/s")
	owned.OwnerReferences = []metav1.OwnerReference{{Name: "o"}}
	const user = certificatesv1.KubeAPIServerClientSignerName
	for _, c := range []struct {
		it       string
		kind     *kind.Kind
		sub      string
		now, old kind.Object
		want     string // of the error; empty: admitted
	}{
		{it: "to ask", kind: csr, now: asked(user, "system:people")},
		{it: "not to be everything", kind: csr, now: asked(user, "system:masters"), want: "use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed"},
		{it: "unless another signs", kind: csr, now: asked("x.io/s", "system:masters")},
		{it: "to approve", kind: csr, sub: "approval", now: asked("x.io/s"), old: asked("x.io/s")},
		{it: "not to approve for another", kind: csr, sub: "approval", now: asked("y.io/s"), old: asked("y.io/s"), want: `user not permitted to approve requests with signerName "y.io/s"`},
		{it: "to sign", kind: csr, sub: "status", now: signed, old: asked("x.io/s")},
		{it: "not to sign for another", kind: csr, sub: "status", now: signed, old: asked("y.io/s"), want: `user not permitted to sign requests with signerName "y.io/s"`},
		{it: "to change labels of a status", kind: csr, sub: "status", now: asked("y.io/s"), old: asked("y.io/s")},
		{it: "to attest", kind: bundle, now: of("x.io/s")},
		{it: "to attest for nobody", kind: bundle, now: of("")},
		{it: "not to attest for another", kind: bundle, now: of("y.io/s"), want: `user not permitted to attest for signerName "y.io/s"`},
		{it: "to collect garbage", kind: bundle, now: owned, old: of("y.io/s")},
		{it: "to issue for a pod", kind: pod, sub: "status", now: issued(0), old: open},
		{it: "not for the past", kind: pod, sub: "status", now: issued(5 * time.Minute), old: open, want: "must be set to within 5 minutes of kube-apiserver's current time"},
	} {
		op := Create
		if c.old != nil {
			op = Update
		}
		a := &Attempt{Operation: op, Object: c.now, Old: c.old, Request: request.Request{Kind: c.kind, Subresource: c.sub, User: request.User{Name: "ann"}}}
		plugins := func(may Signers) *Chain {
			return NewChain(Certificates{May: may, Now: func() time.Time { return kindtest.Now }}, CertificateApproval{may}, CertificateSigning{may},
				ClusterTrustBundleAttest{may}, CertificateSubjectRestriction{})
		}
		err := plugins(signers{"approve x.io/s", "sign x.io/s", "attest x.io/s"}).Review(t.Context(), a)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.it, err, c.want)
		}
		if c.it == "to issue for a pod" {
			if err := plugins(signers{}).Review(t.Context(), a); err == nil || !strings.Contains(err.Error(), `User "ann" is not permitted to "sign" for signer "x.io/s"`) {
				t.Errorf("without the right: %v", err)
			}
		}
	}
}

func TestANodeAsksForItsPodsAsTheyAre(t *testing.T) {
	table := kind.NewTable(core.Kinds(), certificates.Kinds())
	pods, k := core.Pod(), certificates.PodCertificateRequest()
	const spec = `serviceAccountName: sa, volumes: [{name: v, projected: {sources: [{podCertificate: {signerName: x.io/s}}]}}]`
	fake := clienttest.New(t, table, kindtest.Read(t, core.Node(), `{metadata: {name: box, uid: node}}`),
		kindtest.Read(t, core.ServiceAccount(), `{metadata: {namespace: ns, name: sa, uid: account}}`),
		kindtest.Read(t, pods, `{metadata: {namespace: ns, name: p, uid: pod}, spec: {nodeName: box, `+spec+`}}`),
		kindtest.Read(t, pods, `{metadata: {namespace: ns, name: q, uid: pod}, spec: {nodeName: other, `+spec+`}}`))
	ask := func(change func(*certificatesv1.PodCertificateRequestSpec)) error {
		r := &certificatesv1.PodCertificateRequest{Spec: certificatesv1.PodCertificateRequestSpec{SignerName: "x.io/s", PodName: "p", PodUID: "pod",
			ServiceAccountName: "sa", ServiceAccountUID: "account", NodeName: "box", NodeUID: "node"}}
		change(&r.Spec)
		return NodeRestriction{Reader: fake}.Mutate(t.Context(), &Attempt{Operation: Create, Object: r, Request: request.Request{Kind: k, GVK: k.GVK, Namespace: "ns",
			User: request.User{Name: "system:node:box", Groups: []string{"system:nodes"}}}})
	}
	for _, c := range []struct {
		it     string
		change func(*certificatesv1.PodCertificateRequestSpec)
		want   string
	}{
		{"as it is", func(*certificatesv1.PodCertificateRequestSpec) {}, ""},
		{"not for another node", func(s *certificatesv1.PodCertificateRequestSpec) { s.NodeName = "other" }, `which is not the requesting node "box"`},
		{"not for a node of that name", func(s *certificatesv1.PodCertificateRequestSpec) { s.NodeUID = "old" }, "inconsistent with the running node"},
		{"not for another's pod", func(s *certificatesv1.PodCertificateRequestSpec) { s.PodName = "q" }, `pod "ns/q" is not running on node "box"`},
		{"not for a pod that is gone", func(s *certificatesv1.PodCertificateRequestSpec) { s.PodName = "z" }, `"z" not found`},
		{"not for a pod of that name", func(s *certificatesv1.PodCertificateRequestSpec) { s.PodUID = "old" }, "differs from running pod"},
		{"not as another account", func(s *certificatesv1.PodCertificateRequestSpec) { s.ServiceAccountName = "root" }, "differs from running pod"},
		{"not as an account of that name", func(s *certificatesv1.PodCertificateRequestSpec) { s.ServiceAccountUID = "old" }, "differs from the running service account"},
		{"not from a signer that the pod does not name", func(s *certificatesv1.PodCertificateRequestSpec) { s.SignerName = "y.io/s" }, "does not mount a podCertificate projected volume"},
	} {
		err := ask(c.change)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.it, err, c.want)
		}
	}
}
