package bootstrap

import (
	"slices"
	"strings"
	"testing"

	"sampan/cluster/schema"
)

// Upstream's plugins in their order (pkg/kubeapiserver/options/plugins.go of
// v1.37); those with a + are on.
const plugins = `AlwaysAdmit NamespaceAutoProvision +NamespaceLifecycle NamespaceExists LimitPodHardAntiAffinityTopology +LimitRanger +ServiceAccount NodeRestriction
+TaintNodesByCondition AlwaysPullImages ImagePolicyWebhook +PodSecurity PodNodeSelector +Priority +DefaultTolerationSeconds PodTolerationRestriction EventRateLimit
ExtendedResourceToleration +DefaultStorageClass +StorageObjectInUseProtection +PodGroupProtection OwnerReferencesPermissionEnforcement +PersistentVolumeClaimResize
+RuntimeClass +CertificateApproval +CertificateSigning +ClusterTrustBundleAttest +CertificateSubjectRestriction +DefaultIngressClass DenyServiceExternalIPs
+PodTopologyLabels +NodeDeclaredFeatureValidator +PodResizeValidator +MutatingAdmissionPolicy +MutatingAdmissionWebhook +ValidatingAdmissionPolicy
+ValidatingAdmissionWebhook +ResourceQuota AlwaysDeny`

func TestAdmissionIsUpstreams(t *testing.T) {
	var names []string
	on, here := map[string]bool{}, map[string]bool{}
	for _, n := range (&running{}).admissionTable(schema.New(nil), nil) {
		if n.Name == "" {
			if n.Plugin == nil {
				t.Error("what has no name is not there")
			}
			continue
		}
		names = append(names, n.Name)
		on[n.Name], here[n.Name] = n.On, n.Plugin != nil
	}
	want := strings.Fields(plugins)
	if got := strings.Fields(strings.ReplaceAll(plugins, "+", "")); !slices.Equal(names, got) {
		t.Errorf("the plugins are %q, upstream's %q", names, got)
	}
	for _, w := range want {
		name, upstream := strings.CutPrefix(w, "+")
		switch {
		case name == "NodeRestriction": // every installer turns it on
			upstream = true
		case !here[name]:
			upstream = false
		}
		if on[name] != upstream {
			t.Errorf("%s is on: %v, want %v", name, on[name], upstream)
		}
	}
}
