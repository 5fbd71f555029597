package events

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
)

// Upstream's limits, in bytes.
const (
	maxReason   = 128
	maxAction   = 128
	maxInstance = 128
	maxNote     = 1024
)

// component is what core/v1 calls the field that events.k8s.io/v1 calls
// reportingController.
const component = "reportingComponent"

// renamed are faults with the names that events.k8s.io/v1 has.
func renamed(errs field.ErrorList, _ kind.Object) field.ErrorList {
	for _, e := range errs {
		if e.Field == component {
			e.Field = "reportingController"
		}
	}
	return errs
}

// Validate checks an event that comes as core/v1: little, since clients of
// the first days wrote what they liked. One with an eventTime is of the newer
// kind and says who saw what.
func Validate(e, _ *corev1.Event) (errs field.ErrorList) {
	ns := field.NewPath("involvedObject", "namespace")
	elsewhere := field.Invalid(ns, e.InvolvedObject.Namespace, "does not match event.namespace")
	if e.EventTime.IsZero() {
		none := e.InvolvedObject.Namespace == "" && (e.Namespace == metav1.NamespaceNone || e.Namespace == metav1.NamespaceDefault)
		if !none && e.Namespace != e.InvolvedObject.Namespace {
			errs = append(errs, elsewhere)
		}
		return errs
	}
	if e.InvolvedObject.Namespace == "" && e.Namespace != metav1.NamespaceDefault && e.Namespace != metav1.NamespaceSystem {
		errs = append(errs, elsewhere)
	}
	required := func(name, value string) {
		if value == "" {
			errs = append(errs, field.Required(field.NewPath(name), ""))
		}
	}
	short := func(name, value string, most int) {
		if len(value) > most {
			errs = append(errs, field.Invalid(field.NewPath(name), "", fmt.Sprintf("can have at most %v characters", most)))
		}
	}
	required(component, e.ReportingController)
	errs = append(errs, kind.QualifiedName(e.ReportingController, field.NewPath(component))...)
	required("reportingInstance", e.ReportingInstance)
	short("reportingInstance", e.ReportingInstance, maxInstance)
	required("action", e.Action)
	short("action", e.Action, maxAction)
	required("reason", e.Reason)
	short("reason", e.Reason, maxReason)
	short("message", e.Message, maxNote)
	return errs
}

// validateStrict checks what an event that comes as events.k8s.io/v1 has to
// observe besides: it is of the newer kind throughout, and only its series
// grows.
func validateStrict(obj, previous kind.Object) (errs field.ErrorList) {
	e, ok := obj.(*corev1.Event)
	if !ok {
		return nil
	}
	old, _ := previous.(*corev1.Event)
	if old != nil {
		if !kind.Equal(e.Series, old.Series) {
			errs = append(errs, series(e.Series)...)
		}
		return append(errs, unchanged(e, old)...)
	}
	if e.Name != "" { // without one it is refused already
		errs = append(errs, kind.DNSSubdomain(e.Name, field.NewPath("metadata", "name"))...)
	}
	errs = append(errs, series(e.Series)...)
	if e.EventTime.IsZero() {
		errs = append(errs, field.Required(field.NewPath("eventTime"), ""))
	}
	if e.Type != corev1.EventTypeNormal && e.Type != corev1.EventTypeWarning {
		errs = append(errs, field.Invalid(field.NewPath("type"), "", "has invalid value: "+e.Type))
	}
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"firstTimestamp", !e.FirstTimestamp.IsZero()},
		{"lastTimestamp", !e.LastTimestamp.IsZero()},
		{"count", e.Count != 0},
		{"source", e.Source != corev1.EventSource{}},
	} {
		if f.set {
			errs = append(errs, field.Invalid(field.NewPath(f.name), "", "needs to be unset"))
		}
	}
	return errs
}

func series(s *corev1.EventSeries) (errs field.ErrorList) {
	if s == nil {
		return nil
	}
	if s.Count < 2 {
		errs = append(errs, field.Invalid(field.NewPath("series.count"), "", "should be at least 2"))
	}
	if s.LastObservedTime.IsZero() {
		errs = append(errs, field.Required(field.NewPath("series.lastObservedTime"), ""))
	}
	return errs
}

func unchanged(e, old *corev1.Event) (errs field.ErrorList) {
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
		{"type", e.Type, old.Type},
		{"action", e.Action, old.Action},
		{"related", e.Related, old.Related},
		{"reportingController", e.ReportingController, old.ReportingController},
		{"reportingInstance", e.ReportingInstance, old.ReportingInstance},
	} {
		errs = append(errs, kind.Immutable(f.now, f.was, field.NewPath(f.name))...)
	}
	// A time goes through JSON with microseconds only.
	if e.EventTime.UnixMicro() != old.EventTime.UnixMicro() {
		errs = append(errs, kind.Immutable(e.EventTime, old.EventTime, field.NewPath("eventTime"))...)
	}
	return errs
}
