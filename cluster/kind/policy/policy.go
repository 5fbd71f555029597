// Package policy declares the kinds of the API group policy, a file per kind.
package policy

import "sampan/cluster/kind"

// Kinds is the table of this group.
func Kinds() []*kind.Kind {
	return []*kind.Kind{
		PodDisruptionBudget(),
	}
}
