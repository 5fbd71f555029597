package oldversion

import (
	"maps"
	"math"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	appsv1beta1 "k8s.io/api/apps/v1beta1"
	appsv1beta2 "k8s.io/api/apps/v1beta2"
	batchv1 "k8s.io/api/batch/v1"
	batchv1beta1 "k8s.io/api/batch/v1beta1"
	extensionsv1beta1 "k8s.io/api/extensions/v1beta1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
)

// workloads are the versions from before apps/v1. In the first ones a selector
// and the object's labels may be missing: they are the pod template's labels.
func workloads(t table) {
	hub := appsv1.SchemeGroupVersion
	first, beta1, beta2 := extensionsv1beta1.SchemeGroupVersion, appsv1beta1.SchemeGroupVersion, appsv1beta2.SchemeGroupVersion

	add(t, hub, first, differs[extensionsv1beta1.Deployment, appsv1.Deployment]{
		old: func(d *extensionsv1beta1.Deployment) {
			s := &d.Spec
			fromTemplate(&s.Selector, &d.ObjectMeta, s.Template.Labels)
			fillEmpty(&s.Strategy.Type, extensionsv1beta1.RollingUpdateDeploymentStrategyType)
			if s.Strategy.Type == extensionsv1beta1.RollingUpdateDeploymentStrategyType || s.Strategy.RollingUpdate != nil {
				fill(&s.Strategy.RollingUpdate, extensionsv1beta1.RollingUpdateDeployment{})
				fill(&s.Strategy.RollingUpdate.MaxUnavailable, intstr.FromInt32(1))
				fill(&s.Strategy.RollingUpdate.MaxSurge, intstr.FromInt32(1))
			}
			fill(&s.ProgressDeadlineSeconds, math.MaxInt32) // that is: none
			fill(&s.RevisionHistoryLimit, math.MaxInt32)
		},
		up: func(hub *appsv1.Deployment, d *extensionsv1beta1.Deployment) {
			var to *int64
			if d.Spec.RollbackTo != nil {
				to = &d.Spec.RollbackTo.Revision
			}
			number(&hub.ObjectMeta, appsv1.DeprecatedRollbackTo, to)
		},
		down: func(d *extensionsv1beta1.Deployment, _ *appsv1.Deployment) {
			if n := takeNumber(&d.ObjectMeta, appsv1.DeprecatedRollbackTo); n != nil {
				d.Spec.RollbackTo = &extensionsv1beta1.RollbackConfig{Revision: *n}
			}
		},
		forgive: forgive(changedSelector),
		actions: rollback(first, func(r *extensionsv1beta1.DeploymentRollback) wish {
			return wish{r.Name, r.UpdatedAnnotations, r.RollbackTo.Revision}
		}),
	})
	add(t, hub, beta2, differs[appsv1beta2.Deployment, appsv1.Deployment]{})
	add(t, hub, beta1, differs[appsv1beta1.Deployment, appsv1.Deployment]{
		old: func(d *appsv1beta1.Deployment) {
			fromTemplate(&d.Spec.Selector, &d.ObjectMeta, d.Spec.Template.Labels)
			fill(&d.Spec.RevisionHistoryLimit, 2)
		},
		up: func(hub *appsv1.Deployment, d *appsv1beta1.Deployment) {
			var to *int64
			if d.Spec.RollbackTo != nil {
				to = &d.Spec.RollbackTo.Revision
			}
			number(&hub.ObjectMeta, appsv1.DeprecatedRollbackTo, to)
		},
		down: func(d *appsv1beta1.Deployment, _ *appsv1.Deployment) {
			if n := takeNumber(&d.ObjectMeta, appsv1.DeprecatedRollbackTo); n != nil {
				d.Spec.RollbackTo = &appsv1beta1.RollbackConfig{Revision: *n}
			}
		},
		forgive: forgive(changedSelector),
		actions: rollback(beta1, func(r *appsv1beta1.DeploymentRollback) wish {
			return wish{r.Name, r.UpdatedAnnotations, r.RollbackTo.Revision}
		}),
	})

	add(t, hub, first, differs[extensionsv1beta1.ReplicaSet, appsv1.ReplicaSet]{
		old: func(r *extensionsv1beta1.ReplicaSet) {
			fromTemplate(&r.Spec.Selector, &r.ObjectMeta, r.Spec.Template.Labels)
		},
		forgive: forgive(changedSelector),
	})
	add(t, hub, beta2, differs[appsv1beta2.ReplicaSet, appsv1.ReplicaSet]{})

	add(t, hub, first, differs[extensionsv1beta1.DaemonSet, appsv1.DaemonSet]{
		old: func(d *extensionsv1beta1.DaemonSet) {
			fromTemplate(&d.Spec.Selector, &d.ObjectMeta, d.Spec.Template.Labels)
			fillEmpty(&d.Spec.UpdateStrategy.Type, extensionsv1beta1.OnDeleteDaemonSetStrategyType)
		},
		up: func(hub *appsv1.DaemonSet, d *extensionsv1beta1.DaemonSet) {
			if n := d.Spec.TemplateGeneration; n != 0 {
				number(&hub.ObjectMeta, appsv1.DeprecatedTemplateGeneration, &n)
			}
		},
		down: func(d *extensionsv1beta1.DaemonSet, _ *appsv1.DaemonSet) {
			if n := takeNumber(&d.ObjectMeta, appsv1.DeprecatedTemplateGeneration); n != nil {
				d.Spec.TemplateGeneration = *n
			}
		},
		forgive: forgive(changedSelector),
	})
	add(t, hub, beta2, differs[appsv1beta2.DaemonSet, appsv1.DaemonSet]{})

	add(t, hub, beta2, differs[appsv1beta2.StatefulSet, appsv1.StatefulSet]{fields: successful()})
	add(t, hub, beta1, differs[appsv1beta1.StatefulSet, appsv1.StatefulSet]{
		old: func(s *appsv1beta1.StatefulSet) {
			fromTemplate(&s.Spec.Selector, &s.ObjectMeta, s.Spec.Template.Labels)
			fillEmpty(&s.Spec.UpdateStrategy.Type, appsv1beta1.OnDeleteStatefulSetStrategyType)
		},
		fields: successful(),
	})
	add(t, hub, beta2, differs[appsv1beta2.ControllerRevision, appsv1.ControllerRevision]{})
	add(t, hub, beta1, differs[appsv1beta1.ControllerRevision, appsv1.ControllerRevision]{})
}

// successful is a name that upstream knew in these versions, and no value: these
// kinds had it from Job's (AddFieldLabelConversionFunc in pkg/apis/apps/v1beta1,
// apps/v1beta2, batch/v1beta1).
func successful() map[string]func(kind.Object) string {
	return map[string]func(kind.Object) string{"status.successful": func(kind.Object) string { return "" }}
}

// fromTemplate fills selector and labels that were left out.
func fromTemplate(selector **metav1.LabelSelector, meta *metav1.ObjectMeta, labels map[string]string) {
	if labels == nil {
		return
	}
	if *selector == nil {
		*selector = &metav1.LabelSelector{MatchLabels: maps.Clone(labels)}
	}
	if len(meta.Labels) == 0 {
		meta.Labels = maps.Clone(labels)
	}
}

// changedSelector is the fault of changing a selector, which was allowed once.
func changedSelector(e *field.Error) bool {
	return e.Field == "spec.selector" && e.Type == field.ErrorTypeInvalid && e.Detail == "field is immutable"
}

// number writes what has no field in the hub into an annotation; nil removes it.
func number(meta *metav1.ObjectMeta, key string, n *int64) {
	if n == nil {
		if _, ok := meta.Annotations[key]; ok {
			meta.Annotations = maps.Clone(meta.Annotations)
			delete(meta.Annotations, key)
		}
		return
	}
	meta.Annotations = maps.Clone(meta.Annotations)
	metav1.SetMetaDataAnnotation(meta, key, strconv.FormatInt(*n, 10))
}

// takeNumber is the reverse of number. What is no number stays where it is.
func takeNumber(meta *metav1.ObjectMeta, key string) *int64 {
	n, err := strconv.ParseInt(meta.Annotations[key], 10, 64)
	if err != nil {
		return nil
	}
	number(meta, key, nil)
	if len(meta.Annotations) == 0 {
		meta.Annotations = nil
	}
	return &n
}

func cronJobs(t table) {
	add(t, batchv1.SchemeGroupVersion, batchv1beta1.SchemeGroupVersion, differs[batchv1beta1.CronJob, batchv1.CronJob]{fields: successful()})
}
