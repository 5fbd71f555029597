package flowcontrol

import "sampan/cluster/kind"

const notHeld = "requests do not wait for one another by these rules yet"

// SchemaGaps are the fields of a FlowSchema that nothing acts on yet.
var SchemaGaps = []kind.Gap{
	{Path: "spec.priorityLevelConfiguration", Why: notHeld},
	{Path: "spec.distinguisherMethod", Why: notHeld},
	{Path: "spec.rules", Why: notHeld},
}

// LevelGaps are the fields of a PriorityLevelConfiguration that nothing acts
// on yet.
var LevelGaps = []kind.Gap{
	{Path: "spec.limited", Why: notHeld},
	{Path: "spec.exempt", Why: notHeld},
}
