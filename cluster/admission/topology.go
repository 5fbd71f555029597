package admission

import (
	"context"
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"sampan/cluster/client"
)

// TopologyLabels tells a pod by its labels in which zone and region it runs,
// when it gets its node: upstream's PodTopologyLabels (KEP-4742).
type TopologyLabels struct{ Reader client.Reader }

// Mutate implements Mutator.
func (t TopologyLabels) Mutate(ctx context.Context, a *Attempt) error {
	binding, binds := a.Body.(*corev1.Binding)
	pod, ok := a.Object.(*corev1.Pod)
	switch {
	case !ok:
		return nil
	case binds:
		if binding.Target.Kind != "" && binding.Target.Kind != "Node" {
			return nil
		}
	case a.Operation != Create || a.Request.Subresource != "" || pod.Spec.NodeName == "":
		return nil
	}
	name := pod.Spec.NodeName
	if binds {
		name = binding.Target.Name
	}
	node, err := client.Get[*corev1.Node](ctx, t.Reader, "", name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	labels := map[string]string{}
	for _, key := range []string{corev1.LabelTopologyZone, corev1.LabelTopologyRegion} {
		if value, ok := node.Labels[key]; ok {
			labels[key] = value
		}
	}
	if len(labels) == 0 {
		return nil
	}
	pod.Labels = merged(pod.Labels, labels)
	if binds { // which policies and webhooks see
		binding.Labels = merged(binding.Labels, labels)
	}
	return nil
}

// merged is a new map with all of both; what second says counts.
func merged(first, second map[string]string) map[string]string {
	all := maps.Clone(first)
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, second)
	return all
}

// NodeTaints keeps pods off a node until it is known to be ready: upstream's
// TaintNodesByCondition. A controller takes the taint off.
type NodeTaints struct{}

// Mutate implements Mutator.
func (NodeTaints) Mutate(_ context.Context, a *Attempt) error {
	node, ok := a.Object.(*corev1.Node)
	if !ok || a.Operation != Create || a.Request.Subresource != "" {
		return nil
	}
	for _, t := range node.Spec.Taints {
		if t.Key == corev1.TaintNodeNotReady && t.Effect == corev1.TaintEffectNoSchedule {
			return nil
		}
	}
	node.Spec.Taints = append(node.Spec.Taints, corev1.Taint{Key: corev1.TaintNodeNotReady, Effect: corev1.TaintEffectNoSchedule})
	return nil
}

// HostnameAntiAffinity lets pods keep off each other by node only: upstream's
// LimitPodHardAntiAffinityTopology.
type HostnameAntiAffinity struct{}

// Review implements Reviewer.
func (HostnameAntiAffinity) Review(_ context.Context, a *Attempt) error {
	pod, ok := writtenPod(a)
	if !ok || pod.Spec.Affinity == nil || pod.Spec.Affinity.PodAntiAffinity == nil {
		return nil
	}
	for _, term := range pod.Spec.Affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution {
		if term.TopologyKey != corev1.LabelHostname {
			return forbidden(a, fmt.Errorf("affinity.PodAntiAffinity.RequiredDuringScheduling has TopologyKey %v but only key %v is allowed",
				term.TopologyKey, corev1.LabelHostname))
		}
	}
	return nil
}
