package match

import (
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime"

	"sampan/cluster/admission"
)

// Rounds keeps what a plugin knows from the first round of mutators for the
// second: whoever wants to look again, and the object as the plugin left it. K
// tells those apart that the plugin asks. (Upstream: reinvocation contexts.)
type Rounds[K comparable] struct {
	attempt        *admission.Attempt
	waiting, again map[K]bool
	left           runtime.Object
}

// BeginRound returns what plugin knows of an attempt. All that wait look again
// if others have changed the object since.
func BeginRound[K comparable](a *admission.Attempt, plugin any) *Rounds[K] {
	r, ok := a.Note(plugin).(*Rounds[K])
	if !ok {
		r = &Rounds[K]{attempt: a, waiting: map[K]bool{}, again: map[K]bool{}}
		a.Keep(plugin, r)
		return r
	}
	if a.Object != nil && r.left != nil && !equality.Semantic.DeepEqual(r.left, runtime.Object(a.Object)) {
		r.wake()
	}
	return r
}

// Due says whether k is to be asked in this round.
func (r *Rounds[K]) Due(k K) bool { return !r.attempt.Second() || r.again[k] }

// Asked notes that k was asked, whether it changed the object, and whether it
// wants to look again when others do.
func (r *Rounds[K]) Asked(k K, changed, again bool) {
	if changed {
		r.wake()
		r.attempt.Repeat()
	}
	if again {
		r.waiting[k] = true
	}
}

// End notes how the plugin leaves the object.
func (r *Rounds[K]) End() {
	if r.attempt.Object != nil {
		r.left = r.attempt.Object.DeepCopyObject()
	}
}

func (r *Rounds[K]) wake() {
	for k := range r.waiting {
		r.again[k] = true
	}
	clear(r.waiting)
}
