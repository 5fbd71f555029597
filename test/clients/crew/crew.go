// Package crew has the kind of the tests' operator: a Crew is a number of
// sailors, each a pod. It has two versions, which name the number differently.
package crew

import (
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/conversion"
)

// Group is the kind's API group.
const Group = "clients.test"

var (
	v1       = schema.GroupVersion{Group: Group, Version: "v1"}
	v1alpha1 = schema.GroupVersion{Group: Group, Version: "v1alpha1"}
)

// AddToScheme makes the kind known.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(v1, &Crew{}, &CrewList{})
	s.AddKnownTypeWithName(v1alpha1.WithKind("Crew"), &Alpha{})
	s.AddKnownTypeWithName(v1alpha1.WithKind("CrewList"), &AlphaList{})
	metav1.AddToGroupVersion(s, v1)
	metav1.AddToGroupVersion(s, v1alpha1)
	return nil
}

// Crew is version v1, the one that is stored.
type Crew struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              Spec   `json:"spec"`
	Status            Status `json:"status,omitempty"`
}

// Spec is what a crew shall be.
type Spec struct {
	Replicas int32  `json:"replicas"`
	Image    string `json:"image,omitempty"`  // the operator's webhook fills it in
	Orders   string `json:"orders,omitempty"` // name of a ConfigMap that the sailors read
}

// Status is what a crew is.
type Status struct {
	Generation int64              `json:"observedGeneration,omitempty"`
	Replicas   int32              `json:"replicas"`
	Ready      int32              `json:"ready"`
	Selector   string             `json:"selector,omitempty"`
	Orders     string             `json:"orders,omitempty"` // version of the ConfigMap that was read
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// CrewList is a list of them.
type CrewList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []Crew `json:"items"`
}

// Alpha is version v1alpha1.
type Alpha struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              AlphaSpec `json:"spec"`
	Status            Status    `json:"status,omitempty"`
}

// AlphaSpec calls the replicas hands.
type AlphaSpec struct {
	Hands  int32  `json:"hands"`
	Image  string `json:"image,omitempty"`
	Orders string `json:"orders,omitempty"`
}

// AlphaList is a list of them.
type AlphaList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []Alpha `json:"items"`
}

// Hub implements conversion.Hub.
func (*Crew) Hub() {}

// ConvertTo implements conversion.Convertible.
func (a *Alpha) ConvertTo(hub conversion.Hub) error {
	c, ok := hub.(*Crew)
	if !ok {
		return fmt.Errorf("convert a crew to %T", hub)
	}
	c.ObjectMeta, c.Status = a.ObjectMeta, a.Status
	c.Spec = Spec{Replicas: a.Spec.Hands, Image: a.Spec.Image, Orders: a.Spec.Orders}
	return nil
}

// ConvertFrom implements conversion.Convertible.
func (a *Alpha) ConvertFrom(hub conversion.Hub) error {
	c, ok := hub.(*Crew)
	if !ok {
		return fmt.Errorf("convert a crew from %T", hub)
	}
	a.ObjectMeta, a.Status = c.ObjectMeta, c.Status
	a.Spec = AlphaSpec{Hands: c.Spec.Replicas, Image: c.Spec.Image, Orders: c.Spec.Orders}
	return nil
}

// SetCondition notes a condition of the crew.
func (c *Crew) SetCondition(kind string, ok bool, reason, message string) {
	status := metav1.ConditionFalse
	if ok {
		status = metav1.ConditionTrue
	}
	meta.SetStatusCondition(&c.Status.Conditions, metav1.Condition{Type: kind, Status: status, Reason: reason, Message: message,
		ObservedGeneration: c.Generation})
}

func (s Status) copy() Status {
	conditions := s.Conditions
	s.Conditions = nil
	for _, c := range conditions {
		s.Conditions = append(s.Conditions, *c.DeepCopy())
	}
	return s
}

// DeepCopyObject implements runtime.Object.
func (c *Crew) DeepCopyObject() runtime.Object {
	return &Crew{c.TypeMeta, *c.ObjectMeta.DeepCopy(), c.Spec, c.Status.copy()}
}

// DeepCopyObject implements runtime.Object.
func (l *CrewList) DeepCopyObject() runtime.Object {
	next := &CrewList{l.TypeMeta, *l.ListMeta.DeepCopy(), nil}
	for _, c := range l.Items {
		next.Items = append(next.Items, *c.DeepCopyObject().(*Crew))
	}
	return next
}

// DeepCopyObject implements runtime.Object.
func (a *Alpha) DeepCopyObject() runtime.Object {
	return &Alpha{a.TypeMeta, *a.ObjectMeta.DeepCopy(), a.Spec, a.Status.copy()}
}

// DeepCopyObject implements runtime.Object.
func (l *AlphaList) DeepCopyObject() runtime.Object {
	next := &AlphaList{l.TypeMeta, *l.ListMeta.DeepCopy(), nil}
	for _, a := range l.Items {
		next.Items = append(next.Items, *a.DeepCopyObject().(*Alpha))
	}
	return next
}
