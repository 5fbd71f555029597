package unusedtokens

import (
	"context"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/client"
	"sampan/cluster/controller/loop"
	"sampan/cluster/kind/legacytoken"
)

// pause is how long after the ConfigMap was made it is not made again: a
// server beside this one that does not write uses down would delete it at once.
// (Upstream: pkg/controlplane/controller/legacytokentracking.)
const pause = 30 * time.Minute

// Tracker keeps the ConfigMap that says since when uses of tokens are written
// down.
type Tracker struct {
	client client.Client
	loop   loop.Loop[string] // one key: the ConfigMap's name
	made   time.Time         // of its one worker
}

// NewTracker returns a Tracker.
func NewTracker(c client.Client, log *slog.Logger) *Tracker {
	t := &Tracker{client: c}
	t.loop = loop.Loop[string]{Name: "legacy_token_tracking_controller", Log: log, Sync: t.sync}
	return t
}

// Run works until ctx ends.
func (t *Tracker) Run(ctx context.Context) error {
	t.loop.Add(legacytoken.TrackingName)
	return t.loop.Drive(ctx, client.Changes(t.client, client.Query{Namespace: metav1.NamespaceSystem, Name: legacytoken.TrackingName},
		func(_ context.Context, e client.Change[*corev1.ConfigMap]) { t.loop.Add(e.Object.Name) }))
}

func (t *Tracker) sync(ctx context.Context, name string) (again time.Duration, err error) {
	now := time.Now()
	have, err := client.Get[*corev1.ConfigMap](ctx, t.client, metav1.NamespaceSystem, name)
	switch {
	case apierrors.IsNotFound(err):
		if left := t.made.Add(pause).Sub(now); left > 0 {
			return left, nil
		}
		if _, err = client.Create(ctx, t.client, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: name},
			Data: map[string]string{legacytoken.TrackingKey: legacytoken.Day(now)}}); err == nil {
			t.made = now
		}
	case err == nil:
		if _, unreadable := legacytoken.ParseDay(have.Data[legacytoken.TrackingKey]); unreadable == nil {
			return 0, nil
		}
		next := have.DeepCopy()
		if next.Data == nil {
			next.Data = map[string]string{}
		}
		next.Data[legacytoken.TrackingKey] = legacytoken.Day(now)
		_, err = client.Update(ctx, t.client, next)
	}
	if apierrors.IsAlreadyExists(err) || apierrors.IsConflict(err) {
		return 0, nil // the change that was faster wakes us
	}
	return 0, err
}
