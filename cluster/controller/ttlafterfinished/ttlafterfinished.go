// Package ttlafterfinished deletes jobs that have ended, when their
// spec.ttlSecondsAfterFinished is over (KEP-592). There is one timer for a
// job, and nothing else.
//
// It knows jobs, not their pods.
package ttlafterfinished

import (
	"context"
	"log/slog"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"sampan/cluster/client"
	"sampan/cluster/controller/loop"
)

// Config is what the controller needs.
type Config struct {
	Client client.Client
	Log    *slog.Logger
}

// Controller deletes jobs. See the package comment.
type Controller struct {
	cfg  Config
	loop loop.Loop[types.NamespacedName]
}

// New returns a controller.
func New(cfg Config) *Controller {
	c := &Controller{cfg: cfg}
	c.loop = loop.Loop[types.NamespacedName]{Name: "ttlafterfinished", Log: cfg.Log, Sync: c.sync}
	return c
}

// Run works until ctx ends. It returns when nothing of it runs any more.
func (c *Controller) Run(ctx context.Context) error {
	return c.loop.Drive(ctx, client.Changes(c.cfg.Client, client.Query{}, func(_ context.Context, e client.Change[*batchv1.Job]) {
		if _, ok := expiry(e.Object); ok && e.Type != client.Deleted {
			c.loop.Add(types.NamespacedName{Namespace: e.Object.Namespace, Name: e.Object.Name})
		}
	}))
}

// expiry is when a job is to be deleted; ok is false for one that stays.
func expiry(j *batchv1.Job) (at time.Time, ok bool) {
	if j.Spec.TTLSecondsAfterFinished == nil || j.DeletionTimestamp != nil {
		return time.Time{}, false
	}
	for _, c := range j.Status.Conditions {
		if (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) && c.Status == corev1.ConditionTrue && !c.LastTransitionTime.IsZero() {
			return c.LastTransitionTime.Add(time.Duration(*j.Spec.TTLSecondsAfterFinished) * time.Second), true
		}
	}
	return time.Time{}, false
}

func (c *Controller) sync(ctx context.Context, key types.NamespacedName) (again time.Duration, err error) {
	j, err := client.Get[*batchv1.Job](ctx, c.cfg.Client, key.Namespace, key.Name)
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	at, ok := expiry(j)
	if !ok {
		return 0, nil
	}
	if left := time.Until(at); left > 0 {
		return left, nil
	}
	// The version too: a user may make the job live longer just now.
	err = client.Delete[*batchv1.Job](ctx, c.cfg.Client, j.Namespace, j.Name, &metav1.DeleteOptions{
		PropagationPolicy: new(metav1.DeletePropagationForeground),
		Preconditions:     &metav1.Preconditions{UID: &j.UID, ResourceVersion: &j.ResourceVersion}})
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	return 0, err
}
