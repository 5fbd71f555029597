package verb

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/component-helpers/apps/poddisruptionbudget"
	"k8s.io/utils/ptr"

	"sampan/cluster/kind"
	"sampan/cluster/request"
	"sampan/cluster/store"
)

const (
	// mostDisrupted is how many evictions a budget remembers until its
	// controller has seen the pods go.
	mostDisrupted = 2000

	// evictionTries bounds how often an eviction starts over because its pod
	// has changed meanwhile.
	evictionTries = 20
)

// apiserver is who writes what an eviction changes beside the pod's end:
// whoever may evict need not be allowed to write budgets.
var apiserver = request.User{Name: "system:apiserver", Groups: []string{"system:masters"}}

// evict is the action "pods/eviction": a delete that whoever may evict need
// not be allowed otherwise, and that the pod's disruption budget must allow.
func (a *API) evict(ctx context.Context, r request.Request, _ kind.Object, body runtime.Object) (runtime.Object, error) {
	eviction := body.(*policyv1.Eviction)
	if eviction.Name != r.Name {
		return nil, apierrors.NewBadRequest("name in URL does not match name in Eviction object")
	}
	o := eviction.DeleteOptions
	if o == nil {
		o = &metav1.DeleteOptions{}
	}
	if ptr.Deref(o.IgnoreStoreReadErrorWithClusterBreakingPotential, false) {
		return nil, apierrors.NewInvalid(policyv1.SchemeGroupVersion.WithKind("Eviction").GroupKind(), r.Name, field.ErrorList{
			field.Invalid(field.NewPath("deleteOptions", "ignoreStoreReadErrorWithClusterBreakingPotential"), true,
				"can not be set for pod eviction, try after removing the option")})
	}
	r.Verb, r.Subresource = "delete", ""
	r.DryRun = r.DryRun || len(o.DryRun) > 0
	if err := a.evictPod(ctx, r, o); err != nil {
		return nil, err
	}
	return &metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"},
		Status: metav1.StatusSuccess, Code: http.StatusCreated}, nil
}

func (a *API) evictPod(ctx context.Context, r request.Request, o *metav1.DeleteOptions) error {
	var pod *corev1.Pod
	for try := 1; ; try++ {
		obj, ok := a.Store.Get(key(r, r.Name))
		if !ok {
			return apierrors.NewNotFound(resource(r), r.Name)
		}
		pod = obj.(*corev1.Pod)
		if !serves(pod) {
			// No budget counts this one. One that is about to start might become
			// ready while we look: then the budget is to be asked after all.
			err := a.deleteEvicted(ctx, r, since(pod, o, pod.Status.Phase == corev1.PodPending && pod.DeletionTimestamp == nil))
			if !apierrors.IsConflict(err) || versioned(o) || try == evictionTries {
				return err
			}
			continue
		}
		break
	}
	budgets, err := a.budgets(pod)
	if err != nil {
		return err
	}
	var counted bool // else the budget does not count the pod, as long as it stays as it is
	switch len(budgets) {
	case 0:
	case 1:
		if counted = healthy(pod) || !spare(budgets[0]); counted {
			err = a.take(ctx, r, budgets[0], pod.Name)
		}
	default:
		err = &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure, Code: http.StatusInternalServerError,
			Message: "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."}}
	}
	if err != nil {
		return err
	}
	if len(budgets) == 0 || counted {
		return a.deleteEvicted(ctx, r, o)
	}
	err = a.deleteEvicted(ctx, r, since(pod, o, true))
	if apierrors.IsConflict(err) && !versioned(o) {
		return stillProcessing(budgets[0].Name)
	}
	return err
}

// serves is false for pods whose end disrupts nothing: they have not started,
// or are over, or are leaving.
func serves(p *corev1.Pod) bool {
	return p.DeletionTimestamp == nil && p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed && p.Status.Phase != corev1.PodPending
}

func healthy(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// spare says whether a pod that is not ready may go without being counted.
func spare(b *policyv1.PodDisruptionBudget) bool {
	return ptr.Deref(b.Spec.UnhealthyPodEvictionPolicy, policyv1.IfHealthyBudget) == policyv1.AlwaysAllow ||
		b.Status.DesiredHealthy > 0 && b.Status.CurrentHealthy >= b.Status.DesiredHealthy
}

func versioned(o *metav1.DeleteOptions) bool {
	return o.Preconditions != nil && o.Preconditions.ResourceVersion != nil
}

// since returns options with the precondition that the pod is as it was seen,
// unless the user has named a version or it does not matter.
func since(p *corev1.Pod, o *metav1.DeleteOptions, matters bool) *metav1.DeleteOptions {
	if !matters || versioned(o) {
		return o
	}
	o = o.DeepCopy()
	if o.Preconditions == nil {
		o.Preconditions = &metav1.Preconditions{}
	}
	o.Preconditions.ResourceVersion = &p.ResourceVersion
	return o
}

// budgets are those that select the pod. A selector that cannot be selects
// nothing.
func (a *API) budgets(p *corev1.Pod) (all []*policyv1.PodDisruptionBudget, err error) {
	k := a.Kinds.ByGVK(policyv1.SchemeGroupVersion.WithKind("PodDisruptionBudget"))
	if k == nil {
		return nil, nil
	}
	list, err := a.Store.List(k, store.ListOptions{Namespace: p.Namespace})
	if err != nil {
		return nil, err
	}
	for obj := range list.All() {
		b := obj.(*policyv1.PodDisruptionBudget)
		if s, err := metav1.LabelSelectorAsSelector(b.Spec.Selector); err == nil && s.Matches(labels.Set(p.Labels)) {
			all = append(all, b)
		}
	}
	return all, nil
}

// take uses one of the disruptions that a budget allows, and writes down for
// its controller which pod goes. Two evictions cannot take the same one: the
// write is repeated with what the other has left.
func (a *API) take(ctx context.Context, r request.Request, b *policyv1.PodDisruptionBudget, pod string) error {
	k := a.Kinds.ByGVK(policyv1.SchemeGroupVersion.WithKind("PodDisruptionBudget"))
	write := request.Request{Verb: "update", Kind: k, GVK: k.GVK, Namespace: b.Namespace, Name: b.Name, Subresource: "status",
		User: apiserver, DryRun: r.DryRun, FieldManager: "kube-apiserver"}
	_, _, err := a.write(ctx, write, change{part: "status", next: func(current kind.Object) (kind.Object, error) {
		next := current.(*policyv1.PodDisruptionBudget).DeepCopy()
		if err := allows(next); err != nil {
			return nil, err
		}
		next.Status.DisruptionsAllowed--
		if next.Status.DisruptionsAllowed == 0 {
			poddisruptionbudget.UpdateDisruptionAllowedCondition(next)
		}
		if next.Status.DisruptedPods == nil {
			next.Status.DisruptedPods = map[string]metav1.Time{}
		}
		next.Status.DisruptedPods[pod] = metav1.NewTime(a.Now()).Rfc3339Copy()
		return next, nil
	}})
	return err
}

// allows is nil if the budget allows one more disruption. The texts and
// classes are upstream's: 429 means that trying again helps.
func allows(b *policyv1.PodDisruptionBudget) error {
	s := &b.Status
	refused := func(why, cause string) error {
		err := apierrors.NewForbidden(policyv1.Resource("poddisruptionbudget"), b.Name, errors.New(why))
		return because(err, "The disruption budget %s does not allow evicting pods currently: %s", b.Name, cause)
	}
	switch {
	case s.ObservedGeneration < b.Generation:
		return stillProcessing(b.Name)
	case s.DisruptionsAllowed < 0:
		const why = "pdb disruptions allowed is negative"
		return refused(why, why)
	case len(s.DisruptedPods) > mostDisrupted:
		return refused("DisruptedPods map too big - too many evictions not confirmed by PDB controller",
			"too many pending evictions not confirmed by PDB controller")
	case s.DisruptionsAllowed > 0:
		return nil
	}
	err := apierrors.NewTooManyRequests("Cannot evict pod as it would violate the pod's disruption budget.", 0)
	c := meta.FindStatusCondition(s.Conditions, policyv1.DisruptionAllowedCondition)
	told := c != nil && c.Status == metav1.ConditionFalse && c.Message != ""
	switch {
	case told && c.Reason == policyv1.SyncFailedReason:
		return because(err, "The disruption budget %s does not allow evicting pods currently because it failed sync: %s", b.Name, c.Message)
	case s.CurrentHealthy <= s.DesiredHealthy:
		return because(err, "The disruption budget %s needs %d healthy pods and has %d currently", b.Name, s.DesiredHealthy, s.CurrentHealthy)
	case told:
		return because(err, "The disruption budget %s does not allow evicting pods currently (%s): %s", b.Name, c.Reason, c.Message)
	}
	return because(err, "The disruption budget %s does not allow evicting pods currently", b.Name)
}

func stillProcessing(budget string) error {
	err := apierrors.NewTooManyRequests("Cannot evict pod as it would violate the pod's disruption budget.", 10)
	return because(err, "The disruption budget %s is still being processed by the server.", budget)
}

func because(err *apierrors.StatusError, format string, args ...any) error {
	err.ErrStatus.Details.Causes = append(err.ErrStatus.Details.Causes,
		metav1.StatusCause{Type: policyv1.DisruptionBudgetCause, Message: fmt.Sprintf(format, args...)})
	return err
}

// deleteEvicted says on the pod why it goes, and deletes it: whoever made the
// pod can tell a disruption from a failure of its own.
func (a *API) deleteEvicted(ctx context.Context, r request.Request, o *metav1.DeleteOptions) error {
	if !r.DryRun {
		write := r
		write.Verb, write.Subresource, write.User, write.FieldManager = "update", "status", apiserver, "kube-apiserver"
		pod, _, err := a.write(ctx, write, change{part: "status", next: func(current kind.Object) (kind.Object, error) {
			if err := foreseen(r, current, o); err != nil {
				return nil, err
			}
			next := current.DeepCopyObject().(*corev1.Pod)
			disrupted(next, metav1.NewTime(a.Now()).Rfc3339Copy())
			return next, nil
		}})
		if err != nil {
			return err
		}
		if versioned(o) {
			o = o.DeepCopy()
			version := pod.GetResourceVersion() // ours: we have just changed it
			o.Preconditions.ResourceVersion = &version
		}
	}
	_, _, err := a.delete(ctx, r, o)
	return err
}

// disrupted sets the condition that tells why a pod goes.
func disrupted(p *corev1.Pod, now metav1.Time) {
	c := corev1.PodCondition{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, LastTransitionTime: now,
		Reason: "EvictionByEvictionAPI", Message: "Eviction API: evicting"}
	i := slices.IndexFunc(p.Status.Conditions, func(had corev1.PodCondition) bool { return had.Type == c.Type })
	if i < 0 {
		p.Status.Conditions = append(p.Status.Conditions, c)
		return
	}
	if had := p.Status.Conditions[i]; had.Status == c.Status {
		c.LastTransitionTime = had.LastTransitionTime
	}
	c.ObservedGeneration = p.Status.Conditions[i].ObservedGeneration
	p.Status.Conditions[i] = c
}
