package clienttest

import (
	"sampan/cluster/kind"
	"sampan/cluster/kind/coordination"
	"sampan/cluster/kind/core"
)

// Kinds is a table of what a node works with, for planks whose tests may not
// know kinds.
func Kinds() *kind.Table { return kind.NewTable(core.Kinds(), coordination.Kinds()) }
