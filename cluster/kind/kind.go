// Package kind says what a kind of object is: everything the API server has
// to know about a Pod that it need not know about a ConfigMap.
//
// The API server is one machine and a table of kinds. A kind is declared by
// one file (see core/configmap.go); a CustomResourceDefinition declares one
// at run time. Nothing outside this package switches on a kind's name.
//
// kind knows no HTTP, no store and no controller.
package kind

import (
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Object is anything the API stores. Objects read from the cache are shared:
// never write to one, DeepCopyObject first.
type Object interface {
	metav1.Object
	runtime.Object
}

// Of declares the kind whose Go type is T, the hub type in which objects are
// cached and stored. Functions may be nil. They are pure: no I/O, no clock but
// the one given, no knowledge of who asks.
type Of[T any] struct {
	GVK        schema.GroupVersionKind // the hub: cached, stored and preferred
	Plural     string                  // path segment and RBAC resource: "configmaps"
	Singular   string                  // default: the kind in lower case
	Short      []string                // what kubectl accepts: "cm"
	Categories []string                // "all"
	Cluster    bool                    // true if objects live outside namespaces

	// Prefix is the path below /registry/ in etcd, upstream's. Default: Plural.
	Prefix string

	// TTL is how long an object lives after its last write; 0: for ever.
	TTL time.Duration

	// Versions are further group versions that serve the same stored objects.
	Versions []Version

	// Stored are versions that are not served and that objects may be stored in
	// all the same, by upstream. Of them, only what is named, New and ToHub count.
	Stored []Version

	// Default fills what the user left out. It runs on every decode, of a
	// request as of a stored object.
	Default func(obj *T)

	// Prepare settles what belongs to the server, not to the user: it drops
	// what may not be set, carries over what may not be taken away. old is nil
	// on create. Status (by the "status" part) and generation (by Spec) are
	// settled by the machine beforehand.
	Prepare func(obj, old *T)

	// Drop takes away what only requests by another version than the hub may set.
	// It runs after Prepare.
	Drop func(obj, old *T)

	// Validate reports every fault of obj, and on update (old is not nil)
	// every change that is not allowed. Metadata is validated by the machine,
	// the name by ValidateName.
	Validate func(obj, old *T) field.ErrorList

	// ValidateName says what is wrong with a name, one message each. prefix is
	// true for a generateName. Default: a DNS subdomain (RFC 1123).
	ValidateName func(name string, prefix bool) []string

	// Warn returns texts for the Warning header: deprecated or odd input.
	Warn func(obj, old *T) []string

	// Spec returns what a user wants, without metadata and status. The machine
	// sets metadata.generation to 1 on create and adds one when Spec changes.
	// Nil: the kind has no generation. (Pods have one since 1.33.)
	Spec func(obj *T) any

	// Parts are subresources whose body is the object itself and that change a
	// part of it: "status", "finalize", "resize", "ephemeralcontainers".
	Parts map[string]Part[T]

	// Actions are subresources whose body is another kind: "binding", "token",
	// "eviction".
	Actions map[string]Action[T]

	// Scale maps the object to autoscaling/v1 Scale. Nil: no scale subresource.
	Scale *Scale[T]

	// Grace decides how an object is deleted gracefully. Nil: at once. It may
	// set opts.GracePeriodSeconds; true means the object is marked with a
	// deletionTimestamp. With more than 0 seconds it stays until it is deleted
	// again with 0.
	Grace func(obj *T, opts *metav1.DeleteOptions) bool

	// Held is true for an object that has to stay although it is being deleted
	// and metadata.finalizers is empty: a Namespace with spec.finalizers.
	Held func(obj *T) bool

	// Leaving changes an object when its deletion begins and it stays: the
	// phase of a Namespace becomes Terminating.
	Leaving func(obj *T)

	// ReturnDeleted is true where the answer to a delete is the object's last
	// state; else it is a Status.
	ReturnDeleted bool

	// Orphan is true where a delete without propagation policy leaves the
	// dependants alone (upstream: ReplicationController in v1 and Job in
	// batch/v1). Default: background collection.
	Orphan bool

	// Uncollected is true where nothing is collected after a delete, whatever
	// policy it names (upstream: Event).
	Uncollected bool

	// Orphaning is said to who deletes without a propagation policy, where Orphan
	// is true and the dependants are missed. Empty: nothing is.
	Orphaning string

	// CreateOnUpdate allows PUT to create (Lease, Event, Endpoints).
	CreateOnUpdate bool

	// Singly is true where there is no deletecollection.
	Singly bool

	// Rechecked is true where an update is held to the rules of generateName
	// too, although the name is there: upstream runs the rules of a new object
	// on updates of some kinds.
	Rechecked bool

	// Unowned are fields of the object that nobody comes to own in managedFields
	// by sending them: "spec". (Status parts are not meant; see Part.)
	Unowned []string

	// AnyFinalizer is true where a finalizer without a domain may have any name.
	// Default: it is one of Kubernetes' own.
	AnyFinalizer bool

	// Conditional is true where an update must name a resourceVersion.
	Conditional bool

	// Columns are what `kubectl get` shows after NAME, Age included. A kind
	// with a column of Format "name" (Event) has no NAME in front.
	Columns []Column[T]

	// Order is the order of the rows that `kubectl get` shows of a list. Nil:
	// that of the list.
	Order func(a, b *T) int

	// Fields are the selectable fields beside metadata.name and
	// metadata.namespace.
	Fields map[string]func(obj *T) string

	// Indexes are further values to look objects up by, with
	// client.Query.Index: "owner" is on every kind. Fields that should be
	// indexed are repeated here under the same name.
	Indexes map[string]func(obj *T) []string

	// Ignored are fields that are served and that nothing acts on yet, as
	// paths with "[*]" for any element: "spec.volumes[*].rbd". A request that
	// sets one is answered with a Warning.
	Ignored []string
}

// Version is a further group version of a kind.
type Version struct {
	GVK     schema.GroupVersionKind
	New     func() Object
	ToHub   func(obj Object) (Object, error) // obj is of this version; it may be kept or changed
	FromHub func(hub Object) (Object, error) // hub is shared: never written to
	Columns []Column[any]                    // nil: the hub's
	Fields  map[string]func(hub Object) string

	// Default fills what an object of this version leaves out, before it is
	// converted. Of.Default fills the rest. May be nil.
	Default func(obj Object)

	// Validate reports faults of a request by this version beside those that
	// the kind reports. Both objects are of the hub. May be nil.
	Validate func(hub, old Object) field.ErrorList

	// Forgive returns those of the faults that the kind reports of obj, a hub,
	// that are faults in this version too. May be nil.
	Forgive func(errs field.ErrorList, obj Object) field.ErrorList

	// Actions are those of this version, in place of the kind's; nil: the kind's.
	Actions map[string]ErasedAction

	// Deprecated is a text for the Warning header of every request by this
	// version. Empty: the Go type says whether there is one.
	Deprecated string

	// Old is true for a version that upstream serves no more (package
	// oldversion).
	Old bool
}

// Part is a subresource that changes a part of its object with a body of the
// same kind.
type Part[T any] struct {
	// Take copies the part from src to dst. For an update of the part, dst is
	// the stored object's copy and src the request; for an update of the main
	// resource, where the part is not to be changed, dst is the request and
	// src the stored object. On create, src is the zero value, and the part is
	// thereby dropped, unless KeepOnCreate says otherwise.
	Take         func(dst, src *T)
	Writable     bool // the main resource may write the part as well
	KeepOnCreate bool // create keeps the part (a Node registers with its status)
	Prepare      func(obj, old *T)
	Validate     func(obj, old *T) field.ErrorList
	WithMetadata bool // what is not the server's in the request's metadata counts too: labels, finalizers, owners

	// Keeps are the fields of metadata that the part leaves as they are all the
	// same: "labels", "ownerReferences", "deletionTimestamp", "generateName".
	Keeps []string
}

// Action is a subresource with a body of another kind. Do changes obj, which
// belongs to it, as body says. Where Do is nil the API server has code of its
// own for it, found by kind and name.
type Action[T any] struct {
	GVK schema.GroupVersionKind

	// Also are further versions of the body, the same but for their name.
	Also []schema.GroupVersionKind

	New func() runtime.Object
	Do  func(obj *T, body runtime.Object) error
}

// Scale maps an object to autoscaling/v1 Scale and back.
type Scale[T any] struct {
	Get func(obj *T) (autoscalingv1.ScaleSpec, autoscalingv1.ScaleStatus)
	Set func(obj *T, replicas int32)
}

// Column is one column of `kubectl get`, defined as in upstream's printers.
type Column[T any] struct {
	Name        string // "Ready"
	Type        string // "string" (default), "integer", "date"
	Format      string // "name" for the name column, else empty
	Description string
	Priority    int32 // 0: always shown, 1: with -o wide
	Cell        func(obj *T, now time.Time) any
}
