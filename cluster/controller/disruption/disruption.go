// Package disruption says of each PodDisruptionBudget how many of its pods may
// be evicted now. What a budget allows is decided in decide.go from cached
// state alone; this file carries it out. Evictions take what is allowed
// (cluster/verb/evict.go), and write down which pods go.
//
// It knows owners of pods by their scale only.
package disruption

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"sampan/cluster/client"
	"sampan/cluster/client/event"
	"sampan/cluster/controller/loop"
	"sampan/cluster/kind"
)

// Name is this controller's, in events.
const Name = "controllermanager"

// Config is what the controller needs.
type Config struct {
	Client client.Client
	Log    *slog.Logger
}

// Controller keeps budgets. See the package comment.
type Controller struct {
	cfg    Config
	events *event.Recorder
	loop   loop.Loop[key]
}

// key is a budget, or a pod that is marked as the target of a disruption.
type key struct {
	types.NamespacedName
	pod bool
}

// New returns a controller.
func New(cfg Config) *Controller {
	c := &Controller{cfg: cfg, events: &event.Recorder{Client: cfg.Client, Component: Name, Log: cfg.Log}}
	c.loop = loop.Loop[key]{Name: "disruption", Log: cfg.Log, Sync: c.sync}
	return c
}

// Run works until ctx ends. It returns when nothing of it runs any more.
func (c *Controller) Run(ctx context.Context) error {
	sources := []loop.Source{loop.Beside(c.events.Run),
		client.Changes(c.cfg.Client, client.Query{}, c.podChanged),
		client.Changes(c.cfg.Client, client.Query{}, func(_ context.Context, e client.Change[*policyv1.PodDisruptionBudget]) {
			if e.Type != client.Deleted {
				c.loop.Add(key{NamespacedName: types.NamespacedName{Namespace: e.Object.Namespace, Name: e.Object.Name}})
			}
		})}
	for _, k := range c.owners() {
		sources = append(sources, c.scaled(k))
	}
	return c.loop.Drive(ctx, sources...)
}

// owners are the kinds whose scale changes what a budget allows before any pod
// changes.
func (c *Controller) owners() (all []*kind.Kind) {
	for _, k := range c.cfg.Client.Kinds().All() {
		if k.Type != nil && k.Scale != nil {
			all = append(all, k)
		}
	}
	return all
}

// scaled wakes the budgets of a namespace when the scale of an owner changes.
func (c *Controller) scaled(k *kind.Kind) loop.Source {
	return func(ctx context.Context, seen func()) error {
		w, err := c.cfg.Client.Watch(ctx, k, client.Query{})
		if err != nil {
			return err
		}
		for {
			events, err := w.Next(ctx)
			if err != nil {
				if ctx.Err() != nil {
					return nil
				}
				return err
			}
			for _, e := range events {
				switch {
				case e.Type == client.Synced:
					seen()
				case e.Type == client.Modified && e.Old != nil:
					was, _ := k.Scale.Get(e.Old)
					if now, _ := k.Scale.Get(e.Object); now.Replicas != was.Replicas {
						c.wake(ctx, e.Object.GetNamespace(), nil)
					}
				}
			}
		}
	}
}

func (c *Controller) podChanged(ctx context.Context, e client.Change[*corev1.Pod]) {
	c.wake(ctx, e.Object.Namespace, e.Object.Labels)
	if e.Old != nil && !equality.Semantic.DeepEqual(e.Old.Labels, e.Object.Labels) {
		c.wake(ctx, e.Object.Namespace, e.Old.Labels)
	}
	if _, is := targeted(e.Object, time.Now()); is && e.Type != client.Deleted {
		c.loop.Add(key{types.NamespacedName{Namespace: e.Object.Namespace, Name: e.Object.Name}, true})
	}
}

// wake adds the budgets that select a pod with these labels; nil: all of the
// namespace.
func (c *Controller) wake(ctx context.Context, namespace string, of map[string]string) {
	all, err := client.List[*policyv1.PodDisruptionBudget](ctx, c.cfg.Client, client.Query{Namespace: namespace})
	if err != nil {
		return // the watch's context has ended
	}
	for _, b := range all {
		s, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
		if err != nil || of != nil && !s.Matches(labels.Set(of)) {
			continue
		}
		c.loop.Add(key{NamespacedName: types.NamespacedName{Namespace: b.Namespace, Name: b.Name}})
	}
}

func (c *Controller) sync(ctx context.Context, k key) (again time.Duration, err error) {
	if k.pod {
		return c.syncPod(ctx, k)
	}
	b, err := client.Get[*policyv1.PodDisruptionBudget](ctx, c.cfg.Client, k.Namespace, k.Name)
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	d, err := c.look(ctx, b)
	if err != nil {
		if ctx.Err() != nil {
			return 0, err
		}
		c.cfg.Log.Warn("budget cannot be worked out", "key", k.NamespacedName, "err", err)
		return 0, c.write(ctx, b, failsafe(b, err))
	}
	for _, p := range d.notDeleted {
		c.events.Eventf(p, corev1.EventTypeWarning, "NotDeleted", "Pod was expected by PDB %s/%s to be deleted but it wasn't", b.Namespace, b.Name)
	}
	return d.again, c.write(ctx, b, d.status)
}

// look gathers what a decision about b needs.
func (c *Controller) look(ctx context.Context, b *policyv1.PodDisruptionBudget) (d decision, err error) {
	s, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
	if err != nil {
		c.events.Eventf(b, corev1.EventTypeWarning, "NoPods", "Failed to get pods: %v", err)
		return d, err
	}
	selected, err := client.List[*corev1.Pod](ctx, c.cfg.Client, client.Query{Namespace: b.Namespace, Labels: s})
	if err != nil {
		return d, err
	}
	if len(selected) == 0 {
		c.events.Eventf(b, corev1.EventTypeNormal, "NoPods", "No matching pods found")
	}
	var scale int32
	if byScale(b) {
		var unmanaged int
		if scale, unmanaged, err = c.scale(ctx, selected); err != nil {
			c.events.Eventf(b, corev1.EventTypeWarning, "CalculateExpectedPodCountFailed", "Failed to calculate the number of expected pods: %v", err)
			return d, err
		}
		if unmanaged > 0 {
			c.events.Eventf(b, corev1.EventTypeWarning, "UnmanagedPods", "Pods selected by this PodDisruptionBudget (selector: %v) were found "+
				"to be unmanaged. As a result, the status of the PDB cannot be calculated correctly, which may result in undefined behavior. "+
				"To account for these pods please set \".spec.minAvailable\" field of the PDB to an integer value.", b.Spec.Selector)
		}
	}
	e, err := expect(b, len(selected), scale)
	if err != nil {
		return d, err
	}
	return decide(b, selected, e, time.Now()), nil
}

// scale is how many pods the owners of these pods ask for, each counted once.
// A pod that nobody controls is unmanaged.
func (c *Controller) scale(ctx context.Context, selected []*corev1.Pod) (sum int32, unmanaged int, err error) {
	seen := map[types.UID]bool{}
	for _, p := range selected {
		ref := metav1.GetControllerOfNoCopy(p)
		if ref == nil {
			unmanaged++
			continue
		}
		if seen[ref.UID] {
			continue
		}
		seen[ref.UID] = true
		owner, k, err := c.top(ctx, p.Namespace, ref)
		if err != nil {
			return 0, 0, err
		}
		if owner == nil {
			return 0, 0, fmt.Errorf("found no controllers for pod %q", p.Name)
		}
		if uid := owner.GetUID(); uid == ref.UID || !seen[uid] {
			seen[uid] = true
			s, _ := k.Scale.Get(owner)
			sum += s.Replicas
		}
	}
	return sum, unmanaged, nil
}

// top is the object that says how many pods there are to be: the controller,
// or, where that has the scale from another, the other: a Deployment has
// several ReplicaSets. Nil if it is gone.
func (c *Controller) top(ctx context.Context, namespace string, ref *metav1.OwnerReference) (kind.Object, *kind.Kind, error) {
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	if err != nil {
		return nil, nil, err
	}
	k := c.cfg.Client.Kinds().ByGVK(gv.WithKind(ref.Kind))
	if k == nil {
		return nil, nil, nil
	}
	if k.Scale == nil {
		return nil, nil, errors.New(k.GroupResource().String() + " does not implement the scale subresource")
	}
	obj, err := c.cfg.Client.Get(ctx, k, namespace, ref.Name)
	if apierrors.IsNotFound(err) || err == nil && obj.GetUID() != ref.UID {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	if above := metav1.GetControllerOfNoCopy(obj); above != nil && ref.Kind == "ReplicaSet" && above.Kind == "Deployment" {
		owner, of, err := c.top(ctx, namespace, above)
		if err != nil || owner != nil {
			return owner, of, err
		}
	}
	return obj, k, nil
}

func (c *Controller) write(ctx context.Context, b *policyv1.PodDisruptionBudget, s policyv1.PodDisruptionBudgetStatus) error {
	if equality.Semantic.DeepEqual(s, b.Status) {
		return nil
	}
	next := b.DeepCopy()
	next.Status = s
	_, err := client.UpdateStatus(ctx, c.cfg.Client, next)
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// syncPod takes the mark from a pod that was to be disrupted and was not.
func (c *Controller) syncPod(ctx context.Context, k key) (again time.Duration, err error) {
	p, err := client.Get[*corev1.Pod](ctx, c.cfg.Client, k.Namespace, k.Name)
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	left, is := targeted(p, time.Now())
	if !is || left > 0 {
		return left, nil
	}
	next := p.DeepCopy()
	for i := range next.Status.Conditions {
		if c := &next.Status.Conditions[i]; c.Type == corev1.DisruptionTarget {
			*c = corev1.PodCondition{Type: c.Type, Status: corev1.ConditionFalse, ObservedGeneration: c.ObservedGeneration,
				LastProbeTime: c.LastProbeTime, LastTransitionTime: metav1.Now().Rfc3339Copy()}
		}
	}
	_, err = client.UpdateStatus(ctx, c.cfg.Client, next)
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	return 0, err
}
