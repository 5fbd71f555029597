package dynamic

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"sampan/cluster/admission"
	"sampan/cluster/admission/match"
	"sampan/cluster/kind/admissionregistration"
	"sampan/cluster/object"
)

// Mutating asks the webhooks of MutatingWebhookConfigurations, one after the
// other, and changes what is written as they answer.
type Mutating struct {
	Config
	hooks hooks[*admissionregistrationv1.MutatingWebhookConfiguration]
}

// NewMutating returns the plugin.
func NewMutating(cfg Config) (*Mutating, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	m := &Mutating{Config: cfg}
	m.hooks.objects = cfg.Objects
	m.hooks.of = func(c *admissionregistrationv1.MutatingWebhookConfiguration) (all []*hook, err error) {
		for i, w := range admissionregistration.AsValidating(c.Webhooks) {
			h, err := newHook(c.Name, w, ptr.Deref(c.Webhooks[i].ReinvocationPolicy, "") == admissionregistrationv1.IfNeededReinvocationPolicy)
			if err != nil {
				return nil, err
			}
			all = append(all, h)
		}
		return all, nil
	}
	return m, nil
}

// Waits implements admission.Waiter.
func (m *Mutating) Waits() {}

// Mutate implements admission.Mutator. If a webhook changes the object, all
// mutators run once more, so that each sees what the others did; of webhooks
// only those whose reinvocationPolicy says so.
func (m *Mutating) Mutate(ctx context.Context, a *admission.Attempt) error {
	hooks, err := m.hooks.all(ctx)
	if err != nil || len(hooks) == 0 {
		return err
	}
	s := match.NewSubject(a)
	round := match.BeginRound[*hook](a, m)
	for i, h := range hooks {
		as, ok, err := m.concerns(ctx, h, s)
		if err != nil {
			return err
		}
		if !ok || !round.Due(h) {
			continue
		}
		note := newNotes(s, h, i)
		began := time.Now()
		changed, err := m.change(ctx, h, s, as, note)
		note.mutated(changed)
		if err := m.outcome(h, s, "mutation."+note.at, began, err); err != nil {
			return err
		}
		round.Asked(h, changed, h.again)
	}
	round.End()
	return nil
}

// change asks one webhook and does as it says.
func (m *Mutating) change(ctx context.Context, h *hook, s *match.Subject, as match.As, note *notes) (changed bool, err error) {
	answer, err := m.ask(ctx, h, s, as, true)
	if err != nil || len(answer.Patch) == 0 {
		return false, err
	}
	if t := *answer.PatchType; t != admissionv1.PatchTypeJSONPatch {
		return false, &failed{fmt.Errorf("failed calling webhook %q: unsupported patch type %q", h.Name, t)}
	}
	was, _, err := s.Objects(as)
	if err != nil {
		return false, apierrors.NewInternalError(err)
	}
	if was == nil {
		return false, apierrors.NewInternalError(fmt.Errorf("admission webhook %q attempted to modify the object, which is not supported for this operation", h.Name))
	}
	next := reflect.New(reflect.TypeOf(was).Elem()).Interface().(runtime.Object)
	if _, err := object.PatchInto(next, as.Kind, was, types.JSONPatchType, answer.Patch, object.Ignore); err != nil {
		if apierrors.IsBadRequest(err) {
			return false, &failed{fmt.Errorf("failed calling webhook %q: received undecodable patch in webhook response: %w", h.Name, err)}
		}
		if cause := errors.Unwrap(err); cause != nil {
			err = cause // not what one says to whoever sent a patch: nobody did
		}
		return false, apierrors.NewInternalError(err)
	}
	note.patch(answer.Patch)
	if equality.Semantic.DeepEqual(was, next) {
		return false, nil
	}
	if err := s.Replace(as, next); err != nil {
		return false, apierrors.NewInternalError(fmt.Errorf("admission webhook %q: %w", h.Name, err))
	}
	return true, nil
}
