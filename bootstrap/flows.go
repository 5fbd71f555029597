package bootstrap

import (
	"context"

	flowv1 "k8s.io/api/flowcontrol/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"

	"sampan/cluster/auth"
	"sampan/cluster/kind/flowcontrol"
)

// writeFlows brings the priority levels and flow schemas that every cluster
// has into the store, as upstream does at each start: one that says so in its
// annotation is brought up to date, another is left alone. It runs beside the
// API.
func (r *running) writeFlows(ctx context.Context) error {
	c := r.verbs.As(auth.Master())
	for _, l := range flowcontrol.Levels() {
		if err := ensure(ctx, c, l, func(have, want *flowv1.PriorityLevelConfiguration) bool {
			// How much the exempt level lends is for users to say.
			if have.Annotations[flowv1.AutoUpdateAnnotationKey] != "true" || apiequality.Semantic.DeepEqual(have.Spec, want.Spec) {
				return true
			}
			have.Spec = want.Spec
			return false
		}); err != nil {
			return err
		}
	}
	for _, s := range flowcontrol.Schemas() {
		if err := ensure(ctx, c, s, func(have, want *flowv1.FlowSchema) bool {
			if have.Annotations[flowv1.AutoUpdateAnnotationKey] != "true" || apiequality.Semantic.DeepEqual(have.Spec, want.Spec) {
				return true
			}
			have.Spec = want.Spec
			return false
		}); err != nil {
			return err
		}
	}
	<-ctx.Done()
	return nil
}
