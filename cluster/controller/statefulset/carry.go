package statefulset

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/client"
	"sampan/cluster/controller/pods"
)

// carryOut does the steps. In order, the first that fails is the last.
func (c *Controller) carryOut(ctx context.Context, v *view, d decision) error {
	if d.together {
		return pods.Growing(len(d.steps), func(i int) error { return c.step(ctx, v, d.steps[i]) })
	}
	for _, s := range d.steps {
		if err := c.step(ctx, v, s); err != nil {
			return err
		}
	}
	return nil
}

func (c *Controller) step(ctx context.Context, v *view, s step) error {
	switch s.do {
	case create:
		return c.create(ctx, v, s.pod)
	case provide:
		return c.provide(ctx, v, s.pod, s.pod)
	case mend:
		return c.mend(ctx, v, s.pod)
	case own:
		return c.setOwners(ctx, v, s.pod)
	}
	return c.remove(ctx, v, s.pod)
}

// create makes a pod, and before it its claims. Both stay what they are if
// they are there already.
func (c *Controller) create(ctx context.Context, v *view, p *corev1.Pod) error {
	if err := c.makeClaims(ctx, v, p); err != nil {
		c.tell(v, "Create", p, err)
		return err
	}
	made, err := client.Create(ctx, c.cfg.Client, p.DeepCopy())
	if apierrors.IsAlreadyExists(err) {
		return err
	}
	if err == nil {
		if err := c.setOwners(ctx, v, made); err != nil {
			c.tell(v, "Update", p, err)
			return err
		}
	}
	if ctx.Err() == nil {
		c.tell(v, "Create", p, err)
	}
	if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return nil // the namespace goes, and this set with it
	}
	return err
}

// provide makes the claims that a pod misses. of is the pod as it is.
func (c *Controller) provide(ctx context.Context, v *view, p, of *corev1.Pod) error {
	if err := c.makeClaims(ctx, v, p); err != nil {
		return err
	}
	return c.setOwners(ctx, v, of)
}

func (c *Controller) makeClaims(ctx context.Context, v *view, p *corev1.Pod) error {
	var failed error
	for _, want := range claimsOf(v.set, ordinal(p)) {
		if have := v.claims[want.Name]; have != nil {
			if have.DeletionTimestamp != nil {
				failed = errors.Join(failed, fmt.Errorf("pvc %s is being deleted", want.Name))
			}
			continue
		}
		name := want.Name
		_, err := client.Create(ctx, c.cfg.Client, want)
		switch {
		case apierrors.IsAlreadyExists(err):
			failed = errors.Join(failed, err)
		case err != nil:
			failed = errors.Join(failed, fmt.Errorf("failed to create PVC %s: %w", name, err))
			c.events.Eventf(v.set, corev1.EventTypeWarning, "FailedCreate",
				"Create Claim %s for Pod %s in StatefulSet %s failed error: %v", name, p.Name, v.set.Name, err)
		default:
			c.events.Eventf(v.set, corev1.EventTypeNormal, "SuccessfulCreate",
				"Create Claim %s Pod %s in StatefulSet %s success", name, p.Name, v.set.Name)
		}
	}
	return failed
}

// setOwners gives a pod's claims the owners that they should have. It reads
// them anew: some may just have been made.
func (c *Controller) setOwners(ctx context.Context, v *view, p *corev1.Pod) error {
	for _, want := range claimsOf(v.set, ordinal(p)) {
		have, err := client.Get[*corev1.PersistentVolumeClaim](ctx, c.cfg.Client, want.Namespace, want.Name)
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return err
		}
		if contested(have, v.set, p) {
			c.events.Eventf(v.set, corev1.EventTypeWarning, "ConflictingController",
				"PersistentVolumeClaim %s has a conflicting OwnerReference that acts as a manging controller, the retention policy is ignored for this claim", want.Name)
		}
		if owned(have, v.set, p) {
			continue
		}
		next := have.DeepCopy()
		next.OwnerReferences = owners(have, v.set, p)
		if _, err := client.Update(ctx, c.cfg.Client, next); err != nil {
			return fmt.Errorf("could not update claim %s for delete policy ownerRefs: %w", want.Name, err)
		}
	}
	return nil
}

// mend gives a pod what somebody has taken from it.
func (c *Controller) mend(ctx context.Context, v *view, p *corev1.Pod) error {
	next := p.DeepCopy()
	if !identified(p) {
		identify(v.set, next)
	}
	if !mounted(v.set, p) {
		mount(v.set, next)
	}
	if err := c.provide(ctx, v, next, p); err != nil {
		c.tell(v, "Update", p, err)
		return err
	}
	if identified(p) && mounted(v.set, p) {
		return nil
	}
	_, err := client.Update(ctx, c.cfg.Client, next)
	if apierrors.IsConflict(err) {
		return err
	}
	c.tell(v, "Update", p, err)
	return err
}

// remove deletes p and no other pod of its name.
func (c *Controller) remove(ctx context.Context, v *view, p *corev1.Pod) error {
	err := client.Delete[*corev1.Pod](ctx, c.cfg.Client, p.Namespace, p.Name,
		&metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(p.UID))})
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case ctx.Err() == nil:
		c.tell(v, "Delete", p, err)
	}
	return err
}

// tell says in an event what was done to a pod.
func (c *Controller) tell(v *view, verb string, p *corev1.Pod, err error) {
	if err != nil {
		c.events.Eventf(v.set, corev1.EventTypeWarning, "Failed"+verb, "%s Pod %s in StatefulSet %s failed error: %v", verb, p.Name, v.set.Name, err)
		return
	}
	c.events.Eventf(v.set, corev1.EventTypeNormal, "Successful"+verb, "%s Pod %s in StatefulSet %s successful", verb, p.Name, v.set.Name)
}
