// Package match decides which writes the webhooks and policies of
// admissionregistration.k8s.io are about, and shows a write to them: in the
// version of the API that they ask for, with the request it belongs to.
//
// match calls nobody. Package dynamic calls webhooks, package policy runs
// expressions.
package match

import (
	"fmt"
	"reflect"

	admissionv1 "k8s.io/api/admission/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sampan/cluster/admission"
	"sampan/cluster/kind"
	"sampan/cluster/object"
)

// Subject is one write as webhooks and policies see it.
type Subject struct {
	*admission.Attempt
	As // as the request named it
}

// As is one name of what is written: kinds have several versions, and a rule
// may be about another one than the request's.
type As struct {
	Kind     schema.GroupVersionKind // of the object, or of the subresource's body
	Resource schema.GroupVersionResource
}

// NewSubject returns a as webhooks see it.
func NewSubject(a *admission.Attempt) *Subject {
	r := a.Request
	s := &Subject{Attempt: a, As: As{Kind: r.GVK, Resource: r.GVK.GroupVersion().WithResource(r.Kind.Plural)}}
	switch {
	case a.Body != nil:
		s.Kind = a.Body.GetObjectKind().GroupVersionKind()
	case s.scales():
		s.Kind = autoscalingv1.SchemeGroupVersion.WithKind("Scale")
	}
	return s
}

func (s *Subject) scales() bool {
	return s.Request.Subresource == "scale" && s.Request.Kind.Scale != nil
}

// whole says whether what is written is the object itself or a part of it, not
// a body of another kind.
func (s *Subject) whole() bool { return s.Body == nil && !s.scales() }

// Namespace is the request's; that of a Namespace is its own name.
func (s *Subject) Namespace() string {
	if s.namespace() {
		return s.Request.Name
	}
	return s.Request.Namespace
}

// namespace says whether the write is about a Namespace.
func (s *Subject) namespace() bool {
	return s.Resource.Group == "" && s.Resource.Resource == "namespaces"
}

// others are the further names of what is written.
func (s *Subject) others() (all []As) {
	for _, f := range s.Request.Kind.Faces() {
		as := As{Kind: f.GVK, Resource: f.GVK.GroupVersion().WithResource(s.Resource.Resource)}
		if !s.whole() {
			as.Kind = s.Kind
		}
		if as != s.As {
			all = append(all, as)
		}
	}
	return all
}

// Objects returns what is written, and what was there before, in a version.
// Either may be nil. They are shared: never write to one.
func (s *Subject) Objects(as As) (obj, old runtime.Object, err error) {
	if s.Body != nil {
		return s.Body, nil, nil
	}
	if obj, err = s.version(s.Object, as); err != nil {
		return nil, nil, err
	}
	old, err = s.version(s.Old, as)
	return obj, old, err
}

func (s *Subject) version(hub kind.Object, as As) (runtime.Object, error) {
	if hub == nil {
		return nil, nil
	}
	k := s.Request.Kind
	if s.scales() {
		scale := &autoscalingv1.Scale{ObjectMeta: metav1.ObjectMeta{Name: hub.GetName(), Namespace: hub.GetNamespace(), UID: hub.GetUID(),
			ResourceVersion: hub.GetResourceVersion(), CreationTimestamp: hub.GetCreationTimestamp()}}
		scale.SetGroupVersionKind(as.Kind)
		scale.Spec, scale.Status = k.Scale.Get(hub)
		return scale, nil
	}
	obj, err := object.As(k, hub, as.Kind)
	if err != nil {
		return nil, err
	}
	if obj.GetObjectKind().GroupVersionKind() != as.Kind {
		// A part of this program made it, which does not say what its types say.
		obj = obj.DeepCopyObject().(kind.Object)
		obj.GetObjectKind().SetGroupVersionKind(as.Kind)
	}
	return obj, nil
}

// Replace puts obj, of a version and not kept, in the place of what is
// written. What is the server's stays as it was, and of a subresource only its
// part is taken.
func (s *Subject) Replace(as As, obj runtime.Object) error {
	next, ok := obj.(kind.Object)
	if !ok || !s.whole() || s.Object == nil {
		return fmt.Errorf("%s %s: what is written cannot be changed by others", s.Resource.Resource, s.Request.Subresource)
	}
	k, was := s.Request.Kind, s.Object
	hub, err := object.Hub(k, next, as.Kind)
	if err != nil {
		return err
	}
	if k.Custom != nil {
		if hub, err = object.As(k, hub, was.GetObjectKind().GroupVersionKind()); err != nil {
			return err
		}
	}
	k.Default(hub)
	if hub.GetName() != was.GetName() || hub.GetNamespace() != was.GetNamespace() {
		return fmt.Errorf("%s %s: metadata.name and metadata.namespace cannot be changed by others", s.Resource.Resource, s.Request.Path())
	}
	if part, ok := k.Parts[s.Request.Subresource]; ok && s.Old != nil {
		whole := s.Old.DeepCopyObject().(kind.Object)
		part.Put(whole, hub)
		hub = whole
	}
	keep(hub, was)
	// In its place: the verb goes on with the object that it has.
	reflect.ValueOf(was).Elem().Set(reflect.ValueOf(hub).Elem())
	return nil
}

// keep gives obj the metadata that is the server's.
func keep(obj, was kind.Object) {
	obj.SetUID(was.GetUID())
	obj.SetResourceVersion(was.GetResourceVersion())
	obj.SetGeneration(was.GetGeneration())
	obj.SetCreationTimestamp(was.GetCreationTimestamp())
	obj.SetDeletionTimestamp(was.GetDeletionTimestamp())
	obj.SetDeletionGracePeriodSeconds(was.GetDeletionGracePeriodSeconds())
	obj.SetManagedFields(was.GetManagedFields())
	obj.GetObjectKind().SetGroupVersionKind(was.GetObjectKind().GroupVersionKind())
}

// Ask is the request as webhooks and expressions see it, with its objects in
// the version as. (Upstream: CreateAdmissionRequest.)
func (s *Subject) Ask(as As) (*admissionv1.AdmissionRequest, error) {
	obj, old, err := s.Objects(as)
	if err != nil {
		return nil, err
	}
	user, dry := s.Request.User, s.Request.DryRun
	extra := map[string]authenticationv1.ExtraValue{}
	for k, v := range user.Extra {
		extra[k] = v
	}
	kindOf, resource := metav1.GroupVersionKind(s.Kind), metav1.GroupVersionResource(s.Resource)
	return &admissionv1.AdmissionRequest{
		Kind: metav1.GroupVersionKind(as.Kind), Resource: metav1.GroupVersionResource(as.Resource), SubResource: s.Request.Subresource,
		RequestKind: &kindOf, RequestResource: &resource, RequestSubResource: s.Request.Subresource,
		Name: s.Request.Name, Namespace: s.Namespace(), Operation: admissionv1.Operation(s.Operation),
		UserInfo: authenticationv1.UserInfo{Username: user.Name, UID: user.UID, Groups: user.Groups, Extra: extra},
		Object:   runtime.RawExtension{Object: obj}, OldObject: runtime.RawExtension{Object: old},
		DryRun: &dry, Options: runtime.RawExtension{Object: s.options()},
	}, nil
}

// options are the request's as an object of meta.k8s.io.
func (s *Subject) options() runtime.Object {
	r := s.Request
	var dry []string
	if r.DryRun {
		dry = []string{metav1.DryRunAll}
	}
	meta := func(kind string) metav1.TypeMeta {
		return metav1.TypeMeta{APIVersion: "meta.k8s.io/v1", Kind: kind}
	}
	switch {
	case s.Operation == admission.Connect:
		return nil
	case s.Operation == admission.Delete:
		o := &metav1.DeleteOptions{}
		if s.Options != nil {
			o = s.Options.DeepCopy()
		}
		o.TypeMeta = meta("DeleteOptions")
		return o
	case r.Verb == "patch":
		o := &metav1.PatchOptions{TypeMeta: meta("PatchOptions"), DryRun: dry, FieldManager: r.FieldManager, FieldValidation: r.FieldValidation}
		if r.Force {
			o.Force = &r.Force
		}
		return o
	case s.Operation == admission.Create:
		return &metav1.CreateOptions{TypeMeta: meta("CreateOptions"), DryRun: dry, FieldManager: r.FieldManager, FieldValidation: r.FieldValidation}
	default:
		return &metav1.UpdateOptions{TypeMeta: meta("UpdateOptions"), DryRun: dry, FieldManager: r.FieldManager, FieldValidation: r.FieldValidation}
	}
}
