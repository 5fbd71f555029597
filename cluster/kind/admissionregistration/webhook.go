package admissionregistration

import (
	"fmt"
	"slices"
	"strings"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/util/webhook"
	"k8s.io/utils/ptr"

	"sampan/cluster/kind"
)

// MutatingWebhookConfiguration says which webhooks may change which writes.
func MutatingWebhookConfiguration() *kind.Kind {
	return kind.Declare(kind.Of[admissionregistrationv1.MutatingWebhookConfiguration]{
		GVK:          admissionregistrationv1.SchemeGroupVersion.WithKind("MutatingWebhookConfiguration"),
		Plural:       "mutatingwebhookconfigurations",
		Rechecked:    true,
		AnyFinalizer: true,
		Categories:   []string{"api-extensions"},
		Cluster:      true,
		Conditional:  true,
		Default: func(c *admissionregistrationv1.MutatingWebhookConfiguration) {
			for i, v := range AsValidating(c.Webhooks) {
				defaultWebhook(&v)
				w := &c.Webhooks[i]
				w.FailurePolicy, w.MatchPolicy, w.TimeoutSeconds = v.FailurePolicy, v.MatchPolicy, v.TimeoutSeconds
				w.NamespaceSelector, w.ObjectSelector = v.NamespaceSelector, v.ObjectSelector
				defaultTo(&w.ReinvocationPolicy, admissionregistrationv1.NeverReinvocationPolicy)
			}
		},
		Validate: func(c, old *admissionregistrationv1.MutatingWebhookConfiguration) field.ErrorList {
			var was []admissionregistrationv1.ValidatingWebhook
			if old != nil {
				was = AsValidating(old.Webhooks)
			}
			errs := validateWebhooks(AsValidating(c.Webhooks), was)
			for i, w := range c.Webhooks {
				errs = append(errs, kind.OneOfIfSet(ptr.Deref(w.ReinvocationPolicy, ""), field.NewPath("webhooks").Index(i).Child("reinvocationPolicy"),
					admissionregistrationv1.IfNeededReinvocationPolicy, admissionregistrationv1.NeverReinvocationPolicy)...)
			}
			return errs
		},
		Spec:    func(c *admissionregistrationv1.MutatingWebhookConfiguration) any { return &c.Webhooks },
		Columns: webhookColumns(func(c *admissionregistrationv1.MutatingWebhookConfiguration) int { return len(c.Webhooks) }),
	})
}

// ValidatingWebhookConfiguration says which webhooks may refuse which writes.
func ValidatingWebhookConfiguration() *kind.Kind {
	return kind.Declare(kind.Of[admissionregistrationv1.ValidatingWebhookConfiguration]{
		GVK:          admissionregistrationv1.SchemeGroupVersion.WithKind("ValidatingWebhookConfiguration"),
		Plural:       "validatingwebhookconfigurations",
		Rechecked:    true,
		AnyFinalizer: true,
		Categories:   []string{"api-extensions"},
		Cluster:      true,
		Conditional:  true,
		Default: func(c *admissionregistrationv1.ValidatingWebhookConfiguration) {
			for i := range c.Webhooks {
				defaultWebhook(&c.Webhooks[i])
			}
		},
		Validate: func(c, old *admissionregistrationv1.ValidatingWebhookConfiguration) field.ErrorList {
			var was []admissionregistrationv1.ValidatingWebhook
			if old != nil {
				was = old.Webhooks
			}
			return validateWebhooks(c.Webhooks, was)
		},
		Spec:    func(c *admissionregistrationv1.ValidatingWebhookConfiguration) any { return &c.Webhooks },
		Columns: webhookColumns(func(c *admissionregistrationv1.ValidatingWebhookConfiguration) int { return len(c.Webhooks) }),
	})
}

func defaultTo[T any](field **T, v T) {
	if *field == nil {
		*field = &v
	}
}

func defaultWebhook(w *admissionregistrationv1.ValidatingWebhook) {
	defaultTo(&w.FailurePolicy, admissionregistrationv1.Fail)
	defaultTo(&w.MatchPolicy, admissionregistrationv1.Equivalent)
	defaultTo(&w.NamespaceSelector, metav1.LabelSelector{})
	defaultTo(&w.ObjectSelector, metav1.LabelSelector{})
	defaultTo(&w.TimeoutSeconds, 10)
	for i := range w.Rules {
		defaultTo(&w.Rules[i].Scope, admissionregistrationv1.AllScopes)
	}
	if s := w.ClientConfig.Service; s != nil {
		defaultTo(&s.Port, 443)
	}
}

func webhookColumns[T any, P pointer[T]](count func(*T) int) []kind.Column[T] {
	return []kind.Column[T]{
		{Name: "Webhooks", Type: "integer", Description: "Webhooks indicates the number of webhooks registered in this configuration",
			Cell: func(c *T, _ time.Time) any { return int64(count(c)) }},
		kind.Age[T, P](),
	}
}

// AsValidating are mutating webhooks without what only they have, so that one
// piece of code serves both kinds.
func AsValidating(hooks []admissionregistrationv1.MutatingWebhook) []admissionregistrationv1.ValidatingWebhook {
	all := make([]admissionregistrationv1.ValidatingWebhook, len(hooks))
	for i, w := range hooks {
		all[i] = admissionregistrationv1.ValidatingWebhook{
			Name: w.Name, ClientConfig: w.ClientConfig, Rules: w.Rules, FailurePolicy: w.FailurePolicy, MatchPolicy: w.MatchPolicy,
			NamespaceSelector: w.NamespaceSelector, ObjectSelector: w.ObjectSelector, SideEffects: w.SideEffects,
			TimeoutSeconds: w.TimeoutSeconds, AdmissionReviewVersions: w.AdmissionReviewVersions, MatchConditions: w.MatchConditions,
		}
	}
	return all
}

// reviewVersions are those of AdmissionReview that the server speaks.
var reviewVersions = []string{"v1", "v1beta1"}

// validateWebhooks checks what both kinds have in common. What old had already
// that newer servers refuse may stay.
func validateWebhooks(hooks, old []admissionregistrationv1.ValidatingWebhook) (errs field.ErrorList) {
	lax := allowances(old)
	names := map[string]bool{}
	for i, w := range hooks {
		path := field.NewPath("webhooks").Index(i)
		errs = append(errs, validateWebhook(&w, lax, path)...)
		errs = append(errs, validateReviewVersions(w.AdmissionReviewVersions, lax.versions, path.Child("admissionReviewVersions"))...)
		if names[w.Name] && w.Name != "" && !lax.names {
			errs = append(errs, field.Duplicate(path.Child("name"), w.Name))
		}
		names[w.Name] = true
	}
	return errs
}

// allowed is what an update may keep that a new object may not have.
type allowed struct {
	effects, versions, names, selectors bool
	expressions                         map[string]bool // of conditions: compiled as stored ones
}

// allowances of what was there.
func allowances(old []admissionregistrationv1.ValidatingWebhook) allowed {
	var a allowed
	names := map[string]bool{}
	for _, w := range old {
		a.effects = a.effects || !slices.Contains(noSideEffects, ptr.Deref(w.SideEffects, ""))
		a.versions = a.versions || len(w.AdmissionReviewVersions) > 0 && !slices.ContainsFunc(w.AdmissionReviewVersions, speaks)
		a.names = a.names || names[w.Name]
		names[w.Name] = true
		for _, s := range []*metav1.LabelSelector{w.NamespaceSelector, w.ObjectSelector} {
			a.selectors = a.selectors || len(metav1validation.ValidateLabelSelector(s, metav1validation.LabelSelectorValidationOptions{}, nil)) > 0
		}
		for _, c := range w.MatchConditions {
			if a.expressions == nil {
				a.expressions = map[string]bool{}
			}
			a.expressions[c.Expression] = true
		}
	}
	return a
}

func speaks(version string) bool { return slices.Contains(reviewVersions, version) }

var noSideEffects = []admissionregistrationv1.SideEffectClass{
	admissionregistrationv1.SideEffectClassNone, admissionregistrationv1.SideEffectClassNoneOnDryRun}

func validateWebhook(w *admissionregistrationv1.ValidatingWebhook, lax allowed, path *field.Path) (errs field.ErrorList) {
	errs = append(errs, validation.IsFullyQualifiedName(path.Child("name"), w.Name)...)
	for i := range w.Rules {
		errs = append(errs, validateRule(&w.Rules[i], path.Child("rules").Index(i))...)
	}
	errs = append(errs, kind.OneOfIfSet(ptr.Deref(w.FailurePolicy, ""), path.Child("failurePolicy"), admissionregistrationv1.Fail, admissionregistrationv1.Ignore)...)
	errs = append(errs, kind.OneOfIfSet(ptr.Deref(w.MatchPolicy, ""), path.Child("matchPolicy"), admissionregistrationv1.Equivalent, admissionregistrationv1.Exact)...)
	effects := noSideEffects
	if lax.effects {
		effects = append(slices.Clone(effects), admissionregistrationv1.SideEffectClassSome, admissionregistrationv1.SideEffectClassUnknown)
	}
	if w.SideEffects == nil {
		errs = append(errs, field.Required(path.Child("sideEffects"), fmt.Sprintf("must specify one of %s", joined(effects))))
	} else {
		errs = append(errs, kind.OneOf(*w.SideEffects, path.Child("sideEffects"), effects...)...)
	}
	if t := w.TimeoutSeconds; t != nil && (*t < 1 || *t > 30) {
		errs = append(errs, field.Invalid(path.Child("timeoutSeconds"), *t, "the timeout value must be between 1 and 30 seconds"))
	}
	options := metav1validation.LabelSelectorValidationOptions{AllowInvalidLabelValueInSelector: lax.selectors}
	errs = append(errs, metav1validation.ValidateLabelSelector(w.NamespaceSelector, options, path.Child("namespaceSelector"))...)
	errs = append(errs, metav1validation.ValidateLabelSelector(w.ObjectSelector, options, path.Child("objectSelector"))...)
	config := path.Child("clientConfig")
	switch c := w.ClientConfig; {
	case (c.URL == nil) == (c.Service == nil):
		errs = append(errs, field.Required(config, "exactly one of url or service is required"))
	case c.URL != nil:
		errs = append(errs, webhook.ValidateWebhookURL(config.Child("url"), *c.URL, true)...)
	default:
		errs = append(errs, webhook.ValidateWebhookService(config.Child("service"), c.Service.Namespace, c.Service.Name, c.Service.Path, ptr.Deref(c.Service.Port, 0))...)
	}
	return append(errs, validateConditions(w.MatchConditions, false, lax.expressions, path.Child("matchConditions"))...)
}

func joined[T ~string](values []T) string {
	texts := make([]string, len(values))
	for i, v := range values {
		texts[i] = string(v)
	}
	slices.Sort(texts)
	return strings.Join(texts, ", ")
}

func validateReviewVersions(versions []string, unknown bool, path *field.Path) (errs field.ErrorList) {
	if len(versions) == 0 {
		return field.ErrorList{field.Required(path, "must specify one of "+strings.Join(reviewVersions, ", "))}
	}
	for i, v := range versions {
		if slices.Contains(versions[:i], v) {
			errs = append(errs, field.Invalid(path.Index(i), v, "duplicate version"))
			continue
		}
		for _, msg := range validation.IsDNS1035Label(v) {
			errs = append(errs, field.Invalid(path.Index(i), v, msg))
		}
	}
	if !unknown && !slices.ContainsFunc(versions, speaks) {
		errs = append(errs, field.Invalid(path, versions, "must include at least one of "+strings.Join(reviewVersions, ", ")))
	}
	return errs
}
