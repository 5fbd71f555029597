package core

import (
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sampan/cluster/kind"
	"sampan/cluster/kind/podspec"
)

// Pod is a group of containers that share a network and a fate.
func Pod() *kind.Kind {
	return kind.Declare(kind.Of[corev1.Pod]{
		GVK:           corev1.SchemeGroupVersion.WithKind("Pod"),
		Plural:        "pods",
		Rechecked:     true,
		ReturnDeleted: true,
		Short:         []string{"po"},
		Categories:    []string{"all"},
		Default:       podspec.DefaultPod,
		Prepare:       preparePod,
		Validate:      podspec.ValidatePod,
		Warn:          podspec.Warnings,
		Spec:          countedSpec,
		Grace:         gracePod,
		Parts: map[string]kind.Part[corev1.Pod]{
			"status": {
				Take:         func(dst, src *corev1.Pod) { dst.Status = src.Status },
				WithMetadata: true,
				Keeps:        []string{"ownerReferences", "deletionTimestamp"},
				Prepare:      preparePodStatus,
				Validate:     podspec.ValidateStatus,
			},
			"ephemeralcontainers": {
				Take:     func(dst, src *corev1.Pod) { dst.Spec.EphemeralContainers = src.Spec.EphemeralContainers },
				Writable: true, // so that Validate can say what is wrong with trying
				Validate: podspec.ValidateEphemeralUpdate,
			},
			"resize": {
				Take:     podspec.TakeResources,
				Writable: true,
				Prepare:  func(p, _ *corev1.Pod) { podspec.DefaultPod(p) },
				Validate: podspec.ValidateResize,
			},
		},
		Actions: map[string]kind.Action[corev1.Pod]{
			"binding": {
				GVK: corev1.SchemeGroupVersion.WithKind("Binding"),
				New: func() runtime.Object { return &corev1.Binding{} },
				Do:  bindPod,
			},
			"eviction": {
				GVK:  policyv1.SchemeGroupVersion.WithKind("Eviction"),
				Also: []schema.GroupVersionKind{{Group: policyv1.GroupName, Version: "v1beta1", Kind: "Eviction"}},
				New:  func() runtime.Object { return &policyv1.Eviction{} },
			},
		},
		Ignored: podGaps,
		Columns: podColumns(),
		Fields: map[string]func(*corev1.Pod) string{
			"spec.nodeName":            func(p *corev1.Pod) string { return p.Spec.NodeName },
			"spec.restartPolicy":       func(p *corev1.Pod) string { return string(p.Spec.RestartPolicy) },
			"spec.schedulerName":       func(p *corev1.Pod) string { return p.Spec.SchedulerName },
			"spec.serviceAccountName":  func(p *corev1.Pod) string { return p.Spec.ServiceAccountName },
			"spec.hostNetwork":         func(p *corev1.Pod) string { return fmt.Sprint(p.Spec.HostNetwork) },
			"status.phase":             func(p *corev1.Pod) string { return string(p.Status.Phase) },
			"status.podIP":             podIP,
			"status.podIPs":            func(*corev1.Pod) string { return "" }, // upstream knows the name, and no value
			"status.nominatedNodeName": func(p *corev1.Pod) string { return p.Status.NominatedNodeName },
		},
		Indexes: map[string]func(*corev1.Pod) []string{
			"spec.nodeName": func(p *corev1.Pod) []string { return []string{p.Spec.NodeName} },
		},
	})
}

// countedSpec is what the generation counts changes of: not of the node, which
// a binding sets (KEP-5067: a pod that only got a node is still at 1).
func countedSpec(p *corev1.Pod) any {
	s := p.Spec
	s.NodeName = ""
	return &s
}

func podIP(p *corev1.Pod) string {
	if len(p.Status.PodIPs) > 0 {
		return p.Status.PodIPs[0].IP
	}
	return p.Status.PodIP
}

func preparePod(p, old *corev1.Pod) {
	podspec.SyncServiceAccount(&p.Spec) // admission may have set one
	if old != nil {
		return
	}
	p.Status = corev1.PodStatus{Phase: corev1.PodPending, QOSClass: podspec.QOSClass(p)}
	if len(p.Spec.SchedulingGates) > 0 {
		p.Status.Conditions = []corev1.PodCondition{{
			Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonSchedulingGated,
			Message: "Scheduling is blocked due to non-empty scheduling gates",
		}}
	}
}

// preparePodStatus keeps a node's report from undoing a deletion or changing
// what was settled on create.
func preparePodStatus(p, old *corev1.Pod) {
	p.DeletionTimestamp = old.DeletionTimestamp
	p.DeletionGracePeriodSeconds = old.DeletionGracePeriodSeconds
	p.OwnerReferences = old.OwnerReferences
	if old.Status.QOSClass != "" {
		p.Status.QOSClass = old.Status.QOSClass
	} else if p.Status.QOSClass == "" {
		p.Status.QOSClass = podspec.QOSClass(p)
	}
	keepObserved(p, old)
	if p.Status.PodIP == "" && len(p.Status.PodIPs) > 0 {
		p.Status.PodIP = p.Status.PodIPs[0].IP
	}
	if p.Status.PodIP != "" && len(p.Status.PodIPs) == 0 {
		p.Status.PodIPs = []corev1.PodIP{{IP: p.Status.PodIP}}
	}
	if p.Status.HostIP == "" && len(p.Status.HostIPs) > 0 {
		p.Status.HostIP = p.Status.HostIPs[0].IP
	}
	if p.Status.HostIP != "" && len(p.Status.HostIPs) == 0 {
		p.Status.HostIPs = []corev1.HostIP{{IP: p.Status.HostIP}}
	}
}

// keepObserved: who does not know of observedGeneration must not clear it. A
// type of condition may be there more than once; they are paired in order.
func keepObserved(p, old *corev1.Pod) {
	if p.Status.ObservedGeneration == 0 {
		p.Status.ObservedGeneration = old.Status.ObservedGeneration
	}
	had := map[corev1.PodConditionType][]int64{}
	for _, c := range old.Status.Conditions {
		had[c.Type] = append(had[c.Type], c.ObservedGeneration)
	}
	for i := range p.Status.Conditions {
		c := &p.Status.Conditions[i]
		if g := had[c.Type]; len(g) > 0 {
			had[c.Type] = g[1:]
			if c.ObservedGeneration == 0 {
				c.ObservedGeneration = g[0]
			}
		}
	}
}

// gracePod lets a node stop the containers. A pod that is on no node, or whose
// containers have ended, has nothing to stop: it goes at once, marked all the same.
func gracePod(p *corev1.Pod, opts *metav1.DeleteOptions) bool {
	period := int64(0)
	if p.Spec.TerminationGracePeriodSeconds != nil {
		period = *p.Spec.TerminationGracePeriodSeconds
	}
	if opts.GracePeriodSeconds != nil {
		period = *opts.GracePeriodSeconds
	}
	if p.Spec.NodeName == "" || p.Status.Phase == corev1.PodFailed || p.Status.Phase == corev1.PodSucceeded {
		period = 0
	}
	if period < 0 {
		period = 1 // upstream's reading of a negative period
	}
	opts.GracePeriodSeconds = &period
	return true
}

// bindPod puts a pod on the node that a scheduler chose.
func bindPod(p *corev1.Pod, body runtime.Object) error {
	b, ok := body.(*corev1.Binding)
	if !ok {
		return apierrors.NewBadRequest(fmt.Sprintf("not a Binding object: %T", body))
	}
	if errs := podspec.ValidateBinding(b); len(errs) > 0 {
		return apierrors.NewInvalid(schema.GroupKind{Kind: "Binding"}, b.Name, errs)
	}
	conflict := func(format string, args ...any) error {
		return apierrors.NewConflict(schema.GroupResource{Resource: "pods/binding"}, p.Name, fmt.Errorf(format, args...))
	}
	switch {
	case b.UID != "" && b.UID != p.UID:
		return conflict("Precondition failed: UID in precondition: %v, UID in object meta: %v", b.UID, p.UID)
	case b.ResourceVersion != "" && b.ResourceVersion != p.ResourceVersion:
		return conflict("Precondition failed: ResourceVersion in precondition: %v, ResourceVersion in object meta: %v", b.ResourceVersion, p.ResourceVersion)
	case p.DeletionTimestamp != nil:
		return conflict("pod %s is being deleted, cannot be assigned to a host", p.Name)
	case p.Spec.NodeName != "":
		return conflict("pod %v is already assigned to node %q", p.Name, p.Spec.NodeName)
	case len(p.Spec.SchedulingGates) > 0:
		return conflict("pod %v has non-empty .spec.schedulingGates", p.Name)
	}
	p.Spec.NodeName = b.Target.Name
	p.Status.NominatedNodeName = "" // it has served
	p.Annotations = merged(p.Annotations, b.Annotations)
	p.Labels = merged(p.Labels, b.Labels)
	// A binding has no time of its own; this is the moment of the request.
	scheduled := corev1.PodCondition{Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()}
	for i, c := range p.Status.Conditions {
		if c.Type == corev1.PodScheduled {
			if c.Status == corev1.ConditionTrue {
				scheduled.LastTransitionTime = c.LastTransitionTime
			}
			p.Status.Conditions[i] = scheduled
			return nil
		}
	}
	p.Status.Conditions = append(p.Status.Conditions, scheduled)
	return nil
}

func merged(into, from map[string]string) map[string]string {
	if into == nil && len(from) > 0 {
		into = make(map[string]string, len(from))
	}
	maps.Copy(into, from)
	return into
}
