package pods

import (
	"context"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/client"
	"sampan/cluster/client/event"
	"sampan/cluster/kind"
)

// FromTemplate is the pod that owner, of kind k, makes of a template. Its name
// is chosen at creation.
func FromTemplate(owner kind.Object, k *kind.Kind, t *corev1.PodTemplateSpec) *corev1.Pod {
	t = t.DeepCopy()
	prefix := owner.GetName() + "-"
	if len(validation.NameIsDNSSubdomain(prefix, true)) > 0 {
		prefix = owner.GetName()
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: owner.GetNamespace(), GenerateName: prefix,
			Labels: t.Labels, Annotations: t.Annotations, Finalizers: t.Finalizers,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(owner, k.GVK)},
		},
		Spec: t.Spec,
	}
}

// Control makes and deletes the pods of a controller, and says so in events
// about their owner.
type Control struct {
	Client client.Client
	Events *event.Recorder
}

// Create makes p, which belongs to the callee from then on. That the namespace
// goes is no error: its owner goes with it.
func (c Control) Create(ctx context.Context, owner kind.Object, p *corev1.Pod) error {
	made, err := client.Create(ctx, c.Client, p)
	switch {
	case err == nil:
		c.Events.Eventf(owner, corev1.EventTypeNormal, "SuccessfulCreate", "Created pod: %v", made.Name)
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return nil
	case ctx.Err() == nil:
		c.Events.Eventf(owner, corev1.EventTypeWarning, "FailedCreate", "Error creating: %v", err)
	}
	return err
}

// Delete deletes p and no other pod of its name. That it is gone already is no
// error.
func (c Control) Delete(ctx context.Context, owner kind.Object, p *corev1.Pod) error {
	err := client.Delete[*corev1.Pod](ctx, c.Client, p.Namespace, p.Name,
		&metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(p.UID))})
	switch {
	case err == nil:
		c.Events.Eventf(owner, corev1.EventTypeNormal, "SuccessfulDelete", "Deleted pod: %v", p.Name)
	case apierrors.IsNotFound(err):
		return nil
	case ctx.Err() == nil:
		c.Events.Eventf(owner, corev1.EventTypeWarning, "FailedDelete", "Error deleting: %v", err)
	}
	return err
}

// Growing calls do for 0 … n-1: first for one, then for two, then for four
// together, so that a fault that concerns all of them is met once and not 500
// times. It ends with the round in which something failed.
func Growing(n int, do func(i int) error) error {
	for start, size := 0, 1; start < n; size *= 2 {
		size = min(size, n-start)
		if err := Together(size, func(i int) error { return do(start + i) }); err != nil {
			return err
		}
		start += size
	}
	return nil
}

// Together calls do for 0 … n-1, some at a time, and returns one of the errors:
// the others say the same of other pods. Writes that come together share a
// flush of the store's log.
func Together(n int, do func(i int) error) error {
	const width = 16
	var all sync.WaitGroup
	errs := make([]error, n)
	slots := make(chan struct{}, width)
	for i := range n {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			errs[i] = do(i)
		})
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
