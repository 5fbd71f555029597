package kind_test

import (
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"
	certificatesv1beta1 "k8s.io/api/certificates/v1beta1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/kind"
)

func TestWhatUpstreamStoresAsBetaIsReadAsTheHub(t *testing.T) {
	v := kind.StoredLike[certificatesv1beta1.ClusterTrustBundle, certificatesv1.ClusterTrustBundle](certificatesv1beta1.SchemeGroupVersion)
	if v.GVK != certificatesv1beta1.SchemeGroupVersion.WithKind("ClusterTrustBundle") {
		t.Errorf("it is of %s", v.GVK)
	}
	beta := v.New().(*certificatesv1beta1.ClusterTrustBundle)
	beta.ObjectMeta = metav1.ObjectMeta{Name: "a", Labels: map[string]string{"b": "c"}}
	beta.Spec = certificatesv1beta1.ClusterTrustBundleSpec{SignerName: "example.com/s", TrustBundle: "x"}
	hub, err := v.ToHub(beta)
	if err != nil {
		t.Fatal(err)
	}
	got := hub.(*certificatesv1.ClusterTrustBundle)
	if got.Name != "a" || got.Labels["b"] != "c" || got.Spec.SignerName != "example.com/s" || got.Spec.TrustBundle != "x" {
		t.Errorf("got %+v", got)
	}
}
