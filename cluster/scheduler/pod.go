package scheduler

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/labels"
	resourcehelper "k8s.io/component-helpers/resource"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
)

// Amounts are resources as whole numbers: CPU in thousandths of a core, the
// others in bytes or pieces.
type Amounts struct {
	CPU, Memory, Storage, Pods int64
	Others                     map[corev1.ResourceName]int64 // extended resources, huge pages; nil if none
}

func amountsOf(list corev1.ResourceList) (a Amounts) {
	for name, q := range list {
		switch name {
		case corev1.ResourceCPU:
			a.CPU = q.MilliValue()
		case corev1.ResourceMemory:
			a.Memory = q.Value()
		case corev1.ResourceEphemeralStorage:
			a.Storage = q.Value()
		case corev1.ResourcePods:
			a.Pods = q.Value()
		default:
			if a.Others == nil {
				a.Others = map[corev1.ResourceName]int64{}
			}
			a.Others[name] = q.Value()
		}
	}
	return a
}

// add adds b times sign to a.
func (a *Amounts) add(b *Amounts, sign int64) {
	a.CPU += sign * b.CPU
	a.Memory += sign * b.Memory
	a.Storage += sign * b.Storage
	a.Pods += sign * b.Pods
	if len(b.Others) > 0 && a.Others == nil {
		a.Others = map[corev1.ResourceName]int64{}
	}
	for name, n := range b.Others {
		a.Others[name] += sign * n
	}
}

// Pod is a pod with what the plugins need of it worked out once.
type Pod struct {
	*corev1.Pod
	Request Amounts // what it asks for; Pods is 1
	Usual   Amounts // for scoring: containers that ask for nothing count 100m CPU and 200 MB, as upstream
	Ports   []corev1.ContainerPort

	// Kin selects the pods among which this one is spread if it does not say
	// so itself: those of its services and its controller. Nil: none.
	Kin labels.Selector

	// Volumes is what its claims say; nil for a pod without claims.
	Volumes *Volumes

	choosy   bool     // it has a nodeSelector or required node affinity
	names    []string // of the only nodes that it could go to; nil for any
	affinity nodeaffinity.RequiredNodeAffinity
	prefers  *nodeaffinity.PreferredSchedulingTerms
	near     *near
	spread   []constraint
}

// near is where a pod wants to be, seen from other pods.
type near struct {
	must, mustNot []term
	likes         []term // with a weight below 0: dislikes
}

// NewPod works out what the plugins need of p.
func NewPod(p *corev1.Pod) *Pod {
	pod := &Pod{Pod: p}
	pod.Request = amountsOf(resourcehelper.PodRequests(p, resourcehelper.PodResourcesOptions{UseStatusResources: true}))
	pod.Request.Pods = 1
	pod.Usual = usual(p, &pod.Request)
	for _, list := range [][]corev1.Container{p.Spec.Containers, sidecars(p)} {
		for _, c := range list {
			for _, port := range c.Ports {
				if port.HostPort > 0 {
					pod.Ports = append(pod.Ports, port)
				}
			}
		}
	}
	pod.spread = constraintsOf(p)
	a := p.Spec.Affinity
	if pod.choosy = len(p.Spec.NodeSelector) > 0 || a != nil && a.NodeAffinity != nil &&
		a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution != nil; pod.choosy {
		pod.affinity = nodeaffinity.GetRequiredNodeAffinity(p)
		pod.names = namesOf(p)
	}
	if a == nil {
		return pod
	}
	if a.NodeAffinity != nil {
		if terms := a.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution; len(terms) > 0 {
			// A term that does not parse was refused by validation; it prefers nothing.
			pod.prefers, _ = nodeaffinity.NewPreferredSchedulingTerms(terms)
		}
	}
	if a.PodAffinity != nil || a.PodAntiAffinity != nil {
		pod.near = nearOf(p)
	}
	return pod
}

func nearOf(p *corev1.Pod) *near {
	w := &near{}
	required := func(all []corev1.PodAffinityTerm) (terms []term) {
		for i := range all {
			terms = append(terms, newTerm(&all[i], p, 0))
		}
		return terms
	}
	preferred := func(all []corev1.WeightedPodAffinityTerm, sign int64) {
		for i := range all {
			w.likes = append(w.likes, newTerm(&all[i].PodAffinityTerm, p, sign*int64(all[i].Weight)))
		}
	}
	if a := p.Spec.Affinity.PodAffinity; a != nil {
		w.must = required(a.RequiredDuringSchedulingIgnoredDuringExecution)
		preferred(a.PreferredDuringSchedulingIgnoredDuringExecution, 1)
	}
	if a := p.Spec.Affinity.PodAntiAffinity; a != nil {
		w.mustNot = required(a.RequiredDuringSchedulingIgnoredDuringExecution)
		preferred(a.PreferredDuringSchedulingIgnoredDuringExecution, -1)
	}
	return w
}

// usual is what p asks for, if each container that says nothing about CPU or
// memory asked for a little.
func usual(p *corev1.Pod, asked *Amounts) Amounts {
	says := p.Spec.Resources == nil && len(p.Spec.InitContainers) == 0
	for i := range p.Spec.Containers {
		list := p.Spec.Containers[i].Resources.Requests
		_, cpu := list[corev1.ResourceCPU]
		_, memory := list[corev1.ResourceMemory]
		says = says && cpu && memory
	}
	if says {
		return *asked
	}
	a := amountsOf(resourcehelper.PodRequests(p, resourcehelper.PodResourcesOptions{
		UseStatusResources: true, NonMissingContainerRequests: corev1.ResourceList{
			corev1.ResourceCPU:    *resource.NewMilliQuantity(100, resource.DecimalSI),
			corev1.ResourceMemory: *resource.NewQuantity(200<<20, resource.BinarySI),
		}}))
	return Amounts{CPU: a.CPU, Memory: a.Memory}
}

func sidecars(p *corev1.Pod) (list []corev1.Container) {
	for _, c := range p.Spec.InitContainers {
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			list = append(list, c)
		}
	}
	return list
}

// priority is how important the pod is.
func (p *Pod) priority() int32 { return corev1helpers.PodPriority(p.Pod) }

// begun is when the pod began to run; for one that has not, now.
func (p *Pod) begun(now time.Time) time.Time {
	if t := p.Status.StartTime; t != nil {
		return t.Time
	}
	return now
}
