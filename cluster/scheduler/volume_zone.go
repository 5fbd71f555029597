package scheduler

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// volumeZone keeps a pod in the zone and region that its volumes' labels name:
// those of volumes from before they had a node affinity.
func volumeZone() Plugin {
	elsewhere := lasting("node(s) had no available volume zone")
	keys := []string{corev1.LabelTopologyZone, corev1.LabelTopologyRegion, corev1.LabelFailureDomainBetaZone, corev1.LabelFailureDomainBetaRegion}
	return Plugin{
		Name:  "VolumeZone",
		Wakes: NodeAdded | NodeLabels | VolumesChanged,
		For: func(pod *Pod, _ *Snapshot) (r Rule) {
			type where struct {
				key    string
				values []string
			}
			var all []where
			if pod.Volumes != nil {
				for _, pv := range pod.Volumes.Bound {
					for _, key := range keys {
						if value, ok := pv.Labels[key]; ok {
							all = append(all, where{key, strings.Split(value, "__")})
						}
					}
				}
			}
			if len(all) == 0 {
				return r
			}
			r.Filter = func(n *Node) *Refusal {
				for _, w := range all {
					value, ok := n.Labels[w.key]
					if !ok { // old and new names of the label are the same thing
						value, ok = n.Labels[twin(w.key)]
					}
					// A cluster without zones has volumes without zones, whatever they say.
					if (ok || zoned(n, keys)) && !slices.Contains(w.values, value) {
						return elsewhere
					}
				}
				return nil
			}
			return r
		},
	}
}

func zoned(n *Node, keys []string) bool {
	return slices.ContainsFunc(keys, func(key string) bool { _, ok := n.Labels[key]; return ok })
}

// twin is the other name of a label for zones or regions.
func twin(key string) string {
	switch key {
	case corev1.LabelTopologyZone:
		return corev1.LabelFailureDomainBetaZone
	case corev1.LabelFailureDomainBetaZone:
		return corev1.LabelTopologyZone
	case corev1.LabelTopologyRegion:
		return corev1.LabelFailureDomainBetaRegion
	}
	return corev1.LabelTopologyRegion
}
