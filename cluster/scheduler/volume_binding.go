package scheduler

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	"sampan/cluster/kind/volumespec"
)

// Volumes is what the claims of a pod say about where it can go.
type Volumes struct {
	Missing string                     // what keeps it from any node, "" for nothing
	Bound   []*corev1.PersistentVolume // have to be reached from the node
	Later   []LaterClaim               // get a volume when the pod's node is known
	Alone   []string                   // claims by namespace and name that one pod at a time may use
}

// LaterClaim is a claim of a class that waits for its first consumer. It gets
// one of the volumes there are, or Class makes one.
type LaterClaim struct {
	Claim   *corev1.PersistentVolumeClaim
	Volumes []*corev1.PersistentVolume // of its class
	Class   *storagev1.StorageClass
}

// choice is what a later claim gets on a node: a volume that is there, or nil
// for one that is to be made there.
type choice struct {
	claim  *corev1.PersistentVolumeClaim
	volume *corev1.PersistentVolume
}

const (
	selectedNode  = "volume.kubernetes.io/selected-node"
	noProvisioner = "kubernetes.io/no-provisioner"
)

// volumeBinding keeps a pod on nodes that reach its volumes, or on which its
// claims can get some.
func volumeBinding() Plugin {
	far := lasting("node(s) didn't match PersistentVolume's node affinity")
	none := lasting("node(s) didn't find available persistent volumes to bind")
	return Plugin{
		Name:  volumeBindingName,
		Wakes: NodeAdded | NodeLabels | VolumesChanged,
		For: func(pod *Pod, _ *Snapshot) (r Rule) {
			v := pod.Volumes
			if v == nil || len(v.Bound)+len(v.Later) == 0 {
				return r
			}
			r.Filter = func(n *Node) *Refusal {
				for _, pv := range v.Bound {
					if !reaches(n, pv) {
						return far
					}
				}
				if _, ok := v.choose(n); !ok {
					return none
				}
				return nil
			}
			return r
		},
	}
}

const volumeBindingName = "VolumeBinding"

// reaches says whether pv can be used on n.
func reaches(n *Node, pv *corev1.PersistentVolume) bool {
	if pv.Spec.NodeAffinity == nil || pv.Spec.NodeAffinity.Required == nil {
		return true
	}
	selector, err := nodeaffinity.NewNodeSelector(pv.Spec.NodeAffinity.Required)
	return err == nil && selector.Match(n.Node)
}

// choose finds for each later claim what it gets on n; false if one gets
// nothing there.
func (v *Volumes) choose(n *Node) (all []choice, ok bool) {
	var taken []*corev1.PersistentVolume
	for _, l := range v.Later {
		if at := l.Claim.Annotations[selectedNode]; at != "" && at != n.Name {
			return nil, false // its volume is being made elsewhere
		}
		pv := volumespec.Match(l.Claim, l.Volumes, func(pv *corev1.PersistentVolume) bool {
			return !slices.Contains(taken, pv) && reaches(n, pv)
		})
		if pv == nil && !l.makes(n) {
			return nil, false
		}
		if pv != nil {
			taken = append(taken, pv)
		}
		all = append(all, choice{l.Claim, pv})
	}
	return all, true
}

// makes says whether the claim's class can have a volume made for n.
func (l *LaterClaim) makes(n *Node) bool {
	return l.Class != nil && l.Class.Provisioner != "" && l.Class.Provisioner != noProvisioner &&
		within(n, l.Class.AllowedTopologies)
}

// within says whether n is in one of the topologies, of which none means any.
func within(n *Node, all []corev1.TopologySelectorTerm) bool {
	return len(all) == 0 || slices.ContainsFunc(all, func(t corev1.TopologySelectorTerm) bool {
		return !slices.ContainsFunc(t.MatchLabelExpressions, func(r corev1.TopologySelectorLabelRequirement) bool {
			value, ok := n.Labels[r.Key]
			return !ok || !slices.Contains(r.Values, value)
		})
	})
}
