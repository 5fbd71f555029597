package core

import (
	"sampan/cluster/kind"
	"sampan/cluster/kind/podspec"
)

// podGaps are a pod's.
var podGaps = kind.Paths("spec.", podspec.Gaps)

// ServiceGaps are the fields of a Service that nothing acts on yet.
var ServiceGaps = []kind.Gap{
	{Path: "spec.type=LoadBalancer", Why: "nothing gives out external addresses; the node ports work"},
	{Path: "spec.loadBalancerIP", Why: "nothing gives out external addresses"},
	{Path: "spec.loadBalancerClass", Why: "nothing gives out external addresses"},
	{Path: "spec.loadBalancerSourceRanges", Why: "nothing gives out external addresses"},
	{Path: "spec.allocateLoadBalancerNodePorts=false", Why: "nothing gives out external addresses"},
	{Path: "spec.healthCheckNodePort", Why: "nothing gives out external addresses, so nobody asks for health"},
	{Path: "spec.trafficDistribution", Why: "endpoints of all zones and nodes are used alike"},
}

// NodeGaps are the fields of a Node that nothing acts on yet.
var NodeGaps = []kind.Gap{
	{Path: "spec.configSource", Why: "removed from kubelets with v1.24"},
	{Path: "spec.externalID", Why: "removed from kubelets with v1.13"},
	{Path: "spec.podPreemptionPolicy", Why: "alpha; a resize preempts nobody"},
}

// StatusGaps are fields of a status that nothing writes yet, behind their
// kind.
var StatusGaps = []kind.Gap{
	{Path: "ValidatingAdmissionPolicy status.typeChecking", Why: "expressions are compiled without the types of what they are about"},
	{Path: "ValidatingAdmissionPolicy status.observedGeneration", Why: "comes with type checking"},
	{Path: "ValidatingAdmissionPolicy status.conditions", Why: "comes with type checking"},
	{Path: "Pod status.resize", Why: "deprecated; conditions say it"},
	{Path: "Pod status.resources", Why: "what changes while a pod runs is not applied"},
	{Path: "Pod status.allocatedResources", Why: "what changes while a pod runs is not applied"},
	{Path: "Pod status.resourceClaimStatuses", Why: "devices come with resource.k8s.io"},
	{Path: "Pod status.extendedResourceClaimStatus", Why: "devices come with resource.k8s.io"},
	{Path: "Pod status.nodeAllocatableResourceClaimStatuses", Why: "devices come with resource.k8s.io"},
	{Path: "Pod status.volumeHealth", Why: "no storage driver reports health"},
	{Path: "Pod status.containerStatuses[*].allocatedResourcesStatus", Why: "devices have no health yet"},
	{Path: "Pod status.initContainerStatuses[*].allocatedResourcesStatus", Why: "devices have no health yet"},
	{Path: "Pod status.ephemeralContainerStatuses[*].allocatedResourcesStatus", Why: "devices have no health yet"},
	{Path: "Pod status.containerStatuses[*].volumeMounts[*].volumeStatus", Why: "no volume has a status of its own yet"},
	{Path: "Pod status.initContainerStatuses[*].volumeMounts[*].volumeStatus", Why: "no volume has a status of its own yet"},
	{Path: "Pod status.ephemeralContainerStatuses[*].volumeMounts[*].volumeStatus", Why: "no volume has a status of its own yet"},
	{Path: "Node status.nodeInfo.kubeProxyVersion", Why: "deprecated, and empty upstream since v1.33"},
	{Path: "Node status.phase", Why: "deprecated; conditions say it"},
	{Path: "Node status.config", Why: "removed from kubelets with v1.24"},
	{Path: "Node status.images", Why: "the scheduler does not ask which node has an image"},
	{Path: "Node status.volumesInUse", Why: "no volumes are attached to nodes"},
	{Path: "Node status.volumesAttached", Why: "no volumes are attached to nodes"},
	{Path: "Node status.runtimeHandlers", Why: "there is one runtime"},
	{Path: "Node status.features", Why: "there is one runtime"},
	{Path: "Node status.nodeInfo.swap", Why: "pods do not swap"},
	{Path: "Node status.nodeInfo.runningInUserNamespace", Why: "the node needs to be root"},
	{Path: "Service status.loadBalancer", Why: "nothing gives out external addresses"},
	{Path: "Service status.conditions", Why: "no controller has anything to say here"},
	{Path: "PersistentVolumeClaim status.allocatedResources", Why: noDriver},
	{Path: "PersistentVolumeClaim status.allocatedResourceStatuses", Why: noDriver},
	{Path: "PersistentVolumeClaim status.conditions", Why: noDriver},
	{Path: "PersistentVolumeClaim status.currentVolumeAttributesClassName", Why: noDriver},
	{Path: "PersistentVolumeClaim status.modifyVolumeStatus", Why: noDriver},
	{Path: "PersistentVolumeClaim status.healthStatus", Why: noDriver},
}

// VolumeGaps are the fields of a PersistentVolume that nothing acts on yet.
var VolumeGaps = append([]kind.Gap{
	{Path: "spec.mountOptions", Why: notMounted},
	{Path: "spec.nodeAffinity", Why: notMounted},
	{Path: "spec.volumeAttributesClassName", Why: noDriver},
	{Path: "spec.persistentVolumeReclaimPolicy=Delete", Why: noDriver + ": a released volume becomes Failed"},
	{Path: "spec.persistentVolumeReclaimPolicy=Recycle", Why: "nothing scrubs volumes: a released one becomes Failed"},
}, volumeSourceGaps()...)

const (
	notMounted = "volumes and claims are bound; the node does not mount persistent volumes yet"
	noDriver   = "no storage driver is called"
)

func volumeSourceGaps() (all []kind.Gap) {
	for _, source := range []string{"gcePersistentDisk", "awsElasticBlockStore", "hostPath", "glusterfs", "nfs", "rbd", "iscsi", "cinder", "cephfs", "fc", "flocker",
		"flexVolume", "azureFile", "vsphereVolume", "quobyte", "azureDisk", "photonPersistentDisk", "portworxVolume", "scaleIO", "local", "storageos", "csi"} {
		all = append(all, kind.Gap{Path: "spec." + source, Why: notMounted})
	}
	return all
}

// ClaimGaps are the fields of a PersistentVolumeClaim that nothing acts on yet.
var ClaimGaps = []kind.Gap{
	{Path: "spec.dataSource", Why: noDriver},
	{Path: "spec.dataSourceRef", Why: noDriver},
	{Path: "spec.volumeAttributesClassName", Why: noDriver},
}
