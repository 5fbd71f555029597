package admission

import (
	"context"
	"errors"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"sampan/cluster/client"
)

// PodNodeSelector keeps the pods of a namespace on the nodes that an annotation
// of it names, or that the administrator has.
type PodNodeSelector struct {
	reader client.Reader
	// allowed are selectors by namespace that pods have to stay within, and
	// under clusterDefault the one of namespaces without the annotation.
	allowed map[string]labels.Set
}

const (
	nodeSelectorAnnotation = "scheduler.alpha.kubernetes.io/node-selector"
	clusterDefault         = "clusterDefaultNodeSelector"
)

// NewPodNodeSelector returns the plugin, told a podNodeSelectorPluginConfig or
// nothing.
func NewPodNodeSelector(reader client.Reader, configuration []byte) (*PodNodeSelector, error) {
	var told struct {
		Selectors map[string]string `json:"podNodeSelectorPluginConfig"`
	}
	p := &PodNodeSelector{reader: reader, allowed: map[string]labels.Set{}}
	err := strictly(configuration, &told)
	for namespace, selector := range told.Selectors {
		set, wrong := labels.ConvertSelectorToLabelsMap(selector)
		p.allowed[namespace], err = set, errors.Join(err, wrong)
	}
	return p, misconfigured("PodNodeSelector", err)
}

// Mutate implements Mutator.
func (p *PodNodeSelector) Mutate(ctx context.Context, a *Attempt) error {
	pod, selector, err := p.fitting(ctx, a)
	if pod == nil || err != nil {
		return err
	}
	pod.Spec.NodeSelector = labels.Merge(selector, pod.Spec.NodeSelector)
	return p.within(a, pod)
}

// Review implements Reviewer.
func (p *PodNodeSelector) Review(ctx context.Context, a *Attempt) error {
	pod, _, err := p.fitting(ctx, a)
	if pod == nil || err != nil {
		return err
	}
	return p.within(a, pod)
}

// fitting is the new pod and its namespace's selector, which it does not
// contradict; nil if a is about no new pod.
func (p *PodNodeSelector) fitting(ctx context.Context, a *Attempt) (*corev1.Pod, labels.Set, error) {
	pod, ok := newPod(a)
	if !ok {
		return nil, nil, nil
	}
	selector, err := p.selector(ctx, a)
	if err != nil {
		return nil, nil, err
	}
	if labels.Conflicts(selector, pod.Spec.NodeSelector) {
		return nil, nil, forbidden(a, errors.New("pod node label selector conflicts with its namespace node label selector"))
	}
	return pod, selector, nil
}

// within refuses a pod that selects by more than its namespace may.
func (p *PodNodeSelector) within(a *Attempt, pod *corev1.Pod) error {
	allowed := p.allowed[a.Request.Namespace]
	for key, value := range pod.Spec.NodeSelector {
		if got, ok := allowed[key]; len(allowed) > 0 && (!ok || got != value) {
			return forbidden(a, errors.New("pod node label selector labels conflict with its namespace whitelist"))
		}
	}
	return nil
}

// selector is that of the namespace written to.
func (p *PodNodeSelector) selector(ctx context.Context, a *Attempt) (labels.Set, error) {
	ns, err := client.Get[*corev1.Namespace](ctx, p.reader, "", a.Request.Namespace)
	if err != nil {
		return nil, err
	}
	if text, ok := ns.Annotations[nodeSelectorAnnotation]; ok {
		return labels.ConvertSelectorToLabelsMap(text)
	}
	return p.allowed[clusterDefault], nil
}
