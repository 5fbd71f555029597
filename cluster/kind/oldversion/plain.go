package oldversion

import (
	coordinationv1 "k8s.io/api/coordination/v1"
	coordinationv1beta1 "k8s.io/api/coordination/v1beta1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	eventsv1beta1 "k8s.io/api/events/v1beta1"
	nodev1 "k8s.io/api/node/v1"
	nodev1beta1 "k8s.io/api/node/v1beta1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	schedulingv1beta1 "k8s.io/api/scheduling/v1beta1"
	storagev1 "k8s.io/api/storage/v1"
	storagev1beta1 "k8s.io/api/storage/v1beta1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	apiregistrationv1beta1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1beta1"

	"sampan/cluster/kind"
	"sampan/cluster/kind/events"
)

// Versions that differ from the current one in nothing but their name.

func priorities(t table) {
	hub := schedulingv1.SchemeGroupVersion
	add(t, hub, schedulingv1beta1.SchemeGroupVersion, differs[schedulingv1beta1.PriorityClass, schedulingv1.PriorityClass]{})
	// The Go types of v1alpha1 are no more; they were those of v1beta1.
	addDeprecated(t, hub, schema.GroupVersion{Group: schedulingv1.GroupName, Version: "v1alpha1"}, "v1.14", "v1.22",
		differs[schedulingv1beta1.PriorityClass, schedulingv1.PriorityClass]{})
}

func volumes(t table) {
	hub, beta := storagev1.SchemeGroupVersion, storagev1beta1.SchemeGroupVersion
	add(t, hub, beta, differs[storagev1beta1.StorageClass, storagev1.StorageClass]{})
	add(t, hub, beta, differs[storagev1beta1.VolumeAttachment, storagev1.VolumeAttachment]{})
	add(t, hub, beta, differs[storagev1beta1.CSIDriver, storagev1.CSIDriver]{})
	add(t, hub, beta, differs[storagev1beta1.CSINode, storagev1.CSINode]{})
	add(t, hub, beta, differs[storagev1beta1.CSIStorageCapacity, storagev1.CSIStorageCapacity]{})
}

func leases(t table) {
	add(t, coordinationv1.SchemeGroupVersion, coordinationv1beta1.SchemeGroupVersion, differs[coordinationv1beta1.Lease, coordinationv1.Lease]{})
}

func runtimes(t table) {
	add(t, nodev1.SchemeGroupVersion, nodev1beta1.SchemeGroupVersion, differs[nodev1beta1.RuntimeClass, nodev1.RuntimeClass]{})
}

// servers are the other servers of the API.
func servers(t table) {
	add(t, apiregistrationv1.SchemeGroupVersion, apiregistrationv1beta1.SchemeGroupVersion, differs[apiregistrationv1beta1.APIService, apiregistrationv1.APIService]{})
}

// happenings are events: their hub is core's, and v1beta1 is v1 to the letter.
// What v1 asks of an event that v1beta1 did not is not asked.
func happenings(t table) {
	v1 := events.Version()
	var between copier
	gvk := eventsv1beta1.SchemeGroupVersion.WithKind("Event")
	text := instead(kind.Deprecation(gvk, &eventsv1beta1.Event{}), eventsv1.SchemeGroupVersion.WithKind("Event"))
	addAs(t, corev1.SchemeGroupVersion.WithKind("Event"), gvk, text, differs[eventsv1beta1.Event, corev1.Event]{
		fields: v1.Fields,
		up: func(hub *corev1.Event, old *eventsv1beta1.Event) {
			var e eventsv1.Event
			between.into(&e, old)
			made, err := v1.ToHub(&e)
			if err == nil { // its only error is another Go type
				*hub = *made.(*corev1.Event)
			}
		},
		down: func(old *eventsv1beta1.Event, hub *corev1.Event) {
			made, err := v1.FromHub(hub)
			if err == nil {
				*old = eventsv1beta1.Event{}
				between.into(old, made.(*eventsv1.Event))
			}
		},
	})
}
