// Package admissionregistration declares the kinds of
// admissionregistration.k8s.io, a file per pair: which webhooks are asked
// about a write, and which policies it has to meet. (Upstream:
// pkg/apis/admissionregistration.)
//
// Who carries them out is cluster/admission.
package admissionregistration

import "sampan/cluster/kind"

// Kinds returns the group's kinds.
func Kinds() []*kind.Kind {
	return []*kind.Kind{
		MutatingWebhookConfiguration(),
		ValidatingWebhookConfiguration(),
		ValidatingAdmissionPolicy(),
		ValidatingAdmissionPolicyBinding(),
		MutatingAdmissionPolicy(),
		MutatingAdmissionPolicyBinding(),
	}
}

// pointer is what kind.Age asks of a kind's Go type.
type pointer[T any] interface {
	*T
	kind.Object
}
