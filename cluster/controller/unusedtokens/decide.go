package unusedtokens

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"sampan/cluster/kind/legacytoken"
)

// decision is what must happen to a Secret; at most one of the first two.
type decision struct {
	mark   string // the day since when it is not to be used
	remove bool

	err error // why it cannot be said
}

// old says whether a Secret holds a token that nobody has used for a period:
// what can be said of it alone.
func old(s *corev1.Secret, now time.Time, period time.Duration) (bool, error) {
	since := now.Add(-period)
	if s.Type != corev1.SecretTypeServiceAccountToken || s.DeletionTimestamp != nil || !s.CreationTimestamp.Time.Before(since) {
		return false, nil
	}
	used, known := s.Labels[legacytoken.LastUsed]
	if !known {
		return true, nil // nobody did since uses are written down
	}
	if _, err := legacytoken.ParseDay(used); err != nil {
		return false, fmt.Errorf("label %s: %w", legacytoken.LastUsed, err)
	}
	return used < legacytoken.Day(since), nil
}

// decide is a pure function of what the cache holds and the time. sa is the
// account that the Secret names, nil if there is none; mounted says whether a
// pod has the Secret.
func decide(s *corev1.Secret, sa *corev1.ServiceAccount, mounted func() bool, now time.Time, period time.Duration) (d decision) {
	is, err := old(s, now, period)
	if !is {
		return decision{err: err}
	}
	if uid := s.Annotations[corev1.ServiceAccountUIDKey]; sa == nil || uid != "" && uid != string(sa.UID) || !legacytoken.Generated(sa, s.Name) {
		return d // somebody may have asked for it
	}
	if mounted() {
		return d
	}
	invalid := s.Labels[legacytoken.InvalidSince]
	if _, err := legacytoken.ParseDay(invalid); err != nil {
		d.mark = legacytoken.Day(now)
		return d
	}
	d.remove = invalid < legacytoken.Day(now.Add(-period))
	return d
}

// begun says whether uses have been written down for a whole period.
func begun(tracking *corev1.ConfigMap, now time.Time, period time.Duration) (bool, error) {
	day, err := legacytoken.ParseDay(tracking.Data[legacytoken.TrackingKey])
	if err != nil {
		return false, fmt.Errorf("key %s of ConfigMap %s/%s: %w", legacytoken.TrackingKey, tracking.Namespace, tracking.Name, err)
	}
	// From some moment of that day on, so surely from its end.
	return !now.Before(day.AddDate(0, 0, 1).Add(period)), nil
}
