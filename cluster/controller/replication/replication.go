// Package replication keeps as many pods of one template alive as a
// ReplicationController asks for. It does so by the very code that keeps
// replica sets; here is only how one is read and written as the other.
//
// It knows neither nodes nor containers.
package replication

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"sampan/cluster/controller/replicaset"
)

// Name is this controller's, in events.
const Name = "replication-controller"

// Controller keeps replication controllers.
type Controller = replicaset.Controller[*corev1.ReplicationController]

// New returns a controller.
func New(cfg replicaset.Config) *Controller {
	return replicaset.Of(cfg, replicaset.Kind[*corev1.ReplicationController]{
		Name: Name, Selector: selector, Set: Set, WithStatus: withStatus})
}

func selector(rc *corev1.ReplicationController) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: rc.Spec.Selector}
}

// Set is rc as a replica set, which shares everything with it.
func Set(rc *corev1.ReplicationController) *appsv1.ReplicaSet {
	s := &rc.Status
	rs := &appsv1.ReplicaSet{
		ObjectMeta: rc.ObjectMeta,
		Spec: appsv1.ReplicaSetSpec{Replicas: rc.Spec.Replicas, MinReadySeconds: rc.Spec.MinReadySeconds,
			Selector: selector(rc), Template: ptr.Deref(rc.Spec.Template, corev1.PodTemplateSpec{})},
		Status: appsv1.ReplicaSetStatus{Replicas: s.Replicas, FullyLabeledReplicas: s.FullyLabeledReplicas,
			ReadyReplicas: s.ReadyReplicas, AvailableReplicas: s.AvailableReplicas, ObservedGeneration: s.ObservedGeneration},
	}
	for _, c := range s.Conditions {
		rs.Status.Conditions = append(rs.Status.Conditions, appsv1.ReplicaSetCondition{Type: appsv1.ReplicaSetConditionType(c.Type),
			Status: c.Status, LastTransitionTime: c.LastTransitionTime, Reason: c.Reason, Message: c.Message})
	}
	return rs
}

// withStatus writes a replica set's status as a replication controller's,
// which has no count of the pods that are leaving.
func withStatus(rc *corev1.ReplicationController, s appsv1.ReplicaSetStatus) *corev1.ReplicationController {
	rc = rc.DeepCopy()
	rc.Status = corev1.ReplicationControllerStatus{Replicas: s.Replicas, FullyLabeledReplicas: s.FullyLabeledReplicas,
		ReadyReplicas: s.ReadyReplicas, AvailableReplicas: s.AvailableReplicas, ObservedGeneration: s.ObservedGeneration}
	for _, c := range s.Conditions {
		rc.Status.Conditions = append(rc.Status.Conditions, corev1.ReplicationControllerCondition{Type: corev1.ReplicationControllerConditionType(c.Type),
			Status: c.Status, LastTransitionTime: c.LastTransitionTime, Reason: c.Reason, Message: c.Message})
	}
	return rc
}
