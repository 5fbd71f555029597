package resource

import "sampan/cluster/kind"

const notAllocated = "no devices are allocated yet: the API is kept for drivers and schedulers that do"

// DeviceClassGaps, TaintRuleGaps, ClaimGaps, TemplateGaps and SliceGaps are
// the fields that nothing acts on yet. Expressions are not compiled.
var (
	DeviceClassGaps = []kind.Gap{{Path: "spec", Why: notAllocated}}
	TaintRuleGaps   = []kind.Gap{{Path: "spec", Why: notAllocated}}
	ClaimGaps       = []kind.Gap{{Path: "spec", Why: notAllocated}}
	TemplateGaps    = []kind.Gap{{Path: "spec", Why: notAllocated}}
	SliceGaps       = []kind.Gap{{Path: "spec", Why: notAllocated}}
)
