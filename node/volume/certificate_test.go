package volume

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"os"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"sampan/cluster/client/clienttest"
	"sampan/node/downward"
)

// issue makes a certificate for a key, PEM.
func issue(t *testing.T, key any, ca bool, life time.Duration) string {
	t.Helper()
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if key == nil {
		key = own.Public()
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now(), NotAfter: time.Now().Add(life), IsCA: ca, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key, own)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func bundle(name, signer, label, text string) *certificatesv1.ClusterTrustBundle {
	return &certificatesv1.ClusterTrustBundle{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"l": label}},
		Spec: certificatesv1.ClusterTrustBundleSpec{SignerName: signer, TrustBundle: text}}
}

func projected(sources ...corev1.VolumeProjection) *corev1.Pod {
	p := podWith(volume("v", corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: sources}}))
	p.Spec.NodeName, p.Spec.ServiceAccountName = "n1", "sa"
	return p
}

func TestTrustBundlesAreChosenByNameOrBySigner(t *testing.T) {
	inOwnMounts(t, func(t *testing.T, s *Set, api *clienttest.Fake) {
		one, two, three := issue(t, nil, true, time.Hour), issue(t, nil, true, time.Hour), issue(t, nil, true, time.Hour)
		api.Put(bundle("one", "", "", "text before\n"+one))
		api.Put(bundle("x.io:s:a", "x.io/s", "a", two))
		api.Put(bundle("x.io:s:b", "x.io/s", "b", two+three))
		by := func(src corev1.ClusterTrustBundleProjection) (string, error) {
			src.Path = "ca.pem"
			dirs, _, err := s.Mount(context.Background(), projected(corev1.VolumeProjection{ClusterTrustBundle: &src}))
			if err != nil {
				return "", err
			}
			b, err := os.ReadFile(dirs["v"] + "/ca.pem")
			return string(b), err
		}
		for _, c := range []struct {
			it   string
			src  corev1.ClusterTrustBundleProjection
			want []string
		}{
			{"a name", corev1.ClusterTrustBundleProjection{Name: ptr("one")}, []string{one}},
			{"a signer and labels", corev1.ClusterTrustBundleProjection{SignerName: ptr("x.io/s"), LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"l": "a"}}}, []string{two}},
			{"all of a signer, each once", corev1.ClusterTrustBundleProjection{SignerName: ptr("x.io/s"), LabelSelector: &metav1.LabelSelector{}}, []string{two, three}},
			{"no selector is none", corev1.ClusterTrustBundleProjection{SignerName: ptr("x.io/s"), Optional: ptr(true)}, nil},
			{"none, which is fine", corev1.ClusterTrustBundleProjection{Name: ptr("none"), Optional: ptr(true)}, nil},
		} {
			got, err := by(c.src)
			if err != nil || strings.Count(got, "BEGIN") != len(c.want) || strings.Contains(got, "text") {
				t.Errorf("%s: %q %v", c.it, got, err)
			}
			for _, w := range c.want {
				if !strings.Contains(got, w) {
					t.Errorf("%s: %q lacks %q", c.it, got, w)
				}
			}
		}
		if _, err := by(corev1.ClusterTrustBundleProjection{Name: ptr("none")}); err == nil || !strings.Contains(err.Error(), `"none" not found`) {
			t.Errorf("a bundle that is missing: %v", err)
		}
		if _, err := by(corev1.ClusterTrustBundleProjection{SignerName: ptr("y.io/s"), LabelSelector: &metav1.LabelSelector{}}); err == nil || !strings.Contains(err.Error(), "matched zero ClusterTrustBundles") {
			t.Errorf("a signer that has none: %v", err)
		}
	})
}

// only returns the one request there is, and answers it.
func answerOne(t *testing.T, api *clienttest.Fake, life time.Duration, condition string) *certificatesv1.PodCertificateRequest {
	t.Helper()
	var open *certificatesv1.PodCertificateRequest
	all, err := api.List(context.Background(), api.Kinds().ByGVK(certificatesv1.SchemeGroupVersion.WithKind("PodCertificateRequest")), podRequests("n1"))
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range all {
		if r := o.(*certificatesv1.PodCertificateRequest); len(r.Status.Conditions) == 0 {
			if open != nil {
				t.Fatal("two requests at once")
			}
			open = r.DeepCopy()
		}
	}
	if open == nil {
		t.Fatal("no request")
	}
	asked, err := x509.ParseCertificateRequest(open.Spec.StubPKCS10Request)
	if err != nil || asked.CheckSignature() != nil {
		t.Fatal(err)
	}
	open.Status.Conditions = []metav1.Condition{{Type: condition, Status: metav1.ConditionTrue, Reason: "Because", Message: "so"}}
	if condition == "Issued" {
		open.Status.CertificateChain = "text\n" + issue(t, asked.PublicKey, false, life)
		open.Status.NotAfter = ptr(metav1.NewTime(time.Now().Add(life)))
		open.Status.BeginRefreshAt = ptr(metav1.NewTime(time.Now().Add(life / 2)))
	}
	api.Put(open)
	return open
}

func TestAPodCertificateIsAskedForAndRenewed(t *testing.T) {
	inOwnMounts(t, func(t *testing.T, s *Set, api *clienttest.Fake) {
		api.Put(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", UID: "node-uid"}})
		api.Put(&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "sa", UID: "sa-uid"}})
		p := projected(corev1.VolumeProjection{PodCertificate: &corev1.PodCertificateProjection{SignerName: "x.io/s", KeyType: "ED25519",
			CredentialBundlePath: "all.pem", KeyPath: "key.pem", CertificateChainPath: "chain.pem", UserAnnotations: map[string]string{"x.io/a": "b"}}})
		for range 2 {
			if _, _, err := s.Mount(context.Background(), p); err == nil || !strings.Contains(err.Error(), "no credentials yet") {
				t.Fatalf("before the answer: %v", err)
			}
		}
		asked := answerOne(t, api, time.Hour, "Issued")
		if sp := asked.Spec; sp.PodUID != "u" || sp.ServiceAccountUID != "sa-uid" || sp.NodeUID != "node-uid" || sp.UnverifiedUserAnnotations["x.io/a"] != "b" ||
			!strings.HasPrefix(asked.Name, "req-") || asked.OwnerReferences[0].UID != types.UID("u") {
			t.Errorf("asked %+v", asked)
		}
		dirs, again := mustMount(t, s, p)
		key, chain := read(t, dirs["v"]+"/key.pem"), read(t, dirs["v"]+"/chain.pem")
		if !strings.HasPrefix(key, "-----BEGIN PRIVATE KEY") || !strings.HasPrefix(chain, "-----BEGIN CERTIFICATE") || read(t, dirs["v"]+"/all.pem") != key+chain {
			t.Errorf("key %q, chain %q", key, chain)
		}
		if left := time.Until(again); left < 29*time.Minute || left > 36*time.Minute {
			t.Errorf("renewed in %v", left)
		}

		// Time to renew: the old one stays until there is another.
		id := podCertificateKey{"u", "v", 0}
		c := s.certificates[id]
		c.renew = time.Now().Add(-time.Second)
		s.certificates[id] = c
		mustMount(t, s, p)
		if read(t, dirs["v"]+"/key.pem") != key {
			t.Error("the key changed before its certificate")
		}
		answerOne(t, api, time.Hour, "Issued")
		mustMount(t, s, p)
		if read(t, dirs["v"]+"/key.pem") == key {
			t.Error("the key stayed")
		}
		if err := s.Unmount(context.Background(), "u"); err != nil || len(s.certificates) > 0 {
			t.Errorf("left: %d, %v", len(s.certificates), err)
		}
	})
}

func TestADeniedCertificateIsNotAskedForAgain(t *testing.T) {
	inOwnMounts(t, func(t *testing.T, s *Set, api *clienttest.Fake) {
		api.Put(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", UID: "node-uid"}})
		api.Put(&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "sa", UID: "sa-uid"}})
		p := projected(corev1.VolumeProjection{PodCertificate: &corev1.PodCertificateProjection{SignerName: "x.io/s", KeyType: "ECDSAP256", KeyPath: "key.pem"}})
		if _, _, err := s.Mount(context.Background(), p); err == nil {
			t.Fatal("mounted without an answer")
		}
		answerOne(t, api, 0, "Denied")
		for range 2 {
			if _, _, err := s.Mount(context.Background(), p); err == nil || !strings.Contains(err.Error(), `was denied, reason="Because", message="so"`) {
				t.Errorf("after the refusal: %v", err)
			}
		}
	})
}

// What a pod waits for wakes it: its own request, and any bundle.
func TestCertificatesAndBundlesWakeTheirPods(t *testing.T) {
	api := clienttest.New(t, clienttest.Kinds())
	woken := make(chan types.UID, 100)
	s := New(Config{Dir: t.TempDir(), Client: api, Log: slog.Default(), Facts: func() downward.Facts { return downward.Facts{} }, Changed: func(uid types.UID) { woken <- uid }})
	ctx, stop := context.WithCancel(context.Background())
	over := make(chan struct{})
	go func() { defer close(over); s.Run(ctx) }()
	defer func() { stop(); <-over }()
	s.sources.use(projected(corev1.VolumeProjection{PodCertificate: &corev1.PodCertificateProjection{SignerName: "x.io/s"}},
		corev1.VolumeProjection{ClusterTrustBundle: &corev1.ClusterTrustBundleProjection{Name: ptr("one"), Path: "x"}}))
	if uid := <-woken; uid != "u" { // by the bundles that there are
		t.Errorf("woke %s", uid)
	}
	api.Put(&certificatesv1.PodCertificateRequest{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "r"}, Spec: certificatesv1.PodCertificateRequestSpec{NodeName: "n1", PodUID: "w"}})
	for uid := range woken {
		if uid == "w" {
			break
		}
	}
}
