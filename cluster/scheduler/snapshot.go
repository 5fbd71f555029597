package scheduler

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// Node is a node with what its pods take of it.
type Node struct {
	*corev1.Node
	Room   Amounts // allocatable
	Taken  Amounts // requested by its pods
	Usual  Amounts // as Pod.Usual, summed
	pods   map[types.UID]*Pod
	slot   int              // its place in every tally
	images map[string]int64 // bytes by name
	booked map[types.UID]*Pod
}

// Snapshot is the cluster as placing sees it: every node, with its pods, and
// what is counted of them. It is changed by one goroutine, and read by the
// same one.
type Snapshot struct {
	Nodes  []*Node // by name; only those whose Node object is known
	byName map[string]*Node
	where  map[types.UID]string // pod → node
	booked map[types.UID]string // pod → the node where room is made for it
	spaces map[string]labels.Set

	slots  int
	unused []int                     // slots of nodes that are gone
	values map[string]map[string]int // label → value → nodes with it, of labels asked for
	images map[string]int            // name → nodes that have it
	ranks  map[int32]int             // priority → pods on nodes that have it
	users  map[string]int            // claim, by namespace and name → pods on nodes that use it

	clock     uint64
	groups    map[string]*group
	selecting index[*group]
	held      map[heldKey]*held
	holding   index[*held]
}

// NewSnapshot returns the snapshot of the objects given.
func NewSnapshot(nodes []*corev1.Node, pods []*corev1.Pod) *Snapshot {
	s := &Snapshot{
		byName: map[string]*Node{}, where: map[types.UID]string{}, booked: map[types.UID]string{},
		spaces: map[string]labels.Set{}, values: map[string]map[string]int{}, images: map[string]int{}, ranks: map[int32]int{}, users: map[string]int{},
		groups: map[string]*group{}, held: map[heldKey]*held{},
	}
	for _, n := range nodes {
		s.SetNode(n)
	}
	for _, p := range pods {
		s.SetPod(NewPod(p), p.Spec.NodeName)
	}
	return s
}

func (s *Snapshot) node(name string) *Node {
	n := s.byName[name]
	if n == nil {
		n = &Node{pods: map[types.UID]*Pod{}, slot: s.slots}
		if last := len(s.unused) - 1; last >= 0 {
			n.slot, s.unused = s.unused[last], s.unused[:last]
		} else {
			s.slots++
		}
		s.byName[name] = n
	}
	return n
}

// release forgets a node that has neither an object nor pods. Its slot is free
// then: every tally is 0 there.
func (s *Snapshot) release(name string, n *Node) {
	if n.Node == nil && len(n.pods) == 0 && len(n.booked) == 0 {
		delete(s.byName, name)
		s.unused = append(s.unused, n.slot)
	}
}

// SetNode adds or replaces a node.
func (s *Snapshot) SetNode(obj *corev1.Node) {
	n := s.node(obj.Name)
	old := n.Node
	n.Node, n.Room = obj, amountsOf(obj.Status.Allocatable)
	s.setImages(n, old)
	if old != nil {
		if !maps.Equal(old.Labels, obj.Labels) {
			s.relabel(n, old.Labels, obj.Labels)
		}
		return
	}
	s.relabel(n, nil, obj.Labels)
	i, _ := slices.BinarySearchFunc(s.Nodes, obj.Name, byName)
	s.Nodes = slices.Insert(s.Nodes, i, n)
}

// DropNode removes a node. Its pods are remembered, in case it comes back.
func (s *Snapshot) DropNode(name string) {
	i, ok := slices.BinarySearchFunc(s.Nodes, name, byName)
	if !ok {
		return
	}
	n := s.Nodes[i]
	s.relabel(n, n.Labels, nil)
	for image := range n.images {
		s.countImage(image, -1)
	}
	n.Node, n.images = nil, nil
	s.Nodes = slices.Delete(s.Nodes, i, i+1)
	s.release(name, n)
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

// relabel moves what is counted on n from the domains of its old labels to
// those of the new ones.
func (s *Snapshot) relabel(n *Node, old, now map[string]string) {
	for key, nodes := range s.values {
		if value, ok := old[key]; ok {
			if nodes[value]--; nodes[value] == 0 {
				delete(nodes, value)
			}
		}
		if value, ok := now[key]; ok {
			nodes[value]++
		}
	}
	move := func(t *tally) {
		if count := t.at(n); count != 0 {
			t.move(old, -count)
			t.move(now, count)
		}
	}
	for _, g := range s.groups {
		move(&g.tally)
	}
	for _, h := range s.held {
		move(&h.anti)
		move(&h.likes)
	}
}

// domains are the values of a label of nodes, with how many nodes have each.
func (s *Snapshot) domains(key string) map[string]int {
	if nodes, ok := s.values[key]; ok {
		return nodes
	}
	nodes := map[string]int{}
	for _, n := range s.Nodes {
		if value, ok := n.Labels[key]; ok {
			nodes[value]++
		}
	}
	s.values[key] = nodes
	return nodes
}

// SetSpace sets the labels of a namespace; nil for one that is gone.
func (s *Snapshot) SetSpace(name string, set map[string]string) (changed bool) {
	if old, ok := s.spaces[name]; ok && set != nil && maps.Equal(old, set) {
		return false
	}
	if set == nil {
		delete(s.spaces, name)
	} else {
		s.spaces[name] = set
	}
	// What is selected by the labels of namespaces is counted anew.
	for _, g := range s.groups {
		if slices.ContainsFunc(g.terms, func(t term) bool { return t.spaces != nil }) {
			s.forget(g)
		}
	}
	return true
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
	s.where[p.UID] = node
	s.count(p, n, 1)
}

// Renew takes the latest state of a pod that counts as it did; false if it is
// not known on its node. What is known of it is replaced, not changed: writes
// under way beside the scheduler read it.
func (s *Snapshot) Renew(p *corev1.Pod) bool {
	if s.where[p.UID] != p.Spec.NodeName {
		return false
	}
	pods := s.byName[p.Spec.NodeName].pods
	renewed := *pods[p.UID]
	renewed.Pod = p
	pods[p.UID] = &renewed
	return true
}

// DropPod removes a pod; false if it was on no node.
func (s *Snapshot) DropPod(uid types.UID) bool {
	name, ok := s.where[uid]
	if !ok {
		return false
	}
	n := s.byName[name]
	s.count(n.pods[uid], n, -1)
	delete(n.pods, uid)
	delete(s.where, uid)
	s.release(name, n)
	return true
}

// count counts p on n, with sign -1 no more.
func (s *Snapshot) count(p *Pod, n *Node, sign int64) {
	rank := p.priority()
	if s.ranks[rank] += int(sign); s.ranks[rank] == 0 {
		delete(s.ranks, rank)
	}
	claims, _ := claimsOf(p.Pod)
	for _, name := range claims {
		key := p.Namespace + "/" + name
		if s.users[key] += int(sign); s.users[key] == 0 {
			delete(s.users, key)
		}
	}
	n.Taken.add(&p.Request, sign)
	n.Usual.add(&p.Usual, sign)
	for g := range s.selecting.of(p.Labels) {
		if g.counts(p.Pod, s.spaces) {
			g.add(n, sign)
		}
	}
	s.hold(p, n, sign)
}

// Book keeps room on a node for a pod that waits for others to leave it; with
// an empty name no more.
func (s *Snapshot) Book(p *Pod, node string) {
	if name, ok := s.booked[p.UID]; ok {
		n := s.byName[name]
		delete(n.booked, p.UID)
		delete(s.booked, p.UID)
		s.release(name, n)
	}
	if node == "" {
		return
	}
	n := s.node(node)
	if n.booked == nil {
		n.booked = map[types.UID]*Pod{}
	}
	n.booked[p.UID] = p
	s.booked[p.UID] = node
}

// Booked is where room is kept for a pod, empty for nowhere.
func (s *Snapshot) Booked(uid types.UID) string { return s.booked[uid] }

// Pods are the pods of the node, in no order.
func (n *Node) Pods() []*Pod { return slices.Collect(maps.Values(n.pods)) }

func ended(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}
