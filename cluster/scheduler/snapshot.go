package scheduler

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	resourcehelper "k8s.io/component-helpers/resource"
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
func (a *Amounts) add(b Amounts, sign int64) {
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
	Request  Amounts // what it asks for; Pods is 1
	Usual    Amounts // for scoring: containers that ask for nothing count 100m CPU and 200 MB, as upstream
	Ports    []corev1.ContainerPort
	affinity nodeaffinity.RequiredNodeAffinity
	prefers  *nodeaffinity.PreferredSchedulingTerms
}

// NewPod works out what the plugins need of p.
func NewPod(p *corev1.Pod) *Pod {
	pod := &Pod{Pod: p, affinity: nodeaffinity.GetRequiredNodeAffinity(p)}
	pod.Request = amountsOf(resourcehelper.PodRequests(p, resourcehelper.PodResourcesOptions{UseStatusResources: true}))
	pod.Request.Pods = 1
	usual := corev1.ResourceList{
		corev1.ResourceCPU:    *resource.NewMilliQuantity(100, resource.DecimalSI),
		corev1.ResourceMemory: *resource.NewQuantity(200<<20, resource.BinarySI),
	}
	pod.Usual = amountsOf(resourcehelper.PodRequests(p, resourcehelper.PodResourcesOptions{
		UseStatusResources: true, NonMissingContainerRequests: usual}))
	for _, list := range [][]corev1.Container{p.Spec.Containers, sidecars(p)} {
		for _, c := range list {
			for _, port := range c.Ports {
				if port.HostPort > 0 {
					pod.Ports = append(pod.Ports, port)
				}
			}
		}
	}
	if a := p.Spec.Affinity; a != nil && a.NodeAffinity != nil {
		if terms := a.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution; len(terms) > 0 {
			// A term that does not parse was refused by validation; it prefers nothing.
			pod.prefers, _ = nodeaffinity.NewPreferredSchedulingTerms(terms)
		}
	}
	return pod
}

func sidecars(p *corev1.Pod) (list []corev1.Container) {
	for _, c := range p.Spec.InitContainers {
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			list = append(list, c)
		}
	}
	return list
}

// Node is a node with what its pods take of it.
type Node struct {
	*corev1.Node
	Room  Amounts // allocatable
	Taken Amounts // requested by its pods
	Usual Amounts // as Pod.Usual, summed
	pods  map[types.UID]*Pod
}

// Snapshot is the cluster as placing sees it: every node, with its pods. It
// is changed by one goroutine, and read by the same one.
type Snapshot struct {
	Nodes  []*Node // by name; only those whose Node object is known
	byName map[string]*Node
	where  map[types.UID]string // pod → node
}

// NewSnapshot returns the snapshot of the objects given.
func NewSnapshot(nodes []*corev1.Node, pods []*corev1.Pod) *Snapshot {
	s := &Snapshot{}
	for _, n := range nodes {
		s.SetNode(n)
	}
	for _, p := range pods {
		s.SetPod(NewPod(p), p.Spec.NodeName)
	}
	return s
}

func (s *Snapshot) node(name string) *Node {
	if s.byName == nil {
		s.byName, s.where = map[string]*Node{}, map[types.UID]string{}
	}
	n := s.byName[name]
	if n == nil {
		n = &Node{pods: map[types.UID]*Pod{}}
		s.byName[name] = n
	}
	return n
}

// SetNode adds or replaces a node.
func (s *Snapshot) SetNode(obj *corev1.Node) {
	n := s.node(obj.Name)
	known := n.Node != nil
	n.Node, n.Room = obj, amountsOf(obj.Status.Allocatable)
	if known {
		return
	}
	i, _ := slices.BinarySearchFunc(s.Nodes, obj.Name, byName)
	s.Nodes = slices.Insert(s.Nodes, i, n)
}

// DropNode removes a node. Its pods are remembered, in case it comes back.
func (s *Snapshot) DropNode(name string) {
	if i, ok := slices.BinarySearchFunc(s.Nodes, name, byName); ok {
		s.Nodes[i].Node = nil
		s.Nodes = slices.Delete(s.Nodes, i, i+1)
	}
}

func byName(n *Node, name string) int {
	switch {
	case n.Name < name:
		return -1
	case n.Name > name:
		return 1
	}
	return 0
}

// SetPod puts p on a node, wherever it was before. With an empty name, or when
// p has ended, it takes no room anywhere.
func (s *Snapshot) SetPod(p *Pod, node string) {
	s.DropPod(p.UID)
	if node == "" || ended(p.Pod) {
		return
	}
	n := s.node(node)
	n.pods[p.UID] = p
	n.Taken.add(p.Request, 1)
	n.Usual.add(p.Usual, 1)
	s.where[p.UID] = node
}

// DropPod removes a pod; false if it was on no node.
func (s *Snapshot) DropPod(uid types.UID) bool {
	name, ok := s.where[uid]
	if !ok {
		return false
	}
	n := s.byName[name]
	p := n.pods[uid]
	n.Taken.add(p.Request, -1)
	n.Usual.add(p.Usual, -1)
	delete(n.pods, uid)
	delete(s.where, uid)
	if n.Node == nil && len(n.pods) == 0 {
		delete(s.byName, name)
	}
	return true
}

// Pods are the pods of the node, in no order.
func (n *Node) Pods() []*Pod { return slices.Collect(maps.Values(n.pods)) }

func ended(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}
