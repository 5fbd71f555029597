package api

import (
	"context"
	"net/http"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"sampan/cluster/request"
)

// bindings is the resource of pods/binding's early days: the name of the pod is
// in the body. (Upstream: LegacyBindingREST.)
func (s *Server) bindings() virtualKind {
	return virtualKind{gvk: corev1.SchemeGroupVersion.WithKind("Binding"), plural: "bindings", namespaced: true,
		new: func() runtime.Object { return &corev1.Binding{} },
		act: func(ctx context.Context, c *call, r request.Request, body runtime.Object) (runtime.Object, error) {
			b := body.(*corev1.Binding)
			if b.Namespace != "" && b.Namespace != c.route.Namespace {
				return nil, apierrors.NewBadRequest("the namespace of the provided object does not match the namespace sent on the request")
			}
			if b.Name == "" {
				return nil, apierrors.NewBadRequest("Name parameter required.")
			}
			r.Verb, r.Kind, r.GVK = "create", s.cfg.Kinds.ByGVR(corev1.SchemeGroupVersion.WithResource("pods")), corev1.SchemeGroupVersion.WithKind("Pod")
			r.Namespace, r.Name, r.Subresource = c.route.Namespace, b.Name, "binding"
			r.User, r.Warn, r.Annotate = c.user, c.warn, c.annotate()
			if r.Kind == nil {
				return nil, notFound(http.MethodPost)
			}
			if err := s.cfg.Verbs.Bind(ctx, r, b); err != nil {
				return nil, err
			}
			return &metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusSuccess, Code: http.StatusCreated}, nil
		}}
}
