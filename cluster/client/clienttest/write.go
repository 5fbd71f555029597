package clienttest

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/apimachinery/pkg/util/uuid"
	"sigs.k8s.io/yaml"

	"sampan/cluster/client"
	"sampan/cluster/kind"
)

// Create stores obj as the server would, without its status, unless its kind is
// made with one.
func (f *Fake) Create(ctx context.Context, k *kind.Kind, obj kind.Object) (kind.Object, error) {
	a := Action{Verb: "create", Kind: k, Namespace: obj.GetNamespace(), Name: obj.GetName(), Object: copyOf(obj)}
	if err := f.before(ctx, a); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.createLocked(k, obj)
}

func (f *Fake) createLocked(k *kind.Kind, obj kind.Object) (kind.Object, error) {
	if obj.GetResourceVersion() != "" {
		return nil, apierrors.NewInternalError(fmt.Errorf("resourceVersion should not be set on objects to be created"))
	}
	if k.Cluster != (obj.GetNamespace() == "") {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("%s: namespace %q does not fit its scope", k, obj.GetNamespace()))
	}
	if obj.GetName() == "" {
		if obj.GetGenerateName() == "" {
			return nil, apierrors.NewBadRequest("name or generateName is required")
		}
		obj.SetName(obj.GetGenerateName() + rand.String(5))
	}
	if _, ok := f.objects[name{k.Prefix, obj.GetNamespace(), obj.GetName()}]; ok {
		return nil, apierrors.NewAlreadyExists(k.GroupResource(), obj.GetName())
	}
	obj.SetUID("")
	obj.SetCreationTimestamp(metav1.Time{})
	obj.SetDeletionTimestamp(nil)
	obj.SetDeletionGracePeriodSeconds(nil)
	obj.SetGeneration(0)
	stamp(k, obj) // before Prepare, which may need the UID
	k.Default(obj)
	for _, p := range k.Parts {
		if !p.Writable && !p.KeepOnCreate {
			p.Take(obj, k.New())
		}
	}
	k.Prepare(obj, nil)
	if f.Validate {
		if errs := k.Validate(obj, nil); len(errs) > 0 {
			return nil, apierrors.NewInvalid(k.GVK.GroupKind(), obj.GetName(), errs)
		}
	}
	return f.putLocked(k, obj), nil
}

// stamp fills what the server sets on a new object, where it is empty.
func stamp(k *kind.Kind, obj kind.Object) {
	if obj.GetUID() == "" {
		obj.SetUID(uuid.NewUUID())
	}
	if c := obj.GetCreationTimestamp(); c.IsZero() {
		obj.SetCreationTimestamp(metav1.Now().Rfc3339Copy())
	}
	if k.Spec != nil && obj.GetGeneration() == 0 {
		obj.SetGeneration(1)
	}
}

// Update replaces an object or a part of it.
func (f *Fake) Update(ctx context.Context, k *kind.Kind, obj kind.Object, sub string) (kind.Object, error) {
	a := Action{Verb: "update", Kind: k, Namespace: obj.GetNamespace(), Name: obj.GetName(), Sub: sub, Object: copyOf(obj)}
	if err := f.before(ctx, a); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	n := name{k.Prefix, obj.GetNamespace(), obj.GetName()}
	if _, ok := f.objects[n]; !ok && k.CreateOnUpdate && sub == "" && obj.GetResourceVersion() == "" {
		return f.createLocked(k, obj)
	}
	return f.updateLocked(k, n, obj, sub)
}

func (f *Fake) updateLocked(k *kind.Kind, n name, obj kind.Object, sub string) (kind.Object, error) {
	have, ok := f.objects[n]
	if !ok {
		return nil, apierrors.NewNotFound(k.GroupResource(), n.name)
	}
	old := have.obj
	if uid := obj.GetUID(); uid != "" && uid != old.GetUID() {
		return nil, conflict(k, n.name, fmt.Errorf("Precondition failed: UID in precondition: %v, UID in object meta: %v", uid, old.GetUID()))
	}
	if rv := obj.GetResourceVersion(); rv != "" && rv != old.GetResourceVersion() {
		return nil, conflict(k, n.name, fmt.Errorf("the object has been modified; please apply your changes to the latest version and try again"))
	} else if rv == "" && k.Conditional {
		return nil, apierrors.NewInvalid(k.GVK.GroupKind(), n.name, nil)
	}
	k.Default(obj)
	validate := k.Validate
	if sub == "" {
		for _, p := range k.Parts {
			if !p.Writable {
				p.Take(obj, old)
			}
		}
	} else {
		p, ok := k.Parts[sub]
		if !ok {
			return nil, apierrors.NewNotFound(k.GroupResource(), n.name+"/"+sub)
		}
		part := copyOf(old)
		p.Put(part, obj)
		p.Prepare(part, old)
		obj, validate = part, p.Validate
	}
	obj.SetUID(old.GetUID())
	obj.SetCreationTimestamp(old.GetCreationTimestamp())
	obj.SetDeletionTimestamp(old.GetDeletionTimestamp())
	obj.SetDeletionGracePeriodSeconds(old.GetDeletionGracePeriodSeconds())
	obj.SetGeneration(old.GetGeneration())
	obj.SetResourceVersion(old.GetResourceVersion())
	if sub == "" {
		k.Prepare(obj, old)
	}
	if k.Spec != nil && !equality.Semantic.DeepEqual(k.Spec(old), k.Spec(obj)) {
		obj.SetGeneration(old.GetGeneration() + 1)
	}
	if f.Validate {
		if errs := validate(obj, old); len(errs) > 0 {
			return nil, apierrors.NewInvalid(k.GVK.GroupKind(), n.name, errs)
		}
	}
	if equality.Semantic.DeepEqual(old, obj) {
		return old, nil
	}
	if gone(k, obj) {
		return f.dropWithLocked(k, n, obj), nil
	}
	return f.putLocked(k, obj), nil
}

// gone says that nothing keeps an object that is being deleted.
func gone(k *kind.Kind, obj kind.Object) bool {
	grace := obj.GetDeletionGracePeriodSeconds()
	return obj.GetDeletionTimestamp() != nil && len(obj.GetFinalizers()) == 0 && !k.Held(obj) && (grace == nil || *grace == 0)
}

// dropWithLocked removes an object whose last write set it free.
func (f *Fake) dropWithLocked(k *kind.Kind, n name, last kind.Object) kind.Object {
	f.unchangedLocked(n, f.objects[n])
	f.objects[n] = stored{k, last, hash(last)}
	return f.dropLocked(n)
}

// Patch changes an object by a document. An apply merges, and creates what is
// not there; it does not track who owns which field.
func (f *Fake) Patch(ctx context.Context, k *kind.Kind, p client.Patch) (kind.Object, error) {
	a := Action{Verb: "patch", Kind: k, Namespace: p.Namespace, Name: p.Name, Sub: p.Sub, Patch: &p}
	if err := f.before(ctx, a); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	n := name{k.Prefix, p.Namespace, p.Name}
	have, ok := f.objects[n]
	if !ok {
		if p.Type != types.ApplyPatchType || p.Sub != "" {
			return nil, apierrors.NewNotFound(k.GroupResource(), p.Name)
		}
		obj := k.New()
		if err := yaml.Unmarshal(p.Data, obj); err != nil {
			return nil, apierrors.NewBadRequest(err.Error())
		}
		obj.SetNamespace(p.Namespace)
		obj.SetName(p.Name)
		return f.createLocked(k, obj)
	}
	was, err := json.Marshal(have.obj)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	is, err := patch(k, p, was)
	if err != nil {
		return nil, err
	}
	obj := k.New()
	if err := json.Unmarshal(is, obj); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	return f.updateLocked(k, n, obj, p.Sub)
}

func patch(k *kind.Kind, p client.Patch, was []byte) (is []byte, err error) {
	data, err := yaml.YAMLToJSON(p.Data)
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	switch t := p.Type; {
	case t == types.JSONPatchType:
		var ops jsonpatch.Patch
		if ops, err = jsonpatch.DecodePatch(data); err == nil {
			is, err = ops.Apply(was)
		}
	case t == types.MergePatchType, k.Type == nil && t == types.ApplyPatchType:
		is, err = jsonpatch.MergePatch(was, data)
	case k.Type != nil && (t == types.StrategicMergePatchType || t == types.ApplyPatchType):
		is, err = strategicpatch.StrategicMergePatch(was, data, k.New())
	default:
		return nil, apierrors.NewBadRequest(fmt.Sprintf("patch type %q is not one of %q, or not for %s", p.Type, isPatch, k))
	}
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	return is, nil
}

// Delete removes an object or marks it, as its finalizers, its kind and opts
// say.
func (f *Fake) Delete(ctx context.Context, k *kind.Kind, namespace, objName string, opts *metav1.DeleteOptions) error {
	a := Action{Verb: "delete", Kind: k, Namespace: namespace, Name: objName, Options: opts}
	if err := f.before(ctx, a); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.deleteLocked(k, name{k.Prefix, namespace, objName}, opts)
}

func (f *Fake) deleteLocked(k *kind.Kind, n name, given *metav1.DeleteOptions) error {
	have, ok := f.objects[n]
	if !ok {
		return apierrors.NewNotFound(k.GroupResource(), n.name)
	}
	opts := &metav1.DeleteOptions{}
	if given != nil {
		opts = given.DeepCopy()
	}
	old := have.obj
	if p := opts.Preconditions; p != nil {
		if p.UID != nil && *p.UID != old.GetUID() {
			return conflict(k, n.name, fmt.Errorf("Precondition failed: UID in precondition: %v, UID in object meta: %v", *p.UID, old.GetUID()))
		}
		if p.ResourceVersion != nil && *p.ResourceVersion != old.GetResourceVersion() {
			return conflict(k, n.name, fmt.Errorf("Precondition failed: ResourceVersion in precondition: %v, ResourceVersion in object meta: %v", *p.ResourceVersion, old.GetResourceVersion()))
		}
	}
	obj := copyOf(old)
	switch policy := opts.PropagationPolicy; {
	case policy != nil && *policy == metav1.DeletePropagationOrphan:
		addFinalizer(obj, metav1.FinalizerOrphanDependents)
	case policy != nil && *policy == metav1.DeletePropagationForeground:
		addFinalizer(obj, metav1.FinalizerDeleteDependents)
	}
	var grace int64
	if k.Grace(obj, opts) && opts.GracePeriodSeconds != nil {
		grace = max(*opts.GracePeriodSeconds, 0)
	}
	if was := old.GetDeletionGracePeriodSeconds(); was != nil && *was <= grace && old.GetDeletionTimestamp() != nil {
		grace = *was // a second delete can only make it shorter
	} else {
		at := metav1.NewTime(time.Now().Add(time.Duration(grace) * time.Second)).Rfc3339Copy()
		obj.SetDeletionTimestamp(&at)
		obj.SetDeletionGracePeriodSeconds(&grace)
		if old.GetDeletionTimestamp() == nil && obj.GetGeneration() > 0 {
			obj.SetGeneration(obj.GetGeneration() + 1)
		}
		if old.GetDeletionTimestamp() == nil {
			k.Leaving(obj)
		}
	}
	switch {
	case grace == 0 && len(obj.GetFinalizers()) == 0 && !k.Held(obj):
		f.dropLocked(n)
	case !equality.Semantic.DeepEqual(old, obj):
		f.putLocked(k, obj)
	}
	return nil
}

func addFinalizer(obj kind.Object, finalizer string) {
	for _, have := range obj.GetFinalizers() {
		if have == finalizer {
			return
		}
	}
	obj.SetFinalizers(append(obj.GetFinalizers(), finalizer))
}

// Act posts body to a subresource of another kind.
func (f *Fake) Act(ctx context.Context, k *kind.Kind, namespace, objName, sub string, body runtime.Object) (runtime.Object, error) {
	a := Action{Verb: "create", Kind: k, Namespace: namespace, Name: objName, Sub: sub, Body: body}
	if err := f.before(ctx, a); err != nil {
		return nil, err
	}
	n := name{k.Prefix, namespace, objName}
	f.mu.Lock()
	have, ok := f.objects[n]
	f.mu.Unlock()
	if !ok {
		return nil, apierrors.NewNotFound(k.GroupResource(), objName)
	}
	if act := f.Acts[k.Plural+"/"+sub]; act != nil && k.Actions[sub].Do == nil {
		return act(have.obj, body) // it may use the Fake
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if have, ok = f.objects[n]; !ok {
		return nil, apierrors.NewNotFound(k.GroupResource(), objName)
	}
	if do := k.Actions[sub].Do; do != nil {
		obj := copyOf(have.obj)
		if err := do(obj, body); err != nil {
			return nil, err
		}
		f.putLocked(k, obj)
		return &metav1.Status{Status: metav1.StatusSuccess, Code: 201}, nil
	}
	if sub == "eviction" {
		return &metav1.Status{Status: metav1.StatusSuccess, Code: 201}, f.deleteLocked(k, n, nil)
	}
	return nil, apierrors.NewNotFound(k.GroupResource(), objName+"/"+sub)
}

func conflict(k *kind.Kind, objName string, err error) error {
	return apierrors.NewConflict(k.GroupResource(), objName, err)
}

func copyOf(obj kind.Object) kind.Object { return obj.DeepCopyObject().(kind.Object) }
