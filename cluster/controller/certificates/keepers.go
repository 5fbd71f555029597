package certificates

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"sampan/cluster/client"
	"sampan/cluster/controller/loop"
)

// keepPodRequests is how long a PodCertificateRequest is kept: its node has
// read the answer by then, or asks again.
const keepPodRequests = 15 * time.Minute

// Cleaner deletes old PodCertificateRequests.
type Cleaner struct {
	client client.Client
	loop   loop.Loop[types.NamespacedName]
}

// NewCleaner returns a Cleaner.
func NewCleaner(c client.Client, log *slog.Logger) *Cleaner {
	k := &Cleaner{client: c}
	k.loop = loop.Loop[types.NamespacedName]{Name: "podcertificaterequestcleaner", Log: log, Sync: k.sync}
	return k
}

// Run works until ctx ends.
func (k *Cleaner) Run(ctx context.Context) error {
	return k.loop.Drive(ctx, client.Changes(k.client, client.Query{}, func(_ context.Context, e client.Change[*certificatesv1.PodCertificateRequest]) {
		if e.Type == client.Added {
			k.loop.Add(types.NamespacedName{Namespace: e.Object.Namespace, Name: e.Object.Name})
		}
	}))
}

func (k *Cleaner) sync(ctx context.Context, key types.NamespacedName) (again time.Duration, err error) {
	r, err := client.Get[*certificatesv1.PodCertificateRequest](ctx, k.client, key.Namespace, key.Name)
	if err == nil {
		if left := time.Until(r.CreationTimestamp.Add(keepPodRequests)); left > 0 {
			return left, nil
		}
		err = client.Delete[*certificatesv1.PodCertificateRequest](ctx, k.client, key.Namespace, key.Name,
			&metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(r.UID))})
	}
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	return 0, err
}

// servingSigner is the signer of the API server's certificates.
const servingSigner = "kubernetes.io/kube-apiserver-serving"

// Publisher keeps the ClusterTrustBundle by which pods know the API server,
// and no other of that signer.
type Publisher struct {
	client client.Client
	bundle string
	loop   loop.Loop[string] // one key: the bundle's name
}

// NewPublisher returns a Publisher of a bundle, PEM.
func NewPublisher(c client.Client, log *slog.Logger, bundle string) *Publisher {
	p := &Publisher{client: c, bundle: bundle}
	p.loop = loop.Loop[string]{Name: "clustertrustbundle-publisher", Log: log, Sync: p.sync}
	return p
}

// name changes with the bundle, so that nobody reads half a change.
func (p *Publisher) name() string {
	hash := sha256.Sum256([]byte(p.bundle))
	return fmt.Sprintf("%s:%x", strings.ReplaceAll(servingSigner, "/", ":"), hash[:12])
}

// Run works until ctx ends.
func (p *Publisher) Run(ctx context.Context) error {
	p.loop.Add(p.name())
	return p.loop.Drive(ctx, client.Changes(p.client, client.Query{}, func(_ context.Context, e client.Change[*certificatesv1.ClusterTrustBundle]) {
		if e.Object.Spec.SignerName == servingSigner {
			p.loop.Add(p.name())
		}
	}))
}

func (p *Publisher) sync(ctx context.Context, name string) (time.Duration, error) {
	all, err := client.List[*certificatesv1.ClusterTrustBundle](ctx, p.client, client.Query{})
	if err != nil {
		return 0, err
	}
	var have *certificatesv1.ClusterTrustBundle
	var failed error
	for _, b := range all {
		switch {
		case b.Name == name:
			have = b
		case b.Spec.SignerName == servingSigner:
			if err := client.Delete[*certificatesv1.ClusterTrustBundle](ctx, p.client, "", b.Name, nil); err != nil && !apierrors.IsNotFound(err) {
				failed = errors.Join(failed, err)
			}
		}
	}
	switch {
	case have == nil:
		_, err = client.Create(ctx, p.client, &certificatesv1.ClusterTrustBundle{ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec: certificatesv1.ClusterTrustBundleSpec{SignerName: servingSigner, TrustBundle: p.bundle}})
	case have.Spec.TrustBundle != p.bundle:
		next := have.DeepCopy()
		next.Spec.TrustBundle = p.bundle
		_, err = client.Update(ctx, p.client, next)
	}
	return 0, errors.Join(failed, err)
}
