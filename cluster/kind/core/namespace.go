package core

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
)

// Namespace separates names. How one ends is the namespace controller's work:
// the finalizer "kubernetes" in its spec holds it until it is empty.
func Namespace() *kind.Kind {
	return kind.Declare(kind.Of[corev1.Namespace]{
		GVK:          corev1.SchemeGroupVersion.WithKind("Namespace"),
		Plural:       "namespaces",
		Rechecked:    true,
		Short:        []string{"ns"},
		Cluster:      true,
		Singly:       true,
		Default:      defaultNamespace,
		Prepare:      prepareNamespace,
		Validate:     validateNamespace,
		ValidateName: validation.NameIsDNSLabel,
		Held:         func(ns *corev1.Namespace) bool { return len(ns.Spec.Finalizers) > 0 },
		Leaving: func(ns *corev1.Namespace) {
			ns.Status.Phase = corev1.NamespaceTerminating
			ns.DeletionGracePeriodSeconds = nil // upstream does not say it here
		},
		Parts: map[string]kind.Part[corev1.Namespace]{
			"status": {
				Take:         func(dst, src *corev1.Namespace) { dst.Status = src.Status },
				WithMetadata: true,
				Validate:     validateNamespaceStatus,
			},
			"finalize": {
				Take:         func(dst, src *corev1.Namespace) { dst.Spec = src.Spec },
				KeepOnCreate: true,
				WithMetadata: true,
				Validate:     func(ns, _ *corev1.Namespace) field.ErrorList { return namespaceFinalizers(ns) },
			},
		},
		Columns: []kind.Column[corev1.Namespace]{
			{Name: "Status", Description: "The status of the namespace",
				Cell: func(ns *corev1.Namespace, _ time.Time) any { return string(ns.Status.Phase) }},
			kind.Age[corev1.Namespace](),
		},
		Fields: map[string]func(*corev1.Namespace) string{
			"status.phase": func(ns *corev1.Namespace) string { return string(ns.Status.Phase) },
			// Upstream selects by this name as well, by mistake at first.
			"name": func(ns *corev1.Namespace) string { return ns.Name },
		},
	})
}

func defaultNamespace(ns *corev1.Namespace) {
	labelNamespace(ns)
	if ns.Status.Phase == "" {
		ns.Status.Phase = corev1.NamespaceActive
	}
}

// labelNamespace keeps the label that lets selectors name a namespace.
func labelNamespace(ns *corev1.Namespace) {
	if ns.Name == "" {
		return // generateName: the machine names it before Prepare
	}
	if ns.Labels == nil {
		ns.Labels = map[string]string{}
	}
	ns.Labels[corev1.LabelMetadataName] = ns.Name
}

func prepareNamespace(ns, old *corev1.Namespace) {
	labelNamespace(ns)
	if old != nil {
		return
	}
	ns.Status = corev1.NamespaceStatus{Phase: corev1.NamespaceActive}
	if !slices.Contains(ns.Spec.Finalizers, corev1.FinalizerKubernetes) {
		ns.Spec.Finalizers = append(ns.Spec.Finalizers, corev1.FinalizerKubernetes)
	}
}

func validateNamespace(ns, old *corev1.Namespace) field.ErrorList {
	if old != nil {
		return nil // metadata only: spec and status have parts of their own
	}
	return namespaceFinalizers(ns)
}

func namespaceFinalizers(ns *corev1.Namespace) (errs field.ErrorList) {
	path := field.NewPath("spec", "finalizers")
	for _, f := range ns.Spec.Finalizers {
		for _, msg := range utilvalidation.IsQualifiedName(string(f)) {
			errs = append(errs, field.Invalid(path, string(f), msg))
		}
		standard := f == corev1.FinalizerKubernetes || f == metav1.FinalizerOrphanDependents || f == metav1.FinalizerDeleteDependents
		if !strings.Contains(string(f), "/") && !standard {
			errs = append(errs, field.Invalid(path, string(f), "name is neither a standard finalizer name nor is it fully qualified"))
		}
	}
	return errs
}

func validateNamespaceStatus(ns, _ *corev1.Namespace) field.ErrorList {
	want, when := corev1.NamespaceActive, "is empty"
	if ns.DeletionTimestamp != nil {
		want, when = corev1.NamespaceTerminating, "is not empty"
	}
	if ns.Status.Phase == want {
		return nil
	}
	return field.ErrorList{field.Invalid(field.NewPath("status", "Phase"), ns.Status.Phase,
		fmt.Sprintf("may only be '%s' if `deletionTimestamp` %s", want, when))}
}
