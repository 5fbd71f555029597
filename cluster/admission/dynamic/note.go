package dynamic

import (
	"encoding/json"
	"fmt"

	admissionv1 "k8s.io/api/admission/v1"

	"sampan/cluster/admission/match"
)

// notes tells the audit log what one call of a mutating webhook did. (Upstream:
// webhook/mutating.webhookAnnotator.)
type notes struct {
	s  *match.Subject
	h  *hook
	at string // which call it was
}

func newNotes(s *match.Subject, h *hook, index int) *notes {
	round := 0
	if s.Second() {
		round = 1
	}
	return &notes{s, h, fmt.Sprintf("webhook.admission.k8s.io/round_%d_index_%d", round, index)}
}

func (n *notes) note(kind string, what any, detail bool) {
	if n.s.Request.Annotate == nil {
		return
	}
	if text, err := json.Marshal(what); err == nil { // else there is nothing to tell
		n.s.Request.Annotate(kind+"."+n.at, string(text), detail)
	}
}

// mutated says whether the call changed what is written.
func (n *notes) mutated(changed bool) {
	n.note("mutation", struct {
		Configuration string `json:"configuration"`
		Webhook       string `json:"webhook"`
		Mutated       bool   `json:"mutated"`
	}{n.h.of, n.h.Name, changed}, false)
}

// patch says how, where the log has bodies as well.
func (n *notes) patch(patch []byte) {
	n.note("patch", struct {
		Configuration string                `json:"configuration"`
		Webhook       string                `json:"webhook"`
		Patch         json.RawMessage       `json:"patch,omitempty"`
		PatchType     admissionv1.PatchType `json:"patchType,omitempty"`
	}{n.h.of, n.h.Name, patch, admissionv1.PatchTypeJSONPatch}, true)
}
