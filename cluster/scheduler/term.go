package scheduler

import (
	"iter"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
)

// term selects pods by their labels in some namespaces. topology is the label
// of nodes by which they are near each other.
type term struct {
	topology   string
	selector   labels.Selector
	namespaces []string
	spaces     labels.Selector // of namespaces by their labels; nil for none
	weight     int64           // of a preference
}

// newTerm is t of a pod's affinity (KEP-2249 for namespaceSelector, KEP-3633
// for matchLabelKeys).
func newTerm(t *corev1.PodAffinityTerm, p *corev1.Pod, weight int64) term {
	made := term{topology: t.TopologyKey, namespaces: t.Namespaces, weight: weight,
		selector: narrowed(t.LabelSelector, p.Labels, t.MatchLabelKeys, t.MismatchLabelKeys)}
	switch {
	case t.NamespaceSelector != nil:
		made.spaces, _ = metav1.LabelSelectorAsSelector(t.NamespaceSelector)
	case len(t.Namespaces) == 0:
		made.namespaces = []string{p.Namespace}
	}
	return made
}

// narrowed is a selector that also asks for the values that a pod's own labels
// have at the keys in match, and for others at those in mismatch. One that does
// not parse, which validation refuses, selects nothing.
func narrowed(s *metav1.LabelSelector, own map[string]string, match, mismatch []string) labels.Selector {
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return labels.Nothing()
	}
	add := func(keys []string, op selection.Operator) {
		for _, key := range keys {
			value, ok := own[key]
			if !ok {
				continue
			}
			if r, err := labels.NewRequirement(key, op, []string{value}); err == nil {
				selector = selector.Add(*r)
			}
		}
	}
	add(match, selection.In)
	add(mismatch, selection.NotIn)
	return selector
}

// key is the same for terms that select the same pods.
func (t *term) key() string {
	var b strings.Builder
	for _, ns := range slices.Sorted(slices.Values(t.namespaces)) {
		b.WriteString(ns + ",")
	}
	if t.spaces != nil {
		b.WriteString("{" + t.spaces.String() + "}")
	}
	return b.String() + "/" + t.selector.String()
}

// matches says whether t selects p. spaces are the labels of namespaces.
func (t *term) matches(p *corev1.Pod, spaces map[string]labels.Set) bool {
	if !slices.Contains(t.namespaces, p.Namespace) && (t.spaces == nil || !t.spaces.Matches(spaces[p.Namespace])) {
		return false
	}
	return t.selector.Matches(labels.Set(p.Labels))
}

// index finds what selects a pod among many selectors: most ask for one value
// of some label, so that only those need be looked at whose value the pod has.
type index[T comparable] struct {
	by    map[[2]string][]T
	loose []T // those that ask for no single value
}

// value is a label that s asks for, with its value.
func value(s labels.Selector) (pair [2]string, ok bool) {
	all, _ := s.Requirements()
	for _, r := range all {
		switch r.Operator() {
		case selection.In, selection.Equals, selection.DoubleEquals:
			if values := r.Values(); values.Len() == 1 {
				return [2]string{r.Key(), values.UnsortedList()[0]}, true
			}
		}
	}
	return pair, false
}

func (x *index[T]) add(s labels.Selector, t T) {
	pair, ok := value(s)
	if !ok {
		x.loose = append(x.loose, t)
		return
	}
	if x.by == nil {
		x.by = map[[2]string][]T{}
	}
	x.by[pair] = append(x.by[pair], t)
}

func (x *index[T]) drop(s labels.Selector, t T) {
	without := func(list []T) []T { return slices.DeleteFunc(list, func(other T) bool { return other == t }) }
	pair, ok := value(s)
	if !ok {
		x.loose = without(x.loose)
		return
	}
	if x.by[pair] = without(x.by[pair]); len(x.by[pair]) == 0 {
		delete(x.by, pair)
	}
}

// of are those that may select something with these labels, each once.
func (x *index[T]) of(set map[string]string) iter.Seq[T] {
	return func(yield func(T) bool) {
		for _, t := range x.loose {
			if !yield(t) {
				return
			}
		}
		if len(x.by) == 0 {
			return
		}
		for key, v := range set {
			for _, t := range x.by[[2]string{key, v}] {
				if !yield(t) {
					return
				}
			}
		}
	}
}
