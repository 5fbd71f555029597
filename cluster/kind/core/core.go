// Package core declares the kinds of the API group "" (v1), a file per kind.
// The rules of what a pod may say are in podspec, since workloads need them
// for their templates.
package core

import "sampan/cluster/kind"

// Kinds is the table of this group. Adding a kind is one file and one line here.
func Kinds() []*kind.Kind {
	return []*kind.Kind{
		ConfigMap(),
		Endpoints(),
		Event(),
		LimitRange(),
		Namespace(),
		Node(),
		PersistentVolume(),
		PersistentVolumeClaim(),
		Pod(),
		PodTemplate(),
		ReplicationController(),
		ResourceQuota(),
		Secret(),
		Service(),
		ServiceAccount(),
	}
}
