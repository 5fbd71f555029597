// Package deployment moves pods from one template to the next: it makes a
// replica set for each template, and scales the sets. What to do is decided in
// decide.go, revision.go, rollback.go and status.go, from cached state alone;
// this file carries it out.
//
// It makes no pods, and knows them only to see old ones end (Recreate).
package deployment

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	appsv1 "k8s.io/api/apps/v1"
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
	"sampan/cluster/controller/pods"
	"sampan/cluster/controller/report"
	"sampan/cluster/kind"
)

// Name is this controller's, in events.
const Name = "deployment-controller"

// Config is what the controller needs.
type Config struct {
	Client  client.Client
	Log     *slog.Logger
	Workers int // deployments worked on at once; default 5
}

// Controller rolls out deployments. See the package comment.
type Controller struct {
	cfg    Config
	events *event.Recorder
	loop   loop.Loop[types.NamespacedName]
	status report.Status[*appsv1.Deployment, appsv1.DeploymentStatus]
	claims claim.Claims[*appsv1.ReplicaSet]
}

// New returns a controller.
func New(cfg Config) *Controller {
	if cfg.Workers == 0 {
		cfg.Workers = 5
	}
	c := &Controller{
		cfg:    cfg,
		events: &event.Recorder{Client: cfg.Client, Component: Name, Log: cfg.Log},
		claims: claim.Claims[*appsv1.ReplicaSet]{Client: cfg.Client, Owner: client.KindOf[*appsv1.Deployment](cfg.Client)},
	}
	c.status = report.Status[*appsv1.Deployment, appsv1.DeploymentStatus]{
		Client: cfg.Client,
		Of:     func(d *appsv1.Deployment) appsv1.DeploymentStatus { return d.Status },
		Same:   func(old, now *appsv1.Deployment) bool { return sameMap(old.Annotations, now.Annotations) },
	}
	c.loop = loop.Loop[types.NamespacedName]{Name: "deployment", Workers: cfg.Workers, Log: cfg.Log, Sync: c.sync}
	return c
}

// Run works until ctx ends. It returns when nothing of it runs any more.
func (c *Controller) Run(ctx context.Context) error {
	return c.loop.Drive(ctx, loop.Beside(c.events.Run),
		claim.Watch(&c.claims, selector, c.loop.Add),
		c.status.Watch(c.loop.Add),
		client.Changes(c.cfg.Client, client.Query{}, func(ctx context.Context, e client.Change[*corev1.Pod]) {
			if e.Type == client.Deleted || e.Type == client.Modified && pods.Over(e.Object) && !pods.Over(e.Old) {
				c.ended(ctx, e.Object)
			}
		}))
}

// ended wakes a deployment that waits for its old pods to end.
func (c *Controller) ended(ctx context.Context, p *corev1.Pod) {
	ref := metav1.GetControllerOfNoCopy(p)
	if ref == nil || ref.Kind != "ReplicaSet" {
		return
	}
	rs, err := client.Get[*appsv1.ReplicaSet](ctx, c.cfg.Client, p.Namespace, ref.Name)
	if err != nil || rs.UID != ref.UID {
		return // gone, and that was an event of its own
	}
	d, err := client.Get[*appsv1.Deployment](ctx, c.cfg.Client, p.Namespace, claim.Controller(rs, client.KindOf[*appsv1.Deployment](c.cfg.Client)))
	if err == nil && d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType {
		c.loop.Add(types.NamespacedName{Namespace: d.Namespace, Name: d.Name})
	}
}

func selector(d *appsv1.Deployment) *metav1.LabelSelector { return d.Spec.Selector }

// sync brings one deployment a step on.
func (c *Controller) sync(ctx context.Context, key types.NamespacedName) (again time.Duration, err error) {
	d, selector, err := claim.Owner(ctx, c.cfg.Client, key, selector, c.cfg.Log)
	if selector == nil {
		return 0, err
	}
	if selector.Empty() {
		c.events.Eventf(d, corev1.EventTypeWarning, "SelectingAll",
			"This deployment is selecting all pods. A non-empty selector is required.")
		return 0, nil
	}
	sets, err := c.claims.Of(ctx, d, selector)
	if err != nil {
		return 0, err
	}
	running, err := c.running(ctx, d, sets)
	if err != nil {
		return 0, err
	}
	plan := decide(d, sets, running, time.Now())
	if err := c.carryOut(ctx, d, &plan); err != nil {
		return 0, err
	}
	if plan.rollback != nil {
		return 0, c.rollBack(ctx, d, plan.rollback)
	}
	return plan.again, c.write(ctx, d, &plan)
}

// running counts the pods of each set that have not ended, for Recreate.
func (c *Controller) running(ctx context.Context, d *appsv1.Deployment, sets []*appsv1.ReplicaSet) (map[types.UID]int, error) {
	if d.Spec.Strategy.Type != appsv1.RecreateDeploymentStrategyType {
		return nil, nil
	}
	n := map[types.UID]int{}
	for _, rs := range sets {
		all, err := client.List[*corev1.Pod](ctx, c.cfg.Client, client.Query{
			Namespace: d.Namespace, Index: kind.OwnerIndex, Value: string(rs.UID)})
		if err != nil {
			return nil, err
		}
		for _, p := range all {
			if !pods.Over(p) {
				n[rs.UID]++
			}
		}
	}
	return n, nil
}

// carryOut writes replica sets. After an error the rest stays undone, the next
// sync decides again.
func (c *Controller) carryOut(ctx context.Context, d *appsv1.Deployment, plan *decision) error {
	if plan.create != nil {
		if err := c.create(ctx, d, plan); err != nil {
			return err
		}
	}
	for _, u := range plan.update {
		from, to := *u.from.Spec.Replicas, *u.to.Spec.Replicas
		if _, err := client.Update(ctx, c.cfg.Client, u.to); err != nil {
			return err
		}
		if from != to {
			c.scaled(d, u.from.Name, from, to)
		}
	}
	for _, rs := range plan.remove {
		err := client.Delete[*appsv1.ReplicaSet](ctx, c.cfg.Client, rs.Namespace, rs.Name,
			&metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(rs.UID))})
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	return nil
}

func (c *Controller) scaled(d *appsv1.Deployment, set string, from, to int32) {
	way := "up"
	if to < from {
		way = "down"
	}
	c.events.Eventf(d, corev1.EventTypeNormal, "ScalingReplicaSet", "Scaled %s replica set %s from %d to %d", way, set, from, to)
}

// create makes the set for a new template. A name that is taken by another
// template is a collision of hashes, which the next try avoids.
func (c *Controller) create(ctx context.Context, d *appsv1.Deployment, plan *decision) error {
	name, size := plan.create.Name, *plan.create.Spec.Replicas
	template := plan.create.Spec.Template
	_, err := client.Create(ctx, c.cfg.Client, plan.create.DeepCopy())
	switch {
	case err == nil:
		if size > 0 {
			c.scaled(d, name, 0, size)
		}
		return nil
	case apierrors.IsAlreadyExists(err):
		have, getErr := client.Get[*appsv1.ReplicaSet](ctx, c.cfg.Client, d.Namespace, name)
		if getErr != nil {
			return getErr
		}
		if metav1.IsControlledBy(have, d) && sameTemplate(&template, &have.Spec.Template) {
			return err // somebody was faster; the cache has it by the next try
		}
		next := d.DeepCopy()
		n := ptr.Deref(d.Status.CollisionCount, 0) + 1
		next.Status.CollisionCount = &n
		if err := c.status.Write(ctx, next); err != nil {
			return err
		}
		c.cfg.Log.Info("replica set's name is taken, choosing another", "key", d.Namespace+"/"+d.Name, "taken", name)
		return err
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause), ctx.Err() != nil:
		return err
	}
	message := fmt.Sprintf("Failed to create new replica set %q: %v", name, err)
	c.events.Eventf(d, corev1.EventTypeWarning, "ReplicaSetCreateError", "%s", message)
	if s := d.Spec.ProgressDeadlineSeconds; s != nil {
		next := d.DeepCopy()
		next.Status.Conditions = say(next.Status.Conditions, appsv1.DeploymentProgressing, corev1.ConditionFalse,
			"ReplicaSetCreateError", message, time.Now())
		if !equality.Semantic.DeepEqual(next.Status, d.Status) {
			if err := c.status.Write(ctx, next); err != nil {
				return err
			}
		}
	}
	return err
}

// write stores status and revision, if they changed.
func (c *Controller) write(ctx context.Context, d *appsv1.Deployment, plan *decision) error {
	if plan.revision == "" && equality.Semantic.DeepEqual(plan.status, d.Status) {
		return nil
	}
	next := d.DeepCopy()
	next.Status = plan.status
	if plan.revision != "" {
		next.Annotations = with(next.Annotations, revisionAnnotation, plan.revision)
	}
	return c.status.Write(ctx, next)
}
