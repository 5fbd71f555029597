package autoscaling

import "sampan/cluster/kind"

// AutoscalerGaps are the fields of a HorizontalPodAutoscaler that nothing acts
// on yet.
var AutoscalerGaps = []kind.Gap{
	{Path: "spec.scaleTargetRef", Why: "nothing measures and scales by itself yet; the object is kept"},
	{Path: "spec.maxReplicas", Why: "nothing measures and scales by itself yet; the object is kept"},
	{Path: "spec.behavior", Why: "nothing measures and scales by itself yet; the object is kept"},
}
