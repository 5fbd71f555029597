package verb

import (
	"context"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"sampan/cluster/request"
	"sampan/cluster/store"
)

// unsafeDelete is the verb that RBAC has for discarding objects that cannot be
// read, beside "delete". (KEP-3926.)
const unsafeDelete = "unsafe-delete-ignore-read-errors"

// discard deletes an object that cannot be decrypted or decoded. Nothing is
// known of it: no finalizer, no precondition and no admission plugin is asked.
func (a *API) discard(ctx context.Context, r request.Request) (runtime.Object, bool, error) {
	r.Note("apiserver.k8s.io/unsafe-delete-ignore-read-error", "")
	may := r
	may.Verb, may.Annotate = unsafeDelete, nil
	if err := a.Authorizer.Authorize(ctx, may); err != nil {
		return nil, false, apierrors.NewForbidden(resource(r), r.Name, fmt.Errorf("not permitted to do %q, reason: ", unsafeDelete))
	}
	err := a.Store.Discard(ctx, key(r, r.Name), r.DryRun)
	var readable *store.Readable
	if errors.As(err, &readable) {
		return nil, false, apierrors.NewConflict(resource(r), r.Name, err)
	}
	if err != nil {
		return nil, false, failure(r, err)
	}
	return &metav1.Status{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusSuccess,
		Details: &metav1.StatusDetails{Name: r.Name, Kind: r.GVK.Kind},
	}, true, nil
}
