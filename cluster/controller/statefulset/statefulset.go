// Package statefulset keeps pods that have names and claims of storage of
// their own: it makes, replaces and stops them in the order of their numbers,
// and moves them from one template to the next. What to do is decided in
// decide.go, update.go, claims.go and status.go, from cached state alone; this
// file and carry.go carry it out.
//
// It knows neither nodes nor volumes.
package statefulset

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"sampan/cluster/client"
	"sampan/cluster/client/event"
	"sampan/cluster/controller/claim"
	"sampan/cluster/controller/history"
	"sampan/cluster/controller/loop"
	"sampan/cluster/controller/report"
	"sampan/cluster/kind"
)

// Name is this controller's, in events.
const Name = "statefulset-controller"

// Config is what the controller needs.
type Config struct {
	Client  client.Client
	Log     *slog.Logger
	Workers int // stateful sets worked on at once; default 5
}

// Controller keeps stateful sets. See the package comment.
type Controller struct {
	cfg       Config
	owner     *kind.Kind
	events    *event.Recorder
	loop      loop.Loop[types.NamespacedName]
	status    report.Status[*appsv1.StatefulSet, appsv1.StatefulSetStatus]
	pods      claim.Claims[*corev1.Pod]
	revisions claim.Claims[*appsv1.ControllerRevision]
}

// New returns a controller.
func New(cfg Config) *Controller {
	if cfg.Workers == 0 {
		cfg.Workers = 5
	}
	c := &Controller{
		cfg:    cfg,
		owner:  client.KindOf[*appsv1.StatefulSet](cfg.Client),
		events: &event.Recorder{Client: cfg.Client, Component: Name, Log: cfg.Log},
	}
	c.pods = claim.Claims[*corev1.Pod]{Client: cfg.Client, Owner: c.owner, Member: func(set metav1.Object, p *corev1.Pod) bool {
		parent, _ := identity(p)
		return parent == set.GetName()
	}}
	c.revisions = claim.Claims[*appsv1.ControllerRevision]{Client: cfg.Client, Owner: c.owner}
	c.status = report.Status[*appsv1.StatefulSet, appsv1.StatefulSetStatus]{Client: cfg.Client, Of: func(set *appsv1.StatefulSet) appsv1.StatefulSetStatus { return set.Status }}
	c.loop = loop.Loop[types.NamespacedName]{Name: "statefulset", Workers: cfg.Workers, Log: cfg.Log, Sync: c.sync}
	return c
}

// Run works until ctx ends. It returns when nothing of it runs any more.
func (c *Controller) Run(ctx context.Context) error {
	return c.loop.Drive(ctx, loop.Beside(c.events.Run),
		claim.Watch(&c.pods, selector, c.loop.Add),
		history.Watch(&c.revisions, selector, c.loop.Add),
		client.Changes(c.cfg.Client, client.Query{}, c.claimGone),
		c.status.Watch(c.loop.Add))
}

// claimGone wakes the set whose pod waits for a claim to be gone, or misses it.
func (c *Controller) claimGone(ctx context.Context, e client.Change[*corev1.PersistentVolumeClaim]) {
	if e.Type != client.Deleted {
		return
	}
	sets, err := client.List[*appsv1.StatefulSet](ctx, c.cfg.Client, client.Query{Namespace: e.Object.Namespace})
	if err != nil {
		return // ctx has ended; nothing else makes a read of memory fail
	}
	for _, s := range sets {
		for i := range s.Spec.VolumeClaimTemplates {
			number, ok := strings.CutPrefix(e.Object.Name, s.Spec.VolumeClaimTemplates[i].Name+"-"+s.Name+"-")
			if _, err := strconv.ParseUint(number, 10, 31); ok && err == nil {
				c.loop.Add(key(s))
			}
		}
	}
}

func selector(s *appsv1.StatefulSet) *metav1.LabelSelector { return s.Spec.Selector }

func key(s *appsv1.StatefulSet) types.NamespacedName {
	return types.NamespacedName{Namespace: s.Namespace, Name: s.Name}
}

// sync brings one stateful set a step on.
func (c *Controller) sync(ctx context.Context, key types.NamespacedName) (again time.Duration, err error) {
	set, selector, err := claim.Owner(ctx, c.cfg.Client, key, selector, c.cfg.Log)
	if selector == nil {
		return 0, err
	}
	past, err := c.past(ctx, set, selector)
	if err != nil || past.update == nil {
		return 0, err
	}
	v, err := c.look(ctx, set, selector, past)
	if err != nil {
		return 0, err
	}
	d := decide(&v)
	failed := c.carryOut(ctx, &v, d)
	if len(d.steps) > 0 {
		// The status is of what is there now, not of what was found.
		if v, err = c.look(ctx, set, selector, past); err != nil {
			return 0, errors.Join(failed, err)
		}
	}
	status, again := v.status()
	if err := errors.Join(failed, c.writeStatus(ctx, set, status)); err != nil {
		return 0, err
	}
	return again, history.Remove(ctx, c.cfg.Client, superfluous(set, &status, past.all, v.all))
}

// look reads what decisions are made of.
func (c *Controller) look(ctx context.Context, set *appsv1.StatefulSet, selector labels.Selector, past past) (view, error) {
	owned, err := c.pods.Of(ctx, set, selector)
	if err != nil {
		return view{}, err
	}
	v, err := newView(set, past, owned, time.Now())
	if err != nil {
		return view{}, err
	}
	for _, name := range v.claimNames() {
		pvc, err := client.Get[*corev1.PersistentVolumeClaim](ctx, c.cfg.Client, set.Namespace, name)
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return view{}, err
		}
		v.claims[name] = pvc
	}
	return v, nil
}

func (c *Controller) writeStatus(ctx context.Context, set *appsv1.StatefulSet, s appsv1.StatefulSetStatus) error {
	if equality.Semantic.DeepEqual(s, set.Status) {
		return nil
	}
	next := set.DeepCopy()
	next.Status = s
	return c.status.Write(ctx, next)
}
