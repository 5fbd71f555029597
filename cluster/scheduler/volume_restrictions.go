package scheduler

// volumeRestrictions keeps a second pod from a claim with access mode
// ReadWriteOncePod (KEP-2485).
func volumeRestrictions() Plugin {
	used := refusal("node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod")
	return Plugin{
		Name:  "VolumeRestrictions",
		Wakes: NodeAdded | PodGone | VolumesChanged,
		For: func(pod *Pod, s *Snapshot) (r Rule) {
			if pod.Volumes == nil || len(pod.Volumes.Alone) == 0 {
				return r
			}
			r.Filter = func(*Node) *Refusal {
				for _, claim := range pod.Volumes.Alone {
					if s.users[claim] > 0 {
						return used
					}
				}
				return nil
			}
			return r
		},
	}
}
