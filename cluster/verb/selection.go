package verb

import (
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validate/content"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
	"sampan/cluster/object"
	"sampan/cluster/request"
	"sampan/cluster/store"
)

// selected is which objects of a kind a list or a watch is about.
type selected struct {
	kind      *kind.Kind
	gvk       schema.GroupVersionKind // the version asked for, for messages
	namespace string                  // empty: all
	name      string                  // empty: all
	labels    labels.Selector
	fields    []func(obj kind.Object) bool

	// index and value narrow down where to look; the fields decide.
	index, value string
}

// selectedBy reads the selectors of a request. What else is wrong with its
// options, as valid sees it, is said after what cannot be read, and before the
// fields that cannot be selected by: upstream's order.
func selectedBy(r request.Request, o metav1.ListOptions, valid func(metav1.ListOptions) field.ErrorList) (*selected, error) {
	s := &selected{kind: r.Kind, gvk: r.GVK, namespace: r.Namespace, name: r.Name}
	if r.Kind.Cluster {
		s.namespace = ""
	}
	if o.LabelSelector != "" {
		l, err := labels.Parse(o.LabelSelector)
		if err != nil {
			return nil, apierrors.NewBadRequest(err.Error())
		}
		s.labels = l
	}
	var f fields.Selector
	if o.FieldSelector != "" {
		var err error
		if f, err = fields.ParseSelector(o.FieldSelector); err != nil {
			return nil, apierrors.NewBadRequest(err.Error())
		}
	}
	if errs := valid(o); len(errs) > 0 {
		return nil, invalidOptions("ListOptions", errs...)
	}
	if err := spaced(r); err != nil {
		return nil, err
	}
	if f != nil {
		if err := s.require(f, selectable(r)); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Selectable says what is wrong with the selectors and the other options of the
// delete of a collection, for who reads its body after them, as upstream does.
func Selectable(r request.Request, o metav1.ListOptions) error {
	_, err := selectedBy(r, o, validListOptions)
	return err
}

// narrowed adds to a request what its selectors narrow it down to, so that who
// may not see all can still be let see some: a node its own pods, a user the
// one object that a role names. What does not read narrows nothing and is
// refused later, by those who select. (Upstream: RequestInfo; KEP-4601.)
func narrowed(r request.Request, o metav1.ListOptions) request.Request {
	if o.LabelSelector != "" {
		if l, err := labels.Parse(o.LabelSelector); err == nil {
			r.Labels = l
		}
	}
	if o.FieldSelector == "" {
		return r
	}
	f, err := fields.ParseSelector(o.FieldSelector)
	if err != nil {
		return r
	}
	r.Fields = f
	if name, ok := f.RequiresExactMatch("metadata.name"); ok && r.Name == "" && len(content.IsPathSegmentName(name)) == 0 {
		r.Name = name
	}
	return r
}

// selectable are the fields that the version asked for can be selected by.
func selectable(r request.Request) map[string]func(kind.Object) string {
	for _, v := range r.Kind.Versions {
		if v.GVK == r.GVK && v.Fields != nil {
			return v.Fields
		}
	}
	return r.Kind.Fields
}

func (s *selected) require(f fields.Selector, known map[string]func(kind.Object) string) error {
	for _, q := range f.Requirements() {
		equal := q.Operator != selection.NotEquals
		compare := func(of func(kind.Object) string) {
			s.fields = append(s.fields, func(obj kind.Object) bool { return (of(obj) == q.Value) == equal })
		}
		switch {
		case q.Field == "metadata.name":
			compare(kind.Object.GetName)
			if equal && s.name == "" {
				s.name = q.Value
			}
		case q.Field == "metadata.namespace" && !(s.kind.Cluster && (len(known) > 0 || s.kind.Custom != nil)):
			compare(kind.Object.GetNamespace)
			if equal && s.namespace == "" && !s.kind.Cluster {
				s.namespace = q.Value
			}
		case known[q.Field] != nil:
			compare(known[q.Field])
			if equal && s.kind.Indexes[q.Field] != nil {
				s.index, s.value = q.Field, q.Value
			}
		default:
			return apierrors.NewBadRequest(s.unselectable(q.Field, len(known)))
		}
	}
	return nil
}

// unselectable says that a field cannot be selected by, in the words that
// upstream's kinds have for it.
func (s *selected) unselectable(name string, known int) string {
	switch gvk := s.gvk; {
	case gvk.Group == "batch" && gvk.Kind == "Job":
		return fmt.Sprintf("field label %q not supported for Job", name)
	case gvk.Group == "resource.k8s.io" && gvk.Kind == "ResourceSlice":
		return fmt.Sprintf("field label not supported for %s: %s", gvk, name)
	case known == 0 && s.kind.Custom == nil:
		return fmt.Sprintf("%q is not a known field selector: only %q, %q", name, "metadata.name", "metadata.namespace")
	}
	return "field label not supported: " + name
}

// all is true if nothing but the namespace selects.
func (s *selected) all() bool {
	return s.name == "" && len(s.fields) == 0 && (s.labels == nil || s.labels.Empty())
}

// matches says whether obj, which is not nil, is selected.
func (s *selected) matches(obj kind.Object) bool {
	if s.namespace != "" && obj.GetNamespace() != s.namespace || s.name != "" && obj.GetName() != s.name {
		return false
	}
	for _, holds := range s.fields {
		if !holds(obj) {
			return false
		}
	}
	return s.labels == nil || s.labels.Matches(labels.Set(obj.GetLabels()))
}

// prepare has the objects of a list converted, many at a time, that are to be
// selected by fields which the version asked for has: what cannot be converted
// is an error, and not an object that is not selected.
func (s *selected) prepare(r request.Request, l *store.List) error {
	if s.kind.Custom == nil || len(s.fields) == 0 {
		return nil
	}
	others := *s
	others.fields = nil
	const some = 500
	var batch []kind.Object
	for obj := range l.All() {
		if others.matches(obj) {
			batch = append(batch, obj)
		}
		if len(batch) == some {
			if _, err := object.AllAs(s.kind, batch, r.GVK); err != nil {
				return err
			}
			batch = batch[:0]
		}
	}
	_, err := object.AllAs(s.kind, batch, r.GVK)
	return err
}
