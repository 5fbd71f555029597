package verb

import (
	"context"
	"net/http"

	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"sampan/cluster/kind"
	"sampan/cluster/request"
)

// evict is the action "pods/eviction": a delete that whoever may evict need
// not be allowed otherwise. Disruption budgets could forbid it; an API that
// serves them must not evict past them, and this one does not read them yet.
func (a *API) evict(ctx context.Context, r request.Request, _ kind.Object, body runtime.Object) (runtime.Object, error) {
	if a.Kinds.ByGVK(policyv1.SchemeGroupVersion.WithKind("PodDisruptionBudget")) != nil {
		return nil, apierrors.NewMethodNotSupported(resource(r), "evict")
	}
	o := body.(*policyv1.Eviction).DeleteOptions
	if o == nil {
		o = &metav1.DeleteOptions{}
	}
	r.Verb, r.Subresource = "delete", ""
	r.DryRun = r.DryRun || len(o.DryRun) > 0
	if _, _, err := a.delete(ctx, r, o); err != nil {
		return nil, err
	}
	return &metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"},
		Status: metav1.StatusSuccess, Code: http.StatusCreated}, nil
}
