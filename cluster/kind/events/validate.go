package events

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
)

const (
	maxReason   = 128
	maxAction   = 128
	maxInstance = 128
	maxNote     = 1024
)

// Validate checks a stored event. Upstream is strict with events.k8s.io/v1
// and lenient with core/v1; an event with an eventTime is held to the strict
// rules here, whichever version it came by, as upstream does on create.
func Validate(e, old *corev1.Event) (errs field.ErrorList) {
	errs = append(errs, namespace(e)...)
	if !isNew(e) {
		return errs
	}
	path := func(name string) *field.Path { return field.NewPath(name) }
	if old == nil || isNew(old) {
		errs = append(errs, strict(e, path)...)
	}
	if old == nil || !isNew(old) {
		return errs
	}
	for _, f := range []struct {
		name     string
		now, was any
	}{
		{"involvedObject", e.InvolvedObject, old.InvolvedObject},
		{"reason", e.Reason, old.Reason},
		{"message", e.Message, old.Message},
		{"source", e.Source, old.Source},
		{"firstTimestamp", e.FirstTimestamp, old.FirstTimestamp},
		{"lastTimestamp", e.LastTimestamp, old.LastTimestamp},
		{"count", e.Count, old.Count},
		{"reason", e.Reason, old.Reason},
		{"type", e.Type, old.Type},
	} {
		errs = append(errs, kind.Immutable(f.now, f.was, path(f.name))...)
	}
	// The time goes through JSON with microseconds.
	if !e.EventTime.Truncate(time.Microsecond).Equal(old.EventTime.Truncate(time.Microsecond)) {
		errs = append(errs, field.Invalid(path("eventTime"), e.EventTime, "field is immutable"))
	}
	for _, f := range []struct {
		name     string
		now, was any
	}{
		{"action", e.Action, old.Action},
		{"related", e.Related, old.Related},
		{"reportingController", e.ReportingController, old.ReportingController},
		{"reportingInstance", e.ReportingInstance, old.ReportingInstance},
	} {
		errs = append(errs, kind.Immutable(f.now, f.was, path(f.name))...)
	}
	return errs
}

// namespace checks that an event is where its object is.
func namespace(e *corev1.Event) field.ErrorList {
	path := field.NewPath("involvedObject", "namespace")
	switch {
	case cluster(&e.InvolvedObject):
		if e.Namespace != metav1.NamespaceNone && e.Namespace != metav1.NamespaceDefault && e.Namespace != metav1.NamespaceSystem {
			return field.ErrorList{field.Invalid(path, e.InvolvedObject.Namespace, "does not match event.namespace")}
		}
	case e.InvolvedObject.Namespace != "" && e.Namespace != e.InvolvedObject.Namespace:
		return field.ErrorList{field.Invalid(path, e.InvolvedObject.Namespace, "does not match event.namespace")}
	}
	return nil
}

// strict holds an event to the rules of events.k8s.io/v1.
func strict(e *corev1.Event, path func(string) *field.Path) (errs field.ErrorList) {
	if e.ReportingController == "" {
		errs = append(errs, field.Required(path("reportingController"), ""))
	}
	for _, msg := range validation.IsQualifiedName(e.ReportingController) {
		errs = append(errs, field.Invalid(path("reportingController"), e.ReportingController, msg))
	}
	if e.ReportingInstance == "" {
		errs = append(errs, field.Required(path("reportingInstance"), ""))
	}
	if len(e.ReportingInstance) > maxInstance {
		errs = append(errs, field.Invalid(path("reportingInstance"), "", "can have at most 128 characters"))
	}
	if e.Action == "" {
		errs = append(errs, field.Required(path("action"), ""))
	}
	if len(e.Action) > maxAction {
		errs = append(errs, field.Invalid(path("action"), "", "can have at most 128 characters"))
	}
	if e.Reason == "" {
		errs = append(errs, field.Required(path("reason"), ""))
	}
	if len(e.Reason) > maxReason {
		errs = append(errs, field.Invalid(path("reason"), "", "can have at most 128 characters"))
	}
	if len(e.Message) > maxNote {
		errs = append(errs, field.Invalid(path("message"), "", "can have at most 1024 characters"))
	}
	if e.Type != corev1.EventTypeNormal && e.Type != corev1.EventTypeWarning {
		errs = append(errs, field.Invalid(path("type"), "", "has invalid value: "+e.Type))
	}
	if s := e.Series; s != nil {
		if s.Count < 2 {
			errs = append(errs, field.Invalid(path("series.count"), "", "should be at least 2"))
		}
		if s.LastObservedTime.IsZero() {
			errs = append(errs, field.Required(path("series.lastObservedTime"), ""))
		}
	}
	return errs
}
