package bootstrap

import (
	"net/netip"
	"time"

	"k8s.io/apimachinery/pkg/util/version"

	"sampan/cluster/admission"
	"sampan/cluster/admission/dynamic"
	"sampan/cluster/admission/policy"
	"sampan/cluster/auth"
	"sampan/cluster/client"
	"sampan/cluster/schema"
)

// admission is what looks at a write before it is stored, as the configuration
// turns it on and off.
func (r *running) admission(schemas *schema.Schemas) ([]admission.Member, error) {
	told, err := admission.LoadConfiguration(r.cfg.AdmissionFile)
	if err != nil {
		return nil, err
	}
	return admission.Select(r.admissionTable(schemas, told), r.cfg.EnableAdmission, r.cfg.DisableAdmission)
}

// admissionTable has all plugins in upstream's order, under upstream's names,
// on where upstream has them on; NodeRestriction too, which every installer of
// Kubernetes turns on.
func (r *running) admissionTable(schemas *schema.Schemas, told admission.Configuration) []admission.Named {
	is := func(plugin any) func() (any, error) { return func() (any, error) { return plugin, nil } }
	asked := dynamic.Config{Objects: r.reader, Calls: r.webhooks, May: expressionRights{r.may}, Log: r.log, Metrics: dynamic.NewMetrics(r.metrics)}
	held := policy.Config{Objects: r.reader, May: expressionRights{r.may}, Types: schemas.TypeConverter, Log: r.log, Metrics: policy.NewMetrics(r.metrics)}
	named := func(name string, on bool, plugin func() (any, error)) admission.Named {
		return admission.Named{Name: name, On: on, Plugin: plugin}
	}
	const on, off = true, false
	return []admission.Named{
		named("AlwaysAdmit", off, is(admission.Everything{})),
		named("NamespaceAutoProvision", off, is(admission.AutoProvision{Reader: r.reader, Client: func() client.Client { return r.verbs.As(auth.Server()) }})),
		named("NamespaceLifecycle", on, is(admission.Namespaces{Reader: r.reader})),
		named("NamespaceExists", off, is(admission.NamespaceExists{Reader: r.reader})),
		named("LimitPodHardAntiAffinityTopology", off, is(admission.HostnameAntiAffinity{})),
		named("LimitRanger", on, is(admission.LimitRanges{Reader: r.reader})),
		named("ServiceAccount", on, is(admission.ServiceAccounts{Reader: r.reader})),
		named("NodeRestriction", on, is(admission.NodeRestriction{Reader: r.reader})),
		named("TaintNodesByCondition", on, is(admission.NodeTaints{})),
		named("AlwaysPullImages", off, is(admission.AlwaysPullImages{})),
		named("ImagePolicyWebhook", off, func() (any, error) { return admission.NewImagePolicy(told["ImagePolicyWebhook"]) }),
		named("PodSecurity", on, func() (any, error) {
			p, err := admission.NewPodSecurity(r.reader, told["PodSecurity"])
			if err == nil {
				r.counted = append(r.counted, p.WriteMetrics)
			}
			return p, err
		}),
		named("PodNodeSelector", off, func() (any, error) { return admission.NewPodNodeSelector(r.reader, told["PodNodeSelector"]) }),
		named("Priority", on, is(admission.Priorities{Reader: r.reader})),
		named("DefaultTolerationSeconds", on, is(admission.Tolerations{})),
		named("PodTolerationRestriction", off, func() (any, error) {
			return admission.NewPodTolerationRestriction(r.reader, told["PodTolerationRestriction"])
		}),
		named("EventRateLimit", off, func() (any, error) { return admission.NewEventRateLimit(told["EventRateLimit"]) }),
		named("ExtendedResourceToleration", off, is(admission.ExtendedResources{})),
		named("DefaultStorageClass", on, is(admission.DefaultStorageClass{Reader: r.reader})),
		named("StorageObjectInUseProtection", on, is(admission.InUse{})),
		named("PodGroupProtection", off, nil), // upstream has it on, and the kind that it is about off
		named("OwnerReferencesPermissionEnforcement", off, is(admission.OwnerReferences{May: expressionRights{r.may}, Kinds: r.kinds})),
		named("", on, is(admission.ChangeTimes{})),
		named("PersistentVolumeClaimResize", on, is(admission.ClaimResize{Reader: r.reader})),
		named("RuntimeClass", on, is(admission.RuntimeClasses{Reader: r.reader})),
		named("", on, is(admission.Certificates{May: r.may, Now: time.Now})),
		named("CertificateApproval", on, is(admission.CertificateApproval{May: r.may})),
		named("CertificateSigning", on, is(admission.CertificateSigning{May: r.may})),
		named("ClusterTrustBundleAttest", on, is(admission.ClusterTrustBundleAttest{May: r.may})),
		named("CertificateSubjectRestriction", on, is(admission.CertificateSubjectRestriction{})),
		named("DefaultIngressClass", on, is(admission.DefaultIngressClass{Reader: r.reader})),
		named("DenyServiceExternalIPs", off, is(admission.NoExternalIPs{})),
		named("PodTopologyLabels", on, is(admission.TopologyLabels{Reader: r.reader})),
		named("NodeDeclaredFeatureValidator", on, is(admission.DeclaredFeatures{Reader: r.reader, Version: version.MustParseGeneric(schema.Version)})),
		named("PodResizeValidator", on, is(admission.PodResizes{Reader: r.reader})),
		named("MutatingAdmissionPolicy", on, func() (any, error) { return policy.NewMutating(held) }),
		named("MutatingAdmissionWebhook", on, func() (any, error) { return dynamic.NewMutating(asked) }),
		named("", on, func() (any, error) {
			return admission.NewServices(r.reader, []netip.Prefix{r.cfg.Services}, admission.PortRange{First: 30000, Last: 32767})
		}),
		named("", on, is(admission.Escalation{May: r.may, Rules: r.rbac})),
		named("ValidatingAdmissionPolicy", on, func() (any, error) { return policy.NewValidating(held) }),
		named("ValidatingAdmissionWebhook", on, func() (any, error) { return dynamic.NewValidating(asked) }),
		named("ResourceQuota", on, is(admission.NewQuotas(r.reader))), // what others refuse or change is settled by then
		named("AlwaysDeny", off, is(admission.Nothing{})),
	}
}
