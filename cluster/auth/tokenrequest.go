package auth

import (
	"context"
	"fmt"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/client"
)

const (
	minExpiration     = 10 * 60
	maxExpiration     = 1 << 32
	defaultExpiration = 60 * 60

	// A pod's default token lives a year while it says it lives an hour, for
	// clients that never read the file again. (Upstream:
	// --service-account-extend-token-expiration, on by default; 3607 marks
	// the request of the default volume.)
	extendableExpiration = 3607
	extendedExpiration   = 365 * 24 * time.Hour
)

var tokenRequestGK = schema.GroupKind{Group: "authentication.k8s.io", Kind: "TokenRequest"}

// Request answers a TokenRequest for the service account: the action "token"
// of ServiceAccounts. req is not changed. What is not given as asked is said to
// warn, which may be nil. (Upstream:
// pkg/registry/core/serviceaccount/storage/token.go.)
func (t *Tokens) Request(ctx context.Context, namespace, name string, req *authenticationv1.TokenRequest, warn func(string)) (*authenticationv1.TokenRequest, error) {
	meta := field.NewPath("metadata")
	if req.Name != "" && req.Name != name {
		return nil, apierrors.NewInvalid(tokenRequestGK, name, field.ErrorList{
			field.Invalid(meta.Child("name"), req.Name, "must match the service account name if specified")})
	}
	if req.Namespace != "" && req.Namespace != namespace {
		return nil, apierrors.NewInvalid(tokenRequestGK, name, field.ErrorList{
			field.Invalid(meta.Child("namespace"), req.Namespace, "must match the service account namespace if specified")})
	}
	sa, err := client.Get[*corev1.ServiceAccount](ctx, t.cfg.Objects, namespace, name)
	if err != nil {
		return nil, err
	}
	if req.UID != "" && req.UID != sa.UID {
		return nil, apierrors.NewConflict(schema.GroupResource{Group: tokenRequestGK.Group, Resource: tokenRequestGK.Kind}, name,
			fmt.Errorf("the UID in the token request (%s) does not match the UID of the service account (%s)", req.UID, sa.UID))
	}
	now := t.cfg.Now()
	out := req.DeepCopy()
	out.Name, out.Namespace, out.UID = sa.Name, sa.Namespace, sa.UID
	out.CreationTimestamp = metav1.NewTime(now.Truncate(time.Second))
	out.Status = authenticationv1.TokenRequestStatus{}
	if len(out.Spec.Audiences) == 0 {
		out.Spec.Audiences = t.cfg.Audiences
	}
	if out.Spec.ExpirationSeconds == nil {
		out.Spec.ExpirationSeconds = new(int64(defaultExpiration))
	}
	if errs := validateTokenRequest(out); len(errs) > 0 {
		return nil, apierrors.NewInvalid(tokenRequestGK, "", errs)
	}
	bound, err := t.bind(ctx, namespace, name, out.Spec.BoundObjectRef)
	if err != nil {
		return nil, err
	}
	if most := int64(t.cfg.MaxExpiration / time.Second); most > 0 && *out.Spec.ExpirationSeconds > most {
		if warn != nil {
			warn(fmt.Sprintf("requested expiration of %d seconds shortened to %d seconds", *out.Spec.ExpirationSeconds, most))
		}
		out.Spec.ExpirationSeconds = &most
	}
	lasts := time.Duration(*out.Spec.ExpirationSeconds) * time.Second
	out.Status.ExpirationTimestamp = metav1.NewTime(now.Add(lasts).Truncate(time.Second))
	if !t.cfg.ExactExpiration && bound.Pod != nil && *out.Spec.ExpirationSeconds == extendableExpiration && t.forThisServer(out.Spec.Audiences) {
		bound.WarnAfter = now.Add(lasts).Unix()
		lasts = extendedExpiration
	}
	out.Status.Token, err = t.issue(sa, bound, out.Spec.Audiences, now, lasts)
	if err != nil {
		return nil, apierrors.NewInternalError(fmt.Errorf("failed to generate token: %v", err))
	}
	return out, nil
}

func validateTokenRequest(r *authenticationv1.TokenRequest) field.ErrorList {
	var errs field.ErrorList
	path := field.NewPath("spec").Child("expirationSeconds")
	if s := *r.Spec.ExpirationSeconds; s < minExpiration {
		errs = append(errs, field.Invalid(path, s, "may not specify a duration less than 10 minutes"))
	} else if s > maxExpiration {
		errs = append(errs, field.Invalid(path, s, "may not specify a duration larger than 2^32 seconds"))
	}
	return errs
}

// bind looks up what the token shall live no longer than.
func (t *Tokens) bind(ctx context.Context, namespace, name string, to *authenticationv1.BoundObjectReference) (kubernetes, error) {
	var k kubernetes
	if to == nil {
		return k, nil
	}
	gvk := schema.FromAPIVersionAndKind(to.APIVersion, to.Kind)
	var uid types.UID
	switch gvk.GroupKind() { // the version does not count
	case schema.GroupKind{Kind: "Pod"}:
		pod, err := client.Get[*corev1.Pod](ctx, t.cfg.Objects, namespace, to.Name)
		if err != nil {
			return k, err
		}
		if pod.Spec.ServiceAccountName != name {
			return k, apierrors.NewBadRequest(fmt.Sprintf("cannot bind token for serviceaccount %q to pod running with different serviceaccount name.", name))
		}
		uid, k.Pod = pod.UID, refOf(pod)
		if pod.Spec.NodeName != "" {
			k.Node = &ref{Name: pod.Spec.NodeName}
			if node, err := client.Get[*corev1.Node](ctx, t.cfg.Objects, "", pod.Spec.NodeName); err == nil {
				k.Node.UID = string(node.UID)
			} else if !apierrors.IsNotFound(err) {
				return k, err
			}
		}
	case schema.GroupKind{Kind: "Secret"}:
		secret, err := client.Get[*corev1.Secret](ctx, t.cfg.Objects, namespace, to.Name)
		if err != nil {
			return k, err
		}
		uid, k.Secret = secret.UID, refOf(secret)
	case schema.GroupKind{Kind: "Node"}:
		node, err := client.Get[*corev1.Node](ctx, t.cfg.Objects, "", to.Name)
		if err != nil {
			return k, err
		}
		uid, k.Node = node.UID, refOf(node)
	default:
		return k, apierrors.NewBadRequest(fmt.Sprintf("cannot bind token to object of type %s", gvk.String()))
	}
	if to.UID != "" && to.UID != uid {
		return k, apierrors.NewConflict(schema.GroupResource{Group: gvk.Group, Resource: gvk.Kind}, to.Name,
			fmt.Errorf("the UID in the bound object reference (%s) does not match the UID in record. The object might have been deleted and then recreated", to.UID))
	}
	return k, nil
}

// forThisServer: a token that is for others too is not made to last longer.
func (t *Tokens) forThisServer(audiences []string) bool {
	return len(Common(audiences, t.cfg.Audiences)) == len(audiences)
}
