// Package events serves core Events as events.k8s.io/v1 too: the conversion
// between the two and the rules that each version has. There is one stored
// kind, core's; package core declares it.
package events

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/kind"
)

// Version is events.k8s.io/v1 Event.
func Version() kind.Version {
	return kind.Version{
		GVK:     eventsv1.SchemeGroupVersion.WithKind("Event"),
		New:     func() kind.Object { return &eventsv1.Event{} },
		ToHub:   toHub,
		FromHub: fromHub,
		Fields:  fields(),

		Validate: validateStrict,
		Forgive:  renamed,
	}
}

// toHub converts to core/v1. The names differ, nothing is lost.
func toHub(obj kind.Object) (kind.Object, error) {
	e, ok := obj.(*eventsv1.Event)
	if !ok {
		return nil, fmt.Errorf("event: cannot convert a %T to core/v1", obj)
	}
	hub := &corev1.Event{
		TypeMeta:            metav1.TypeMeta{APIVersion: "v1", Kind: "Event"},
		ObjectMeta:          e.ObjectMeta,
		InvolvedObject:      e.Regarding,
		Related:             e.Related,
		Reason:              e.Reason,
		Message:             e.Note,
		Type:                e.Type,
		Action:              e.Action,
		EventTime:           e.EventTime,
		ReportingController: e.ReportingController,
		ReportingInstance:   e.ReportingInstance,
		Source:              e.DeprecatedSource,
		FirstTimestamp:      e.DeprecatedFirstTimestamp,
		LastTimestamp:       e.DeprecatedLastTimestamp,
		Count:               e.DeprecatedCount,
	}
	if s := e.Series; s != nil {
		hub.Series = &corev1.EventSeries{Count: s.Count, LastObservedTime: s.LastObservedTime}
	}
	return hub, nil
}

// fromHub converts from core/v1 without writing to hub.
func fromHub(obj kind.Object) (kind.Object, error) {
	hub, ok := obj.(*corev1.Event)
	if !ok {
		return nil, fmt.Errorf("event: cannot convert a %T to events.k8s.io/v1", obj)
	}
	hub = hub.DeepCopy()
	e := &eventsv1.Event{
		TypeMeta:                 metav1.TypeMeta{APIVersion: "events.k8s.io/v1", Kind: "Event"},
		ObjectMeta:               hub.ObjectMeta,
		Regarding:                hub.InvolvedObject,
		Related:                  hub.Related,
		Reason:                   hub.Reason,
		Note:                     hub.Message,
		Type:                     hub.Type,
		Action:                   hub.Action,
		EventTime:                hub.EventTime,
		ReportingController:      hub.ReportingController,
		ReportingInstance:        hub.ReportingInstance,
		DeprecatedSource:         hub.Source,
		DeprecatedFirstTimestamp: hub.FirstTimestamp,
		DeprecatedLastTimestamp:  hub.LastTimestamp,
		DeprecatedCount:          hub.Count,
	}
	if s := hub.Series; s != nil {
		e.Series = &eventsv1.EventSeries{Count: s.Count, LastObservedTime: s.LastObservedTime}
	}
	return e, nil
}

// fields are the selectable fields under this version's names.
func fields() map[string]func(kind.Object) string {
	of := func(f func(*corev1.Event) string) func(kind.Object) string {
		return func(o kind.Object) string { return f(o.(*corev1.Event)) }
	}
	return map[string]func(kind.Object) string{
		"regarding.kind":            of(func(e *corev1.Event) string { return e.InvolvedObject.Kind }),
		"regarding.namespace":       of(func(e *corev1.Event) string { return e.InvolvedObject.Namespace }),
		"regarding.name":            of(func(e *corev1.Event) string { return e.InvolvedObject.Name }),
		"regarding.uid":             of(func(e *corev1.Event) string { return string(e.InvolvedObject.UID) }),
		"regarding.apiVersion":      of(func(e *corev1.Event) string { return e.InvolvedObject.APIVersion }),
		"regarding.resourceVersion": of(func(e *corev1.Event) string { return e.InvolvedObject.ResourceVersion }),
		"regarding.fieldPath":       of(func(e *corev1.Event) string { return e.InvolvedObject.FieldPath }),
		"reason":                    of(func(e *corev1.Event) string { return e.Reason }),
		"reportingController":       of(func(e *corev1.Event) string { return e.ReportingController }),
		"type":                      of(func(e *corev1.Event) string { return e.Type }),
	}
}
