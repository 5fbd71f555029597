package discovery

import "sampan/cluster/kind"

// SliceGaps are the fields of an EndpointSlice that nothing acts on yet.
var SliceGaps = []kind.Gap{
	{Path: "endpoints[*].hints", Why: "endpoints of all zones and nodes are used alike"},
	{Path: "endpoints[*].deprecatedTopology", Why: "endpoints of all zones and nodes are used alike"},
}
