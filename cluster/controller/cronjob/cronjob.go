// Package cronjob makes a Job of a CronJob's template whenever its schedule
// says so, and deletes those that are old. What to do is decided in decide.go
// from cached state and the time; this file carries it out.
//
// Nothing runs between two times of a schedule but one timer.
//
// It knows jobs, not their pods.
package cronjob

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"sampan/cluster/client"
	"sampan/cluster/client/event"
	"sampan/cluster/controller/claim"
	"sampan/cluster/controller/loop"
	"sampan/cluster/kind"
)

// Name is this controller's, in events.
const Name = "cronjob-controller"

// Config is what the controller needs.
type Config struct {
	Client  client.Client
	Log     *slog.Logger
	Workers int // cron jobs worked on at once; default 5
}

// Controller keeps cron jobs. See the package comment.
type Controller struct {
	cfg    Config
	owner  *kind.Kind
	events *event.Recorder
	loop   loop.Loop[types.NamespacedName]

	mu    sync.Mutex // guards holds
	holds map[types.UID]time.Time
}

// New returns a controller.
func New(cfg Config) *Controller {
	if cfg.Workers == 0 {
		cfg.Workers = 5
	}
	c := &Controller{
		cfg:    cfg,
		owner:  client.KindOf[*batchv1.CronJob](cfg.Client),
		events: &event.Recorder{Client: cfg.Client, Component: Name, Log: cfg.Log},
		holds:  map[types.UID]time.Time{},
	}
	c.loop = loop.Loop[types.NamespacedName]{Name: "cronjob", Workers: cfg.Workers, Log: cfg.Log, Sync: c.sync}
	return c
}

// Run works until ctx ends. It returns when nothing of it runs any more.
func (c *Controller) Run(ctx context.Context) error {
	return c.loop.Drive(ctx, loop.Beside(c.events.Run),
		client.Changes(c.cfg.Client, client.Query{}, c.jobChanged),
		client.Changes(c.cfg.Client, client.Query{}, c.changed))
}

func (c *Controller) jobChanged(_ context.Context, e client.Change[*batchv1.Job]) {
	for _, j := range []*batchv1.Job{e.Old, e.Object} {
		if j == nil {
			continue
		}
		if name := claim.Controller(j, c.owner); name != "" {
			c.loop.Add(types.NamespacedName{Namespace: j.Namespace, Name: name})
		}
	}
}

func (c *Controller) changed(_ context.Context, e client.Change[*batchv1.CronJob]) {
	cj := e.Object
	switch {
	case e.Type == client.Deleted:
		c.hold(cj.UID, time.Time{})
		return
	case e.Old != nil && (e.Old.Spec.Schedule != cj.Spec.Schedule || !ptr.Equal(e.Old.Spec.TimeZone, cj.Spec.TimeZone)):
		now := time.Now()
		if s, err := parse(cj); err == nil {
			c.hold(cj.UID, now.Add(next(cj, now, s)))
		}
	}
	c.loop.Add(types.NamespacedName{Namespace: cj.Namespace, Name: cj.Name})
}

// hold sets the time before which a cron job starts nothing; zero: none.
func (c *Controller) hold(uid types.UID, until time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if until.IsZero() {
		delete(c.holds, uid)
		return
	}
	c.holds[uid] = until
}

// held returns that time, and forgets it when it has come.
func (c *Controller) held(uid types.UID, now time.Time) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	until := c.holds[uid]
	if !now.Before(until) {
		delete(c.holds, uid)
	}
	return until
}

// sync does what is due.
func (c *Controller) sync(ctx context.Context, key types.NamespacedName) (again time.Duration, err error) {
	cj, err := client.Get[*batchv1.CronJob](ctx, c.cfg.Client, key.Namespace, key.Name)
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	jobs, err := client.List[*batchv1.Job](ctx, c.cfg.Client, client.Query{
		Namespace: cj.Namespace, Index: kind.OwnerIndex, Value: string(cj.UID)})
	if err != nil {
		return 0, err
	}
	now := time.Now()
	d := decide(cj, controlled(jobs, cj), now, c.held(cj.UID, now))
	for _, e := range d.events {
		c.events.Eventf(cj, e.kind, e.reason, "%s", e.message)
	}
	for _, j := range d.surplus {
		err = errors.Join(err, c.delete(ctx, cj, j))
	}
	s := d.status
	if failed := c.act(ctx, cj, d, &s); failed != nil {
		err = errors.Join(err, failed)
	}
	if !equality.Semantic.DeepEqual(s, cj.Status) {
		next := cj.DeepCopy()
		next.Status = s
		if _, failed := client.UpdateStatus(ctx, c.cfg.Client, next); failed != nil && !apierrors.IsNotFound(failed) {
			err = errors.Join(err, failed)
		}
	}
	return d.again, err
}

// controlled are the jobs that c controls, not only owns.
func controlled(jobs []*batchv1.Job, c *batchv1.CronJob) (mine []*batchv1.Job) {
	for _, j := range jobs {
		if metav1.IsControlledBy(j, c) {
			mine = append(mine, j)
		}
	}
	return mine
}

// act makes place and starts the job that is due. s is the status that is then
// to be written.
func (c *Controller) act(ctx context.Context, cj *batchv1.CronJob, d decision, s *batchv1.CronJobStatus) error {
	for _, j := range d.replace {
		if err := c.delete(ctx, cj, j); err != nil {
			return fmt.Errorf("could not replace job %s/%s: %w", j.Namespace, j.Name, err)
		}
	}
	if d.start == nil {
		return nil
	}
	made, err := client.Create(ctx, c.cfg.Client, newJob(cj, c.owner, *d.start))
	switch {
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return nil // the namespace goes, and this with it
	case apierrors.IsAlreadyExists(err):
		// We made it and did not come to write it down; or somebody else did,
		// and it is none of our business.
		made, err = client.Get[*batchv1.Job](ctx, c.cfg.Client, cj.Namespace, jobName(cj, *d.start))
		if err != nil || !metav1.IsControlledBy(made, cj) {
			return err
		}
		if outcome(made) != "" {
			s.LastScheduleTime = &metav1.Time{Time: *d.start}
			return nil
		}
	case err != nil:
		c.events.Eventf(cj, corev1.EventTypeWarning, "FailedCreate", "Error creating job: %v", err)
		return err
	default:
		c.events.Eventf(cj, corev1.EventTypeNormal, "SuccessfulCreate", "Created job %v", made.Name)
	}
	s.LastScheduleTime = &metav1.Time{Time: *d.start}
	s.Active = append(s.Active, corev1.ObjectReference{APIVersion: batchv1.SchemeGroupVersion.String(), Kind: "Job",
		Namespace: made.Namespace, Name: made.Name, UID: made.UID, ResourceVersion: made.ResourceVersion})
	return nil
}

// delete removes a job with its pods.
func (c *Controller) delete(ctx context.Context, cj *batchv1.CronJob, j *batchv1.Job) error {
	err := client.Delete[*batchv1.Job](ctx, c.cfg.Client, j.Namespace, j.Name, &metav1.DeleteOptions{
		PropagationPolicy: new(metav1.DeletePropagationBackground), Preconditions: metav1.NewUIDPreconditions(string(j.UID))})
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		c.events.Eventf(cj, corev1.EventTypeWarning, "FailedDelete", "Deleted job: %v", err)
		return err
	}
	c.events.Eventf(cj, corev1.EventTypeNormal, "SuccessfulDelete", "Deleted job %v", j.Name)
	return nil
}

// newJob is the job of a time.
func newJob(cj *batchv1.CronJob, k *kind.Kind, at time.Time) *batchv1.Job {
	t := cj.Spec.JobTemplate.DeepCopy()
	annotations := maps.Clone(t.Annotations)
	if annotations == nil {
		annotations = map[string]string{}
	}
	zone, err := time.LoadLocation(ptr.Deref(cj.Spec.TimeZone, ""))
	if err != nil {
		zone = time.UTC // the decision has looked
	}
	annotations[batchv1.CronJobScheduledTimestampAnnotation] = at.In(zone).Format(time.RFC3339)
	return &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: cj.Namespace, Name: jobName(cj, at), Labels: t.Labels, Annotations: annotations,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(cj, k.GVK)},
		},
		Spec: t.Spec,
	}
}
