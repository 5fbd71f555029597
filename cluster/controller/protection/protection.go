// Package protection lets go of storage that is being deleted, once nobody
// uses it: claims that a pod on a node has, volumes that are bound to a claim,
// classes of attributes that claims or volumes name. Admission has put a
// finalizer on each; who uses what is in decide.go.
//
// It does not delete anything, and knows no storage.
package protection

import (
	"context"
	"log/slog"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"sampan/cluster/client"
	"sampan/cluster/controller/loop"
)

// Config is what a controller needs.
type Config struct {
	Client client.Client
	Log    *slog.Logger
}

// Controller protects the objects of one kind. See the package comment.
type Controller[T client.Typed] struct {
	client    client.Client
	finalizer string
	used      func(ctx context.Context, obj T) (bool, error)
	sources   []loop.Source // beside the objects themselves
	loop      loop.Loop[types.NamespacedName]
}

func protect[T client.Typed](cfg Config, name, finalizer string, used func(context.Context, T) (bool, error)) *Controller[T] {
	c := &Controller[T]{client: cfg.Client, finalizer: finalizer, used: used}
	c.loop = loop.Loop[types.NamespacedName]{Name: name, Log: cfg.Log, Sync: c.sync}
	return c
}

// Claims protects claims from leaving under pods: upstream's
// pvc-protection-controller.
func Claims(cfg Config) *Controller[*corev1.PersistentVolumeClaim] {
	c := protect(cfg, "pvc-protection", "kubernetes.io/pvc-protection", func(ctx context.Context, pvc *corev1.PersistentVolumeClaim) (bool, error) {
		pods, err := client.List[*corev1.Pod](ctx, cfg.Client, client.Query{Namespace: pvc.Namespace})
		return slices.ContainsFunc(pods, func(p *corev1.Pod) bool { return podUses(p, pvc) }), err
	})
	c.sources = append(c.sources, client.Changes(cfg.Client, client.Query{}, func(_ context.Context, e client.Change[*corev1.Pod]) {
		// Only a pod that goes, or ends, can make a claim free.
		if e.Type != client.Deleted && !shutDown(e.Object) && (e.Old == nil || e.Old.UID == e.Object.UID) {
			return
		}
		for _, pod := range []*corev1.Pod{e.Object, e.Old} {
			for _, name := range claimsOf(pod) {
				c.loop.Add(types.NamespacedName{Namespace: pod.Namespace, Name: name})
			}
		}
	}))
	return c
}

// Volumes protects volumes from leaving under claims: upstream's
// pv-protection-controller.
func Volumes(cfg Config) *Controller[*corev1.PersistentVolume] {
	return protect(cfg, "pv-protection", "kubernetes.io/pv-protection", func(_ context.Context, pv *corev1.PersistentVolume) (bool, error) {
		return pv.Status.Phase == corev1.VolumeBound, nil
	})
}

// Attributes protects classes of attributes: upstream's
// volumeattributesclass-protection-controller.
func Attributes(cfg Config) *Controller[*storagev1.VolumeAttributesClass] {
	c := protect(cfg, "vac-protection", "kubernetes.io/vac-protection", func(ctx context.Context, class *storagev1.VolumeAttributesClass) (bool, error) {
		claims, err := client.List[*corev1.PersistentVolumeClaim](ctx, cfg.Client, client.Query{})
		if err != nil || slices.ContainsFunc(claims, func(pvc *corev1.PersistentVolumeClaim) bool { return slices.Contains(classesOfClaim(pvc), class.Name) }) {
			return true, err
		}
		volumes, err := client.List[*corev1.PersistentVolume](ctx, cfg.Client, client.Query{})
		return slices.ContainsFunc(volumes, func(pv *corev1.PersistentVolume) bool { return slices.Contains(classesOfVolume(pv), class.Name) }), err
	})
	wake := func(names []string) {
		for _, name := range names {
			c.loop.Add(types.NamespacedName{Name: name})
		}
	}
	c.sources = append(c.sources,
		client.Changes(cfg.Client, client.Query{}, func(_ context.Context, e client.Change[*corev1.PersistentVolumeClaim]) {
			wake(lost(e.Type, classesOfClaim(e.Object), classesOfClaim(e.Old)))
		}),
		client.Changes(cfg.Client, client.Query{}, func(_ context.Context, e client.Change[*corev1.PersistentVolume]) {
			wake(lost(e.Type, classesOfVolume(e.Object), classesOfVolume(e.Old)))
		}))
	return c
}

// lost are the names that a changed object has named and names no more.
func lost(t client.EventType, now, was []string) (names []string) {
	if t == client.Deleted {
		return now
	}
	for _, name := range was {
		if !slices.Contains(now, name) {
			names = append(names, name)
		}
	}
	return names
}

// Run works until ctx ends.
func (c *Controller[T]) Run(ctx context.Context) error {
	own := client.Changes(c.client, client.Query{}, func(_ context.Context, e client.Change[T]) {
		if e.Type != client.Deleted && c.wants(e.Object) {
			c.loop.Add(types.NamespacedName{Namespace: e.Object.GetNamespace(), Name: e.Object.GetName()})
		}
	})
	return c.loop.Drive(ctx, append(slices.Clone(c.sources), own)...)
}

// wants is true if an object's finalizer is not as it should be, or may not be.
func (c *Controller[T]) wants(obj T) bool {
	return (obj.GetDeletionTimestamp() != nil) == slices.Contains(obj.GetFinalizers(), c.finalizer)
}

func (c *Controller[T]) sync(ctx context.Context, key types.NamespacedName) (time.Duration, error) {
	obj, err := client.Get[T](ctx, c.client, key.Namespace, key.Name)
	if apierrors.IsNotFound(err) || err == nil && !c.wants(obj) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	obj = obj.DeepCopyObject().(T)
	if obj.GetDeletionTimestamp() == nil {
		obj.SetFinalizers(append(obj.GetFinalizers(), c.finalizer)) // from before there was admission
	} else {
		if used, err := c.used(ctx, obj); err != nil || used {
			return 0, err // whoever stops to use it wakes us
		}
		obj.SetFinalizers(slices.DeleteFunc(obj.GetFinalizers(), func(f string) bool { return f == c.finalizer }))
	}
	_, err = client.Update(ctx, c.client, obj)
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	return 0, err
}
