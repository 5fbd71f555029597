// Package policystatus says of each ValidatingAdmissionPolicy which of its
// expressions do not fit the kinds that they are about: upstream's
// validatingadmissionpolicy-status-controller.
//
// It does not know expressions: whoever starts it says how they are checked.
package policystatus

import (
	"context"
	"encoding/json"
	"log/slog"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"sampan/cluster/client"
	"sampan/cluster/controller/loop"
)

// Config is what a Controller needs. All fields are required.
type Config struct {
	Client client.Client
	Check  func(*admissionregistrationv1.ValidatingAdmissionPolicy) []admissionregistrationv1.ExpressionWarning
	Log    *slog.Logger
}

// Controller writes the status of policies. See the package comment.
type Controller struct {
	cfg  Config
	loop *loop.Loop[string]
}

// New returns a Controller.
func New(cfg Config) *Controller {
	c := &Controller{cfg: cfg}
	c.loop = &loop.Loop[string]{Name: "policystatus", Log: cfg.Log, Sync: c.sync}
	return c
}

// Run works until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	return c.loop.Drive(ctx, client.Changes(c.cfg.Client, client.Query{},
		func(_ context.Context, e client.Change[*admissionregistrationv1.ValidatingAdmissionPolicy]) {
			c.loop.Add(e.Object.Name)
		}))
}

// manager owns the status in managedFields, as upstream's controller does.
const manager = "validatingadmissionpolicy-status"

func (c *Controller) sync(ctx context.Context, name string) (time.Duration, error) {
	p, err := client.Get[*admissionregistrationv1.ValidatingAdmissionPolicy](ctx, c.cfg.Client, "", name)
	if apierrors.IsNotFound(err) || err == nil && p.Generation <= p.Status.ObservedGeneration {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	checked := map[string]any{}
	if warnings := c.cfg.Check(p); len(warnings) > 0 {
		checked["expressionWarnings"] = warnings
	}
	data, err := json.Marshal(map[string]any{
		"apiVersion": admissionregistrationv1.SchemeGroupVersion.String(), "kind": "ValidatingAdmissionPolicy", "metadata": map[string]any{"name": name},
		"status": map[string]any{"observedGeneration": p.Generation, "typeChecking": checked},
	})
	if err != nil {
		return 0, err
	}
	_, err = c.cfg.Client.Patch(ctx, client.KindOf[*admissionregistrationv1.ValidatingAdmissionPolicy](c.cfg.Client), client.Patch{
		Name: name, Sub: "status", Type: types.ApplyYAMLPatchType, Data: data, FieldManager: manager, Force: true})
	return 0, err
}
