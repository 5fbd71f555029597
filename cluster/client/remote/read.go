package remote

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"sampan/cluster/client"
	"sampan/cluster/kind"
	"sampan/internal/fault"
)

// selection is what of a kind the server is asked for.
type selection struct {
	kind                         *kind.Kind
	namespace, name              string // empty: all
	labelSelector, fieldSelector string
}

// Get implements client.Reader.
func (c *Client) Get(ctx context.Context, k *kind.Kind, namespace, name string) (kind.Object, error) {
	if k.Cluster {
		namespace = ""
	}
	if v := c.holding(k, namespace, name); v != nil {
		if err := v.filled(ctx); err != nil {
			return nil, err
		}
		if obj := v.get(types.NamespacedName{Namespace: namespace, Name: name}); obj != nil {
			return obj, nil
		}
		return nil, apierrors.NewNotFound(k.GroupResource(), name)
	}
	return c.object(ctx, k, request{method: http.MethodGet, path: path(k, namespace, name, "")})
}

// holding is the view that knows for certain whether an object exists; nil if
// there is none.
func (c *Client) holding(k *kind.Kind, namespace, name string) *view {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.whole[k.GroupResource()] {
		return c.viewLocked(selection{kind: k})
	}
	if v := c.views[one(k, namespace, name)]; v != nil && v.ready() {
		return v
	}
	return nil
}

// one selects a single object.
func one(k *kind.Kind, namespace, name string) selection {
	return selection{kind: k, namespace: namespace, name: name}
}

// List implements client.Reader.
func (c *Client) List(ctx context.Context, k *kind.Kind, q client.Query) ([]kind.Object, error) {
	match, err := matcher(k, q)
	if err != nil {
		return nil, err
	}
	var found []kind.Object
	if c.whole[k.GroupResource()] {
		c.mu.Lock()
		v := c.viewLocked(selection{kind: k})
		c.mu.Unlock()
		if err := v.filled(ctx); err != nil {
			return nil, err
		}
		found = v.list(q, match)
	} else {
		all, _, err := c.list(ctx, selected(k, q))
		if err != nil {
			return nil, err
		}
		for _, obj := range all {
			if match(obj) {
				found = append(found, obj)
			}
		}
	}
	slices.SortFunc(found, func(a, b kind.Object) int {
		return cmp.Or(cmp.Compare(a.GetNamespace(), b.GetNamespace()), cmp.Compare(a.GetName(), b.GetName()))
	})
	return found, nil
}

// list asks the server for what s selects.
func (c *Client) list(ctx context.Context, s selection) ([]kind.Object, string, error) {
	r := request{method: http.MethodGet, path: path(s.kind, s.namespace, "", ""), query: s.query()}
	a, err := c.do(ctx, r)
	if err != nil {
		return nil, "", err
	}
	return decodeList(s.kind, a)
}

// Watch implements client.Reader. Its only errors are of a query that is
// wrong: a server that cannot be reached, or refuses, is asked again.
func (c *Client) Watch(ctx context.Context, k *kind.Kind, q client.Query) (client.Watcher, error) {
	match, err := matcher(k, q)
	if err != nil {
		return nil, err
	}
	s := selected(k, q)
	if c.whole[k.GroupResource()] {
		s = selection{kind: k}
	}
	c.mu.Lock()
	v := c.viewLocked(s)
	v.users++
	c.mu.Unlock()
	f := v.follow(ctx, match)
	context.AfterFunc(ctx, func() {
		v.leave(f)
		c.release(v)
	})
	return f, nil
}

// selected is as much of q as a server can be asked for.
func selected(k *kind.Kind, q client.Query) selection {
	s := selection{kind: k, namespace: q.Namespace, name: q.Name}
	if k.Cluster {
		s.namespace = ""
	}
	if q.Labels != nil && !q.Labels.Empty() {
		s.labelSelector = q.Labels.String()
	}
	f := q.Fields
	if q.Index != "" && k.Fields[q.Index] != nil {
		f = and(f, fields.OneTermEqualSelector(q.Index, q.Value))
	}
	if f != nil && !f.Empty() {
		s.fieldSelector = f.String()
	}
	return s
}

func and(a, b fields.Selector) fields.Selector {
	if a == nil {
		return b
	}
	return fields.AndSelectors(a, b)
}

// query is s as parameters of a list or watch.
func (s selection) query() url.Values {
	q := url.Values{}
	if s.labelSelector != "" {
		q.Set("labelSelector", s.labelSelector)
	}
	selector := s.fieldSelector
	if s.name != "" {
		by := fields.OneTermEqualSelector(metav1.ObjectNameField, s.name).String()
		if selector != "" {
			by += "," + selector
		}
		selector = by
	}
	if selector != "" {
		q.Set("fieldSelector", selector)
	}
	return q
}

// String names what is selected, for the log.
func (s selection) String() string {
	text := path(s.kind, s.namespace, "", "")
	if q := s.query(); len(q) > 0 {
		text += "?" + q.Encode()
	}
	return text
}

// matcher is q as a function.
func matcher(k *kind.Kind, q client.Query) (func(kind.Object) bool, error) {
	index := k.Indexes[q.Index]
	if q.Index != "" && index == nil {
		return nil, &fault.Error{Class: fault.Invalid, Op: "list", On: k.String(), Err: fmt.Errorf("there is no index %s", q.Index)}
	}
	if q.Fields != nil {
		for _, r := range q.Fields.Requirements() {
			if r.Field != metav1.ObjectNameField && r.Field != "metadata.namespace" && k.Fields[r.Field] == nil {
				return nil, apierrors.NewBadRequest("field label not supported: " + r.Field)
			}
		}
	}
	return func(o kind.Object) bool {
		return (q.Namespace == "" || k.Cluster || o.GetNamespace() == q.Namespace) &&
			(q.Name == "" || o.GetName() == q.Name) &&
			(index == nil || slices.Contains(index(o), q.Value)) &&
			(q.Labels == nil || q.Labels.Matches(labels.Set(o.GetLabels()))) &&
			(q.Fields == nil || q.Fields.Matches(valuesOf{k, o}))
	}, nil
}

// valuesOf are an object's selectable fields, as package fields asks for them.
type valuesOf struct {
	kind *kind.Kind
	obj  kind.Object
}

// Has implements fields.Fields.
func (v valuesOf) Has(field string) bool {
	return field == metav1.ObjectNameField || field == "metadata.namespace" || v.kind.Fields[field] != nil
}

// Get implements fields.Fields.
func (v valuesOf) Get(field string) string {
	switch field {
	case metav1.ObjectNameField:
		return v.obj.GetName()
	case "metadata.namespace":
		return v.obj.GetNamespace()
	}
	if of := v.kind.Fields[field]; of != nil {
		return of(v.obj)
	}
	return ""
}
