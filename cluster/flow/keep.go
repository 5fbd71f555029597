package flow

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strconv"
	"time"

	flowv1 "k8s.io/api/flowcontrol/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"sampan/cluster/client"
	"sampan/cluster/kind/flowcontrol"
)

// manager is the field manager of conditions, upstream's.
const manager = "api-priority-and-fairness-config-consumer-v1"

// change is what has to be done to an object that every cluster has.
type change uint8

const (
	leave change = iota
	create
	update
	remove
)

// keep decides about one object that every cluster has: what a user changed in
// the spec is undone in the mandatory ones and in those whose annotation allows
// it, and the annotation says so afterwards. same is whether the spec is as
// wanted but for what is for users to say. (Upstream: flowcontrol/ensurer.)
func keep(have client.Typed, same bool) (do change, automatic bool) {
	said, err := strconv.ParseBool(have.GetAnnotations()[flowv1.AutoUpdateAnnotationKey])
	automatic = said
	if err != nil {
		automatic = have.GetGeneration() == 1 // nobody has changed it
	}
	automatic = automatic || flowcontrol.Mandatory(have.GetName())
	if err == nil && said == automatic && (same || !automatic) {
		return leave, automatic
	}
	return update, automatic
}

// drop decides about one that no cluster has by itself any more.
func drop(have client.Typed) change {
	if kept, err := strconv.ParseBool(have.GetAnnotations()[flowv1.AutoUpdateAnnotationKey]); err == nil && kept {
		return remove
	}
	return leave
}

// keepAll brings the objects of one kind to what every cluster has.
func keepAll[T client.Typed](ctx context.Context, c client.Client, all, wanted []T, same func(have, want T) bool, take func(have, want T)) error {
	there := map[string]T{}
	for _, o := range all {
		there[o.GetName()] = o
	}
	for _, want := range wanted {
		have, ok := there[want.GetName()]
		delete(there, want.GetName())
		do, auto := create, true
		if ok {
			do, auto = keep(have, same(have, want))
		}
		var err error
		switch do {
		case create:
			_, err = client.Create(ctx, c, want)
		case update:
			next := have.DeepCopyObject().(T)
			if auto && !same(have, want) {
				take(next, want)
			}
			notes := maps.Clone(next.GetAnnotations())
			if notes == nil {
				notes = map[string]string{}
			}
			notes[flowv1.AutoUpdateAnnotationKey] = strconv.FormatBool(auto)
			next.SetAnnotations(notes)
			_, err = client.Update(ctx, c, next)
		}
		if err != nil && !apierrors.IsAlreadyExists(err) && !apierrors.IsConflict(err) {
			return fmt.Errorf("keep %s %s: %w", client.KindOf[T](c), want.GetName(), err)
		}
	}
	for name, o := range there {
		if drop(o) != remove {
			continue
		}
		if err := client.Delete[T](ctx, c, "", name, nil); err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("delete %s %s: %w", client.KindOf[T](c), name, err)
		}
	}
	return nil
}

// keepObjects is keepAll for both kinds.
func (f *Flow) keepObjects(ctx context.Context, o objects) error {
	if err := keepAll(ctx, f.cfg.Objects, o.levels, flowcontrol.Levels(), sameLevel, func(have, want *flowv1.PriorityLevelConfiguration) {
		if x := have.Spec.Exempt; x != nil && want.Spec.Exempt != nil {
			want.Spec.Exempt = x // users' own
		}
		have.Spec = want.Spec
	}); err != nil {
		return err
	}
	return keepAll(ctx, f.cfg.Objects, o.schemas, flowcontrol.Schemas(), func(have, want *flowv1.FlowSchema) bool {
		return apiequality.Semantic.DeepEqual(have.Spec, want.Spec)
	}, func(have, want *flowv1.FlowSchema) { have.Spec = want.Spec })
}

// sameLevel leaves it to users how much the exempt level has and lends.
func sameLevel(have, want *flowv1.PriorityLevelConfiguration) bool {
	spec := want.Spec.DeepCopy()
	if spec.Exempt != nil && have.Spec.Exempt != nil {
		spec.Exempt = have.Spec.Exempt
	}
	return apiequality.Semantic.DeepEqual(have.Spec, *spec)
}

// condition is what a schema's status should say of its reference; nil if it
// does.
func condition(s *flowv1.FlowSchema, found bool, now time.Time) *flowv1.FlowSchemaCondition {
	name := s.Spec.PriorityLevelConfiguration.Name
	want := flowv1.FlowSchemaCondition{Type: flowv1.FlowSchemaConditionDangling, Status: flowv1.ConditionFalse, Reason: "Found",
		Message:            fmt.Sprintf("This FlowSchema references the PriorityLevelConfiguration object named %q and it exists", name),
		LastTransitionTime: metav1.NewTime(now)}
	if !found {
		want.Status, want.Reason = flowv1.ConditionTrue, "NotFound"
		want.Message = fmt.Sprintf("This FlowSchema references the PriorityLevelConfiguration object named %q but there is no such object", name)
	}
	for _, c := range s.Status.Conditions {
		if c.Type == want.Type && c.Status == want.Status && c.Reason == want.Reason && c.Message == want.Message {
			return nil
		}
	}
	return &want
}

// say writes the conditions that are not as they should be.
func (f *Flow) say(ctx context.Context, o objects) error {
	found := map[string]bool{}
	for _, l := range o.levels {
		found[l.Name] = sound(l)
	}
	for _, s := range o.schemas {
		want := condition(s, found[s.Spec.PriorityLevelConfiguration.Name], time.Now())
		if want == nil {
			continue
		}
		data, err := json.Marshal(map[string]any{
			"apiVersion": flowv1.SchemeGroupVersion.String(), "kind": "FlowSchema", "metadata": map[string]any{"name": s.Name},
			"status": map[string]any{"conditions": []any{want}}})
		if err != nil {
			return err
		}
		_, err = f.cfg.Objects.Patch(ctx, client.KindOf[*flowv1.FlowSchema](f.cfg.Objects), client.Patch{Name: s.Name, Sub: "status",
			Type: types.ApplyYAMLPatchType, Data: data, FieldManager: manager, Force: true})
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("say in the status of FlowSchema %s whether its level exists: %w", s.Name, err)
		}
	}
	return nil
}
