package networking

import (
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
)

// NetworkPolicy says from where pods take traffic, and where they may send it.
func NetworkPolicy() *kind.Kind {
	return kind.Declare(kind.Of[networkingv1.NetworkPolicy]{
		GVK:      networkingv1.SchemeGroupVersion.WithKind("NetworkPolicy"),
		Plural:   "networkpolicies",
		Short:    []string{"netpol"},
		Default:  defaultPolicy,
		Validate: validatePolicy,
		Warn:     func(p, _ *networkingv1.NetworkPolicy) []string { return policyWarnings(p) },
		Ignored:  kind.Paths("", PolicyGaps),
		Spec:     func(p *networkingv1.NetworkPolicy) any { return &p.Spec },
		Columns: []kind.Column[networkingv1.NetworkPolicy]{
			{Name: "Pod-Selector", Description: networkingv1.NetworkPolicySpec{}.SwaggerDoc()["podSelector"],
				Cell: func(p *networkingv1.NetworkPolicy, _ time.Time) any {
					return metav1.FormatLabelSelector(&p.Spec.PodSelector)
				}},
			kind.Age[networkingv1.NetworkPolicy](),
		},
	})
}

func defaultPolicy(p *networkingv1.NetworkPolicy) {
	ports := func(all []networkingv1.NetworkPolicyPort) {
		for i := range all {
			if all[i].Protocol == nil {
				tcp := corev1.ProtocolTCP
				all[i].Protocol = &tcp
			}
		}
	}
	for i := range p.Spec.Ingress {
		ports(p.Spec.Ingress[i].Ports)
	}
	for i := range p.Spec.Egress {
		ports(p.Spec.Egress[i].Ports)
	}
	if len(p.Spec.PolicyTypes) == 0 {
		p.Spec.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}
		if len(p.Spec.Egress) != 0 {
			p.Spec.PolicyTypes = append(p.Spec.PolicyTypes, networkingv1.PolicyTypeEgress)
		}
	}
}

// policyRules checks a policy. What was wrong before and may stay is in it.
type policyRules struct {
	selectors metav1validation.LabelSelectorValidationOptions
	cidrs     []string // of the old policy
}

func validatePolicy(p, old *networkingv1.NetworkPolicy) (errs field.ErrorList) {
	var r policyRules
	if old != nil {
		r.selectors.AllowInvalidLabelValueInSelector = len(metav1validation.ValidateLabelSelector(&old.Spec.PodSelector, r.selectors, nil)) > 0
		blocks(old, func(b *networkingv1.IPBlock, _ *field.Path) { r.cidrs = append(append(r.cidrs, b.CIDR), b.Except...) })
	}
	spec := field.NewPath("spec")
	errs = append(errs, metav1validation.ValidateLabelSelector(&p.Spec.PodSelector, r.selectors, spec.Child("podSelector"))...)
	for i := range p.Spec.Ingress {
		at := spec.Child("ingress").Index(i)
		errs = append(errs, policyPorts(p.Spec.Ingress[i].Ports, at.Child("ports"))...)
		errs = append(errs, r.peers(p.Spec.Ingress[i].From, at.Child("from"))...)
	}
	for i := range p.Spec.Egress {
		at := spec.Child("egress").Index(i)
		errs = append(errs, policyPorts(p.Spec.Egress[i].Ports, at.Child("ports"))...)
		errs = append(errs, r.peers(p.Spec.Egress[i].To, at.Child("to"))...)
	}
	types := spec.Child("policyTypes")
	if len(p.Spec.PolicyTypes) > 2 {
		return append(errs, field.Invalid(types, &p.Spec.PolicyTypes, "may not specify more than two policyTypes"))
	}
	for i, t := range p.Spec.PolicyTypes {
		if t != networkingv1.PolicyTypeIngress && t != networkingv1.PolicyTypeEgress {
			errs = append(errs, field.NotSupported(types.Index(i), t, []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress}))
		}
	}
	return errs
}

// blocks calls f for every range of addresses that a policy names.
func blocks(p *networkingv1.NetworkPolicy, f func(b *networkingv1.IPBlock, path *field.Path)) {
	of := func(all []networkingv1.NetworkPolicyPeer, path *field.Path) {
		for i := range all {
			if b := all[i].IPBlock; b != nil {
				f(b, path.Index(i).Child("ipBlock"))
			}
		}
	}
	for i := range p.Spec.Ingress {
		of(p.Spec.Ingress[i].From, field.NewPath("spec", "ingress").Index(i).Child("from"))
	}
	for i := range p.Spec.Egress {
		of(p.Spec.Egress[i].To, field.NewPath("spec", "egress").Index(i).Child("to"))
	}
}

func policyPorts(all []networkingv1.NetworkPolicyPort, path *field.Path) (errs field.ErrorList) {
	for i, p := range all {
		at := path.Index(i)
		if p.Protocol != nil && len(kind.Protocol(*p.Protocol, at)) > 0 {
			errs = append(errs, field.NotSupported(at.Child("protocol"), *p.Protocol, []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP}))
		}
		port, end := at.Child("port"), at.Child("endPort")
		switch {
		case p.Port == nil:
			if p.EndPort != nil {
				errs = append(errs, field.Invalid(end, *p.EndPort, "may not be specified when `port` is not specified"))
			}
		case p.Port.Type == intstr.Int:
			errs = append(errs, kind.Port(p.Port.IntVal, port)...)
			if p.EndPort != nil {
				if *p.EndPort < p.Port.IntVal {
					errs = append(errs, field.Invalid(end, *p.EndPort, "must be greater than or equal to `port`"))
				}
				errs = append(errs, kind.Port(*p.EndPort, end)...)
			}
		default:
			if p.EndPort != nil {
				errs = append(errs, field.Invalid(end, *p.EndPort, "may not be specified when `port` is non-numeric"))
			}
			for _, msg := range validation.IsValidPortName(p.Port.StrVal) {
				errs = append(errs, field.Invalid(port, p.Port.StrVal, msg))
			}
		}
	}
	return errs
}

func (r *policyRules) peers(all []networkingv1.NetworkPolicyPeer, path *field.Path) (errs field.ErrorList) {
	for i := range all {
		p, at := &all[i], path.Index(i)
		if p.PodSelector != nil {
			errs = append(errs, metav1validation.ValidateLabelSelector(p.PodSelector, r.selectors, at.Child("podSelector"))...)
		}
		if p.NamespaceSelector != nil {
			errs = append(errs, metav1validation.ValidateLabelSelector(p.NamespaceSelector, r.selectors, at.Child("namespaceSelector"))...)
		}
		if p.IPBlock != nil {
			errs = append(errs, r.block(p.IPBlock, at.Child("ipBlock"))...)
		}
		switch selects := p.PodSelector != nil || p.NamespaceSelector != nil; {
		case !selects && p.IPBlock == nil:
			errs = append(errs, field.Required(at, "must specify a peer"))
		case selects && p.IPBlock != nil:
			errs = append(errs, field.Forbidden(at, "may not specify both ipBlock and another peer"))
		}
	}
	return errs
}

func (r *policyRules) block(b *networkingv1.IPBlock, path *field.Path) (errs field.ErrorList) {
	if b.CIDR == "" {
		return field.ErrorList{field.Required(path.Child("cidr"), "")}
	}
	errs = append(errs, validation.IsValidCIDRForLegacyField(path.Child("cidr"), b.CIDR, true, r.cidrs)...)
	whole, err := netip.ParsePrefix(b.CIDR)
	if err != nil {
		return errs
	}
	for i, text := range b.Except {
		at := path.Child("except").Index(i)
		errs = append(errs, validation.IsValidCIDRForLegacyField(at, text, true, r.cidrs)...)
		part, err := netip.ParsePrefix(text)
		if err == nil && (!whole.Contains(part.Addr()) || whole.Bits() >= part.Bits()) {
			errs = append(errs, field.Invalid(at, text, "must be a strict subset of `cidr`"))
		}
	}
	return errs
}

func policyWarnings(p *networkingv1.NetworkPolicy) (texts []string) {
	blocks(p, func(b *networkingv1.IPBlock, path *field.Path) {
		for i, cidr := range slices.Concat([]string{b.CIDR}, b.Except) {
			at := path.Child("cidr")
			if i > 0 {
				at = path.Child("except").Index(i - 1)
			}
			if _, err := netip.ParsePrefix(cidr); err == nil { // else validation says more
				texts = append(texts, validation.GetWarningsForCIDR(at, cidr)...)
			}
		}
	})
	return texts
}
