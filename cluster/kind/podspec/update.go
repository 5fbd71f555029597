package podspec

import (
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/diff"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
)

// changeable is what a user may change of a pod, in upstream's words.
const changeable = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`," +
	"`spec.tolerations` (only additions to existing tolerations)," +
	"`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"

// validateUpdate checks a change of a pod through its main resource: nearly
// nothing may change, since a node already acts on it.
func validateUpdate(p, old *corev1.Pod) (errs field.ErrorList) {
	spec := field.NewPath("spec")
	errs = append(errs, annotations(p.Annotations, field.NewPath("metadata", "annotations"))...)
	for _, k := range []string{corev1.MirrorPodAnnotationKey} {
		now, has := p.Annotations[k]
		was, had := old.Annotations[k]
		at := field.NewPath("metadata", "annotations").Key(k)
		if had && (!has || now != was) {
			errs = append(errs, field.Forbidden(at, "may not remove or update mirror pod annotation"))
		} else if has && !had {
			errs = append(errs, field.Forbidden(at, "may not add mirror pod annotation"))
		}
	}
	if !equal(&p.Spec, &old.Spec) {
		errs = append(errs, validateSpec(&p.Spec, options{}, spec)...)
		errs = append(errs, onlyForPods(&p.Spec, spec)...)
	}
	for _, list := range []struct {
		now, was []corev1.Container
		path     *field.Path
	}{
		{p.Spec.Containers, old.Spec.Containers, spec.Child("containers")},
		{p.Spec.InitContainers, old.Spec.InitContainers, spec.Child("initContainers")},
	} {
		if len(list.now) != len(list.was) {
			return append(errs, field.Forbidden(list.path, "pod updates may not add or remove containers"))
		}
	}
	if e := deadline(p.Spec.ActiveDeadlineSeconds, old.Spec.ActiveDeadlineSeconds, spec.Child("activeDeadlineSeconds")); len(e) > 0 {
		return append(errs, e...)
	}
	errs = append(errs, addedTolerations(p.Spec.Tolerations, old.Spec.Tolerations, spec.Child("tolerations"))...)
	errs = append(errs, removedGates(p.Spec.SchedulingGates, old.Spec.SchedulingGates, spec.Child("schedulingGates"))...)

	// What may change is set back; the rest must be the same.
	rest := p.Spec.DeepCopy()
	for i := range rest.Containers {
		rest.Containers[i].Image = old.Spec.Containers[i].Image
	}
	for i := range rest.InitContainers {
		rest.InitContainers[i].Image = old.Spec.InitContainers[i].Image
	}
	rest.ActiveDeadlineSeconds = old.Spec.ActiveDeadlineSeconds
	rest.Tolerations = old.Spec.Tolerations
	rest.SchedulingGates = old.Spec.SchedulingGates
	if g, was := rest.TerminationGracePeriodSeconds, old.Spec.TerminationGracePeriodSeconds; g != nil && was != nil && *was < 0 && *g == 1 {
		rest.TerminationGracePeriodSeconds = was
	}
	if len(old.Spec.SchedulingGates) > 0 {
		// Not yet looked at by the scheduler: it may still be told more.
		errs = append(errs, tightened(rest, &old.Spec, spec)...)
		rest.NodeSelector = old.Spec.NodeSelector
		rest.Affinity = withNodeAffinity(rest.Affinity, nodeAffinity(&old.Spec))
	}
	before := old.Spec
	before.Affinity = withNodeAffinity(before.Affinity, nodeAffinity(&before))
	rest.Affinity = withNodeAffinity(rest.Affinity, nodeAffinity(rest))
	if !equal(rest, &before) {
		errs = append(errs, field.Forbidden(spec, fmt.Sprintf("pod updates may not change fields other than %s\n%s", changeable, diff.Diff(rest, &before))))
	}
	return errs
}

func deadline(now, was *int64, path *field.Path) field.ErrorList {
	switch {
	case now == nil && was != nil:
		return field.ErrorList{field.Invalid(path, now, "must not update from a positive integer to nil value")}
	case now == nil:
		return nil
	case *now < 0 || *now > maxInt32:
		return field.ErrorList{field.Invalid(path, *now, between(0, maxInt32))}
	case was != nil && *was < *now:
		return field.ErrorList{field.Invalid(path, *now, "must be less than or equal to previous value")}
	}
	return nil
}

func addedTolerations(now, was []corev1.Toleration, path *field.Path) field.ErrorList {
	for _, o := range was {
		o.TolerationSeconds = nil
		if !slices.ContainsFunc(now, func(n corev1.Toleration) bool { n.TolerationSeconds = nil; return n == o }) {
			return field.ErrorList{field.Forbidden(path, "existing toleration can not be modified except its tolerationSeconds")}
		}
	}
	return nil
}

func removedGates(now, was []corev1.PodSchedulingGate, path *field.Path) (errs field.ErrorList) {
	for i, g := range now {
		if !slices.Contains(was, g) {
			errs = append(errs, field.Forbidden(path.Index(i).Child("name"),
				fmt.Sprintf("only deletion is allowed, but found new scheduling gate '%s'", g.Name)))
		}
	}
	return errs
}

// tightened checks that a gated pod asks for no other nodes, only for fewer
// (KEP-3838).
func tightened(now, was *corev1.PodSpec, path *field.Path) (errs field.ErrorList) {
	for k, v := range was.NodeSelector {
		if have, ok := now.NodeSelector[k]; !ok || have != v {
			errs = append(errs, field.Invalid(path.Child("nodeSelector"), now.NodeSelector,
				"only additions to spec.nodeSelector are allowed (no mutations or deletions)"))
			break
		}
	}
	n, w := nodeAffinity(now), nodeAffinity(was)
	if w == nil || w.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return errs
	}
	at := path.Child("affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms")
	var terms []corev1.NodeSelectorTerm
	if n != nil && n.RequiredDuringSchedulingIgnoredDuringExecution != nil {
		terms = n.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms
	}
	before := w.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms
	if len(before) > 0 && len(terms) != len(before) {
		return append(errs, field.Invalid(at, terms, "no additions/deletions to non-empty NodeSelectorTerms list are allowed"))
	}
	for i := range before {
		if !narrower(&terms[i], &before[i]) {
			errs = append(errs, field.Invalid(at.Index(i), terms[i], "only additions are allowed (no mutations or deletions)"))
		}
	}
	return errs
}

// narrower is true if a term asks for what it did, and perhaps for more. One
// that asked for nothing matched nothing: it cannot be narrowed.
func narrower(now, was *corev1.NodeSelectorTerm) bool {
	if len(was.MatchExpressions)+len(was.MatchFields) == 0 {
		return len(now.MatchExpressions)+len(now.MatchFields) == 0
	}
	return startsWith(now.MatchExpressions, was.MatchExpressions) && startsWith(now.MatchFields, was.MatchFields)
}

func nodeAffinity(s *corev1.PodSpec) *corev1.NodeAffinity {
	if s.Affinity == nil {
		return nil
	}
	return s.Affinity.NodeAffinity
}

// withNodeAffinity is a with its part about nodes replaced; nil if nothing is
// left.
func withNodeAffinity(a *corev1.Affinity, n *corev1.NodeAffinity) *corev1.Affinity {
	var all corev1.Affinity
	if a != nil {
		all = *a
	}
	if all.NodeAffinity = n; all == (corev1.Affinity{}) {
		return nil
	}
	return &all
}

func startsWith(all, first []corev1.NodeSelectorRequirement) bool {
	return len(all) >= len(first) && equal(all[:len(first)], first)
}

// ValidateStatus checks a change of a pod's status.
func ValidateStatus(p, old *corev1.Pod) (errs field.ErrorList) {
	path := field.NewPath("status")
	if n := p.Status.NominatedNodeName; n != "" {
		errs = append(errs, kind.DNSSubdomain(n, path.Child("nominatedNodeName"))...)
	}
	if n := p.Status.ObservedGeneration; n < 0 {
		errs = append(errs, field.Invalid(path.Child("observedGeneration"), n, "must be a positive integer"))
	}
	for i, c := range p.Status.Conditions {
		if old != nil && !slices.ContainsFunc(old.Status.Conditions, func(o corev1.PodCondition) bool { return o.Type == c.Type }) {
			errs = append(errs, kind.QualifiedName(string(c.Type), path.Child("conditions").Index(i).Child("Type"))...)
		}
	}
	if old == nil {
		return errs
	}
	if old.Status.QOSClass != "" && p.Status.QOSClass != old.Status.QOSClass {
		errs = append(errs, field.Invalid(path.Child("qosClass"), p.Status.QOSClass, "field is immutable"))
	}
	errs = append(errs, stayEnded(p.Status.ContainerStatuses, old.Status.ContainerStatuses, &old.Spec, old.Spec.RestartPolicy, path.Child("containerStatuses"))...)
	errs = append(errs, stayEnded(p.Status.InitContainerStatuses, old.Status.InitContainerStatuses, &old.Spec, old.Spec.RestartPolicy, path.Child("initContainerStatuses"))...)
	errs = append(errs, stayEnded(p.Status.EphemeralContainerStatuses, old.Status.EphemeralContainerStatuses, &old.Spec, corev1.RestartPolicyNever, path.Child("ephemeralContainerStatuses"))...)
	var podIPs, hostIPs []string
	for _, ip := range p.Status.PodIPs {
		podIPs = append(podIPs, ip.IP)
	}
	for _, ip := range p.Status.HostIPs {
		hostIPs = append(hostIPs, ip.IP)
	}
	if len(hostIPs) > 0 && hostIPs[0] != p.Status.HostIP {
		errs = append(errs, field.Invalid(path.Child("hostIPs").Index(0).Child("ip"), hostIPs[0], "must be equal to `hostIP`"))
	}
	errs = append(errs, statusIPs(podIPs, p.Status.PodIPs, path.Child("podIPs"))...)
	return append(errs, statusIPs(hostIPs, p.Status.HostIPs, path.Child("hostIPs"))...)
}

// statusIPs checks addresses: valid, and one of each family at most.
func statusIPs(ips []string, shown any, path *field.Path) (errs field.ErrorList) {
	four, six := 0, 0
	for i, ip := range ips {
		errs = append(errs, validation.IsValidIP(path.Index(i), ip)...)
		if a, err := netip.ParseAddr(ip); err == nil && a.Is4() {
			four++
		} else if err == nil {
			six++
		}
	}
	if four > 1 || six > 1 {
		errs = append(errs, field.Invalid(path, shown, "may specify no more than one IP for each IP family"))
	}
	return errs
}

// stayEnded: what has ended for good does not run again under the same name.
func stayEnded(now, was []corev1.ContainerStatus, s *corev1.PodSpec, policy corev1.RestartPolicy, path *field.Path) (errs field.ErrorList) {
	if policy == corev1.RestartPolicyAlways {
		return nil
	}
	for i, o := range was {
		t := o.State.Terminated
		if t == nil || policy == corev1.RestartPolicyOnFailure && t.ExitCode != 0 || ownRestarts(s, o.Name) {
			continue
		}
		for _, n := range now {
			if n.Name == o.Name && n.State.Terminated == nil {
				errs = append(errs, field.Forbidden(path.Index(i).Child("state"), "may not be transitioned to non-terminated state"))
			}
		}
	}
	return errs
}

func ownRestarts(s *corev1.PodSpec, name string) bool {
	for c := range containers(s) {
		if c.Name == name && (c.RestartPolicy != nil || len(c.RestartPolicyRules) > 0) {
			return true
		}
	}
	return false
}

// ValidateEphemeralUpdate checks the ephemeralcontainers subresource: guests
// come and never leave.
func ValidateEphemeralUpdate(p, old *corev1.Pod) (errs field.ErrorList) {
	path := field.NewPath("spec", "ephemeralContainers")
	volumes, _ := validateVolumes(&p.Spec, field.NewPath("spec", "volumes"))
	names := map[string]bool{}
	for c := range containers(&p.Spec) {
		names[c.Name] = true
	}
	errs = append(errs, ephemeral(&p.Spec, volumes, names, path)...)
	if _, static := p.Annotations[corev1.MirrorPodAnnotationKey]; static {
		errs = append(errs, field.Forbidden(field.NewPath(""), "static pods do not support ephemeral containers"))
	}
	for _, o := range old.Spec.EphemeralContainers {
		i := slices.IndexFunc(p.Spec.EphemeralContainers, func(n corev1.EphemeralContainer) bool { return n.Name == o.Name })
		switch {
		case i < 0:
			errs = append(errs, field.Forbidden(path, fmt.Sprintf("existing ephemeral containers %q may not be removed\n", o.Name)))
		case !equal(o, p.Spec.EphemeralContainers[i]):
			errs = append(errs, field.Forbidden(path, fmt.Sprintf("existing ephemeral containers %q may not be changed\n%s", o.Name, diff.Diff(p.Spec.EphemeralContainers[i], o))))
		}
	}
	return errs
}

// ValidateBinding checks what a scheduler says.
func ValidateBinding(b *corev1.Binding) (errs field.ErrorList) {
	if b.Target.Kind != "" && b.Target.Kind != "Node" {
		errs = append(errs, field.NotSupported(field.NewPath("target", "kind"), b.Target.Kind, []string{"Node", "<empty>"}))
	}
	if b.Target.Name == "" {
		errs = append(errs, field.Required(field.NewPath("target", "name"), ""))
	}
	return errs
}
