package clienttest

import (
	"k8s.io/apimachinery/pkg/runtime"

	"sampan/cluster/kind"
	"sampan/cluster/kind/certificates"
	"sampan/cluster/kind/coordination"
	"sampan/cluster/kind/core"
	"sampan/cluster/kind/node"
)

// Kinds is a table of what a node works with, for planks whose tests may not
// know kinds.
func Kinds() *kind.Table {
	return kind.NewTable(core.Kinds(), coordination.Kinds(), certificates.Kinds(), node.Kinds())
}

// Answer adds to Acts an action that looks at its body only, for the same
// planks.
func (f *Fake) Answer(action string, answer func(body runtime.Object) (runtime.Object, error)) {
	if f.Acts == nil {
		f.Acts = map[string]func(kind.Object, runtime.Object) (runtime.Object, error){}
	}
	f.Acts[action] = func(_ kind.Object, body runtime.Object) (runtime.Object, error) { return answer(body) }
}
