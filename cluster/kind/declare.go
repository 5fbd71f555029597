package kind

import (
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Kind is a declared kind with its Go type erased, as the API server uses it.
// Every function is set, whatever the declaration left out; maps may be nil.
type Kind struct {
	GVK        schema.GroupVersionKind
	Plural     string
	Singular   string
	Short      []string
	Categories []string
	Cluster    bool
	Prefix     string
	TTL        time.Duration
	Versions   []Version // the hub is not among them
	Stored     []Version // not served, but read from the store

	Type           reflect.Type // pointer type of the hub; nil for kinds declared at run time
	New            func() Object
	Default        func(obj Object)
	Prepare        func(obj, old Object)
	Drop           func(obj, old Object)
	Validate       func(obj, old Object) field.ErrorList
	ValidateName   func(name string, prefix bool) []string
	Warn           func(obj, old Object) []string
	Spec           func(obj Object) any // nil: no generation
	Grace          func(obj Object, opts *metav1.DeleteOptions) bool
	Held           func(obj Object) bool
	Leaving        func(obj Object)
	ReturnDeleted  bool
	Orphaning      string
	Orphan         bool
	Uncollected    bool
	CreateOnUpdate bool
	Conditional    bool
	Singly         bool
	Rechecked      bool
	AnyFinalizer   bool
	Unowned        []string
	Parts          map[string]ErasedPart
	Actions        map[string]ErasedAction
	Scale          *ErasedScale // nil: none
	Columns        []ErasedColumn
	Order          func(a, b Object) int // nil: that of the list
	Fields         map[string]func(obj Object) string
	Indexes        map[string]func(obj Object) []string
	Ignored        []string

	Custom *Custom // nil but for kinds declared at run time

	ignored func() []ignoredStep // Ignored, for IgnoredSet; made when first asked for
}

// ErasedPart is a Part without its Go type.
type ErasedPart struct {
	Take         func(dst, src Object)
	Writable     bool
	KeepOnCreate bool
	Prepare      func(obj, old Object)
	Validate     func(obj, old Object) field.ErrorList
	WithMetadata bool
	Keeps        []string
}

// Put changes the part in dst, a whole object, to what src has in it, with as
// much of src's metadata as the part lets through. (What of it a request may
// not change is said by the rules of metadata.)
func (p ErasedPart) Put(dst, src Object) {
	p.Take(dst, src)
	takes := func(name string) bool { return !slices.Contains(p.Keeps, name) }
	if takes("generateName") {
		dst.SetGenerateName(src.GetGenerateName())
		dst.SetDeletionGracePeriodSeconds(src.GetDeletionGracePeriodSeconds())
	}
	if !p.WithMetadata {
		return
	}
	if takes("labels") {
		dst.SetLabels(src.GetLabels())
	}
	dst.SetAnnotations(src.GetAnnotations())
	dst.SetFinalizers(src.GetFinalizers())
	if takes("ownerReferences") {
		dst.SetOwnerReferences(src.GetOwnerReferences())
	}
	if takes("deletionTimestamp") {
		dst.SetDeletionTimestamp(src.GetDeletionTimestamp())
	}
}

// ErasedAction is an Action without its Go type. Do may be nil.
type ErasedAction struct {
	GVK  schema.GroupVersionKind
	Also []schema.GroupVersionKind
	New  func() runtime.Object
	Do   func(obj Object, body runtime.Object) error

	// Check refuses a body before its object is looked for. May be nil.
	Check func(name string, body runtime.Object) error

	// Said is what the answer to an action tells of its success, with code 200
	// in its body as well. May be nil: nothing, and 201.
	Said func(name string) string
}

// ActionsAs are the actions of objects that are asked for as gvk.
func (k *Kind) ActionsAs(gvk schema.GroupVersionKind) map[string]ErasedAction {
	if v := k.Version(gvk); v != nil && v.Actions != nil {
		return v.Actions
	}
	return k.Actions
}

// ErasedScale is a Scale without its Go type.
type ErasedScale struct {
	Get func(obj Object) (autoscalingv1.ScaleSpec, autoscalingv1.ScaleStatus)
	Set func(obj Object, replicas int32)

	Check func(obj Object) error // may be nil: an object without replicas has no scale
	Path  []string               // of the replicas; nil: spec.replicas
}

// ErasedColumn is a Column without its Go type.
type ErasedColumn struct {
	metav1.TableColumnDefinition
	Cell func(obj Object, now time.Time) any
}

// OwnerIndex is the index by owner that every kind has: the UIDs of
// metadata.ownerReferences.
const OwnerIndex = "owner"

// GVR is the kind's hub as a resource.
func (k *Kind) GVR() schema.GroupVersionResource { return k.GVK.GroupVersion().WithResource(k.Plural) }

// GroupResource names the kind in errors and RBAC rules.
func (k *Kind) GroupResource() schema.GroupResource { return k.GVR().GroupResource() }

// String is the plural with its group: "deployments.apps".
func (k *Kind) String() string { return k.GroupResource().String() }

// Declare erases the type of d. It is called once per kind, from the table.
func Declare[T any, P interface {
	*T
	Object
}](d Of[T]) *Kind {
	typed := func(o Object) *T {
		if o == nil {
			return nil
		}
		return (*T)(o.(P))
	}
	pair := func(f func(obj, old *T)) func(obj, old Object) {
		if f == nil {
			return func(_, _ Object) {}
		}
		return func(obj, old Object) { f(typed(obj), typed(old)) }
	}
	rules := func(f func(obj, old *T) field.ErrorList) func(obj, old Object) field.ErrorList {
		if f == nil {
			return func(_, _ Object) field.ErrorList { return nil }
		}
		return func(obj, old Object) field.ErrorList { return f(typed(obj), typed(old)) }
	}
	k := &Kind{
		GVK: d.GVK, Plural: d.Plural, Singular: d.Singular, Short: d.Short, Categories: d.Categories,
		Cluster: d.Cluster, Prefix: d.Prefix, TTL: d.TTL, Versions: d.Versions, Stored: d.Stored,
		Type:          reflect.TypeFor[P](),
		New:           func() Object { return P(new(T)) },
		Default:       func(Object) {},
		Prepare:       pair(d.Prepare),
		Drop:          pair(d.Drop),
		Validate:      rules(d.Validate),
		ValidateName:  d.ValidateName,
		Warn:          func(_, _ Object) []string { return nil },
		Grace:         func(Object, *metav1.DeleteOptions) bool { return false },
		Held:          func(Object) bool { return false },
		Leaving:       func(Object) {},
		ReturnDeleted: d.ReturnDeleted,
		Orphaning:     d.Orphaning,
		Orphan:        d.Orphan, Uncollected: d.Uncollected, CreateOnUpdate: d.CreateOnUpdate, Conditional: d.Conditional, Singly: d.Singly,
		Rechecked: d.Rechecked, AnyFinalizer: d.AnyFinalizer, Unowned: d.Unowned,
		Parts: map[string]ErasedPart{}, Actions: map[string]ErasedAction{},
		Fields: map[string]func(Object) string{}, Indexes: map[string]func(Object) []string{},
		Ignored: d.Ignored, ignored: sync.OnceValue(func() []ignoredStep { return compileIgnored(reflect.TypeFor[T](), d.Ignored) }),
	}
	if d.Order != nil {
		k.Order = func(a, b Object) int { return d.Order(typed(a), typed(b)) }
	}
	if k.Singular == "" {
		k.Singular = strings.ToLower(d.GVK.Kind)
	}
	if k.Prefix == "" {
		k.Prefix = d.Plural
	}
	if k.ValidateName == nil {
		k.ValidateName = validation.NameIsDNSSubdomain
	}
	if d.Default != nil {
		k.Default = func(obj Object) { d.Default(typed(obj)) }
	}
	if d.Warn != nil {
		k.Warn = func(obj, old Object) []string { return d.Warn(typed(obj), typed(old)) }
	}
	if d.Spec != nil {
		k.Spec = func(obj Object) any { return d.Spec(typed(obj)) }
	}
	if d.Grace != nil {
		k.Grace = func(obj Object, o *metav1.DeleteOptions) bool { return d.Grace(typed(obj), o) }
	}
	if d.Held != nil {
		k.Held = func(obj Object) bool { return d.Held(typed(obj)) }
	}
	if d.Leaving != nil {
		k.Leaving = func(obj Object) { d.Leaving(typed(obj)) }
	}
	for name, p := range d.Parts {
		k.Parts[name] = ErasedPart{
			Take:     func(dst, src Object) { p.Take(typed(dst), typed(src)) },
			Writable: p.Writable, KeepOnCreate: p.KeepOnCreate, WithMetadata: p.WithMetadata, Keeps: p.Keeps,
			Prepare: pair(p.Prepare), Validate: rules(p.Validate),
		}
	}
	for name, a := range d.Actions {
		e := ErasedAction{GVK: a.GVK, Also: a.Also, New: a.New}
		if a.Do != nil {
			e.Do = func(obj Object, body runtime.Object) error { return a.Do(typed(obj), body) }
		}
		k.Actions[name] = e
	}
	if s := d.Scale; s != nil {
		k.Scale = &ErasedScale{
			Get: func(obj Object) (autoscalingv1.ScaleSpec, autoscalingv1.ScaleStatus) { return s.Get(typed(obj)) },
			Set: func(obj Object, n int32) { s.Set(typed(obj), n) },
		}
	}
	for name, f := range d.Fields {
		k.Fields[name] = func(obj Object) string { return f(typed(obj)) }
	}
	for name, f := range d.Indexes {
		k.Indexes[name] = func(obj Object) []string { return f(typed(obj)) }
	}
	k.Indexes[OwnerIndex] = owners
	k.Columns = columns(d.Columns, typed)
	return k
}

func owners(obj Object) []string {
	refs := obj.GetOwnerReferences()
	uids := make([]string, len(refs))
	for i, r := range refs {
		uids[i] = string(r.UID)
	}
	return uids
}

func columns[T any](declared []Column[T], typed func(Object) *T) []ErasedColumn {
	var all []ErasedColumn
	if len(declared) == 0 {
		declared = []Column[T]{{Name: "Created At", Type: "date", Description: metav1.ObjectMeta{}.SwaggerDoc()["creationTimestamp"],
			Cell: func(obj *T, _ time.Time) any {
				return any(obj).(metav1.Object).GetCreationTimestamp().UTC().Format(time.RFC3339)
			}}}
	}
	if !slices.ContainsFunc(declared, func(c Column[T]) bool { return c.Format == "name" }) {
		all = append(all, ErasedColumn{
			TableColumnDefinition: metav1.TableColumnDefinition{Name: "Name", Type: "string", Format: "name",
				Description: metav1.ObjectMeta{}.SwaggerDoc()["name"]},
			Cell: func(obj Object, _ time.Time) any { return obj.GetName() },
		})
	}
	for _, c := range declared {
		if c.Type == "" {
			c.Type = "string"
		}
		all = append(all, ErasedColumn{
			TableColumnDefinition: metav1.TableColumnDefinition{
				Name: c.Name, Type: c.Type, Format: c.Format, Description: c.Description, Priority: c.Priority},
			Cell: func(obj Object, now time.Time) any { return c.Cell(typed(obj), now) },
		})
	}
	return all
}
