package admission

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	resourcehelper "k8s.io/component-helpers/resource"

	"sampan/cluster/client"
)

// Plugins of a few lines that an administrator may turn on.

// Everything admits all: upstream's AlwaysAdmit, which has no use any more.
type Everything struct{}

// Review implements Reviewer.
func (Everything) Review(context.Context, *Attempt) error { return nil }

// Nothing refuses all: upstream's AlwaysDeny.
type Nothing struct{}

// Mutate implements Mutator.
func (Nothing) Mutate(_ context.Context, a *Attempt) error {
	return forbidden(a, errors.New("admission control is denying all modifications"))
}

// Review implements Reviewer.
func (n Nothing) Review(ctx context.Context, a *Attempt) error { return n.Mutate(ctx, a) }

// NamespaceExists refuses writes into a namespace that is not there.
type NamespaceExists struct{ Reader client.Reader }

// Review implements Reviewer.
func (n NamespaceExists) Review(ctx context.Context, a *Attempt) error {
	if a.Request.Kind.Cluster || a.Request.Namespace == "" || a.Operation == Connect {
		return nil
	}
	_, err := client.Get[*corev1.Namespace](ctx, n.Reader, "", a.Request.Namespace)
	return err
}

// NoExternalIPs refuses Services that take addresses of others for
// themselves: upstream's DenyServiceExternalIPs. Those that had some keep them.
type NoExternalIPs struct{}

// Review implements Reviewer.
func (NoExternalIPs) Review(_ context.Context, a *Attempt) error {
	svc, ok := a.Object.(*corev1.Service)
	if !ok || a.Operation != Create && a.Operation != Update || a.Request.Subresource != "" {
		return nil
	}
	old, _ := a.Old.(*corev1.Service)
	for _, ip := range svc.Spec.ExternalIPs {
		if old == nil || !slices.Contains(old.Spec.ExternalIPs, ip) {
			return forbidden(a, errors.New("Use of external IPs is denied by admission control"))
		}
	}
	return nil
}

// ExtendedResources lets pods that ask for a device on the nodes that are kept
// for it: upstream's ExtendedResourceToleration.
type ExtendedResources struct{}

// Mutate implements Mutator.
func (ExtendedResources) Mutate(_ context.Context, a *Attempt) error {
	pod, ok := writtenPod(a)
	if !ok {
		return nil
	}
	var names []string
	for _, c := range slices.Concat(pod.Spec.Containers, pod.Spec.InitContainers) {
		for name := range c.Resources.Requests {
			if extended(string(name)) && !slices.Contains(names, string(name)) {
				names = append(names, string(name))
			}
		}
	}
	slices.Sort(names)
	for _, name := range names {
		t := corev1.Toleration{Key: name, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule}
		same := func(o corev1.Toleration) bool {
			return o.Key == t.Key && o.Effect == t.Effect && o.Operator == t.Operator && o.Value == t.Value
		}
		if i := slices.IndexFunc(pod.Spec.Tolerations, same); i >= 0 {
			pod.Spec.Tolerations[i] = t
		} else {
			pod.Spec.Tolerations = append(pod.Spec.Tolerations, t)
		}
	}
	return nil
}

// extended says whether a resource is one that somebody else than Kubernetes
// defines.
func extended(name string) bool {
	return strings.Contains(name, "/") && !strings.Contains(name, corev1.ResourceDefaultNamespacePrefix) &&
		!strings.HasPrefix(name, corev1.DefaultResourceRequestsPrefix) &&
		len(validation.IsQualifiedName(corev1.DefaultResourceRequestsPrefix+name)) == 0
}

// PodResizes refuses to let a running pod grow beyond its node: upstream's
// PodResizeValidator.
type PodResizes struct{ Reader client.Reader }

// Review implements Reviewer.
func (p PodResizes) Review(ctx context.Context, a *Attempt) error {
	pod, ok := a.Object.(*corev1.Pod)
	if !ok || a.Operation != Update || a.Request.Subresource != "resize" || pod.Spec.NodeName == "" {
		return nil
	}
	if old, ok := a.Old.(*corev1.Pod); ok && old.Generation == pod.Generation {
		return nil
	}
	node, err := client.Get[*corev1.Node](ctx, p.Reader, "", pod.Spec.NodeName)
	if apierrors.IsNotFound(err) {
		return forbidden(a, fmt.Errorf("node %q not found", pod.Spec.NodeName))
	}
	if err != nil {
		return forbidden(a, fmt.Errorf("failed to get node %q: %w", pod.Spec.NodeName, err))
	}
	refuse := func(cause metav1.CauseType, err error) error {
		refusal := forbidden(a, err)
		var status *apierrors.StatusError
		if errors.As(refusal, &status) {
			status.ErrStatus.Details.Causes = append(status.ErrStatus.Details.Causes, metav1.StatusCause{Type: cause})
		}
		return refusal
	}
	if os, ok := node.Labels[corev1.LabelOSStable]; ok && os != "linux" {
		return refuse("UnsupportedPlatform", fmt.Errorf("pod resize is only supported on linux nodes, node %q is %q", node.Name, os))
	}
	asks, has := resourcehelper.PodRequests(pod, resourcehelper.PodResourcesOptions{}), node.Status.Allocatable
	var over []string
	if cpu := asks[corev1.ResourceCPU]; cpu.Cmp(*has.Cpu()) > 0 {
		over = append(over, fmt.Sprintf("cpu, requested: %d, allocatable: %d", cpu.MilliValue(), has.Cpu().MilliValue()))
	}
	if memory := asks[corev1.ResourceMemory]; memory.Cmp(*has.Memory()) > 0 {
		over = append(over, fmt.Sprintf("memory, requested: %d, allocatable: %d", memory.Value(), has.Memory().Value()))
	}
	if len(over) > 0 {
		return refuse("NodeCapacity", fmt.Errorf("node didn't have enough allocatable resources: %s", strings.Join(over, "; ")))
	}
	return nil
}
