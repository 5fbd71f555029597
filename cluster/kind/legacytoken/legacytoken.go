// Package legacytoken has what is written on Secrets of the type
// kubernetes.io/service-account-token about the use of their tokens, which have
// no end (KEP-2799): said once, for whoever takes such a token, and for whoever
// cleans away those that nobody uses. (Upstream: pkg/serviceaccount/legacy.go,
// pkg/controlplane/controller/legacytokentracking.)
//
// It decides nothing about requests.
package legacytoken

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Labels of the Secrets: the day on which the token was used last, and since
// when it is not to be used because nobody did for so long.
const (
	LastUsed     = "kubernetes.io/legacy-token-last-used"
	InvalidSince = "kubernetes.io/legacy-token-invalid-since"
)

// The ConfigMap in kube-system that says since when uses are written down.
const (
	TrackingName = "kube-apiserver-legacy-service-account-token-tracking"
	TrackingKey  = "since"
)

// layout is how days are written. They sort as text does.
const layout = "2006-01-02"

// Day is the day of a time, in UTC, as labels say it.
func Day(t time.Time) string { return t.UTC().Format(layout) }

// ParseDay is the beginning of a day, in UTC.
func ParseDay(s string) (time.Time, error) { return time.Parse(layout, s) }

// Generated says whether a token was not asked for by anybody: the account
// names its Secret, as accounts did when each had one made for it.
func Generated(sa *corev1.ServiceAccount, secret string) bool {
	return slices.ContainsFunc(sa.Secrets, func(r corev1.ObjectReference) bool { return r.Name == secret })
}
