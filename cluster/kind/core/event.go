package core

import (
	"cmp"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/validation/path"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/kind"
	"sampan/cluster/kind/events"
)

// Event says that something happened to an object. It is stored once, as
// core/v1, and served as events.k8s.io/v1 too.
func Event() *kind.Kind {
	return kind.Declare(kind.Of[corev1.Event]{
		GVK:            corev1.SchemeGroupVersion.WithKind("Event"),
		Plural:         "events",
		AnyFinalizer:   true,
		Short:          []string{"ev"},
		TTL:            time.Hour,
		CreateOnUpdate: true,
		Uncollected:    true,
		Versions:       []kind.Version{events.Version()},
		Validate:       events.Validate,
		ValidateName:   path.ValidatePathSegmentName, // events are named after what they are about; events.k8s.io is stricter
		Fields:         eventFields(),
		Columns: []kind.Column[corev1.Event]{
			{Name: "Last Seen", Description: corev1.Event{}.SwaggerDoc()["lastTimestamp"], Cell: eventLastSeen},
			{Name: "Type", Description: corev1.Event{}.SwaggerDoc()["type"],
				Cell: func(e *corev1.Event, _ time.Time) any { return e.Type }},
			{Name: "Reason", Description: corev1.Event{}.SwaggerDoc()["reason"],
				Cell: func(e *corev1.Event, _ time.Time) any { return e.Reason }},
			{Name: "Object", Description: corev1.Event{}.SwaggerDoc()["involvedObject"], Cell: eventTarget},
			{Name: "Subobject", Priority: 1, Description: corev1.ObjectReference{}.SwaggerDoc()["fieldPath"],
				Cell: func(e *corev1.Event, _ time.Time) any { return e.InvolvedObject.FieldPath }},
			{Name: "Source", Priority: 1, Description: corev1.Event{}.SwaggerDoc()["source"],
				Cell: func(e *corev1.Event, _ time.Time) any { return eventSource(e) }},
			{Name: "Message", Description: corev1.Event{}.SwaggerDoc()["message"],
				Cell: func(e *corev1.Event, _ time.Time) any { return strings.TrimSpace(e.Message) }},
			{Name: "First Seen", Priority: 1, Description: corev1.Event{}.SwaggerDoc()["firstTimestamp"], Cell: eventFirstSeen},
			{Name: "Count", Priority: 1, Description: corev1.Event{}.SwaggerDoc()["count"],
				Cell: func(e *corev1.Event, _ time.Time) any { return eventCount(e) }},
			{Name: "Name", Priority: 1, Format: "name", Description: metav1.ObjectMeta{}.SwaggerDoc()["name"],
				Cell: func(e *corev1.Event, _ time.Time) any { return e.Name }},
		},
	})
}

func eventFields() map[string]func(*corev1.Event) string {
	of := func(f func(*corev1.ObjectReference) string) func(*corev1.Event) string {
		return func(e *corev1.Event) string { return f(&e.InvolvedObject) }
	}
	return map[string]func(*corev1.Event) string{
		"involvedObject.kind":            of(func(r *corev1.ObjectReference) string { return r.Kind }),
		"involvedObject.namespace":       of(func(r *corev1.ObjectReference) string { return r.Namespace }),
		"involvedObject.name":            of(func(r *corev1.ObjectReference) string { return r.Name }),
		"involvedObject.uid":             of(func(r *corev1.ObjectReference) string { return string(r.UID) }),
		"involvedObject.apiVersion":      of(func(r *corev1.ObjectReference) string { return r.APIVersion }),
		"involvedObject.resourceVersion": of(func(r *corev1.ObjectReference) string { return r.ResourceVersion }),
		"involvedObject.fieldPath":       of(func(r *corev1.ObjectReference) string { return r.FieldPath }),
		"reason":                         func(e *corev1.Event) string { return e.Reason },
		"reportingComponent":             func(e *corev1.Event) string { return e.ReportingController },
		"source":                         func(e *corev1.Event) string { return cmp.Or(e.Source.Component, e.ReportingController) },
		"type":                           func(e *corev1.Event) string { return e.Type },
	}
}

func eventTarget(e *corev1.Event, _ time.Time) any {
	if e.InvolvedObject.Name == "" {
		return strings.ToLower(e.InvolvedObject.Kind)
	}
	return strings.ToLower(e.InvolvedObject.Kind) + "/" + e.InvolvedObject.Name
}

// eventSource prefers the old source, as upstream's printer does.
func eventSource(e *corev1.Event) string {
	component := cmp.Or(e.Source.Component, e.ReportingController)
	host := cmp.Or(e.Source.Host, e.ReportingInstance)
	if host != "" {
		return component + ", " + host
	}
	return component
}

func eventCount(e *corev1.Event) int64 {
	switch {
	case e.Series != nil:
		return int64(e.Series.Count)
	case e.Count != 0:
		return int64(e.Count)
	}
	return 1
}

func eventFirstSeen(e *corev1.Event, now time.Time) any {
	if e.FirstTimestamp.IsZero() {
		return kind.Since(metav1.NewTime(e.EventTime.Time), now)
	}
	return kind.Since(e.FirstTimestamp, now)
}

func eventLastSeen(e *corev1.Event, now time.Time) any {
	last := ""
	switch {
	case e.Series != nil:
		last = kind.Since(metav1.NewTime(e.Series.LastObservedTime.Time), now)
	case !e.LastTimestamp.IsZero():
		last = kind.Since(e.LastTimestamp, now)
	default:
		return eventFirstSeen(e, now)
	}
	return last
}
