package scheduler

// tally counts something on each node, and sums it up by domain: by the value
// of a label that nodes have. Sums are kept up to date for the labels that
// somebody has asked for once.
type tally struct {
	on   []int64 // by Node.slot
	sums map[string]map[string]int64
}

// at is the count on n.
func (t *tally) at(n *Node) int64 {
	if n.slot < len(t.on) {
		return t.on[n.slot]
	}
	return 0
}

// add adds d to the count on n.
func (t *tally) add(n *Node, d int64) {
	for n.slot >= len(t.on) {
		t.on = append(t.on, 0)
	}
	t.on[n.slot] += d
	if n.Node != nil {
		t.move(n.Labels, d)
	}
}

// move adds d to the sums of the domains that labels name.
func (t *tally) move(labels map[string]string, d int64) {
	for key, sums := range t.sums {
		value, ok := labels[key]
		if !ok {
			continue
		}
		if sums[value] += d; sums[value] == 0 {
			delete(sums, value)
		}
	}
}

// by is the count in each domain of the label key; none for a count of 0. It
// is the tally's own: it changes with it.
func (t *tally) by(key string, nodes []*Node) map[string]int64 {
	if sums, ok := t.sums[key]; ok {
		return sums
	}
	sums := map[string]int64{}
	for _, n := range nodes {
		if value, ok := n.Labels[key]; ok && t.at(n) != 0 {
			if sums[value] += t.at(n); sums[value] == 0 {
				delete(sums, value)
			}
		}
	}
	if t.sums == nil {
		t.sums = map[string]map[string]int64{}
	}
	t.sums[key] = sums
	return sums
}
