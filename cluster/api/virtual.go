package api

import (
	"context"
	"net/http"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sampan/cluster/auth"
	"sampan/cluster/object"
	"sampan/cluster/request"
	openapi "sampan/cluster/schema"
)

// virtualKind is a kind that is answered and never stored: it can only be
// created, and its status, or what it brought about, is the answer.
type virtualKind struct {
	gvk        schema.GroupVersionKind
	plural     string
	namespaced bool
	new        func() runtime.Object
	answer     func(ctx context.Context, c *call, obj runtime.Object) error
	// act, instead of answer, does what the object says; its result is the answer.
	act        func(ctx context.Context, c *call, options request.Request, obj runtime.Object) (runtime.Object, error)
	deprecated string // for the Warning header; empty: none
}

func (s *Server) virtualKinds() []virtualKind {
	authn, authz := authenticationv1.SchemeGroupVersion, authorizationv1.SchemeGroupVersion
	return []virtualKind{
		s.bindings(),
		{gvk: authn.WithKind("SelfSubjectReview"), plural: "selfsubjectreviews",
			new: func() runtime.Object { return &authenticationv1.SelfSubjectReview{} },
			answer: func(_ context.Context, c *call, obj runtime.Object) error {
				auth.ReviewSelf(c.user, obj.(*authenticationv1.SelfSubjectReview))
				return nil
			}},
		{gvk: authn.WithKind("TokenReview"), plural: "tokenreviews",
			new: func() runtime.Object { return &authenticationv1.TokenReview{} },
			answer: func(ctx context.Context, _ *call, obj runtime.Object) error {
				return s.cfg.Authenticator.ReviewToken(ctx, obj.(*authenticationv1.TokenReview))
			}},
		{gvk: authz.WithKind("SelfSubjectAccessReview"), plural: "selfsubjectaccessreviews",
			new: func() runtime.Object { return &authorizationv1.SelfSubjectAccessReview{} },
			answer: func(ctx context.Context, c *call, obj runtime.Object) error {
				return s.cfg.Authorizer.ReviewSelfAccess(ctx, c.user, obj.(*authorizationv1.SelfSubjectAccessReview))
			}},
		{gvk: authz.WithKind("SubjectAccessReview"), plural: "subjectaccessreviews",
			new: func() runtime.Object { return &authorizationv1.SubjectAccessReview{} },
			answer: func(ctx context.Context, _ *call, obj runtime.Object) error {
				return s.cfg.Authorizer.ReviewAccess(ctx, obj.(*authorizationv1.SubjectAccessReview))
			}},
		{gvk: authz.WithKind("LocalSubjectAccessReview"), plural: "localsubjectaccessreviews", namespaced: true,
			new: func() runtime.Object { return &authorizationv1.LocalSubjectAccessReview{} },
			answer: func(ctx context.Context, c *call, obj runtime.Object) error {
				return s.cfg.Authorizer.ReviewLocalAccess(ctx, c.route.Namespace, obj.(*authorizationv1.LocalSubjectAccessReview))
			}},
		{gvk: authz.WithKind("SelfSubjectRulesReview"), plural: "selfsubjectrulesreviews",
			new: func() runtime.Object { return &authorizationv1.SelfSubjectRulesReview{} },
			answer: func(ctx context.Context, c *call, obj runtime.Object) error {
				return s.cfg.Authorizer.ReviewSelfRules(ctx, c.user, obj.(*authorizationv1.SelfSubjectRulesReview))
			}},
	}
}

func (s *Server) virtualAt(r route) *virtualKind {
	for i := range s.virtual {
		if v := &s.virtual[i]; v.plural == r.Resource && v.gvk.GroupVersion() == r.GV {
			return v
		}
	}
	return nil
}

// described are the kinds that OpenAPI has beside those of the table.
func (s *Server) described() []openapi.Virtual {
	all := []openapi.Virtual{{GVK: s.components.GVK, Plural: s.components.Plural, Verbs: []string{"get", "list"}}}
	for _, v := range s.virtual {
		all = append(all, openapi.Virtual{GVK: v.gvk, Plural: v.plural, Namespaced: v.namespaced, Verbs: []string{"create"}})
	}
	return all
}

func (v *virtualKind) discover() apidiscoveryv2.APIResourceDiscovery {
	scope := apidiscoveryv2.ScopeCluster
	if v.namespaced {
		scope = apidiscoveryv2.ScopeNamespace
	}
	response := metav1.GroupVersionKind(v.gvk)
	return apidiscoveryv2.APIResourceDiscovery{Resource: v.plural, ResponseKind: &response, Scope: scope,
		SingularResource: v.plural[:len(v.plural)-1], Verbs: []string{"create"}}
}

// review answers a create of a virtual kind.
func (c *call) review(v *virtualKind) {
	r := c.route
	if r.Name != "" || r.Subresource != "" || v.namespaced != (r.Namespace != "") {
		c.notFound()
		return
	}
	c.verb = "create"
	if c.r.Method != http.MethodPost {
		c.methodNotAllowed()
		return
	}
	if v.deprecated != "" {
		c.warn(v.deprecated)
	}
	out, a, err := c.reviewed(v)
	if err != nil {
		c.fail(err)
		return
	}
	c.send(http.StatusCreated, a, out)
}

func (c *call) reviewed(v *virtualKind) (runtime.Object, accepted, error) {
	ctx := c.r.Context()
	if err := c.s.cfg.Authorizer.Check(ctx, auth.Attributes{User: c.user, Annotate: c.annotate(), Verb: "create", Group: v.gvk.Group,
		Version: v.gvk.Version, Resource: v.plural, Namespace: c.route.Namespace}); err != nil {
		return nil, accepted{}, err
	}
	a, err := negotiate(c.r, offer{protobuf: true, plain: true})
	if err != nil {
		return nil, a, err
	}
	mt, err := bodyType(c.r, true)
	if err != nil {
		return nil, a, err
	}
	data, err := c.body()
	if err != nil {
		return nil, a, err
	}
	var options request.Request
	if err := createOptions(c.query, c.r.UserAgent(), &options); err != nil {
		return nil, a, err
	}
	obj := v.new()
	warnings, err := object.DecodeInto(obj, v.gvk, data, mt, object.Validation(options.FieldValidation))
	if err != nil {
		return nil, a, asBadRequest(err)
	}
	for _, w := range warnings {
		c.warn(w)
	}
	if v.act != nil {
		out, err := v.act(ctx, c, options, obj)
		return out, a, err
	}
	if err := v.answer(ctx, c, obj); err != nil {
		return nil, a, err
	}
	obj.GetObjectKind().SetGroupVersionKind(v.gvk)
	return obj, a, nil
}
