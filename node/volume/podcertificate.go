package volume

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	mathrand "math/rand/v2"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"sampan/cluster/client"
)

// podCertificateKey is one podCertificate source of one volume.
type podCertificateKey struct {
	pod    types.UID
	volume string
	source int
}

// podCertificate is what became of a source. Keys are in memory only: a
// program that starts again asks for new ones (KEP-4317).
type podCertificate struct {
	key, chain []byte // PEM, in use; nil before the first
	renew      time.Time
	refused    error // for good: the pod must be made again

	// A request under way; name is empty if there is none.
	name    string
	asked   time.Time
	nextKey []byte
}

// lost is how long a request that cannot be seen is waited for: it may have
// been deleted, or our view of it may be late.
const lost = 5 * time.Minute

// addPodCertificate puts a key of the pod's own, and a certificate for it from
// the signer asked for, into a payload. Until there is one the volume waits.
func (s *Set) addPodCertificate(ctx context.Context, r *request, p payload, src *corev1.PodCertificateProjection, index int, m int32) error {
	key := podCertificateKey{r.pod.UID, r.v.Name, index}
	s.mu.Lock()
	c := s.certificates[key]
	s.mu.Unlock()
	if c.name != "" {
		if err := s.answer(ctx, r, &c); err != nil {
			return err
		}
	}
	if c.refused == nil && c.name == "" && !time.Now().Before(c.renew) {
		if err := s.ask(ctx, r, src, &c); err != nil {
			return err
		}
	}
	s.mu.Lock()
	s.certificates[key] = c
	s.mu.Unlock()
	switch {
	case c.refused != nil:
		return c.refused
	case c.chain == nil:
		return fmt.Errorf("no credentials yet: PodCertificateRequest %s/%s is not answered", r.pod.Namespace, c.name)
	case c.name == "":
		r.renew(c.renew)
	}
	files := []struct {
		path string
		data []byte
	}{{src.CredentialBundlePath, append(bytes.Clone(c.key), c.chain...)}, {src.KeyPath, c.key}, {src.CertificateChainPath, c.chain}}
	for _, f := range files {
		if f.path == "" {
			continue
		}
		if err := p.put(f.path, s.private(r, f.data, m)); err != nil {
			return err
		}
	}
	return nil
}

// answer looks at the request under way.
func (s *Set) answer(ctx context.Context, r *request, c *podCertificate) error {
	asked, err := s.podRequest(ctx, r.pod, c.name)
	if err != nil {
		return fmt.Errorf("while getting PodCertificateRequest %s/%s: %w", r.pod.Namespace, c.name, err)
	}
	if asked == nil {
		if time.Since(c.asked) > lost {
			c.name, c.nextKey = "", nil
		}
		return nil
	}
	for _, end := range asked.Status.Conditions {
		name := r.pod.Namespace + "/" + c.name
		switch end.Type {
		case certificatesv1.PodCertificateRequestConditionTypeIssued:
			refresh := asked.Status.NotAfter
			if asked.Status.BeginRefreshAt != nil {
				refresh = asked.Status.BeginRefreshAt
			}
			c.key, c.chain, c.name, c.nextKey = c.nextKey, plainChain(asked.Status.CertificateChain), "", nil
			if refresh != nil {
				c.renew = refresh.Add(mathrand.N(lost)) // not all nodes at once
			}
		case certificatesv1.PodCertificateRequestConditionTypeDenied:
			c.refused = fmt.Errorf("PodCertificateRequest %s was denied, reason=%q, message=%q", name, end.Reason, end.Message)
		case certificatesv1.PodCertificateRequestConditionTypeFailed:
			c.refused = fmt.Errorf("PodCertificateRequest %s failed, reason=%q, message=%q", name, end.Reason, end.Message)
		}
	}
	return nil
}

// podRequest is a request of this node by name, nil if it is not there.
func (s *Set) podRequest(ctx context.Context, pod *corev1.Pod, name string) (*certificatesv1.PodCertificateRequest, error) {
	all, err := client.List[*certificatesv1.PodCertificateRequest](ctx, s.c.Client, podRequests(pod.Spec.NodeName))
	if err != nil {
		return nil, err
	}
	for _, r := range all {
		if r.Namespace == pod.Namespace && r.Name == name {
			return r, nil
		}
	}
	return nil, nil
}

// podRequests selects what a node may see: requests of its own.
func podRequests(node string) client.Query {
	return client.Query{Index: "spec.nodeName", Value: node}
}

// ask makes a key and writes a request.
func (s *Set) ask(ctx context.Context, r *request, src *corev1.PodCertificateProjection, c *podCertificate) error {
	account, err := client.Get[*corev1.ServiceAccount](ctx, s.c.Client, r.pod.Namespace, r.pod.Spec.ServiceAccountName)
	if err != nil {
		return fmt.Errorf("while fetching service account: %w", err)
	}
	node, err := client.Get[*corev1.Node](ctx, s.c.Client, "", r.pod.Spec.NodeName)
	if err != nil {
		return fmt.Errorf("while getting node object: %w", err)
	}
	key, stub, err := newKey(src.KeyType)
	if err != nil {
		return fmt.Errorf("while generating keypair: %w", err)
	}
	made, err := client.Create(ctx, s.c.Client, &certificatesv1.PodCertificateRequest{
		ObjectMeta: metav1.ObjectMeta{Namespace: r.pod.Namespace, GenerateName: "req-",
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: r.pod.Name, UID: r.pod.UID}}},
		Spec: certificatesv1.PodCertificateRequestSpec{
			SignerName: src.SignerName, PodName: r.pod.Name, PodUID: r.pod.UID,
			ServiceAccountName: account.Name, ServiceAccountUID: account.UID,
			NodeName: types.NodeName(node.Name), NodeUID: node.UID,
			MaxExpirationSeconds: src.MaxExpirationSeconds, StubPKCS10Request: stub, UnverifiedUserAnnotations: src.UserAnnotations,
		}})
	if apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("no free name for a PodCertificateRequest: %w", err)
	}
	if err != nil {
		return fmt.Errorf("while creating PodCertificateRequest: %w", err)
	}
	c.name, c.asked, c.nextKey = made.Name, time.Now(), key
	return nil
}

// newKey makes a key of a type that the API has, as PEM, and an empty request
// that proves that we have it.
func newKey(keyType string) (key, stub []byte, err error) {
	var signer crypto.Signer
	switch keyType {
	case "RSA3072":
		signer, err = rsa.GenerateKey(rand.Reader, 3072)
	case "RSA4096":
		signer, err = rsa.GenerateKey(rand.Reader, 4096)
	case "ECDSAP256":
		signer, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ECDSAP384":
		signer, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "ECDSAP521":
		signer, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case "ED25519":
		_, signer, err = ed25519.GenerateKey(rand.Reader)
	default:
		err = fmt.Errorf("unknown key type %q", keyType)
	}
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(signer)
	if err != nil {
		return nil, nil, err
	}
	stub, err = x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, signer)
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), stub, err
}

// plainChain is a chain of certificates without text and headers between them.
func plainChain(chain string) []byte {
	var out bytes.Buffer
	for block, rest := pem.Decode([]byte(chain)); block != nil; block, rest = pem.Decode(rest) {
		out.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: block.Bytes}))
	}
	return out.Bytes()
}
