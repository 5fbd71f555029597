package nodelife

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/node/topology"
)

// eviction is how far pods may be driven off nodes that are not ready.
type eviction int

const (
	evictNow    eviction = iota
	evictNoMore          // nodes whose pods are being driven away already go on
	evictNone            // not even they: not the nodes are at fault, but we
)

// Upstream's rates: so that what looks like many broken nodes, and is a broken
// network, does not move everything at once.
const (
	pace      = 10 * time.Second  // between two nodes of a zone
	slowPace  = 100 * time.Second // in a large zone most of which is not ready
	largeZone = 50
	mostOf    = 0.55

	// excluded nodes do not count when a zone's health is judged.
	excluded = "node.kubernetes.io/exclude-disruption"
)

// zones counts nodes by failure zone.
type zones struct {
	nodes map[string]place
	all   map[string]*zone
}

type place struct {
	zone           string
	ready, counted bool
}

type zone struct {
	total, ready int
	next         time.Time // when the next node may be emptied
}

func newZones() *zones { return &zones{nodes: map[string]place{}, all: map[string]*zone{}} }

// set notes how a node is, and drop that it is gone. changed is true if
// another eviction may apply to some node now; risen if the first node became
// ready when none was.
func (z *zones) set(node *corev1.Node, status corev1.ConditionStatus) (changed, risen bool) {
	_, out := node.Labels[excluded]
	p := place{zone: topology.GetZoneKey(node), ready: status == corev1.ConditionTrue, counted: !out}
	if have, ok := z.nodes[node.Name]; ok && have == p {
		return false, false
	}
	return z.put(node.Name, p, true)
}

func (z *zones) drop(name string) (changed, risen bool) { return z.put(name, place{}, false) }

func (z *zones) put(name string, p place, there bool) (changed, risen bool) {
	was := z.down()
	modes := map[string]eviction{}
	for zone := range z.all {
		modes[zone], _ = z.mode(zone)
	}
	if old, ok := z.nodes[name]; ok {
		z.add(old, -1)
	}
	delete(z.nodes, name)
	if there {
		z.nodes[name] = p
		z.add(p, 1)
	}
	for zone := range z.all {
		mode, _ := z.mode(zone)
		if before, known := modes[zone]; !known || before != mode {
			changed = true
		}
	}
	return changed || was != z.down(), was && !z.down()
}

func (z *zones) add(p place, n int) {
	if !p.counted {
		return
	}
	in := z.all[p.zone]
	if in == nil {
		in = &zone{}
		z.all[p.zone] = in
	}
	in.total += n
	if p.ready {
		in.ready += n
	}
	if in.total == 0 {
		delete(z.all, p.zone)
	}
}

// down is true if no node is ready: then it is more likely that we do not hear
// than that none lives.
func (z *zones) down() bool {
	for _, in := range z.all {
		if in.ready > 0 {
			return false
		}
	}
	return true
}

// mode is what applies in a zone, and the time between two nodes there.
func (z *zones) mode(name string) (eviction, time.Duration) {
	if z.down() {
		return evictNone, 0
	}
	in := z.all[name]
	if in == nil {
		return evictNow, pace // of excluded nodes only
	}
	out := in.total - in.ready
	switch {
	case in.ready == 0, out <= 2, float64(out) < mostOf*float64(in.total):
		return evictNow, pace
	case in.total > largeZone:
		return evictNow, slowPace
	}
	return evictNoMore, 0
}

// may says how far pods of a node may be driven away now; wait is how much
// longer it has to wait for its turn, if that is all.
func (z *zones) may(node *corev1.Node, now time.Time) (allowed eviction, wait time.Duration) {
	name := topology.GetZoneKey(node)
	allowed, _ = z.mode(name)
	if in := z.all[name]; in != nil && allowed == evictNow && now.Before(in.next) {
		return evictNoMore, in.next.Sub(now)
	}
	return allowed, 0
}

// evicted notes that a node's turn was used.
func (z *zones) evicted(node *corev1.Node, now time.Time) {
	name := topology.GetZoneKey(node)
	if in := z.all[name]; in != nil {
		_, pace := z.mode(name)
		in.next = now.Add(pace)
	}
}

// spared takes evicted back.
func (z *zones) spared(node *corev1.Node) {
	if in := z.all[topology.GetZoneKey(node)]; in != nil {
		in.next = time.Time{}
	}
}
