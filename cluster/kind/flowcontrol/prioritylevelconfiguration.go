package flowcontrol

import (
	"fmt"
	"math"
	"time"

	flowv1 "k8s.io/api/flowcontrol/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
)

// PriorityLevelConfiguration says how many requests of one urgency are served
// at once, and what becomes of the others.
func PriorityLevelConfiguration() *kind.Kind {
	queue := func(name, what string, of func(*flowv1.QueuingConfiguration) int32) kind.Column[flowv1.PriorityLevelConfiguration] {
		return kind.Column[flowv1.PriorityLevelConfiguration]{Name: name, Description: flowv1.QueuingConfiguration{}.SwaggerDoc()[what],
			Cell: func(p *flowv1.PriorityLevelConfiguration, _ time.Time) any {
				if p.Spec.Limited == nil || p.Spec.Limited.LimitResponse.Queuing == nil {
					return "<none>"
				}
				return int64(of(p.Spec.Limited.LimitResponse.Queuing))
			}}
	}
	return kind.Declare(kind.Of[flowv1.PriorityLevelConfiguration]{
		GVK:       flowv1.SchemeGroupVersion.WithKind("PriorityLevelConfiguration"),
		Plural:    "prioritylevelconfigurations",
		Rechecked: true,
		Cluster:   true,
		Default:   defaultLevel,
		Validate:  validateLevel,
		Spec:      func(p *flowv1.PriorityLevelConfiguration) any { return &p.Spec },
		Parts: map[string]kind.Part[flowv1.PriorityLevelConfiguration]{
			"status": {
				Take:  func(dst, src *flowv1.PriorityLevelConfiguration) { dst.Status = src.Status },
				Keeps: []string{"generateName"},
				Validate: func(p, _ *flowv1.PriorityLevelConfiguration) field.ErrorList {
					return conditionTypes(levelConditions(p))
				},
			},
		},
		Columns: []kind.Column[flowv1.PriorityLevelConfiguration]{
			{Name: "Type", Description: flowv1.PriorityLevelConfigurationSpec{}.SwaggerDoc()["type"],
				Cell: func(p *flowv1.PriorityLevelConfiguration, _ time.Time) any { return string(p.Spec.Type) }},
			{Name: "NominalConcurrencyShares", Description: flowv1.LimitedPriorityLevelConfiguration{}.SwaggerDoc()["nominalConcurrencyShares"],
				Cell: func(p *flowv1.PriorityLevelConfiguration, _ time.Time) any {
					if p.Spec.Limited == nil || p.Spec.Limited.NominalConcurrencyShares == nil {
						return "<none>"
					}
					return int64(*p.Spec.Limited.NominalConcurrencyShares)
				}},
			queue("Queues", "queues", func(q *flowv1.QueuingConfiguration) int32 { return q.Queues }),
			queue("HandSize", "handSize", func(q *flowv1.QueuingConfiguration) int32 { return q.HandSize }),
			queue("QueueLengthLimit", "queueLengthLimit", func(q *flowv1.QueuingConfiguration) int32 { return q.QueueLengthLimit }),
			kind.Age[flowv1.PriorityLevelConfiguration](),
		},
	})
}

func levelConditions(p *flowv1.PriorityLevelConfiguration) (types []flowv1.PriorityLevelConfigurationConditionType) {
	for _, c := range p.Status.Conditions {
		types = append(types, c.Type)
	}
	return types
}

func defaultLevel(p *flowv1.PriorityLevelConfiguration) {
	number := func(p **int32, n int32) {
		if *p == nil {
			*p = &n
		}
	}
	if e := p.Spec.Exempt; e != nil {
		number(&e.NominalConcurrencyShares, 0)
		number(&e.LendablePercent, 0)
	}
	l := p.Spec.Limited
	if l == nil {
		return
	}
	number(&l.NominalConcurrencyShares, 30)
	number(&l.LendablePercent, 0)
	if q := l.LimitResponse.Queuing; q != nil {
		for _, f := range []struct {
			to *int32
			n  int32
		}{{&q.HandSize, 8}, {&q.Queues, 64}, {&q.QueueLengthLimit, 50}} {
			if *f.to == 0 {
				*f.to = f.n
			}
		}
	}
}

// preserveZero is an annotation of an older version that this one does not take.
const preserveZero = "flowcontrol.k8s.io/v1beta3-preserve-zero-concurrency-shares"

func validateLevel(p, _ *flowv1.PriorityLevelConfiguration) (errs field.ErrorList) {
	if _, ok := p.Annotations[preserveZero]; ok {
		errs = append(errs, field.Forbidden(field.NewPath("metadata", "annotations"), fmt.Sprintf("annotation '%s' is forbidden", preserveZero)))
	}
	spec, s := field.NewPath("spec"), &p.Spec
	if (p.Name == flowv1.PriorityLevelConfigurationNameExempt) != (s.Type == flowv1.PriorityLevelEnablementExempt) {
		errs = append(errs, field.Invalid(spec.Child("type"), s.Type, "must be 'Exempt' if and only if `name` is 'exempt'"))
	}
	if s.Limited != nil && s.Type != flowv1.PriorityLevelEnablementLimited {
		errs = append(errs, field.Forbidden(spec.Child("limited"), ""))
		if s.Limited.LimitResponse.Type == "" {
			errs = append(errs, field.Required(spec.Child("limited", "limitResponse", "type"), ""))
		}
	}
	if s.Exempt != nil && s.Type != flowv1.PriorityLevelEnablementExempt {
		errs = append(errs, field.Forbidden(spec.Child("exempt"), ""))
	}
	switch s.Type {
	case flowv1.PriorityLevelEnablementExempt:
		if e := s.Exempt; e != nil {
			errs = append(errs, shares(e.NominalConcurrencyShares, e.LendablePercent, spec.Child("exempt"))...)
		}
	case flowv1.PriorityLevelEnablementLimited:
		if s.Limited == nil {
			errs = append(errs, field.Required(spec.Child("limited"), ""))
		} else {
			errs = append(errs, limited(s.Limited, spec.Child("limited"))...)
		}
	default:
		errs = append(errs, kind.OneOf(s.Type, spec.Child("type"), flowv1.PriorityLevelEnablementExempt, flowv1.PriorityLevelEnablementLimited)...)
	}
	if fixed := mandatoryLevel(p.Name); fixed != nil {
		if p.Name == flowv1.PriorityLevelConfigurationNameExempt {
			have := p.Spec
			have.Exempt = fixed.Spec.Exempt
			if !kind.Equal(have, fixed.Spec) {
				errs = append(errs, field.Invalid(spec, p.Spec, fmt.Sprintf("spec of '%s' except the 'spec.exempt' field must equal the fixed value", p.Name)))
			}
		} else if !kind.Equal(p.Spec, fixed.Spec) {
			errs = append(errs, field.Invalid(spec, p.Spec, fmt.Sprintf("spec of '%s' must equal the fixed value", p.Name)))
		}
	}
	return append(errs, conditionTypes(levelConditions(p))...)
}

func shares(nominal, lendable *int32, path *field.Path) (errs field.ErrorList) {
	if nominal != nil && *nominal < 0 {
		errs = append(errs, field.Invalid(path.Child("nominalConcurrencyShares"), *nominal, "must be a non-negative integer"))
	}
	if lendable != nil && (*lendable < 0 || *lendable > 100) {
		errs = append(errs, field.Invalid(path.Child("lendablePercent"), *lendable, "must be between 0 and 100, inclusive"))
	}
	return errs
}

func limited(l *flowv1.LimitedPriorityLevelConfiguration, path *field.Path) (errs field.ErrorList) {
	errs = append(errs, shares(l.NominalConcurrencyShares, l.LendablePercent, path)...)
	if b := l.BorrowingLimitPercent; b != nil && *b < 0 {
		errs = append(errs, field.Invalid(path.Child("borrowingLimitPercent"), *b, "if specified, must be a non-negative integer"))
	}
	response := path.Child("limitResponse")
	r, queuing := &l.LimitResponse, response.Child("queuing")
	if r.Queuing != nil && r.Type != flowv1.LimitResponseTypeQueue {
		errs = append(errs, field.Forbidden(queuing, ""))
	}
	switch r.Type {
	case flowv1.LimitResponseTypeReject:
	case flowv1.LimitResponseTypeQueue:
		if r.Queuing == nil {
			errs = append(errs, field.Required(queuing, ""))
		} else {
			errs = append(errs, queues(r.Queuing, queuing)...)
		}
	default:
		errs = append(errs, kind.OneOf(r.Type, response.Child("type"), flowv1.LimitResponseTypeQueue, flowv1.LimitResponseTypeReject)...)
	}
	return errs
}

// Upstream's limits: of queues, and of what one hash can choose among.
const (
	maxQueues   = 10_000_000
	maxHashBits = 60
)

func queues(q *flowv1.QueuingConfiguration, path *field.Path) (errs field.ErrorList) {
	if q.QueueLengthLimit <= 0 {
		errs = append(errs, field.Invalid(path.Child("queueLengthLimit"), q.QueueLengthLimit, "must be positive"))
	}
	if q.Queues <= 0 {
		errs = append(errs, field.Invalid(path.Child("queues"), q.Queues, "must be positive"))
	} else if q.Queues > maxQueues {
		errs = append(errs, field.Invalid(path.Child("queues"), q.Queues, fmt.Sprintf("must not be greater than %d", maxQueues)))
	}
	hand := path.Child("handSize")
	switch {
	case q.HandSize <= 0:
		errs = append(errs, field.Invalid(hand, q.HandSize, "must be positive"))
	case q.HandSize > q.Queues:
		errs = append(errs, field.Invalid(hand, q.HandSize, fmt.Sprintf("should not be greater than queues (%d)", q.Queues)))
	default:
		if bits := int(math.Ceil(math.Log2(float64(q.Queues)) * float64(q.HandSize))); bits > maxHashBits {
			errs = append(errs, field.Invalid(hand, q.HandSize, fmt.Sprintf("required entropy bits of deckSize %d and handSize %d should not be greater than %d",
				q.Queues, q.HandSize, maxHashBits)))
		}
	}
	return errs
}
