// Package clusterrole gives each ClusterRole with an aggregation rule the rules
// of the ClusterRoles that it selects: upstream's
// clusterrole-aggregation-controller.
//
// It does not know what rules allow.
package clusterrole

import (
	"context"
	"encoding/json"
	"log/slog"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"sampan/cluster/client"
	"sampan/cluster/controller/loop"
)

// Config is what a Controller needs. Both fields are required.
type Config struct {
	Client client.Client
	Log    *slog.Logger
}

// Controller gathers rules. See the package comment.
type Controller struct {
	cfg  Config
	loop *loop.Loop[string]
}

// New returns a Controller.
func New(cfg Config) *Controller {
	c := &Controller{cfg: cfg}
	c.loop = &loop.Loop[string]{Name: "clusterrole", Log: cfg.Log, Sync: c.sync}
	return c
}

// Run works until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	return c.loop.Drive(ctx, client.Changes(c.cfg.Client, client.Query{}, func(ctx context.Context, e client.Change[*rbacv1.ClusterRole]) {
		switch {
		case !e.First:
			c.addAll(ctx) // whoever gathers may gather from any role, and there are few who do
		case e.Object.AggregationRule != nil:
			c.loop.Add(e.Object.Name)
		}
	}))
}

func (c *Controller) addAll(ctx context.Context) {
	roles, err := client.List[*rbacv1.ClusterRole](ctx, c.cfg.Client, client.Query{})
	if err != nil {
		c.cfg.Log.Error("list cluster roles that gather others", "err", err)
		return
	}
	for _, r := range roles {
		if r.AggregationRule != nil {
			c.loop.Add(r.Name)
		}
	}
}

// manager owns the rules in managedFields, as upstream's controller does.
const manager = "clusterrole-aggregation-controller"

func (c *Controller) sync(ctx context.Context, name string) (time.Duration, error) {
	role, err := client.Get[*rbacv1.ClusterRole](ctx, c.cfg.Client, "", name)
	if apierrors.IsNotFound(err) || err == nil && role.AggregationRule == nil {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	all, err := client.List[*rbacv1.ClusterRole](ctx, c.cfg.Client, client.Query{})
	if err != nil {
		return 0, err
	}
	rules, same, err := decide(role, all)
	if err != nil || same {
		return 0, err
	}
	want := map[string]any{"apiVersion": rbacv1.SchemeGroupVersion.String(), "kind": "ClusterRole",
		"metadata": map[string]any{"name": name}}
	if len(rules) > 0 {
		want["rules"] = rules
	}
	data, err := json.Marshal(want)
	if err != nil {
		return 0, err
	}
	_, err = c.cfg.Client.Patch(ctx, client.KindOf[*rbacv1.ClusterRole](c.cfg.Client), client.Patch{
		Name: name, Type: types.ApplyYAMLPatchType, Data: data, FieldManager: manager, Force: true})
	return 0, err
}
