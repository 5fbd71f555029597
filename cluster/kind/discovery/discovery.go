// Package discovery declares the kinds of discovery.k8s.io.
package discovery

import "sampan/cluster/kind"

// Kinds is the table of this group.
func Kinds() []*kind.Kind { return []*kind.Kind{EndpointSlice()} }
