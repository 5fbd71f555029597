package oldversion

import (
	"fmt"
	"reflect"

	authenticationv1 "k8s.io/api/authentication/v1"
	authenticationv1beta1 "k8s.io/api/authentication/v1beta1"
	authorizationv1 "k8s.io/api/authorization/v1"
	authorizationv1beta1 "k8s.io/api/authorization/v1beta1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Review is an old version of a kind that is answered and never stored.
type Review struct {
	GVK schema.GroupVersionKind
	Of  schema.GroupVersionKind // the current version
	New func() runtime.Object

	// Ask returns the question in the current version, Answer writes what it was
	// answered into old. Objects are those of the versions' Go types.
	Ask    func(old runtime.Object) (current runtime.Object, err error)
	Answer func(old, current runtime.Object)
}

// Reviews are all of them.
func Reviews() []Review {
	authn, authz := authenticationv1.SchemeGroupVersion, authorizationv1.SchemeGroupVersion
	return []Review{
		review[authenticationv1beta1.TokenReview, authenticationv1.TokenReview](authn, authenticationv1beta1.SchemeGroupVersion),
		review[authorizationv1beta1.SubjectAccessReview, authorizationv1.SubjectAccessReview](authz, authorizationv1beta1.SchemeGroupVersion),
		review[authorizationv1beta1.LocalSubjectAccessReview, authorizationv1.LocalSubjectAccessReview](authz, authorizationv1beta1.SchemeGroupVersion),
		review[authorizationv1beta1.SelfSubjectAccessReview, authorizationv1.SelfSubjectAccessReview](authz, authorizationv1beta1.SchemeGroupVersion),
		review[authorizationv1beta1.SelfSubjectRulesReview, authorizationv1.SelfSubjectRulesReview](authz, authorizationv1beta1.SchemeGroupVersion),
	}
}

// plain is what a pointer to T can do if T is any Go type of the API.
type plain[T any] interface {
	*T
	runtime.Object
}

func review[Old, Hub any, O plain[Old], H plain[Hub]](of, gv schema.GroupVersion) Review {
	name := reflect.TypeFor[Hub]().Name()
	return Review{
		GVK: gv.WithKind(name), Of: of.WithKind(name),
		New: func() runtime.Object { return O(new(Old)) },
		Ask: func(old runtime.Object) (runtime.Object, error) {
			from, ok := old.(O)
			if !ok {
				return nil, fmt.Errorf("%s: cannot convert a %T to %s", name, old, of)
			}
			out := new(Hub)
			new(copier).into(out, (*Old)(from))
			H(out).GetObjectKind().SetGroupVersionKind(of.WithKind(name))
			return H(out), nil
		},
		Answer: func(old, current runtime.Object) {
			out := new(Old)
			new(copier).into(out, (*Hub)(current.(H)))
			*old.(O) = *out
			old.GetObjectKind().SetGroupVersionKind(gv.WithKind(name))
		},
	}
}
