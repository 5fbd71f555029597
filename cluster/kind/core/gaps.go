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
	{Path: "spec.sessionAffinity!=None", Why: "each connection may go to another pod"},
	{Path: "spec.sessionAffinityConfig", Why: "each connection may go to another pod"},
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
	{Path: "spec.podPreemptionPolicy", Why: "preemption is not there yet"},
}
