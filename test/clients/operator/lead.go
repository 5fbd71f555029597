package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// keyPair is what the webhooks are served with: a certificate signed by itself.
type keyPair struct {
	pair        tls.Certificate
	certificate []byte // PEM
}

func newKeyPair() (*keyPair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "crews-operator"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	if err := pem.Encode(&text, &pem.Block{Type: "CERTIFICATE", Bytes: der}); err != nil {
		return nil, err
	}
	return &keyPair{tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, text.Bytes()}, nil
}

// registrar writes down, when this process begins to lead, that its webhooks
// are the ones to ask.
type registrar struct {
	client.Client
	port int
	ca   []byte
}

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (*registrar) NeedLeaderElection() bool { return true }

// Start implements manager.Runnable.
func (r *registrar) Start(ctx context.Context) error {
	at := func(path string) map[string]any {
		return map[string]any{"url": fmt.Sprintf("https://127.0.0.1:%d%s", r.port, path), "caBundle": r.ca}
	}
	registration := schema.GroupVersion{Group: "admissionregistration.k8s.io", Version: "v1"}
	for _, p := range []struct {
		gvk   schema.GroupVersionKind
		name  string
		patch any
	}{
		{schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"}, "crews.clients.test",
			map[string]any{"spec": map[string]any{"conversion": map[string]any{"strategy": "Webhook", "webhook": map[string]any{
				"conversionReviewVersions": []string{"v1"}, "clientConfig": at("/convert")}}}}},
		{registration.WithKind("MutatingWebhookConfiguration"), "crews",
			[]any{map[string]any{"op": "replace", "path": "/webhooks/0/clientConfig", "value": at("/mutate-clients-test-v1-crew")}}},
		{registration.WithKind("ValidatingWebhookConfiguration"), "crews",
			[]any{map[string]any{"op": "replace", "path": "/webhooks/0/clientConfig", "value": at("/validate-clients-test-v1-crew")}}},
	} {
		body, err := json.Marshal(p.patch)
		if err != nil {
			return err
		}
		kind := types.JSONPatchType
		if _, merge := p.patch.(map[string]any); merge {
			kind = types.MergePatchType
		}
		obj := &unstructured.Unstructured{}
		obj.SetGroupVersionKind(p.gvk)
		obj.SetName(p.name)
		if err := r.Patch(ctx, obj, client.RawPatch(kind, body), owner); err != nil {
			return fmt.Errorf("say where the webhooks of %s are: %w", p.name, err)
		}
	}
	return nil
}
