// Package scheduling declares the kinds of scheduling.k8s.io.
package scheduling

import "sampan/cluster/kind"

// Kinds is the table of this group.
func Kinds() []*kind.Kind { return []*kind.Kind{PriorityClass()} }
