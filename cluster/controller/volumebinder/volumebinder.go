// Package volumebinder gives claims their volumes: it finds the volume for
// each claim, writes into each that it has the other, and says in their status
// how they are. What to do is decided in decide.go; this file carries it out.
//
// Volumes are made by people or by drivers that run in the cluster; the binder
// makes and deletes none. Upstream calls it persistentvolume-controller.
package volumebinder

import (
	"context"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"sampan/cluster/client"
	"sampan/cluster/client/event"
	"sampan/cluster/controller/loop"
	"sampan/cluster/kind/volumespec"
)

// Config is what the controller needs.
type Config struct {
	Client client.Client
	Log    *slog.Logger
}

// Controller binds. See the package comment.
type Controller struct {
	client client.Client
	events *event.Recorder
	loop   loop.Loop[key]
}

// key names a claim, or, without a namespace, a volume. One worker does both,
// so that no two claims get one volume.
type key types.NamespacedName

// New returns a controller.
func New(cfg Config) *Controller {
	c := &Controller{client: cfg.Client, events: &event.Recorder{Client: cfg.Client, Component: "persistentvolume-controller", Log: cfg.Log}}
	c.loop = loop.Loop[key]{Name: "volumebinder", Workers: 1, Log: cfg.Log, Sync: c.sync}
	return c
}

// Run works until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	return c.loop.Drive(ctx, loop.Beside(c.events.Run),
		client.Changes(c.client, client.Query{}, c.volume),
		client.Changes(c.client, client.Query{}, c.claim),
		client.Changes(c.client, client.Query{}, c.class),
		client.Changes(c.client, client.Query{}, c.pod))
}

// volume wakes a volume, its claim, and the claims that may want it.
func (c *Controller) volume(ctx context.Context, e client.Change[*corev1.PersistentVolume]) {
	if e.Type != client.Deleted {
		c.loop.Add(key{Name: e.Object.Name})
	}
	if r := e.Object.Spec.ClaimRef; r != nil {
		c.loop.Add(key{Namespace: r.Namespace, Name: r.Name})
	}
	c.waiting(ctx, func(pvc *corev1.PersistentVolumeClaim) bool {
		return pvc.Spec.VolumeName == e.Object.Name || pvc.Spec.VolumeName == "" && volumespec.ClaimClass(pvc) == volumespec.VolumeClass(e.Object)
	})
}

func (c *Controller) claim(_ context.Context, e client.Change[*corev1.PersistentVolumeClaim]) {
	c.loop.Add(key{Namespace: e.Object.Namespace, Name: e.Object.Name})
	if name := e.Object.Spec.VolumeName; name != "" {
		c.loop.Add(key{Name: name})
	}
}

func (c *Controller) class(ctx context.Context, e client.Change[*storagev1.StorageClass]) {
	c.waiting(ctx, func(pvc *corev1.PersistentVolumeClaim) bool { return volumespec.ClaimClass(pvc) == e.Object.Name })
}

// pod wakes claims that wait for a pod that wants them.
func (c *Controller) pod(_ context.Context, e client.Change[*corev1.Pod]) {
	if e.Type == client.Deleted || e.Object.Spec.NodeName == "" || e.Old != nil && e.Old.Spec.NodeName != "" {
		return
	}
	for i := range e.Object.Spec.Volumes {
		if v := e.Object.Spec.Volumes[i].PersistentVolumeClaim; v != nil {
			c.loop.Add(key{Namespace: e.Object.Namespace, Name: v.ClaimName})
		}
	}
}

// waiting wakes the claims without a volume that which selects.
func (c *Controller) waiting(ctx context.Context, which func(*corev1.PersistentVolumeClaim) bool) {
	claims, err := client.List[*corev1.PersistentVolumeClaim](ctx, c.client, client.Query{})
	if err != nil {
		return // only when ctx has ended: this reads memory
	}
	for _, pvc := range claims {
		if pvc.Status.Phase != corev1.ClaimBound && which(pvc) {
			c.loop.Add(key{Namespace: pvc.Namespace, Name: pvc.Name})
		}
	}
}

func (c *Controller) sync(ctx context.Context, k key) (time.Duration, error) {
	var err error
	if k.Namespace == "" {
		err = c.syncVolume(ctx, k.Name)
	} else {
		err = c.syncClaim(ctx, k)
	}
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	return 0, err
}

func (c *Controller) syncClaim(ctx context.Context, k key) error {
	pvc, err := client.Get[*corev1.PersistentVolumeClaim](ctx, c.client, k.Namespace, k.Name)
	if err != nil {
		return err
	}
	w, err := c.look(ctx, pvc)
	if err != nil {
		return err
	}
	d := decideClaim(pvc, w)
	if d.note.reason != "" {
		c.events.Eventf(pvc, d.note.kind, d.note.reason, "%s", d.note.message)
	}
	if d.bind != nil {
		return c.bind(ctx, pvc, d.bind)
	}
	if d.provisioner != "" && pvc.Annotations[annProvisioner] != d.provisioner {
		pvc = pvc.DeepCopy()
		metav1.SetMetaDataAnnotation(&pvc.ObjectMeta, annProvisioner, d.provisioner)
		metav1.SetMetaDataAnnotation(&pvc.ObjectMeta, annBetaProvisioner, d.provisioner)
		if pvc, err = client.Update(ctx, c.client, pvc); err != nil {
			return err
		}
	}
	if d.phase == "" || d.phase == pvc.Status.Phase {
		return nil
	}
	pvc = pvc.DeepCopy()
	pvc.Status.Phase = d.phase
	_, err = client.UpdateStatus(ctx, c.client, pvc)
	return err
}

// look gathers what decideClaim needs.
func (c *Controller) look(ctx context.Context, pvc *corev1.PersistentVolumeClaim) (*world, error) {
	w := &world{}
	var err error
	if w.volumes, err = client.List[*corev1.PersistentVolume](ctx, c.client, client.Query{}); err != nil {
		return nil, err
	}
	if name := volumespec.ClaimClass(pvc); name != "" {
		if w.class, err = client.Get[*storagev1.StorageClass](ctx, c.client, "", name); err != nil && !apierrors.IsNotFound(err) {
			return nil, err
		}
		if err != nil {
			w.class = nil
		}
	}
	if w.class == nil || w.class.VolumeBindingMode == nil || *w.class.VolumeBindingMode != storagev1.VolumeBindingWaitForFirstConsumer {
		return w, nil
	}
	pods, err := client.List[*corev1.Pod](ctx, c.client, client.Query{Namespace: pvc.Namespace})
	for _, pod := range pods {
		for i := range pod.Spec.Volumes {
			v := pod.Spec.Volumes[i].PersistentVolumeClaim
			w.wanted = w.wanted || v != nil && v.ClaimName == pvc.Name && pod.Spec.NodeName != ""
		}
	}
	return w, err
}

// bind writes the volume first: it is what two claims may want. After a crash
// at any point the volume's reference leads the next sync to the same end.
func (c *Controller) bind(ctx context.Context, pvc *corev1.PersistentVolumeClaim, pv *corev1.PersistentVolume) (err error) {
	if r := pv.Spec.ClaimRef; r == nil || r.UID != pvc.UID {
		pv = pv.DeepCopy()
		if r == nil {
			metav1.SetMetaDataAnnotation(&pv.ObjectMeta, annBoundByController, "yes")
		}
		pv.Spec.ClaimRef = &corev1.ObjectReference{Kind: "PersistentVolumeClaim", APIVersion: "v1", Namespace: pvc.Namespace, Name: pvc.Name,
			UID: pvc.UID, ResourceVersion: pvc.ResourceVersion}
		if pv, err = client.Update(ctx, c.client, pv); err != nil {
			return err
		}
	}
	if err := c.status(ctx, pv, forVolume{phase: corev1.VolumeBound}); err != nil {
		return err
	}
	if _, done := pvc.Annotations[annBindCompleted]; !done || pvc.Spec.VolumeName != pv.Name {
		pvc = pvc.DeepCopy()
		if pvc.Spec.VolumeName == "" {
			pvc.Spec.VolumeName = pv.Name
			metav1.SetMetaDataAnnotation(&pvc.ObjectMeta, annBoundByController, "yes")
		}
		metav1.SetMetaDataAnnotation(&pvc.ObjectMeta, annBindCompleted, "yes")
		if pvc, err = client.Update(ctx, c.client, pvc); err != nil {
			return err
		}
	}
	status := boundStatus(pvc, pv)
	if equality.Semantic.DeepEqual(status, pvc.Status) {
		return nil
	}
	pvc = pvc.DeepCopy()
	pvc.Status = status
	_, err = client.UpdateStatus(ctx, c.client, pvc)
	return err
}

func (c *Controller) syncVolume(ctx context.Context, name string) error {
	pv, err := client.Get[*corev1.PersistentVolume](ctx, c.client, "", name)
	if err != nil {
		return err
	}
	var pvc *corev1.PersistentVolumeClaim
	if r := pv.Spec.ClaimRef; r != nil {
		pvc, err = client.Get[*corev1.PersistentVolumeClaim](ctx, c.client, r.Namespace, r.Name)
		if apierrors.IsNotFound(err) {
			pvc, err = nil, nil
		}
		if err != nil {
			return err
		}
	}
	d := decideVolume(pv, pvc)
	if d.note.reason != "" && pv.Status.Phase != d.phase {
		c.events.Eventf(pv, d.note.kind, d.note.reason, "%s", d.note.message)
	}
	return c.status(ctx, pv, d)
}

// status writes a volume's phase, if it is another one.
func (c *Controller) status(ctx context.Context, pv *corev1.PersistentVolume, d forVolume) error {
	s := &pv.Status
	if s.Phase == d.phase && s.Reason == d.reason && s.Message == d.message {
		return nil
	}
	pv = pv.DeepCopy()
	s = &pv.Status
	if s.Phase != d.phase {
		now := metav1.Now()
		s.LastPhaseTransitionTime = &now
	}
	s.Phase, s.Reason, s.Message = d.phase, d.reason, d.message
	_, err := client.UpdateStatus(ctx, c.client, pv)
	return err
}
