package scheduler

import (
	"context"
	"encoding/json"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"sampan/cluster/client"
)

// evict has p's victims leave, beside the scheduler's own work. It tells it if
// that fails, so that pod, which e is about, is tried again.
func (s *Scheduler) evict(ctx context.Context, e *entry, pod *corev1.Pod, p Preemption) {
	for _, v := range p.Victims {
		if v.DeletionTimestamp != nil {
			continue // it is on its way
		}
		err := s.evictOne(ctx, pod, v.Pod, p.Node)
		if err != nil && ctx.Err() == nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			s.cfg.Log.Warn("pod not preempted", "key", v.Namespace+"/"+v.Name, "for", pod.Namespace+"/"+pod.Name, "err", err)
			s.send(ctx, change{failed: e})
			return
		}
	}
}

func (s *Scheduler) evictOne(ctx context.Context, pod, victim *corev1.Pod, node string) error {
	condition := corev1.PodCondition{
		Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now(),
		Reason: corev1.PodReasonPreemptionByScheduler, ObservedGeneration: victim.Generation,
		Message: pod.Spec.SchedulerName + ": preempting to accommodate a higher priority pod",
	}
	if err := s.patchStatus(ctx, victim, map[string]any{"conditions": []corev1.PodCondition{condition}}); err != nil {
		return err
	}
	err := client.Delete[*corev1.Pod](ctx, s.cfg.Client, victim.Namespace, victim.Name,
		&metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(victim.UID))})
	if err == nil {
		s.events.Eventf(victim, corev1.EventTypeNormal, "Preempted", "Preempted by pod %v on node %v", pod.UID, node)
	}
	return err
}

// patchStatus changes a part of a pod's status, unless another pod has its
// name meanwhile.
func (s *Scheduler) patchStatus(ctx context.Context, p *corev1.Pod, status map[string]any) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": p.UID}, "status": status})
	if err != nil {
		return err
	}
	_, err = s.cfg.Client.Patch(ctx, client.KindOf[*corev1.Pod](s.cfg.Client), client.Patch{
		Namespace: p.Namespace, Name: p.Name, Sub: "status", Type: types.StrategicMergePatchType, Data: patch})
	return err
}

// budgets are all disruption budgets, none where there is no such kind.
func (s *Scheduler) budgets(ctx context.Context) (all []*policyv1.PodDisruptionBudget) {
	k := s.cfg.Client.Kinds().ByGVK(policyv1.SchemeGroupVersion.WithKind("PodDisruptionBudget"))
	if k == nil {
		return nil
	}
	objs, err := s.cfg.Client.List(ctx, k, client.Query{})
	if err != nil {
		s.cfg.Log.Warn("disruption budgets not read", "err", err)
		return nil
	}
	for _, obj := range objs {
		all = append(all, obj.(*policyv1.PodDisruptionBudget))
	}
	return all
}
