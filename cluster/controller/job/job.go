// Package job runs pods until enough of them have succeeded, as a Job asks.
// What is there is looked at in view.go, what to do about it is decided in
// decide.go, and pods that have ended are counted in tally.go, from cached
// state alone; this file carries it out.
//
// A pod that has ended is gone at some time, and a count must outlive it: see
// tally.go for how none is counted twice or never.
//
// It knows neither nodes nor containers.
package job

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"sampan/cluster/client"
	"sampan/cluster/client/event"
	"sampan/cluster/controller/claim"
	"sampan/cluster/controller/loop"
	"sampan/cluster/controller/pods"
	"sampan/cluster/kind"
)

// Name is this controller's, in events.
const Name = "job-controller"

// Config is what the controller needs.
type Config struct {
	Client  client.Client
	Log     *slog.Logger
	Workers int // jobs worked on at once; default 5

	Metrics *Metrics // nil: nobody asks for them
}

// Controller runs jobs. See the package comment.
type Controller struct {
	cfg    Config
	owner  *kind.Kind
	events *event.Recorder
	pods   pods.Control
	loop   loop.Loop[key]
	claims claim.Claims[*corev1.Pod]

	mu       sync.Mutex // guards backoffs
	backoffs map[types.UID]backoff
}

// key is a job, or a pod that has a job's finalizer and perhaps no job.
type key struct {
	types.NamespacedName
	pod bool
}

// New returns a controller.
func New(cfg Config) *Controller {
	if cfg.Workers == 0 {
		cfg.Workers = 5
	}
	if cfg.Metrics == nil {
		cfg.Metrics = NewMetrics(nil)
	}
	c := &Controller{
		cfg:      cfg,
		owner:    client.KindOf[*batchv1.Job](cfg.Client),
		events:   &event.Recorder{Client: cfg.Client, Component: Name, Log: cfg.Log},
		backoffs: map[types.UID]backoff{},
	}
	c.pods = pods.Control{Client: cfg.Client, Events: c.events}
	c.claims = claim.Claims[*corev1.Pod]{Client: cfg.Client, Owner: c.owner, Finalizer: batchv1.JobTrackingFinalizer}
	c.loop = loop.Loop[key]{Name: "job", Workers: cfg.Workers, Log: cfg.Log, Sync: c.sync}
	return c
}

// Run works until ctx ends. It returns when nothing of it runs any more.
func (c *Controller) Run(ctx context.Context) error {
	return c.loop.Drive(ctx, loop.Beside(c.events.Run),
		client.Changes(c.cfg.Client, client.Query{}, c.podChanged),
		client.Changes(c.cfg.Client, client.Query{}, c.jobChanged))
}

func (c *Controller) podChanged(ctx context.Context, e client.Change[*corev1.Pod]) {
	claim.Wake(ctx, &c.claims, e, selector, func(name types.NamespacedName) { c.loop.Add(key{NamespacedName: name}) })
	if e.Type != client.Deleted && tracked(e.Object) && c.orphaned(ctx, e.Object) {
		c.loop.Add(key{types.NamespacedName{Namespace: e.Object.Namespace, Name: e.Object.Name}, true})
	}
}

func selector(j *batchv1.Job) *metav1.LabelSelector { return j.Spec.Selector }

func (c *Controller) jobChanged(ctx context.Context, e client.Change[*batchv1.Job]) {
	over := e.Type == client.Deleted || finished(e.Object)
	if over {
		c.forget(e.Object.UID)
	}
	switch {
	case over && (e.Old == nil || e.Type == client.Deleted || !finished(e.Old)):
		// Its pods should have been let go by now; those that were not are held
		// by nobody else.
		left, err := client.List[*corev1.Pod](ctx, c.cfg.Client, client.Query{
			Namespace: e.Object.Namespace, Index: kind.OwnerIndex, Value: string(e.Object.UID)})
		if err != nil {
			return // the watch's context has ended
		}
		for _, p := range left {
			if tracked(p) {
				c.loop.Add(key{types.NamespacedName{Namespace: p.Namespace, Name: p.Name}, true})
			}
		}
	case !over && asked(e.Old, e.Object):
		c.loop.Add(key{NamespacedName: types.NamespacedName{Namespace: e.Object.Namespace, Name: e.Object.Name}})
	}
}

// asked is false for a change of the status alone: it is mostly our own.
func asked(old, now *batchv1.Job) bool {
	return old == nil || old.UID != now.UID || old.Generation != now.Generation ||
		(old.DeletionTimestamp == nil) != (now.DeletionTimestamp == nil)
}

// elsewhere says whether another program looks after a job (KEP-4368).
func elsewhere(j *batchv1.Job) bool {
	return j.Spec.ManagedBy != nil && *j.Spec.ManagedBy != batchv1.JobControllerName
}

func (c *Controller) sync(ctx context.Context, k key) (again time.Duration, err error) {
	if k.pod {
		return 0, c.syncOrphan(ctx, k)
	}
	j, err := client.Get[*batchv1.Job](ctx, c.cfg.Client, k.Namespace, k.Name)
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil || elsewhere(j) || finished(j) {
		return 0, err
	}
	return c.syncJob(ctx, j)
}

// syncJob takes a job as far as it goes: decide, act, count. Each step reads
// what the one before has left.
func (c *Controller) syncJob(ctx context.Context, j *batchv1.Job) (again time.Duration, err error) {
	began, job := time.Now(), j
	var d decision
	defer func() { c.cfg.Metrics.synced(job, d, err, began) }()
	owned, err := c.owned(ctx, j)
	if err != nil {
		return 0, err
	}
	v := look(j, owned, c.backoff(j), time.Now())
	d = decide(v)
	again = d.again
	failed := c.act(ctx, v, d)
	if len(d.create)+len(d.drop)+len(d.stop) > 0 {
		if owned, err = c.owned(ctx, j); err != nil {
			return 0, err
		}
		v = look(j, owned, c.backoff(j), time.Now())
	}
	n := tally(v, d.end, failed == nil)
	if j, err = c.write(ctx, j, n.status); err != nil || j == nil {
		return 0, errors.Join(failed, err)
	}
	if n.event != "" {
		c.events.Eventf(j, corev1.EventTypeNormal, n.event, "Job %s", strings.ToLower(n.event))
	}
	if len(n.done) > 0 {
		c.remember(j, v.backoff)
		failed = errors.Join(failed, pods.Together(len(n.done), func(i int) error { return c.release(ctx, n.done[i]) }))
		if owned, err = c.owned(ctx, j); err != nil {
			return 0, errors.Join(failed, err)
		}
	}
	s, over := settle(j, owned, n)
	if j, err = c.write(ctx, j, s); err != nil || j == nil {
		return 0, errors.Join(failed, err)
	}
	if over {
		c.announce(j, n.final)
		return 0, nil
	}
	return again, failed
}

func (c *Controller) owned(ctx context.Context, j *batchv1.Job) ([]*corev1.Pod, error) {
	s, err := metav1.LabelSelectorAsSelector(j.Spec.Selector)
	if err != nil {
		return nil, fmt.Errorf("job %s/%s: selector: %w", j.Namespace, j.Name, err)
	}
	return c.claims.Of(ctx, j, s)
}

// act carries a decision out. An error leaves the rest for the next turn.
func (c *Controller) act(ctx context.Context, v *view, d decision) error {
	switch {
	case len(d.stop) > 0:
		return pods.Together(len(d.stop), func(i int) error { return c.pods.Delete(ctx, v.job, d.stop[i]) })
	case len(d.drop) > 0:
		return pods.Together(len(d.drop), func(i int) error {
			if err := c.release(ctx, d.drop[i]); err != nil {
				return err
			}
			return c.pods.Delete(ctx, v.job, d.drop[i])
		})
	}
	template := c.template(v.job)
	return pods.Growing(len(d.create), func(i int) error { return c.pods.Create(ctx, v.job, newPod(v.job, template, d.create[i])) })
}

// template is the pod that the job asks for, but for what depends on an index.
func (c *Controller) template(j *batchv1.Job) *corev1.Pod {
	p := pods.FromTemplate(j, c.owner, &j.Spec.Template)
	if !tracked(p) {
		p.Finalizers = append(p.Finalizers, batchv1.JobTrackingFinalizer)
	}
	if indexed(j) {
		for i := range p.Spec.InitContainers {
			tellIndex(&p.Spec.InitContainers[i])
		}
		for i := range p.Spec.Containers {
			tellIndex(&p.Spec.Containers[i])
		}
	}
	return p
}

// tellIndex gives a container JOB_COMPLETION_INDEX, unless it has one.
func tellIndex(c *corev1.Container) {
	const name = "JOB_COMPLETION_INDEX"
	for _, e := range c.Env {
		if e.Name == name {
			return
		}
	}
	c.Env = append(c.Env, corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{
		FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.labels['" + batchv1.JobCompletionIndexAnnotation + "']"}}})
}

func newPod(j *batchv1.Job, template *corev1.Pod, b birth) *corev1.Pod {
	p := template.DeepCopy()
	if b.index < 0 {
		return p
	}
	i := strconv.Itoa(b.index)
	if p.Annotations == nil {
		p.Annotations = map[string]string{}
	}
	if p.Labels == nil {
		p.Labels = map[string]string{}
	}
	p.Annotations[batchv1.JobCompletionIndexAnnotation], p.Labels[batchv1.JobCompletionIndexAnnotation] = i, i
	p.Spec.Hostname = j.Name + "-" + i
	const longest = 58 // of a generateName
	suffix := "-" + i + "-"
	p.GenerateName = j.Name[:min(len(j.Name), longest-len(suffix))] + suffix
	if j.Spec.BackoffLimitPerIndex != nil {
		counted, forgiven := inherited(j, b.replaces)
		p.Annotations[batchv1.JobIndexFailureCountAnnotation] = strconv.Itoa(counted)
		if forgiven > 0 {
			p.Annotations[batchv1.JobIndexIgnoredFailureCountAnnotation] = strconv.Itoa(forgiven)
		}
	}
	return p
}

// inherited is how often an index has failed before the pod that replaces p.
func inherited(j *batchv1.Job, p *corev1.Pod) (counted, forgiven int) {
	if p == nil {
		return 0, 0
	}
	counted, forgiven = failures(p), ignored(p)
	if judge(j.Spec.PodFailurePolicy, p).counts() {
		return counted + 1, forgiven
	}
	return counted, forgiven + 1
}

// release takes the job's finalizer from a pod. That the pod is gone is what
// it is for.
func (c *Controller) release(ctx context.Context, p *corev1.Pod) error {
	if !tracked(p) {
		return nil
	}
	data, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid": p.UID, "$deleteFromPrimitiveList/finalizers": []string{batchv1.JobTrackingFinalizer}}})
	if err != nil {
		return err
	}
	_, err = c.cfg.Client.Patch(ctx, client.KindOf[*corev1.Pod](c.cfg.Client), client.Patch{
		Namespace: p.Namespace, Name: p.Name, Type: types.StrategicMergePatchType, Data: data})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// write brings the status into the API if it differs. The job is nil if it is
// gone.
func (c *Controller) write(ctx context.Context, j *batchv1.Job, s batchv1.JobStatus) (*batchv1.Job, error) {
	if equality.Semantic.DeepEqual(s, j.Status) {
		return j, nil
	}
	next := j.DeepCopy()
	next.Status = s
	next, err := client.UpdateStatus(ctx, c.cfg.Client, next)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err == nil {
		c.cfg.Metrics.counted(next, j.Status)
	}
	return next, err
}

func (c *Controller) announce(j *batchv1.Job, end *batchv1.JobCondition) {
	c.cfg.Metrics.ended(j, end)
	if end.Type != batchv1.JobComplete {
		c.events.Eventf(j, corev1.EventTypeWarning, end.Reason, "%s", end.Message)
		return
	}
	if n := j.Spec.Completions; n != nil && j.Status.Succeeded > *n {
		c.events.Eventf(j, corev1.EventTypeWarning, "TooManySucceededPods", "Too many succeeded pods running after completion count reached")
	}
	c.events.Eventf(j, corev1.EventTypeNormal, "Completed", "Job completed")
}

// syncOrphan lets a pod go that no job will count.
func (c *Controller) syncOrphan(ctx context.Context, k key) error {
	p, err := client.Get[*corev1.Pod](ctx, c.cfg.Client, k.Namespace, k.Name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil || !tracked(p) || !c.orphaned(ctx, p) {
		return err
	}
	return c.release(ctx, p)
}

// orphaned says whether a pod with the finalizer has no job that would take it
// away.
func (c *Controller) orphaned(ctx context.Context, p *corev1.Pod) bool {
	ref := metav1.GetControllerOfNoCopy(p)
	if ref == nil {
		return true
	}
	name := claim.Controller(p, c.owner)
	if name == "" {
		return false // another kind's, or another version's: not ours to judge
	}
	j, err := client.Get[*batchv1.Job](ctx, c.cfg.Client, p.Namespace, name)
	if err != nil {
		return apierrors.IsNotFound(err)
	}
	return j.UID != ref.UID || finished(j) && !elsewhere(j)
}

func (c *Controller) backoff(j *batchv1.Job) backoff {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.backoffs[j.UID]
}

func (c *Controller) remember(j *batchv1.Job, b backoff) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if b == (backoff{}) {
		delete(c.backoffs, j.UID)
		return
	}
	c.backoffs[j.UID] = b
}

func (c *Controller) forget(uid types.UID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.backoffs, uid)
}
