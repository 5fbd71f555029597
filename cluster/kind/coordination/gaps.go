package coordination

import "sampan/cluster/kind"

// LeaseGaps are the fields of a Lease that nothing acts on yet.
var LeaseGaps = []kind.Gap{
	{Path: "spec.strategy", Why: "nobody chooses a holder for others (KEP-4355)"},
	{Path: "spec.preferredHolder", Why: "nobody chooses a holder for others (KEP-4355)"},
}
