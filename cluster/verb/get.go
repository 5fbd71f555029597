package verb

import (
	"context"
	"fmt"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
	"sampan/cluster/request"
)

// Get returns one object: as it is now without a resourceVersion, as it was
// last seen with "0", and not older than any other. With a part's name as
// r.Subresource it is the object all the same, with "scale" its scale.
func (a *API) Get(ctx context.Context, r request.Request, o metav1.GetOptions) (kind.Object, error) {
	if err := a.Authorizer.Authorize(ctx, r); err != nil {
		return nil, err
	}
	if r.Subresource != "scale" || r.Kind.Scale == nil {
		if err := part(r); err != nil {
			return nil, err
		}
	}
	if err := keyed(r); err != nil {
		return nil, err
	}
	if err := a.fresh(ctx, r, o.ResourceVersion); err != nil {
		return nil, err
	}
	obj, ok := a.Store.Get(key(r, r.Name))
	if !ok {
		return nil, missing(a.Store, r)
	}
	obj, err := inside(r, obj)
	if err != nil {
		return nil, err
	}
	if r.Subresource == "scale" {
		return scaled(r.Kind, obj)
	}
	return obj, nil
}

// patience is how long a read waits for a resourceVersion that has not been
// reached, upstream's.
const patience = 3 * time.Second

// fresh waits until the cache is as new as a read with resourceVersion rv asks
// for.
func (a *API) fresh(ctx context.Context, r request.Request, rv string) error {
	if rv == "0" {
		return nil
	}
	if rv == "" {
		_, err := a.Store.Sync(ctx)
		return failure(r, err)
	}
	wanted, err := revision(rv)
	if err != nil {
		return err
	}
	if wanted <= a.Store.Revision() {
		return nil
	}
	short, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := a.Store.WaitFor(short, wanted); err != nil {
		if ctx.Err() == nil && short.Err() != nil {
			return tooLarge(wanted, a.Store.Revision())
		}
		return failure(r, err)
	}
	return nil
}

// revision reads a resourceVersion.
func revision(rv string) (int64, error) {
	n, err := strconv.ParseUint(rv, 10, 63)
	if err != nil {
		return 0, invalidOptions("ListOptions", field.Invalid(field.NewPath("resourceVersion"), rv, err.Error()))
	}
	return int64(n), nil
}

func tooLarge(wanted, current int64) error {
	err := apierrors.NewTimeoutError(fmt.Sprintf("Too large resource version: %d, current: %d", wanted, current), 1)
	err.ErrStatus.Details.Causes = []metav1.StatusCause{{
		Type: metav1.CauseTypeResourceVersionTooLarge, Message: "Too large resource version"}}
	return err
}
