package dynamic

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"sampan/cluster/admission"
	"sampan/cluster/admission/match"
	"sampan/cluster/request"
)

// Validating asks the webhooks of ValidatingWebhookConfigurations, all at
// once, about writes as they would be stored.
type Validating struct {
	Config
	hooks hooks[*admissionregistrationv1.ValidatingWebhookConfiguration]
}

// NewValidating returns the plugin.
func NewValidating(cfg Config) (*Validating, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	v := &Validating{Config: cfg}
	v.hooks.objects = cfg.Objects
	v.hooks.of = func(c *admissionregistrationv1.ValidatingWebhookConfiguration) (all []*hook, err error) {
		for _, w := range c.Webhooks {
			h, err := newHook(c.Name, w, false)
			if err != nil {
				return nil, err
			}
			all = append(all, h)
		}
		return all, nil
	}
	return v, nil
}

// Waits implements admission.Waiter.
func (v *Validating) Waits() {}

// Review implements admission.Reviewer.
func (v *Validating) Review(ctx context.Context, a *admission.Attempt) error {
	hooks, err := v.hooks.all(ctx)
	if err != nil || len(hooks) == 0 {
		return err
	}
	type asked struct {
		*hook
		as match.As
	}
	var concerned []asked
	s := match.NewSubject(a)
	for _, h := range hooks {
		as, ok, err := v.concerns(ctx, h, s)
		if err != nil {
			return err
		}
		if ok {
			concerned = append(concerned, asked{h, as})
		}
	}
	if len(concerned) > 1 {
		defer oneByOne(&s.Request)()
	}
	errs := make([]error, len(concerned))
	var all sync.WaitGroup
	for i, h := range concerned {
		all.Go(func() {
			defer func() {
				if p := recover(); p != nil {
					errs[i] = apierrors.NewInternalError(fmt.Errorf("ValidatingAdmissionWebhook/%s has panicked: %v", h.Name, p))
				}
			}()
			began := time.Now()
			_, err := v.ask(ctx, h.hook, s, h.as, false)
			errs[i] = v.outcome(h.hook, s, fmt.Sprintf("validating.webhook.admission.k8s.io/round_0_index_%d", i), began, err)
		})
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// oneByOne has what several webhooks say at once said one by one, until what
// it returns is called.
func oneByOne(r *request.Request) (end func()) {
	was := *r
	var mu sync.Mutex
	if was.Warn != nil {
		r.Warn = func(text string) {
			mu.Lock()
			defer mu.Unlock()
			was.Warn(text)
		}
	}
	if was.Annotate != nil {
		r.Annotate = func(key, value string, detail bool) {
			mu.Lock()
			defer mu.Unlock()
			was.Annotate(key, value, detail)
		}
	}
	return func() { r.Warn, r.Annotate = was.Warn, was.Annotate }
}

// outcome is what the error of a call means for the write. place names the
// call in the audit log; it began at a time.
func (c *Config) outcome(h *hook, s *match.Subject, place string, began time.Time, err error) error {
	c.Metrics.count(h, s, typeOf(place), began, err)
	var no *refused
	if errors.As(err, &no) {
		return no.StatusError
	}
	var f *failed
	if !errors.As(err, &f) {
		return err
	}
	if h.ignored() {
		c.Log.Warn("webhook failed, and its failure is ignored", "webhook", h.Name, "configuration", h.of, "err", err)
		if !errors.Is(err, context.Canceled) {
			s.Request.Note("failed-open."+place, h.Name)
		}
		return nil
	}
	return apierrors.NewInternalError(f.err)
}
