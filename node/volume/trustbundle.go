package volume

import (
	"bytes"
	"context"
	"encoding/pem"
	"fmt"
	"slices"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"sampan/cluster/client"
)

// addTrustBundle puts certificates of authorities into a payload: those of one
// bundle by name, or of all that a signer's name and labels select.
func (s *Set) addTrustBundle(ctx context.Context, r *request, p payload, src *corev1.ClusterTrustBundleProjection, m int32) error {
	// All bundles are read by one list, whoever asks for which: a node may list
	// them, and a joined one then keeps one copy.
	all, err := client.List[*certificatesv1.ClusterTrustBundle](ctx, s.c.Client, client.Query{})
	if err != nil {
		return fmt.Errorf("while listing ClusterTrustBundles: %w", err)
	}
	chosen, err := choose(all, src)
	if err != nil {
		return err
	}
	if len(chosen) == 0 && !optional(src.Optional) {
		if src.Name != nil {
			return fmt.Errorf("while getting ClusterTrustBundle: clustertrustbundle.certificates.k8s.io %q not found", *src.Name)
		}
		return fmt.Errorf("combination of signerName and labelSelector matched zero ClusterTrustBundles")
	}
	return p.put(src.Path, s.private(r, anchors(chosen), m))
}

// choose returns the bundles that a pod asks for. No selector selects none, an
// empty one all.
func choose(all []*certificatesv1.ClusterTrustBundle, src *corev1.ClusterTrustBundleProjection) (chosen []*certificatesv1.ClusterTrustBundle, err error) {
	selector, err := metav1.LabelSelectorAsSelector(src.LabelSelector)
	if err != nil {
		return nil, fmt.Errorf("while parsing label selector: %w", err)
	}
	for _, b := range all {
		switch {
		case src.Name != nil:
			if b.Name == *src.Name {
				chosen = append(chosen, b)
			}
		case src.SignerName != nil && b.Spec.SignerName == *src.SignerName && selector.Matches(labels.Set(b.Labels)):
			chosen = append(chosen, b)
		}
	}
	return chosen, nil
}

// anchors is the certificates of bundles, each once, without text between
// them. They are in an order that nobody can rely on, and that stays: a volume
// is written when something has changed.
func anchors(all []*certificatesv1.ClusterTrustBundle) []byte {
	var blocks [][]byte
	for _, b := range all {
		for block, rest := pem.Decode([]byte(b.Spec.TrustBundle)); block != nil; block, rest = pem.Decode(rest) {
			blocks = append(blocks, block.Bytes)
		}
	}
	slices.SortFunc(blocks, bytes.Compare)
	var out bytes.Buffer
	for _, der := range slices.CompactFunc(blocks, bytes.Equal) {
		out.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	return out.Bytes()
}

// private is a file that only its user may read, if the pod has one, or a
// group for its files.
func (s *Set) private(r *request, data []byte, m int32) file {
	f := file{data: data, mode: m}
	if uid := onlyUser(r.pod); uid != nil || fsGroup(r.pod) != nil {
		f.mode, f.uid = 0o600, uid
	}
	return f
}
