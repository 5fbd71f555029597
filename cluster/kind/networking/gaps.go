package networking

import "sampan/cluster/kind"

// PolicyGaps are the fields of a NetworkPolicy that nothing acts on yet.
var PolicyGaps = []kind.Gap{
	{Path: "spec.podSelector", Why: "no network policy is enforced yet: all pods reach each other"},
	{Path: "spec.ingress", Why: "no network policy is enforced yet: all pods reach each other"},
	{Path: "spec.egress", Why: "no network policy is enforced yet: all pods reach each other"},
}

// CIDRGaps are the fields of a ServiceCIDR that nothing acts on yet.
var CIDRGaps = []kind.Gap{
	{Path: "spec.cidrs", Why: "services take addresses from the range that the program was started with; the object \"kubernetes\" says which"},
}
