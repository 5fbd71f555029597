// Package history keeps the templates that a workload has had, each in a
// ControllerRevision, so that kubectl can show them and go back to one. Daemon
// sets and stateful sets use it.
//
// What is kept, and how objects are named, is upstream's to the byte: clients
// compare it, and the revisions of an existing cluster stay what they are.
package history

import (
	"bytes"
	"cmp"
	"context"
	stdjson "encoding/json"
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/json"

	"sampan/cluster/client"
	"sampan/cluster/controller/claim"
	"sampan/cluster/controller/loop"
)

// Watch calls add for the owners of kind O that a change of a revision
// concerns. selector returns an owner's.
func Watch[O client.Typed](c *claim.Claims[*appsv1.ControllerRevision], selector func(O) *metav1.LabelSelector, add func(types.NamespacedName)) loop.Source {
	return client.Changes(c.Client, client.Query{}, func(ctx context.Context, e client.Change[*appsv1.ControllerRevision]) {
		if e.Type == client.Added && metav1.GetControllerOfNoCopy(e.Object) != nil {
			c.Note(e)
			return // most likely it is the owner's controller that has made it
		}
		claim.Wake(ctx, c, e, selector, add)
	})
}

// Patch is what a revision keeps of an object: a strategic merge patch that
// puts this template in place of whatever is there.
func Patch(t *corev1.PodTemplateSpec) ([]byte, error) {
	data, err := json.Marshal(t)
	if err != nil {
		return nil, err
	}
	// Through a map, because its keys are written in order.
	var template map[string]any
	if err := json.Unmarshal(data, &template); err != nil {
		return nil, err
	}
	template["$patch"] = "replace"
	return json.Marshal(map[string]any{"spec": map[string]any{"template": template}})
}

// Template is the template that a revision keeps.
func Template(r *appsv1.ControllerRevision) (*corev1.PodTemplateSpec, error) {
	var kept struct {
		Spec struct {
			Template *corev1.PodTemplateSpec `json:"template"`
		} `json:"spec"`
	}
	if err := stdjson.Unmarshal(r.Data.Raw, &kept); err != nil {
		return nil, fmt.Errorf("revision %s/%s: %w", r.Namespace, r.Name, err)
	}
	if kept.Spec.Template == nil {
		return nil, fmt.Errorf("revision %s/%s keeps no template", r.Namespace, r.Name)
	}
	return kept.Spec.Template, nil
}

// Keeps is true if r keeps what this patch says.
func Keeps(r *appsv1.ControllerRevision, patch []byte) bool { return bytes.Equal(r.Data.Raw, patch) }

// Sort is the revisions from the first to the latest. all may be shared.
func Sort(all []*appsv1.ControllerRevision) []*appsv1.ControllerRevision {
	all = slices.Clone(all)
	slices.SortStableFunc(all, func(a, b *appsv1.ControllerRevision) int {
		return cmp.Or(cmp.Compare(a.Revision, b.Revision),
			a.CreationTimestamp.Time.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	return all
}

// Record makes r, which belongs to the callee from then on, or finds that it is
// there already. The error is of AlreadyExists if a revision that keeps
// something else has the name.
func Record(ctx context.Context, c client.Client, r *appsv1.ControllerRevision) (*appsv1.ControllerRevision, error) {
	namespace, name, patch := r.Namespace, r.Name, r.Data.Raw
	made, err := client.Create(ctx, c, r)
	if !apierrors.IsAlreadyExists(err) {
		return made, err
	}
	have, getErr := client.Get[*appsv1.ControllerRevision](ctx, c, namespace, name)
	if getErr != nil {
		return nil, getErr
	}
	if Keeps(have, patch) {
		return have, nil
	}
	return nil, err
}

// Renumber gives a revision another number, and returns it.
func Renumber(ctx context.Context, c client.Client, r *appsv1.ControllerRevision, number int64) (*appsv1.ControllerRevision, error) {
	if r.Revision == number {
		return r, nil
	}
	r = r.DeepCopy()
	r.Revision = number
	return client.Update(ctx, c, r)
}

// Remove deletes revisions. One that is gone already is no error.
func Remove(ctx context.Context, c client.Client, all []*appsv1.ControllerRevision) error {
	for _, r := range all {
		err := client.Delete[*appsv1.ControllerRevision](ctx, c, r.Namespace, r.Name,
			&metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(r.UID))})
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	return nil
}
