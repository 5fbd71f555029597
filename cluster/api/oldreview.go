package api

import (
	"context"

	"k8s.io/apimachinery/pkg/runtime"

	"sampan/cluster/kind"
	"sampan/cluster/kind/oldversion"
)

// oldReviews are virtual kinds in versions that upstream serves no more: they
// are answered as the current ones are.
func oldReviews(current []virtualKind, old []oldversion.Review) (all []virtualKind) {
	for _, o := range old {
		for _, v := range current {
			if v.gvk != o.Of {
				continue
			}
			all = append(all, virtualKind{gvk: o.GVK, plural: v.plural, namespaced: v.namespaced, new: o.New,
				deprecated: kind.Deprecation(o.GVK, o.New()),
				answer: func(ctx context.Context, c *call, obj runtime.Object) error {
					question, err := o.Ask(obj)
					if err != nil {
						return err
					}
					if err := v.answer(ctx, c, question); err != nil {
						return err
					}
					o.Answer(obj, question)
					return nil
				}})
		}
	}
	return all
}
