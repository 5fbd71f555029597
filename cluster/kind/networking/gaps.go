package networking

import "sampan/cluster/kind"

// PolicyGaps are the fields of a NetworkPolicy that nothing acts on yet.
var PolicyGaps = []kind.Gap{
	{Path: "spec.podSelector", Why: "no network policy is enforced yet: all pods reach each other"},
	{Path: "spec.ingress", Why: "no network policy is enforced yet: all pods reach each other"},
	{Path: "spec.egress", Why: "no network policy is enforced yet: all pods reach each other"},
}
