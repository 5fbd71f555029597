package certificates

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/client"
	"sampan/cluster/client/clienttest"
	"sampan/cluster/controller/controllertest"
	"sampan/cluster/kind"
	"sampan/cluster/kind/certificates"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func authority(t *testing.T, until time.Time) Authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotBefore: time.Unix(0, 0), NotAfter: until,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return Authority{c, key}
}

// boxed is what a node's request for its own certificate says.
func boxed() *x509.CertificateRequest {
	return &x509.CertificateRequest{Subject: pkix.Name{CommonName: "system:node:box", Organization: []string{"system:nodes"}}}
}

func request(t *testing.T, signer string, asked *x509.CertificateRequest, usages ...certificatesv1.KeyUsage) *certificatesv1.CertificateSigningRequest {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, asked, key)
	if err != nil {
		t.Fatal(err)
	}
	return &certificatesv1.CertificateSigningRequest{ObjectMeta: metav1.ObjectMeta{Name: "r", CreationTimestamp: metav1.NewTime(noon.Add(-time.Minute))},
		Spec: certificatesv1.CertificateSigningRequestSpec{SignerName: signer, Usages: usages, Username: "system:node:box",
			Request: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})}}
}

// with adds a condition of that age.
func with(r *certificatesv1.CertificateSigningRequest, c certificatesv1.RequestConditionType, ago time.Duration) *certificatesv1.CertificateSigningRequest {
	r.Status.Conditions = append(r.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{Type: c, Status: corev1.ConditionTrue,
		LastUpdateTime: metav1.NewTime(noon.Add(-ago))})
	return r
}

func aged(r *certificatesv1.CertificateSigningRequest, age time.Duration) *certificatesv1.CertificateSigningRequest {
	r.CreationTimestamp = metav1.NewTime(noon.Add(-age))
	return r
}

func (d decision) String() string {
	var s []string
	if d.remove {
		s = append(s, "remove")
	}
	if d.approve != "" {
		s = append(s, "approve: "+d.approve)
	}
	if d.sign {
		s = append(s, "sign")
	}
	if d.fail != "" {
		s = append(s, "fail: "+d.fail)
	}
	if d.left != nil {
		s = append(s, "left: "+d.left.Error())
	}
	if d.again > 0 {
		s = append(s, "again "+d.again.String())
	}
	return strings.Join(s, "; ")
}

func TestDecide(t *testing.T) {
	const kubelet, serving, user = certificatesv1.KubeAPIServerClientKubeletSignerName, certificatesv1.KubeletServingSignerName, certificatesv1.KubeAPIServerClientSignerName
	const client, server, digital = certificatesv1.UsageClientAuth, certificatesv1.UsageServerAuth, certificatesv1.UsageDigitalSignature
	box := func(usages ...certificatesv1.KeyUsage) *certificatesv1.CertificateSigningRequest {
		return request(t, kubelet, boxed(), usages...)
	}
	named := boxed()
	named.DNSNames, named.IPAddresses = []string{"box"}, []net.IP{net.IPv4(10, 0, 0, 1)}
	const approved, denied = certificatesv1.CertificateApproved, certificatesv1.CertificateDenied
	for _, c := range []struct {
		it   string
		r    *certificatesv1.CertificateSigningRequest
		may  string
		want string
	}{
		{it: "a node renews its own", r: box(client, digital), may: "selfnodeclient", want: "approve: Auto approving self kubelet client certificate after SubjectAccessReview.; again 23h59m0s"},
		{it: "somebody asks for a node", r: box(client, digital), may: "nodeclient", want: "approve: Auto approving kubelet client certificate after SubjectAccessReview.; again 23h59m0s"},
		{it: "who may not is looked at again after as long", r: box(client, digital), want: `left: recognized csr "r" as [selfnodeclient nodeclient] but subject access review was not approved; again 1m0s`},
		{it: "an old one is looked at every so often", r: aged(box(client, digital), 20*time.Hour), want: `left: recognized csr "r" as [selfnodeclient nodeclient] but subject access review was not approved; again 16m40s`},
		{it: "a new one is looked at again soon", r: aged(box(client, digital), -time.Second), want: `left: recognized csr "r" as [selfnodeclient nodeclient] but subject access review was not approved; again 200ms`},
		{it: "until it is deleted", r: aged(box(client, digital), 24*time.Hour-time.Minute), want: `left: recognized csr "r" as [selfnodeclient nodeclient] but subject access review was not approved; again 1m0s`},
		{it: "not a node's certificate", r: box(client), may: "nodeclient", want: "again 23h59m0s"},
		{it: "nobody approves a server by itself", r: request(t, serving, named, server, digital), may: "nodeclient", want: "again 23h59m0s"},
		{it: "approved", r: with(box(client, digital), approved, 0), want: "sign; again 24h0m0s"},
		{it: "a server", r: with(request(t, serving, named, server, digital, certificatesv1.UsageKeyEncipherment), approved, 0), want: "sign; again 24h0m0s"},
		{it: "a server without a name", r: with(request(t, serving, boxed(), server, digital), approved, 0), want: "fail: DNS or IP subjectAltName is required; again 24h0m0s"},
		{it: "a client with a name", r: with(request(t, kubelet, named, client, digital), approved, 0), want: "fail: DNS subjectAltNames are not allowed; again 24h0m0s"},
		{it: "a user", r: with(request(t, user, &x509.CertificateRequest{}, client), approved, 0), want: "sign; again 24h0m0s"},
		{it: "a user who serves", r: with(request(t, user, &x509.CertificateRequest{}, client, server), approved, 0), want: "fail: invalid usage for client certificate: server auth; again 24h0m0s"},
		{it: "another signer's", r: with(request(t, "x.io/s", boxed(), client), approved, 0), want: "again 24h0m0s"},
		{it: "denied", r: with(box(client, digital), denied, 59*time.Minute), may: "nodeclient", want: "again 1m0s"},
		{it: "denied long ago", r: with(box(client, digital), denied, time.Hour), want: "remove"},
		{it: "asked long ago", r: func() *certificatesv1.CertificateSigningRequest {
			r := box(client)
			r.CreationTimestamp = metav1.NewTime(noon.Add(-25 * time.Hour))
			return r
		}(), want: "remove"},
		{it: "answered", r: func() *certificatesv1.CertificateSigningRequest {
			r := with(box(client, digital), approved, 0)
			r.Status.Certificate = []byte("x")
			return r
		}(), want: "again 1h0m0s"},
	} {
		t.Run(c.it, func(t *testing.T) {
			if got := decide(c.r, noon, func(sub string) bool { return sub == c.may }).String(); got != c.want {
				t.Errorf("%s\nwant %s", got, c.want)
			}
		})
	}
}

func TestCertificatesAreAsAskedWithinLimits(t *testing.T) {
	a := authority(t, noon.Add(1000*24*time.Hour))
	for _, c := range []struct {
		it    string
		asked *int32
		life  time.Duration
	}{
		{"a year", nil, longestLife - backdate},
		{"as asked", new(int32(3600)), time.Hour},
		{"no longer than a year", new(int32(1e9)), longestLife - backdate},
		{"no shorter than ten minutes", new(int32(1)), 10 * time.Minute},
	} {
		r := request(t, certificatesv1.KubeAPIServerClientSignerName, boxed(), certificatesv1.UsageClientAuth, certificatesv1.UsageDigitalSignature)
		r.Spec.ExpirationSeconds = c.asked
		data, err := a.sign(r, noon)
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(data)
		made, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		if got := made.NotAfter.Sub(noon); got != c.life || !made.NotBefore.Equal(noon.Add(-backdate)) {
			t.Errorf("%s: lives %v from %v", c.it, got, made.NotBefore)
		}
		if made.Subject.CommonName != "system:node:box" || made.IsCA || made.KeyUsage != x509.KeyUsageDigitalSignature || fmt.Sprint(made.ExtKeyUsage) != fmt.Sprint([]x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}) {
			t.Errorf("%s: made %+v", c.it, made.Subject)
		}
		if err := made.CheckSignatureFrom(a.Certificate); err != nil {
			t.Error(err)
		}
	}
	if _, err := authority(t, noon).sign(request(t, "x.io/s", boxed()), noon); err == nil {
		t.Error("an authority that has expired signs")
	}
	short := authority(t, noon.Add(time.Hour))
	data, err := short.sign(request(t, "x.io/s", boxed()), noon)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	if made, err := x509.ParseCertificate(block.Bytes); err != nil || !made.NotAfter.Equal(short.Certificate.NotAfter) {
		t.Errorf("a certificate outlives its authority: %v", err)
	}
}

func run(t *testing.T, start func(w client.Client) controllertest.Controller, test func(t *testing.T, w *clienttest.Fake), objs ...kind.Object) {
	synctest.Test(t, func(t *testing.T) {
		w := controllertest.New(t, kind.NewTable(certificates.Kinds()), objs...)
		w.Start(start(w))
		test(t, w.Fake)
	})
}

func TestANodesRequestIsApprovedSignedAndInTheEndDeleted(t *testing.T) {
	r := request(t, certificatesv1.KubeAPIServerClientKubeletSignerName, boxed(), certificatesv1.UsageClientAuth, certificatesv1.UsageDigitalSignature)
	r.CreationTimestamp, r.UID = metav1.NewTime(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)), "u"
	a := authority(t, noon.Add(1000*24*time.Hour))
	log := slog.New(slog.DiscardHandler)
	run(t, func(w client.Client) controllertest.Controller {
		return New(Config{Client: w, Log: log, Authority: a, May: func(_ context.Context, _ *certificatesv1.CertificateSigningRequest, sub string) bool {
			return sub == "selfnodeclient"
		}})
	}, func(t *testing.T, w *clienttest.Fake) {
		got, err := client.Get[*certificatesv1.CertificateSigningRequest](t.Context(), w, "", "r")
		if err != nil || len(got.Status.Certificate) == 0 || got.Status.Conditions[0].Reason != "AutoApproved" {
			t.Fatalf("got %+v, %v", got.Status, err)
		}
		// Admission fills in times; this client has none.
		got = got.DeepCopy()
		got.Status.Conditions[0].LastUpdateTime = metav1.Now()
		w.Put(got)
		time.Sleep(61 * time.Minute)
		synctest.Wait()
		if _, err := client.Get[*certificatesv1.CertificateSigningRequest](t.Context(), w, "", "r"); err == nil {
			t.Error("it is still there")
		}
	}, r)
}

func TestWhoMayLaterIsApprovedThenAndNoErrorIsLogged(t *testing.T) {
	r := request(t, certificatesv1.KubeAPIServerClientKubeletSignerName, boxed(), certificatesv1.UsageClientAuth, certificatesv1.UsageDigitalSignature)
	r.CreationTimestamp = metav1.NewTime(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC))
	var log strings.Builder
	var may atomic.Bool
	var asked atomic.Int64
	run(t, func(w client.Client) controllertest.Controller {
		return New(Config{Client: w, Log: slog.New(slog.NewTextHandler(&log, nil)), Authority: authority(t, noon.Add(1000*24*time.Hour)),
			May: func(context.Context, *certificatesv1.CertificateSigningRequest, string) bool {
				asked.Add(1)
				return may.Load()
			}})
	}, func(t *testing.T, w *clienttest.Fake) {
		time.Sleep(12 * time.Hour)
		synctest.Wait()
		if n := asked.Load() / 2; n < 50 || n > 65 { // two subresources each time
			t.Errorf("looked at %d times in half a day", n)
		}
		may.Store(true)
		time.Sleep(lastLook)
		synctest.Wait()
		got, err := client.Get[*certificatesv1.CertificateSigningRequest](t.Context(), w, "", "r")
		if err != nil || len(got.Status.Certificate) == 0 {
			t.Errorf("got %+v, %v", got.Status, err)
		}
	}, r)
	if log.Len() > 0 {
		t.Errorf("logged: %s", log.String())
	}
}

func TestOldPodRequestsGo(t *testing.T) {
	r := &certificatesv1.PodCertificateRequest{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "r", CreationTimestamp: metav1.NewTime(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC))}}
	run(t, func(w client.Client) controllertest.Controller {
		return NewCleaner(w, slog.New(slog.DiscardHandler))
	},
		func(t *testing.T, w *clienttest.Fake) {
			time.Sleep(14 * time.Minute)
			synctest.Wait()
			if _, err := client.Get[*certificatesv1.PodCertificateRequest](t.Context(), w, "a", "r"); err != nil {
				t.Error(err)
			}
			time.Sleep(2 * time.Minute)
			synctest.Wait()
			if _, err := client.Get[*certificatesv1.PodCertificateRequest](t.Context(), w, "a", "r"); err == nil {
				t.Error("it is still there")
			}
		}, r)
}

func TestTheAuthorityOfTheAPIServerIsPublished(t *testing.T) {
	bundle := func() string {
		return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authority(t, noon).Certificate.Raw}))
	}
	old := &certificatesv1.ClusterTrustBundle{ObjectMeta: metav1.ObjectMeta{Name: "kubernetes.io:kube-apiserver-serving:old"},
		Spec: certificatesv1.ClusterTrustBundleSpec{SignerName: servingSigner, TrustBundle: bundle()}}
	now := bundle()
	run(t, func(w client.Client) controllertest.Controller {
		return NewPublisher(w, slog.New(slog.DiscardHandler), now)
	},
		func(t *testing.T, w *clienttest.Fake) {
			check := func() {
				t.Helper()
				all, err := client.List[*certificatesv1.ClusterTrustBundle](t.Context(), w, client.Query{})
				if err != nil || len(all) != 1 || all[0].Spec.TrustBundle != now || !strings.HasPrefix(all[0].Name, "kubernetes.io:kube-apiserver-serving:") {
					t.Errorf("got %v, %v", all, err)
				}
			}
			check()
			all, _ := client.List[*certificatesv1.ClusterTrustBundle](t.Context(), w, client.Query{})
			w.Drop(certificates.ClusterTrustBundle(), "", all[0].Name)
			synctest.Wait()
			check()
		}, old)
}
