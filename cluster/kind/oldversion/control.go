package oldversion

import (
	"maps"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	admissionregistrationv1beta1 "k8s.io/api/admissionregistration/v1beta1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	flowcontrolv1beta1 "k8s.io/api/flowcontrol/v1beta1"
	flowcontrolv1beta2 "k8s.io/api/flowcontrol/v1beta2"
	flowcontrolv1beta3 "k8s.io/api/flowcontrol/v1beta3"
	policyv1 "k8s.io/api/policy/v1"
	policyv1beta1 "k8s.io/api/policy/v1beta1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
	"sampan/cluster/kind/apiextensions"
	"sampan/cluster/kind/autoscaling"
)

// emptySelector is the label that stands for what an empty selector means in the
// other version: no pod in v1beta1, every pod in v1. It is upstream's.
const emptySelector = "pdb.kubernetes.io/deprecated-v1beta1-empty-selector-match"

func budgets(t table) {
	everything, nothing := &metav1.LabelSelector{}, &metav1.LabelSelector{}
	stands := func(op metav1.LabelSelectorOperator) *metav1.LabelSelector {
		return &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: emptySelector, Operator: op}}}
	}
	all, none := stands(metav1.LabelSelectorOpDoesNotExist), stands(metav1.LabelSelectorOpExists)
	add(t, policyv1.SchemeGroupVersion, policyv1beta1.SchemeGroupVersion, differs[policyv1beta1.PodDisruptionBudget, policyv1.PodDisruptionBudget]{
		up: func(hub *policyv1.PodDisruptionBudget, b *policyv1beta1.PodDisruptionBudget) {
			switch {
			case equality.Semantic.DeepEqual(b.Spec.Selector, nothing):
				hub.Spec.Selector = none.DeepCopy()
			case equality.Semantic.DeepEqual(b.Spec.Selector, all):
				hub.Spec.Selector = everything.DeepCopy()
			case b.Spec.Selector != nil:
				// Whoever wrote the label beside something else did not mean it.
				kept := *b.Spec.Selector
				kept.MatchExpressions = nil
				for _, e := range b.Spec.Selector.MatchExpressions {
					if e.Key != emptySelector {
						kept.MatchExpressions = append(kept.MatchExpressions, e)
					}
				}
				hub.Spec.Selector = &kept
			}
		},
		down: func(b *policyv1beta1.PodDisruptionBudget, hub *policyv1.PodDisruptionBudget) {
			switch {
			case equality.Semantic.DeepEqual(hub.Spec.Selector, none):
				b.Spec.Selector = nothing.DeepCopy()
			case equality.Semantic.DeepEqual(hub.Spec.Selector, everything):
				b.Spec.Selector = all.DeepCopy()
			}
		},
	})
}

// webhooks of v1beta1 were asked with less care: failures did not count, and
// they did not have to say what they change elsewhere.
func webhooks(t table) {
	hub, beta := admissionregistrationv1.SchemeGroupVersion, admissionregistrationv1beta1.SchemeGroupVersion
	lax := forgive(func(e *field.Error) bool {
		switch e.Type {
		case field.ErrorTypeNotSupported:
			return e.BadValue == admissionregistrationv1.SideEffectClassSome || e.BadValue == admissionregistrationv1.SideEffectClassUnknown
		case field.ErrorTypeDuplicate: // the only one is of names
			return true
		}
		return false
	})
	add(t, hub, beta, differs[admissionregistrationv1beta1.ValidatingWebhookConfiguration, admissionregistrationv1.ValidatingWebhookConfiguration]{
		old: func(c *admissionregistrationv1beta1.ValidatingWebhookConfiguration) {
			for i := range c.Webhooks {
				w := &c.Webhooks[i]
				defaultWebhook(&w.FailurePolicy, &w.MatchPolicy, &w.SideEffects, &w.TimeoutSeconds, &w.AdmissionReviewVersions)
			}
		},
		forgive: lax,
	})
	add(t, hub, beta, differs[admissionregistrationv1beta1.MutatingWebhookConfiguration, admissionregistrationv1.MutatingWebhookConfiguration]{
		old: func(c *admissionregistrationv1beta1.MutatingWebhookConfiguration) {
			for i := range c.Webhooks {
				w := &c.Webhooks[i]
				defaultWebhook(&w.FailurePolicy, &w.MatchPolicy, &w.SideEffects, &w.TimeoutSeconds, &w.AdmissionReviewVersions)
			}
		},
		forgive: lax,
	})
}

func defaultWebhook(failure **admissionregistrationv1beta1.FailurePolicyType, match **admissionregistrationv1beta1.MatchPolicyType,
	effects **admissionregistrationv1beta1.SideEffectClass, timeout **int32, versions *[]string) {
	fill(failure, admissionregistrationv1beta1.Ignore)
	fill(match, admissionregistrationv1beta1.Exact)
	fill(effects, admissionregistrationv1beta1.SideEffectClassUnknown)
	fill(timeout, 30)
	if len(*versions) == 0 {
		*versions = []string{"v1beta1"}
	}
}

// definitions come with their own conversion, which is part of the format.
func definitions(t table) {
	gvk := apiextensionsv1.SchemeGroupVersion.WithKind("CustomResourceDefinition")
	t[gvk] = append(t[gvk], apiextensions.Beta())
}

// autoscalers of v2beta2 are those of v2; those of v2beta1 did not tell a
// target's type.
func autoscalers(t table) {
	hub := autoscalingv2.SchemeGroupVersion
	// The Go types of v2beta2 are no more; they were those of v2.
	addDeprecated(t, hub, schema.GroupVersion{Group: hub.Group, Version: "v2beta2"}, "v1.23", "v1.26",
		differs[autoscalingv2.HorizontalPodAutoscaler, autoscalingv2.HorizontalPodAutoscaler]{})
	gvk := hub.WithKind("HorizontalPodAutoscaler")
	t[gvk] = append(t[gvk], autoscaling.Beta())
}

// defaultShares are the shares of a priority level that names none.
const defaultShares = 30

// flows of the first versions called the shares otherwise, and none of the old
// ones could say zero: v1beta3 has an annotation for it.
func flows(t table) {
	hub := flowcontrolv1.SchemeGroupVersion
	one, two, three := flowcontrolv1beta1.SchemeGroupVersion, flowcontrolv1beta2.SchemeGroupVersion, flowcontrolv1beta3.SchemeGroupVersion
	add(t, hub, three, differs[flowcontrolv1beta3.FlowSchema, flowcontrolv1.FlowSchema]{})
	add(t, hub, two, differs[flowcontrolv1beta2.FlowSchema, flowcontrolv1.FlowSchema]{})
	add(t, hub, one, differs[flowcontrolv1beta1.FlowSchema, flowcontrolv1.FlowSchema]{})

	add(t, hub, three, differs[flowcontrolv1beta3.PriorityLevelConfiguration, flowcontrolv1.PriorityLevelConfiguration]{
		old: func(p *flowcontrolv1beta3.PriorityLevelConfiguration) {
			_, zero := p.Annotations[flowcontrolv1beta3.PriorityLevelPreserveZeroConcurrencySharesKey]
			if l := p.Spec.Limited; l != nil && !zero {
				fillEmpty(&l.NominalConcurrencyShares, defaultShares)
			}
		},
		up: func(hub *flowcontrolv1.PriorityLevelConfiguration, _ *flowcontrolv1beta3.PriorityLevelConfiguration) {
			hub.Annotations = maps.Clone(hub.Annotations)
			delete(hub.Annotations, flowcontrolv1beta3.PriorityLevelPreserveZeroConcurrencySharesKey)
		},
		down: func(p *flowcontrolv1beta3.PriorityLevelConfiguration, _ *flowcontrolv1.PriorityLevelConfiguration) {
			if l := p.Spec.Limited; l != nil && l.NominalConcurrencyShares == 0 {
				metav1.SetMetaDataAnnotation(&p.ObjectMeta, flowcontrolv1beta3.PriorityLevelPreserveZeroConcurrencySharesKey, "")
			}
		},
	})
	differ := differs[flowcontrolv1beta2.PriorityLevelConfiguration, flowcontrolv1.PriorityLevelConfiguration]{
		old: func(p *flowcontrolv1beta2.PriorityLevelConfiguration) {
			if l := p.Spec.Limited; l != nil {
				fillEmpty(&l.AssuredConcurrencyShares, defaultShares)
			}
		},
		parts: func(up, down *copier) {
			then(up, func(dst *flowcontrolv1.LimitedPriorityLevelConfiguration, src *flowcontrolv1beta2.LimitedPriorityLevelConfiguration) {
				dst.NominalConcurrencyShares = &src.AssuredConcurrencyShares
			})
			then(down, func(dst *flowcontrolv1beta2.LimitedPriorityLevelConfiguration, src *flowcontrolv1.LimitedPriorityLevelConfiguration) {
				if src.NominalConcurrencyShares != nil {
					dst.AssuredConcurrencyShares = *src.NominalConcurrencyShares
				}
			})
		},
	}
	add(t, hub, two, differ)
	// The Go types of v1beta1 are the same but for their name.
	gvk := one.WithKind("PriorityLevelConfiguration")
	addAs(t, hub.WithKind(gvk.Kind), gvk, instead(kind.Deprecation(gvk, &flowcontrolv1beta1.PriorityLevelConfiguration{}), hub.WithKind(gvk.Kind)), differ)
}
