package admission

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/lru"
)

// EventRateLimit refuses events that come too fast, so that a few that write
// many do not fill the store.
type EventRateLimit struct {
	limits []*eventLimit
}

type eventConfiguration struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Limits     []struct {
		Type      string `json:"type"`
		QPS       int32  `json:"qps"`
		Burst     int32  `json:"burst"`
		CacheSize int32  `json:"cacheSize"`
	} `json:"limits"`
}

// rememberedEvents is how many keys a limit knows at once, where nothing is
// said.
const rememberedEvents = 4096

// eventKeys tell events apart for each type of limit.
var eventKeys = map[string]func(*Attempt, *corev1.Event) string{
	"Server":    func(*Attempt, *corev1.Event) string { return "" },
	"Namespace": func(a *Attempt, _ *corev1.Event) string { return a.Request.Namespace },
	"User":      func(a *Attempt, _ *corev1.Event) string { return a.Request.User.Name },
	"SourceAndObject": func(_ *Attempt, e *corev1.Event) string {
		o := e.InvolvedObject
		return strings.Join([]string{e.Source.Component, e.Source.Host, o.Kind, o.Namespace, o.Name, string(o.UID), o.APIVersion}, "")
	},
}

// NewEventRateLimit returns the plugin, told a Configuration of
// eventratelimit.admission.k8s.io/v1alpha1, without which it makes no sense.
func NewEventRateLimit(configuration []byte) (*EventRateLimit, error) {
	const plugin = "EventRateLimit"
	var told eventConfiguration
	if err := versioned(plugin, configuration, &told, "Configuration", "eventratelimit.admission.k8s.io/v1alpha1"); err != nil {
		return nil, err
	}
	p, at := &EventRateLimit{}, field.NewPath("limits")
	var errs field.ErrorList
	if len(told.Limits) == 0 {
		errs = append(errs, field.Invalid(at, told.Limits, "must not be empty"))
	}
	for i, l := range told.Limits {
		key := eventKeys[l.Type]
		if key == nil {
			errs = append(errs, field.NotSupported(at.Index(i).Child("type"), l.Type, []string{"Server", "Namespace", "User", "SourceAndObject"}))
		}
		if l.Burst <= 0 {
			errs = append(errs, field.Invalid(at.Index(i).Child("burst"), l.Burst, "must be positive"))
		}
		if l.QPS <= 0 {
			errs = append(errs, field.Invalid(at.Index(i).Child("qps"), l.QPS, "must be positive"))
		}
		if l.CacheSize < 0 && l.Type != "Server" {
			errs = append(errs, field.Invalid(at.Index(i).Child("cacheSize"), l.CacheSize, "must not be negative"))
			continue
		}
		size := int(l.CacheSize)
		if size == 0 || l.Type == "Server" {
			size = rememberedEvents
		}
		p.limits = append(p.limits, &eventLimit{name: l.Type, key: key, perSecond: float64(l.QPS), burst: float64(l.Burst), buckets: lru.New(size)})
	}
	return p, misconfigured(plugin, errs.ToAggregate())
}

// Review implements Reviewer.
func (p *EventRateLimit) Review(_ context.Context, a *Attempt) error {
	e, ok := a.Object.(*corev1.Event)
	if !ok || a.Operation != Create && a.Operation != Update || a.Request.DryRun {
		return nil
	}
	var reached []error
	for _, l := range p.limits {
		if key := l.key(a, e); !l.accept(key, time.Now()) {
			reached = append(reached, fmt.Errorf("limit reached on type %v for key %v", l.name, key))
		}
	}
	if err := utilerrors.NewAggregate(reached); err != nil {
		return apierrors.NewTooManyRequestsError(err.Error())
	}
	return nil
}

// eventLimit has a bucket of tokens for each key; of many keys, for those used
// last.
type eventLimit struct {
	name             string
	key              func(*Attempt, *corev1.Event) string
	perSecond, burst float64

	mu      sync.Mutex // guards buckets and what is in them
	buckets *lru.Cache // of *bucket
}

type bucket struct {
	tokens float64
	at     time.Time
}

// accept takes a token for key, and is false if there is none.
func (l *eventLimit) accept(key string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := &bucket{tokens: l.burst, at: now}
	if had, ok := l.buckets.Get(key); ok {
		b = had.(*bucket)
	} else {
		l.buckets.Add(key, b)
	}
	if passed := now.Sub(b.at).Seconds(); passed > 0 {
		b.tokens, b.at = min(l.burst, b.tokens+passed*l.perSecond), now
	}
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}
