package storage

import "sampan/cluster/kind"

const noDriver = "no storage driver is called: volumes are made by hand and bound"

// StorageClassGaps are the fields of a StorageClass that nothing acts on yet.
var StorageClassGaps = []kind.Gap{
	{Path: "mountOptions", Why: noDriver},
	{Path: "parameters", Why: noDriver},
	{Path: "allowedTopologies", Why: noDriver},
}

// CSIDriverGaps are the fields of a CSIDriver that nothing acts on yet; those
// with defaults are in the list by their other value.
var CSIDriverGaps = []kind.Gap{
	{Path: "spec.podInfoOnMount=true", Why: noDriver},
	{Path: "spec.storageCapacity=true", Why: noDriver},
	{Path: "spec.tokenRequests", Why: noDriver},
	{Path: "spec.requiresRepublish=true", Why: noDriver},
	{Path: "spec.seLinuxMount=true", Why: noDriver},
	{Path: "spec.nodeAllocatableUpdatePeriodSeconds", Why: noDriver},
	{Path: "spec.serviceAccountTokenInSecrets", Why: noDriver},
	{Path: "spec.preventPodSchedulingIfMissing=true", Why: noDriver},
}

// AttachmentGaps are the fields of a VolumeAttachment that nothing acts on yet.
var AttachmentGaps = []kind.Gap{
	{Path: "spec.source.inlineVolumeSpec", Why: noDriver},
}

// CapacityGaps are the fields of a CSIStorageCapacity that nothing acts on yet.
var CapacityGaps = []kind.Gap{
	{Path: "nodeTopology", Why: "the scheduler does not ask how much storage a driver has left"},
	{Path: "capacity", Why: "the scheduler does not ask how much storage a driver has left"},
	{Path: "maximumVolumeSize", Why: "the scheduler does not ask how much storage a driver has left"},
}

// AttributesGaps are the fields of a VolumeAttributesClass that nothing acts
// on yet.
var AttributesGaps = []kind.Gap{
	{Path: "parameters", Why: noDriver},
}
