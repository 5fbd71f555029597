package kind

import "k8s.io/apimachinery/pkg/util/validation/field"

// ReplicaCounts are what the status of a ReplicaSet and that of a
// ReplicationController count. (Upstream: ValidateReplicaSetStatus,
// ValidateReplicationControllerStatus.)
type ReplicaCounts struct {
	Replicas, FullyLabeled, Ready, Available int32
	ObservedGeneration                       int64
	Terminating                              *int32 // nil: not counted
}

// Validate reports counts that are negative or larger than what they are part
// of.
func (c ReplicaCounts) Validate(path *field.Path) (errs field.ErrorList) {
	errs = append(errs, NotNegative(int64(c.Replicas), path.Child("replicas"))...)
	errs = append(errs, NotNegative(int64(c.FullyLabeled), path.Child("fullyLabeledReplicas"))...)
	errs = append(errs, NotNegative(int64(c.Ready), path.Child("readyReplicas"))...)
	errs = append(errs, NotNegative(int64(c.Available), path.Child("availableReplicas"))...)
	errs = append(errs, NotNegative(c.ObservedGeneration, path.Child("observedGeneration"))...)
	if c.Terminating != nil {
		errs = append(errs, NotNegative(int64(*c.Terminating), path.Child("terminatingReplicas"))...)
	}
	const most = "cannot be greater than status.replicas"
	if c.FullyLabeled > c.Replicas {
		errs = append(errs, field.Invalid(path.Child("fullyLabeledReplicas"), c.FullyLabeled, most))
	}
	if c.Ready > c.Replicas {
		errs = append(errs, field.Invalid(path.Child("readyReplicas"), c.Ready, most))
	}
	if c.Available > c.Replicas {
		errs = append(errs, field.Invalid(path.Child("availableReplicas"), c.Available, most))
	}
	if c.Available > c.Ready {
		errs = append(errs, field.Invalid(path.Child("availableReplicas"), c.Available, "cannot be greater than readyReplicas"))
	}
	return errs
}
