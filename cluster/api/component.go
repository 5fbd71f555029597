package api

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sampan/cluster/kind"
	"sampan/cluster/request"
	"sampan/cluster/verb"
)

// Component is a part of the control plane as `kubectl get componentstatuses`
// names it.
type Component struct {
	Name string
	Run  func(ctx context.Context) error // nil if it is well
}

const (
	componentWait = 20 * time.Second
	componentText = "v1 ComponentStatus is deprecated in v1.19+"
)

// componentStatus is the kind of what is asked of components and never stored.
// (Upstream: pkg/registry/core/componentstatus and printers/internalversion.)
func componentStatus() *kind.Kind {
	healthy := func(s *corev1.ComponentStatus) *corev1.ComponentCondition {
		i := slices.IndexFunc(s.Conditions, func(c corev1.ComponentCondition) bool { return c.Type == corev1.ComponentHealthy })
		if i < 0 {
			return nil
		}
		return &s.Conditions[i]
	}
	column := func(name, what string, cell func(c *corev1.ComponentCondition) string) kind.Column[corev1.ComponentStatus] {
		return kind.Column[corev1.ComponentStatus]{Name: name, Description: what + " of the component conditions",
			Cell: func(s *corev1.ComponentStatus, _ time.Time) any { return cell(healthy(s)) }}
	}
	return kind.Declare(kind.Of[corev1.ComponentStatus]{
		GVK: corev1.SchemeGroupVersion.WithKind("ComponentStatus"), Plural: "componentstatuses", Short: []string{"cs"}, Cluster: true,
		Columns: []kind.Column[corev1.ComponentStatus]{
			column("Status", "Status", func(c *corev1.ComponentCondition) string {
				switch {
				case c == nil:
					return "Unknown"
				case c.Status == corev1.ConditionTrue:
					return "Healthy"
				}
				return "Unhealthy"
			}),
			column("Message", "Message", func(c *corev1.ComponentCondition) string {
				if c == nil {
					return ""
				}
				return c.Message
			}),
			column("Error", "Error", func(c *corev1.ComponentCondition) string {
				if c == nil {
					return ""
				}
				return c.Error
			}),
		},
	})
}

func discoverComponents(k *kind.Kind) apidiscoveryv2.APIResourceDiscovery {
	response := metav1.GroupVersionKind(k.GVK)
	return apidiscoveryv2.APIResourceDiscovery{Resource: k.Plural, ResponseKind: &response, Scope: apidiscoveryv2.ScopeCluster,
		SingularResource: k.Singular, Verbs: []string{"get", "list"}, ShortNames: k.Short}
}

// components answers a request for component statuses; false if it is for
// something else.
func (c *call) components() bool {
	k := c.s.components
	if c.route.GV != corev1.SchemeGroupVersion || c.route.Resource != k.Plural {
		return false
	}
	r := request.Request{Verb: c.asked, Kind: k, GVK: k.GVK, Namespace: c.route.Namespace, Name: c.route.Name,
		Subresource: c.route.Subresource, User: c.user, Warn: c.warn}
	c.verb = r.Verb
	switch {
	case r.Namespace != "" || r.Subresource != "":
		c.notFound()
		return true
	case r.Verb != "get" && r.Verb != "list" && r.Verb != "watch":
		c.methodNotAllowed()
		return true
	}
	c.warn(componentText)
	if err := c.s.cfg.Authorizer.Authorize(c.r.Context(), r); err != nil {
		c.fail(err)
		return true
	}
	if r.Verb == "watch" {
		c.fail(apierrors.NewMethodNotSupported(k.GroupResource(), "watch"))
		return true
	}
	a, err := negotiate(c.r, c.offer(r))
	if err != nil {
		c.fail(err)
		return true
	}
	if r.Verb == "list" {
		o, err := listOptions(c.query)
		if err == nil {
			err = c.listComponents(a, r, o)
		}
		if err != nil {
			c.fail(err)
		}
		return true
	}
	for _, part := range c.s.cfg.Components {
		if part.Name == r.Name {
			c.object(http.StatusOK, a, r, c.query, part.status(c.r.Context()), nil)
			return true
		}
	}
	c.fail(apierrors.NewNotFound(schema.GroupResource{Resource: "componentstatus"}, r.Name))
	return true
}

func (c *call) listComponents(a accepted, r request.Request, o metav1.ListOptions) error {
	byLabel, err := labels.Parse(o.LabelSelector)
	if err != nil {
		return apierrors.NewBadRequest(err.Error())
	}
	byField, err := fields.ParseSelector(o.FieldSelector)
	if err != nil {
		return apierrors.NewBadRequest(err.Error())
	}
	l := &verb.List{}
	for _, part := range c.s.cfg.Components {
		if byLabel.Empty() && byField.Matches(fields.Set{"metadata.name": part.Name}) {
			l.Objects = append(l.Objects, part.status(c.r.Context()))
		}
	}
	slices.SortFunc(l.Objects, func(a, b kind.Object) int { return strings.Compare(a.GetName(), b.GetName()) })
	c.sendList(a, r, c.query, l)
	return nil
}

// status asks how a component is.
func (p Component) status(ctx context.Context) *corev1.ComponentStatus {
	ctx, cancel := context.WithTimeout(ctx, componentWait)
	defer cancel()
	healthy := corev1.ComponentCondition{Type: corev1.ComponentHealthy, Status: corev1.ConditionTrue, Message: "ok"}
	if err := p.Run(ctx); err != nil {
		healthy.Status, healthy.Message, healthy.Error = corev1.ConditionFalse, "", err.Error()
	}
	return &corev1.ComponentStatus{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ComponentStatus"},
		ObjectMeta: metav1.ObjectMeta{Name: p.Name}, Conditions: []corev1.ComponentCondition{healthy}}
}
