package verb

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/api/validation/path"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilrand "k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
	"sampan/cluster/request"
	"sampan/cluster/store"
)

// The rules of metadata, the same for all kinds.

const (
	nameLength   = 63 // of a generated name
	suffixLength = 5
)

func key(r request.Request, name string) store.Key {
	k := store.Key{Kind: r.Kind, Namespace: r.Namespace, Name: name}
	if r.Kind.Cluster {
		k.Namespace = ""
	}
	return k
}

// placed checks a new object against the URL and gives it its namespace.
func placed(obj kind.Object, r request.Request) error {
	if r.Kind.Cluster {
		obj.SetNamespace("") // not an error, as upstream
		return nil
	}
	if r.Namespace == "" {
		return apierrors.NewInvalid(r.Kind.GVK.GroupKind(), obj.GetName(), field.ErrorList{field.Required(field.NewPath("metadata", "namespace"), "")})
	}
	if ns := obj.GetNamespace(); ns != "" && ns != r.Namespace {
		return apierrors.NewBadRequest("the namespace of the provided object does not match the namespace sent on the request")
	}
	obj.SetNamespace(r.Namespace)
	return nil
}

// named checks that an object to be written is the one the URL names.
func named(obj kind.Object, r request.Request) error {
	switch name := obj.GetName(); {
	case name == "":
		return apierrors.NewBadRequest(fmt.Sprintf(
			"the name of the object (%s based on URL) was undeterminable: name must be provided", r.Name))
	case name != r.Name:
		return apierrors.NewBadRequest(fmt.Sprintf(
			"the name of the object (%s) does not match the name on the URL (%s)", name, r.Name))
	}
	if r.Kind.Cluster {
		obj.SetNamespace("")
		return nil
	}
	if ns := obj.GetNamespace(); ns != "" && ns != r.Namespace {
		return apierrors.NewBadRequest("the namespace of the provided object does not match the namespace sent on the request")
	}
	obj.SetNamespace(r.Namespace)
	return nil
}

// keyed checks the name of a URL, which becomes a part of the store's key.
func keyed(r request.Request) error {
	if r.Name == "" {
		return nil
	}
	if msgs := path.ValidatePathSegmentName(r.Name, false); len(msgs) > 0 {
		return apierrors.NewBadRequest(fmt.Sprintf("Name parameter invalid: %q: %s", r.Name, strings.Join(msgs, ";")))
	}
	return spaced(r)
}

// spaced checks the namespace of a URL. What is no namespace is one without
// objects, but for names that lead elsewhere in a tree of keys.
func spaced(r request.Request) error {
	if r.Namespace == "." || r.Namespace == ".." {
		return apierrors.NewBadRequest(fmt.Sprintf("invalid key: %q", "/"+r.Kind.Plural+"/"+r.Path()))
	}
	return nil
}

// generated is a name of base with five random characters.
func generated(base string) string {
	if most := nameLength - suffixLength; len(base) > most {
		base = base[:most]
	}
	return base + utilrand.String(suffixLength)
}

// stamp sets what the server alone decides about a new object.
func (a *API) stamp(obj kind.Object, r request.Request) {
	obj.SetUID(uuid.NewUUID())
	obj.SetCreationTimestamp(metav1.NewTime(a.Now().Truncate(1e9)))
	obj.SetDeletionTimestamp(nil)
	obj.SetDeletionGracePeriodSeconds(nil)
	obj.SetSelfLink("")
	if r.Kind.Spec != nil { // else it is what the user says, as upstream has it
		obj.SetGeneration(1)
	}
}

// carry gives obj what an update cannot change in metadata.
func carry(obj, old kind.Object) {
	if obj.GetUID() == "" {
		obj.SetUID(old.GetUID())
	}
	obj.SetGeneration(old.GetGeneration())
	obj.SetSelfLink("")
	if t := old.GetCreationTimestamp(); !t.IsZero() {
		obj.SetCreationTimestamp(t)
	}
	if t := old.GetDeletionTimestamp(); t != nil {
		obj.SetDeletionTimestamp(t)
	}
	if s := old.GetDeletionGracePeriodSeconds(); s != nil && obj.GetDeletionGracePeriodSeconds() == nil {
		obj.SetDeletionGracePeriodSeconds(s)
	}
}

// counted adds one to the generation if the wanted state has changed.
func counted(k *kind.Kind, obj, old kind.Object) {
	if k.Spec != nil && !equality.Semantic.DeepEqual(k.Spec(obj), k.Spec(old)) {
		obj.SetGeneration(old.GetGeneration() + 1)
	}
}

// oneOwnerEach drops owner references that are given twice, and says so. It is
// called for what a request says and again for what admission has made of it;
// what a patch says is looked at the second time only, as upstream has it.
func oneOwnerEach(obj kind.Object, r request.Request, admitted bool) {
	refs := obj.GetOwnerReferences()
	if len(refs) < 2 || !admitted && r.Verb == "patch" {
		return
	}
	var kept []metav1.OwnerReference
	var twice []string
	for _, ref := range refs {
		same := func(other metav1.OwnerReference) bool { return equality.Semantic.DeepEqual(ref, other) }
		if slices.ContainsFunc(kept, same) {
			twice = append(twice, string(ref.UID))
			continue
		}
		kept = append(kept, ref)
	}
	if len(twice) == 0 {
		return
	}
	when := ""
	if admitted {
		when = " after mutating admission happens"
	}
	warn(r, ".metadata.ownerReferences contains duplicate entries"+when+"; API server dedups owner references in 1.20+, "+
		"and may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: "+strings.Join(twice, ", "))
	obj.SetOwnerReferences(kept)
}

// validMetadata reports every fault of a new object's metadata.
func validMetadata(obj kind.Object, r request.Request) field.ErrorList {
	at := field.NewPath("metadata")
	errs := validation.ValidateObjectMetaAccessor(obj, !r.Kind.Cluster, validation.ValidateNameFunc(r.Kind.ValidateName), at)
	return append(errs, ownFinalizers(obj, r)...)
}

// validName holds a name to what every name must be, whatever its kind says:
// part of a path. Upstream says so of what is valid otherwise.
func validName(obj kind.Object) (errs field.ErrorList) {
	at := field.NewPath("metadata")
	for _, msg := range path.ValidatePathSegmentName(obj.GetGenerateName(), true) {
		errs = append(errs, field.Invalid(at.Child("generateName"), obj.GetGenerateName(), msg))
	}
	for _, msg := range path.ValidatePathSegmentName(obj.GetName(), false) {
		errs = append(errs, field.Invalid(at.Child("name"), obj.GetName(), msg))
	}
	return errs
}

// ownFinalizers refuses finalizers that name nobody's domain and are none of
// Kubernetes' own (upstream: a rule of the kinds that are its core, not of all).
func ownFinalizers(obj kind.Object, r request.Request) (errs field.ErrorList) {
	if r.Kind.AnyFinalizer || r.Kind.Custom != nil {
		return nil
	}
	for i, name := range obj.GetFinalizers() {
		switch name {
		case string(corev1.FinalizerKubernetes), metav1.FinalizerOrphanDependents, metav1.FinalizerDeleteDependents:
			continue
		}
		if !strings.Contains(name, "/") {
			errs = append(errs, field.Invalid(field.NewPath("metadata", "finalizers").Index(i), name,
				"name is neither a standard finalizer name nor is it fully qualified"))
		}
	}
	return errs
}

// validChange reports every fault of the metadata of an object that is
// replaced, and every change of it that is not allowed. The name is not
// looked at: it was valid once.
func validChange(obj, old kind.Object, r request.Request) field.ErrorList {
	at := field.NewPath("metadata")
	errs := validation.ValidateObjectMetaAccessor(obj, !r.Kind.Cluster, path.ValidatePathSegmentName, at)
	if base := obj.GetGenerateName(); base != "" && r.Kind.Rechecked && r.Subresource == "" {
		for _, msg := range r.Kind.ValidateName(base, true) {
			errs = append(errs, field.Invalid(at.Child("generateName"), base, msg))
		}
	}
	errs = append(errs, ownFinalizers(obj, r)...)
	return append(errs, validation.ValidateObjectMetaAccessorUpdate(obj, old, at)...)
}
