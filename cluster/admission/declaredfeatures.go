package admission

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/component-helpers/nodedeclaredfeatures"

	"sampan/cluster/client"
)

// DeclaredFeatures refuses changes of a pod that its node does not say in
// status.declaredFeatures it can make: upstream's NodeDeclaredFeatureValidator
// (KEP-5328). Which changes these are upstream's own library knows.
type DeclaredFeatures struct {
	Reader  client.Reader
	Version *version.Version // of Kubernetes, which settles what nodes need not declare any more
}

// Review implements Reviewer.
func (d DeclaredFeatures) Review(ctx context.Context, a *Attempt) error {
	pod, is := a.Object.(*corev1.Pod)
	old, was := a.Old.(*corev1.Pod)
	sub := a.Request.Subresource
	if !is || !was || a.Operation != Update || sub != "" && sub != "resize" || pod.Spec.NodeName == "" || pod.Generation == old.Generation {
		return nil
	}
	features := nodedeclaredfeatures.DefaultFramework
	needs, err := features.InferForPodUpdate(&nodedeclaredfeatures.PodInfo{Spec: &old.Spec, Status: &old.Status},
		&nodedeclaredfeatures.PodInfo{Spec: &pod.Spec, Status: &pod.Status}, d.Version)
	if err != nil {
		return forbidden(a, fmt.Errorf("failed to infer pod capability requirements: %w", err))
	}
	if needs.IsEmpty() {
		return nil
	}
	node, err := client.Get[*corev1.Node](ctx, d.Reader, "", pod.Spec.NodeName)
	if apierrors.IsNotFound(err) {
		return forbidden(a, fmt.Errorf("node %q not found", pod.Spec.NodeName))
	}
	if err != nil {
		return forbidden(a, fmt.Errorf("failed to get node %q: %w", pod.Spec.NodeName, err))
	}
	found, err := features.MatchNode(needs, node)
	if err != nil {
		return forbidden(a, fmt.Errorf("failed to match pod requirements against node %q: %w", node.Name, err))
	}
	if !found.IsMatch {
		return forbidden(a, fmt.Errorf("pod update requires features %s which are not available on node %q",
			strings.Join(found.UnsatisfiedRequirements, ", "), node.Name))
	}
	return nil
}
