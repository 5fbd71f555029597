package policy

import (
	"encoding/json"
	"slices"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
)

// Bounds of what policies may add to the audit log of one write. (Upstream:
// policy/validating/dispatcher.go.)
const (
	mostFailures   = 50
	longestAuditIs = 10 * 1024
)

// failure is a validation that failed, as the audit log has it.
type failure struct {
	Message           string                                     `json:"message"`
	Policy            string                                     `json:"policy"`
	Binding           string                                     `json:"binding"`
	ExpressionIndex   int                                        `json:"expressionIndex"`
	ValidationActions []admissionregistrationv1.ValidationAction `json:"validationActions"`
}

// annotations are what the audit annotations of one policy say, by key: with
// several bindings and parameters each may say several things.
type annotations map[string][]string

func (a annotations) add(key, value string) {
	if value = value[:min(len(value), longestAuditIs)]; !slices.Contains(a[key], value) {
		a[key] = append(a[key], value)
	}
}

// publish hands what a policy says to the audit log.
func (e *evaluation) publish(policy string, said annotations) {
	for key, values := range said {
		e.Request.Note(policy+"/"+key, strings.Join(values, ", "))
	}
}

// publishFailures tells the audit log of the validations that failed and are
// to be there.
func (e *evaluation) publishFailures() {
	if len(e.failures) == 0 || e.Request.Annotate == nil {
		return
	}
	text, err := json.Marshal(e.failures[:min(len(e.failures), mostFailures)])
	if err != nil {
		e.Log.Error("tell the audit log of failed validations", "object", e.Request.Path(), "err", err)
		return
	}
	e.Request.Note("validation.policy.admission.k8s.io/validation_failure", string(text))
}
