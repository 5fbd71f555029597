package oldversion_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"sampan/cluster/kind"
	"sampan/cluster/kind/oldversion"
)

var update = flag.Bool("update", false, "write down what the manifests in testdata become; read it")

// Each file of testdata/manifests is an old manifest, what it is in the current
// version with all defaults, and what the old version shows of it afterwards.
func TestOldManifests(t *testing.T) {
	table := served()
	files, err := filepath.Glob("testdata/manifests/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no manifests: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			parts := strings.Split(string(text), "\n---\n")
			k, v, hub := read(t, table, parts[0])
			k.Default(hub)
			k.Prepare(hub, nil)
			if errs := k.ValidateAs(v.GVK, hub, nil); len(errs) > 0 {
				t.Errorf("the current version refuses it: %v", errs.ToAggregate())
			}
			back, err := v.FromHub(hub)
			if err != nil {
				t.Fatal(err)
			}
			if *update {
				parts = []string{parts[0], strings.TrimSpace(written(t, hub)), written(t, back)}
				if err := os.WriteFile(file, []byte(strings.Join(parts, "\n---\n")), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if len(parts) != 3 {
				t.Fatalf("%d documents, want 3", len(parts))
			}
			compare(t, "the current version", hub, parts[1])
			compare(t, "the old version", back, parts[2])
		})
	}
}

// read makes a hub of a manifest as a request would.
func read(t *testing.T, table *kind.Table, text string) (*kind.Kind, *kind.Version, kind.Object) {
	t.Helper()
	var m metav1.TypeMeta
	if err := yaml.Unmarshal([]byte(text), &m); err != nil {
		t.Fatal(err)
	}
	k := table.ByGVK(m.GroupVersionKind())
	if k == nil || k.Version(m.GroupVersionKind()) == nil {
		t.Fatalf("%s is not served", m.GroupVersionKind())
	}
	v := k.Version(m.GroupVersionKind())
	obj := v.New()
	if err := yaml.UnmarshalStrict([]byte(text), obj); err != nil {
		t.Fatal(err)
	}
	if v.Default != nil {
		v.Default(obj)
	}
	hub, err := v.ToHub(obj)
	if err != nil {
		t.Fatal(err)
	}
	return k, v, hub
}

func compare(t *testing.T, what string, obj kind.Object, want string) {
	t.Helper()
	if got := strings.TrimSpace(written(t, obj)); got != strings.TrimSpace(want) {
		t.Errorf("%s is\n%s\nwant\n%s", what, got, want)
	}
}

// written is an object as YAML, without its status.
func written(t *testing.T, obj kind.Object) string {
	t.Helper()
	data, err := json.Marshal(obj)
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]any
	if err := json.Unmarshal(data, &all); err != nil {
		t.Fatal(err)
	}
	delete(all, "status")
	text, err := yaml.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestASelectorMayChangeWhereItAlwaysMight(t *testing.T) {
	table := served()
	manifest := func(version, label string) string {
		return fmt.Sprintf(`{apiVersion: %s, kind: Deployment, metadata: {name: a, namespace: b}, spec: {selector: {matchLabels: {app: %s}},
			template: {metadata: {labels: {app: %s}}, spec: {containers: [{name: c, image: i}]}}}}`, version, label, label)
	}
	for version, wanted := range map[string]bool{"extensions/v1beta1": true, "apps/v1beta1": true, "apps/v1beta2": false} {
		k, v, old := read(t, table, manifest(version, "one"))
		_, _, next := read(t, table, manifest(version, "two"))
		k.Default(old)
		k.Default(next)
		if errs := k.ValidateAs(v.GVK, next, old); (len(errs) == 0) != wanted {
			t.Errorf("%s: a changed selector is refused with %v; accepted should be %v", version, errs, wanted)
		}
	}
}

func TestWhoSignsARequestThatNamesNobody(t *testing.T) {
	table := served()
	for _, c := range []struct {
		it, name, org, dns, usages, want string
	}{
		{"a node's own certificate", "system:node:a", "system:nodes", "", "digital signature, key encipherment, client auth", "kubernetes.io/kube-apiserver-client-kubelet"},
		{"the same without encipherment", "system:node:a", "system:nodes", "", "digital signature, client auth", "kubernetes.io/kube-apiserver-client-kubelet"},
		{"what a node serves with", "system:node:a", "system:nodes", "a", "digital signature, server auth", "kubernetes.io/kubelet-serving"},
		{"a node with other usages", "system:node:a", "system:nodes", "", "digital signature, code signing", "kubernetes.io/legacy-unknown"},
		{"somebody else", "a", "b", "", "digital signature, client auth", "kubernetes.io/legacy-unknown"},
		{"nothing said of usages", "system:node:a", "system:nodes", "", "", "kubernetes.io/legacy-unknown"},
	} {
		t.Run(c.it, func(t *testing.T) {
			usages := ""
			if c.usages != "" {
				usages = ", usages: [" + c.usages + "]"
			}
			k, v, hub := read(t, table, fmt.Sprintf(`{apiVersion: certificates.k8s.io/v1beta1, kind: CertificateSigningRequest, metadata: {name: a}, spec: {request: %s%s}}`,
				request(t, c.name, c.org, c.dns), usages))
			k.Default(hub)
			if errs := k.ValidateAs(v.GVK, hub, nil); len(errs) > 0 {
				t.Error(errs.ToAggregate())
			}
			if errs := k.ValidateAs(k.GVK, hub, nil); (len(errs) > 0) != strings.Contains(c.want, "legacy") {
				t.Errorf("as v1 it has the faults %v", errs)
			}
			var got struct{ Spec struct{ SignerName string } }
			data, _ := json.Marshal(hub)
			if err := json.Unmarshal(data, &got); err != nil {
				t.Fatal(err)
			}
			if got.Spec.SignerName != c.want {
				t.Errorf("signer %q, want %q", got.Spec.SignerName, c.want)
			}
		})
	}
}

// request is a certificate request as it is in a manifest.
func request(t *testing.T, name, org, dns string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: name, Organization: []string{org}}}
	if dns != "" {
		template.DNSNames = []string{dns}
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	if err := pem.Encode(&text, &pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}); err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(text.Bytes())
}

func TestOldReviewsAskAndAnswerAsTheCurrentOnes(t *testing.T) {
	for _, r := range oldversion.Reviews() {
		if got := kind.Deprecation(r.GVK, r.New()); !strings.Contains(got, "; use "+r.Of.GroupVersion().String()+" "+r.Of.Kind) {
			t.Errorf("%s warns %q", r.GVK, got)
		}
		for seed := range int64(20) {
			old := r.New()
			filler(seed).Fill(old)
			old.GetObjectKind().SetGroupVersionKind(r.GVK)
			want := old.DeepCopyObject()
			question, err := r.Ask(old)
			if err != nil {
				t.Fatal(err)
			}
			r.Answer(old, question)
			if !reflect.DeepEqual(old, want) {
				t.Fatalf("%s, seed %d: %v comes back as %v", r.GVK, seed, want, old)
			}
		}
	}
}
