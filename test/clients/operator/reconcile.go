package main

import (
	"context"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	applyapps "k8s.io/client-go/applyconfigurations/apps/v1"
	applycore "k8s.io/client-go/applyconfigurations/core/v1"
	applymeta "k8s.io/client-go/applyconfigurations/meta/v1"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	"sampan/test/clients/crew"
)

const (
	finalizer   = "clients.test/farewell"
	ordersLabel = "clients.test/orders"
	owner       = client.FieldOwner("crews-operator")
)

// reconciler keeps a Deployment for each crew.
type reconciler struct {
	client.Client
	events events.EventRecorder
}

func (r *reconciler) setUp(m ctrl.Manager) error {
	// Who reads which orders is found by an index of the cache.
	err := m.GetFieldIndexer().IndexField(context.Background(), &crew.Crew{}, "orders", func(o client.Object) []string {
		return []string{o.(*crew.Crew).Spec.Orders}
	})
	if err != nil {
		return err
	}
	readers := func(ctx context.Context, orders client.Object) (all []ctrl.Request) {
		var crews crew.CrewList
		if err := r.List(ctx, &crews, client.InNamespace(orders.GetNamespace()), client.MatchingFields{"orders": orders.GetName()}); err != nil {
			ctrl.LoggerFrom(ctx).Error(err, "list the crews that read orders")
			return nil
		}
		for _, c := range crews.Items {
			all = append(all, ctrl.Request{NamespacedName: client.ObjectKeyFromObject(&c)})
		}
		return all
	}
	return ctrl.NewControllerManagedBy(m).
		For(&crew.Crew{}, builder.WithPredicates(predicate.Or(predicate.GenerationChangedPredicate{}, predicate.AnnotationChangedPredicate{}))).
		Owns(&appsv1.Deployment{}).
		Watches(&corev1.ConfigMap{}, handler.EnqueueRequestsFromMapFunc(readers), builder.WithPredicates(predicate.ResourceVersionChangedPredicate{})).
		Complete(r)
}

// Reconcile implements reconcile.Reconciler. A write that loses against another
// is an error like any other: the controller comes again.
func (r *reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	c := &crew.Crew{}
	if err := r.Get(ctx, req.NamespacedName, c); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !c.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, r.farewell(ctx, c)
	}
	if controllerutil.AddFinalizer(c, finalizer) {
		if err := r.Update(ctx, c); err != nil {
			return ctrl.Result{}, err
		}
		r.events.Eventf(c, nil, corev1.EventTypeNormal, "Hired", "Hire", "hired a crew of %d", c.Spec.Replicas)
	}
	orders, err := r.orders(ctx, c)
	if err != nil {
		return ctrl.Result{}, err
	}
	if err := r.Apply(ctx, deployment(c, orders), owner, client.ForceOwnership); err != nil {
		return ctrl.Result{}, err
	}
	return ctrl.Result{}, r.report(ctx, c, orders)
}

// orders is the version of the ConfigMap that the crew reads, empty if there
// is none.
func (r *reconciler) orders(ctx context.Context, c *crew.Crew) (string, error) {
	if c.Spec.Orders == "" {
		return "", nil
	}
	m := &corev1.ConfigMap{}
	err := r.Get(ctx, client.ObjectKey{Namespace: c.Namespace, Name: c.Spec.Orders}, m)
	return m.ResourceVersion, client.IgnoreNotFound(err)
}

// deployment is what a crew needs.
func deployment(c *crew.Crew, orders string) *applyapps.DeploymentApplyConfiguration {
	own := map[string]string{"crew": c.Name}
	return applyapps.Deployment(c.Name, c.Namespace).
		WithLabels(own).
		WithOwnerReferences(applymeta.OwnerReference().WithAPIVersion("clients.test/v1").WithKind("Crew").WithName(c.Name).
			WithUID(c.UID).WithController(true).WithBlockOwnerDeletion(true)).
		WithSpec(applyapps.DeploymentSpec().
			WithReplicas(c.Spec.Replicas).
			WithSelector(applymeta.LabelSelector().WithMatchLabels(own)).
			WithTemplate(applycore.PodTemplateSpec().
				WithLabels(own).
				WithAnnotations(map[string]string{ordersLabel: orders}).
				WithSpec(applycore.PodSpec().
					WithTerminationGracePeriodSeconds(1).
					WithContainers(applycore.Container().WithName("sailor").WithImage(c.Spec.Image).WithImagePullPolicy(corev1.PullNever)))))
}

// report writes the status.
func (r *reconciler) report(ctx context.Context, c *crew.Crew, orders string) error {
	d := &appsv1.Deployment{}
	if err := r.Get(ctx, client.ObjectKeyFromObject(c), d); err != nil {
		return client.IgnoreNotFound(err) // the cache has not seen it yet, and wakes the controller when it has
	}
	before := c.DeepCopyObject().(*crew.Crew)
	c.Status.Generation, c.Status.Orders = c.Generation, orders
	c.Status.Replicas, c.Status.Ready = d.Status.Replicas, d.Status.ReadyReplicas
	c.Status.Selector = labels.SelectorFromSet(labels.Set{"crew": c.Name}).String()
	all := c.Spec.Replicas == d.Status.ReadyReplicas && c.Spec.Replicas == d.Status.UpdatedReplicas && d.Status.ObservedGeneration == d.Generation
	c.SetCondition("Complete", all, "Counted", "the sailors that are ready were counted")
	return r.Status().Patch(ctx, c, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
}

// farewell writes down that a crew has gone, and lets go of it.
func (r *reconciler) farewell(ctx context.Context, c *crew.Crew) error {
	if !controllerutil.ContainsFinalizer(c, finalizer) {
		return nil
	}
	log := applycore.ConfigMap(c.Name+"-farewell", c.Namespace).WithData(map[string]string{"at": c.DeletionTimestamp.UTC().Format(time.RFC3339)})
	if err := r.Apply(ctx, log, owner, client.ForceOwnership); err != nil {
		return err
	}
	before := c.DeepCopyObject().(*crew.Crew)
	controllerutil.RemoveFinalizer(c, finalizer)
	return client.IgnoreNotFound(r.Patch(ctx, c, client.MergeFrom(before)))
}
