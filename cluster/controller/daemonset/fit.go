package daemonset

import (
	"slices"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/klog/v2"
)

// verdict is what a daemon set wants of a node: a pod, if there is none, and
// one that is there to stay.
type verdict struct{ run, stay bool }

// fitting says which nodes a daemon set's pods fit. What does not depend on a
// node is done once.
type fitting struct {
	name        string // the template's node, if it names one
	tolerations []corev1.Toleration
	affinity    nodeaffinity.RequiredNodeAffinity
}

func newFitting(ds *appsv1.DaemonSet) fitting {
	spec := &ds.Spec.Template.Spec
	return fitting{spec.NodeName, tolerations(spec), nodeaffinity.NewRequiredNodeAffinity(spec.NodeSelector, spec.Affinity)}
}

// node is the verdict on one node. How much room there is on it does not
// count: that is the scheduler's to say.
func (f fitting) node(n *corev1.Node) verdict {
	if f.name != "" && f.name != n.Name {
		return verdict{}
	}
	// A term that does not parse matches nothing; validation refuses it.
	if ok, err := f.affinity.Match(n); err != nil || !ok {
		return verdict{}
	}
	repels := func(effects ...corev1.TaintEffect) bool {
		_, bad := corev1helpers.FindMatchingUntoleratedTaint(klog.Logger{}, n.Spec.Taints, f.tolerations,
			func(t *corev1.Taint) bool { return slices.Contains(effects, t.Effect) }, false)
		return bad
	}
	return verdict{
		run:  !repels(corev1.TaintEffectNoExecute, corev1.TaintEffectNoSchedule),
		stay: !repels(corev1.TaintEffectNoExecute),
	}
}

// tolerations are the template's, and those that every daemon's pod has: it
// belongs on its node whatever befalls the node.
func tolerations(spec *corev1.PodSpec) []corev1.Toleration {
	all := slices.Clone(spec.Tolerations)
	add := func(key string, effect corev1.TaintEffect) {
		t := corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists, Effect: effect}
		if i := slices.IndexFunc(all, func(have corev1.Toleration) bool { return have.MatchToleration(&t) }); i >= 0 {
			all[i] = t
			return
		}
		all = append(all, t)
	}
	add(corev1.TaintNodeNotReady, corev1.TaintEffectNoExecute)
	add(corev1.TaintNodeUnreachable, corev1.TaintEffectNoExecute)
	add(corev1.TaintNodeDiskPressure, corev1.TaintEffectNoSchedule)
	add(corev1.TaintNodeMemoryPressure, corev1.TaintEffectNoSchedule)
	add(corev1.TaintNodePIDPressure, corev1.TaintEffectNoSchedule)
	add(corev1.TaintNodeUnschedulable, corev1.TaintEffectNoSchedule)
	if spec.HostNetwork {
		add(corev1.TaintNodeNetworkUnavailable, corev1.TaintEffectNoSchedule)
	}
	return all
}

// generationLabel is on pods what the annotation
// deprecated.daemonset.template.generation is on their daemon set.
const generationLabel = "pod-template-generation"

// podTemplate is what the pods of a revision are made of.
func podTemplate(ds *appsv1.DaemonSet, hash string) *corev1.PodTemplateSpec {
	t := ds.Spec.Template.DeepCopy()
	t.Spec.Tolerations = tolerations(&t.Spec)
	if t.Labels == nil {
		t.Labels = map[string]string{}
	}
	if n, ok := generation(ds); ok {
		t.Labels[generationLabel] = strconv.FormatInt(n, 10)
	}
	t.Labels[appsv1.DefaultDaemonSetUniqueLabelKey] = hash
	return t
}

func generation(ds *appsv1.DaemonSet) (int64, bool) {
	n, err := strconv.ParseInt(ds.Annotations[appsv1.DeprecatedTemplateGeneration], 10, 64)
	return n, err == nil
}

// updated is true for a pod of the present template.
func updated(ds *appsv1.DaemonSet, p *corev1.Pod, hash string) bool {
	if hash != "" && p.Labels[appsv1.DefaultDaemonSetUniqueLabelKey] == hash {
		return true
	}
	n, ok := generation(ds)
	return ok && p.Labels[generationLabel] == strconv.FormatInt(n, 10)
}

// onNode has an affinity ask for one node by name, instead of for whatever the
// template requires of nodes: the node was chosen by that. a is changed.
func onNode(a *corev1.Affinity, node string) *corev1.Affinity {
	if a == nil {
		a = &corev1.Affinity{}
	}
	if a.NodeAffinity == nil {
		a.NodeAffinity = &corev1.NodeAffinity{}
	}
	a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution = &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
		MatchFields: []corev1.NodeSelectorRequirement{{Key: metav1.ObjectNameField, Operator: corev1.NodeSelectorOpIn, Values: []string{node}}}}}}
	return a
}

// target is the node that a pod is on or asks for; "" if that cannot be said.
func target(p *corev1.Pod) string {
	if p.Spec.NodeName != "" {
		return p.Spec.NodeName
	}
	if p.Spec.Affinity == nil || p.Spec.Affinity.NodeAffinity == nil ||
		p.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return ""
	}
	for _, term := range p.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
		for _, r := range term.MatchFields {
			if r.Key == metav1.ObjectNameField && r.Operator == corev1.NodeSelectorOpIn && len(r.Values) == 1 {
				return r.Values[0]
			}
		}
	}
	return ""
}
