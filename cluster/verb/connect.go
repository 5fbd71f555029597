package verb

import (
	"context"

	"k8s.io/apimachinery/pkg/runtime"

	"sampan/cluster/admission"
	"sampan/cluster/request"
)

// Connect asks admission whether r, which is authorized already, may be passed
// on to a node or a pod. options say what is asked for: a PodExecOptions, a
// ServiceProxyOptions.
func (a *API) Connect(ctx context.Context, r request.Request, options runtime.Object) error {
	attempt := &admission.Attempt{Request: r, Operation: admission.Connect, Body: options}
	defer attempt.Done(false)
	if err := a.Admission.Mutate(ctx, attempt); err != nil {
		return err
	}
	return a.Admission.Review(ctx, attempt)
}
