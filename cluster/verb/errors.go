package verb

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
	"sampan/cluster/request"
	"sampan/cluster/store"
	"sampan/internal/fault"
)

// modified is upstream's text for a write that lost a race.
const modified = "the object has been modified; please apply your changes to the latest version and try again"

// resource names r's kind in errors, in the group that was asked for.
func resource(r request.Request) schema.GroupResource {
	return schema.GroupResource{Group: r.GVK.Group, Resource: r.Kind.Plural}
}

// failure turns an error of the store into a StatusError.
func failure(r request.Request, err error) error {
	var status apierrors.APIStatus
	var expired *store.Expired
	var op *store.OpFailed
	var unread *store.Unreadable
	var unreads store.UnreadableObjects
	var large *store.TooLarge
	switch {
	case err == nil || errors.As(err, &status):
		return err
	case errors.As(err, &expired):
		return apierrors.NewResourceExpired(expired.Error())
	case errors.As(err, &unread):
		return apierrors.NewInternalError(unread)
	case errors.As(err, &unreads):
		return unreadable(r, unreads)
	case errors.As(err, &large): // upstream gives it no reason
		return &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure, Code: http.StatusInternalServerError, Message: large.Error()}}
	case errors.As(err, &op):
		return apierrors.NewConflict(resource(r), r.Name, err)
	case errors.Is(err, context.DeadlineExceeded):
		return apierrors.NewTimeoutError("the request did not complete within the allotted timeout: "+err.Error(), 0)
	}
	switch fault.ClassOf(err) {
	case fault.Exists:
		return apierrors.NewAlreadyExists(resource(r), r.Name)
	case fault.NotFound:
		return apierrors.NewNotFound(resource(r), r.Name)
	case fault.Conflict:
		return apierrors.NewConflict(resource(r), r.Name, errors.New(modified))
	case fault.Unavailable:
		return apierrors.NewServiceUnavailable(err.Error())
	case fault.Invalid:
		return apierrors.NewBadRequest(err.Error())
	}
	return err
}

// there is the answer to the making of an object that there is.
func there(r request.Request, current kind.Object) error {
	err := apierrors.NewAlreadyExists(resource(r), r.Name)
	if current.GetDeletionTimestamp() != nil {
		err.ErrStatus.Message = "object is being deleted: " + err.ErrStatus.Message
	}
	return err
}

// missing is the answer for an object that the store does not have: there may
// be one that it cannot read.
func missing(s *store.Store, r request.Request) error {
	if err := s.Unreadable(key(r, r.Name)); err != nil {
		return failure(r, err)
	}
	return apierrors.NewNotFound(resource(r), r.Name)
}

// unreadable is upstream's answer to a list of which objects cannot be read.
// (KEP-3926.)
func unreadable(r request.Request, all store.UnreadableObjects) error {
	details := &metav1.StatusDetails{Group: r.GVK.Group, Kind: r.Kind.Plural, Name: "list"}
	for _, u := range all {
		details.Causes = append(details.Causes, metav1.StatusCause{
			Type: metav1.CauseTypeUnexpectedServerResponse, Field: u.Path(), Message: u.Error()})
	}
	return &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure, Code: http.StatusInternalServerError,
		Reason: metav1.StatusReasonStoreReadError, Message: all.Error(), Details: details}}
}

// mostErrors bounds what is said of an invalid object: a body of 3 MB can be
// wrong in more than 100,000 places, and joining their texts takes time that
// grows with their square.
const mostErrors = 1000

func invalid(r request.Request, name string, errs field.ErrorList) error {
	left := len(errs) - mostErrors
	if left > 0 {
		errs = errs[:mostErrors]
	}
	err := apierrors.NewInvalid(schema.GroupKind{Group: r.Kind.GVK.Group, Kind: r.GVK.Kind}, name, errs)
	if left > 0 {
		err.ErrStatus.Message += fmt.Sprintf(" and %d more", left)
	}
	return err
}

// invalidOptions refuses query options as upstream does.
func invalidOptions(kind string, errs ...*field.Error) error {
	return apierrors.NewInvalid(schema.GroupKind{Group: metav1.GroupName, Kind: kind}, "", errs)
}

// unconditional refuses an update that does not say which state it is of. It is
// upstream's store that says so, which knows a resource and a number.
func unconditional(r request.Request) error {
	return apierrors.NewInvalid(schema.GroupKind{Group: r.GVK.Group, Kind: r.Kind.Plural}, r.Name, field.ErrorList{field.Invalid(
		field.NewPath("metadata", "resourceVersion"), 0, "must be specified for an update")})
}

// precondition is upstream's answer to an update of an object that was deleted
// and made again meanwhile.
func precondition(r request.Request, want, got kind.Object) error {
	key := "/registry/" + r.Kind.Prefix + "/" + r.Path()
	return apierrors.NewConflict(resource(r), r.Name, fmt.Errorf(
		"StorageError: invalid object, Code: 4, Key: %s, ResourceVersion: 0, AdditionalErrorMsg: "+
			"Precondition failed: UID in precondition: %v, UID in object meta: %v", key, want.GetUID(), got.GetUID()))
}

// warn passes texts on to the client.
func warn(r request.Request, texts ...string) {
	if r.Warn == nil {
		return
	}
	for _, t := range texts {
		r.Warn(t)
	}
}

// advise warns of what the kind finds odd, and of fields that nothing acts on.
func advise(r request.Request, obj, old kind.Object) {
	if r.Warn != nil {
		warn(r, r.Kind.Warn(obj, old)...)
		warn(r, r.Kind.IgnoredSet(obj)...)
	}
}
