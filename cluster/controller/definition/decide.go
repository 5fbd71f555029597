package definition

import (
	"fmt"
	"reflect"
	"slices"
	"time"

	"k8s.io/apiextensions-apiserver/pkg/apihelpers"
	internal "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structural "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

type (
	definition = apiextensionsv1.CustomResourceDefinition
	condition  = apiextensionsv1.CustomResourceDefinitionCondition
)

// decide returns d with the status that it should have, a pure function of the
// definitions there are, of what is wrong with its schemas (nil: nothing), and
// of whether its objects are served by now. The spec is d's own, shared. The
// reasons and messages are upstream's (controller/status, nonstructuralschema,
// apiapproval, establish).
func decide(d *definition, all []*definition, faults *condition, served bool, now time.Time) *definition {
	next := shallow(d)
	if !equality.Semantic.DeepEqual(d.Spec.Names, d.Status.AcceptedNames) {
		name(next, all, now)
	}
	if faults != nil {
		set(next, *faults, now)
	} else {
		apihelpers.RemoveCRDCondition(next, apiextensionsv1.NonStructuralSchema)
	}
	if c := approval(d); c != nil {
		set(next, *c, now)
	}
	if served && isTrue(next, apiextensionsv1.NamesAccepted) && !isTrue(next, apiextensionsv1.Established) {
		set(next, condition{Type: apiextensionsv1.Established, Status: apiextensionsv1.ConditionTrue,
			Reason: "InitialNamesAccepted", Message: "the initial names have been accepted"}, now)
	}
	return next
}

// name gives d, which belongs to it, those of the names it asks for that nobody
// in its group has.
func name(d *definition, all []*definition, now time.Time) {
	resources, kinds := sets.New[string](), sets.New[string]()
	for _, other := range all {
		if other.Spec.Group != d.Spec.Group {
			continue
		}
		has := other.Status.AcceptedNames
		resources.Insert(has.Plural, has.Singular)
		resources.Insert(has.ShortNames...)
		kinds.Insert(has.Kind, has.ListKind)
	}
	asked, has := d.Spec.Names, &d.Status.AcceptedNames
	accepted := condition{Type: apiextensionsv1.NamesAccepted, Status: apiextensionsv1.ConditionTrue,
		Reason: "NoConflicts", Message: "no conflicts found"}
	refuse := func(reason string, err error) {
		accepted.Status, accepted.Reason, accepted.Message = apiextensionsv1.ConditionFalse, reason, err.Error()
	}
	free := func(want, have string, taken sets.Set[string]) error {
		if want == have || !taken.Has(want) {
			return nil
		}
		return fmt.Errorf("%q is already in use", want)
	}
	one := func(want string, have *string, taken sets.Set[string], reason string) {
		if err := free(want, *have, taken); err != nil {
			refuse(reason, err)
		} else {
			*have = want
		}
	}
	one(asked.Plural, &has.Plural, resources, "PluralConflict")
	one(asked.Singular, &has.Singular, resources, "SingularConflict")
	if !reflect.DeepEqual(asked.ShortNames, has.ShortNames) {
		var errs []error
		for _, short := range asked.ShortNames {
			if !slices.Contains(has.ShortNames, short) {
				if err := free(short, "", resources); err != nil {
					errs = append(errs, err)
				}
			}
		}
		if err := utilerrors.NewAggregate(errs); err != nil {
			refuse("ShortNamesConflict", err)
		} else {
			has.ShortNames = slices.Clone(asked.ShortNames)
		}
	}
	one(asked.Kind, &has.Kind, kinds, "KindConflict")
	one(asked.ListKind, &has.ListKind, kinds, "ListKindConflict")
	has.Categories = slices.Clone(asked.Categories)

	set(d, accepted, now)
	if isTrue(d, apiextensionsv1.Established) {
		return
	}
	established := condition{Type: apiextensionsv1.Established, Status: apiextensionsv1.ConditionFalse,
		Reason: "NotAccepted", Message: "not all names are accepted"}
	if accepted.Status == apiextensionsv1.ConditionTrue {
		established.Reason, established.Message = "Installing", "the initial names have been accepted"
	}
	set(d, established, now)
}

// nonStructural says what keeps a definition's schemas from being structural,
// which those made in v1beta1 may be; nil if nothing does.
func nonStructural(d *definition) *condition {
	c := condition{Type: apiextensionsv1.NonStructuralSchema, Status: apiextensionsv1.ConditionUnknown}
	var errs field.ErrorList
	if d.Spec.PreserveUnknownFields {
		errs = append(errs, field.Invalid(field.NewPath("spec", "preserveUnknownFields"), true, "must be false"))
	}
	for i, v := range d.Spec.Versions {
		if v.Schema == nil || v.Schema.OpenAPIV3Schema == nil {
			continue
		}
		props := &internal.JSONSchemaProps{}
		err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(v.Schema.OpenAPIV3Schema.DeepCopy(), props, nil)
		var s *structural.Structural
		if err == nil {
			s, err = structural.NewStructural(props)
		}
		if err != nil {
			c.Reason, c.Message = "StructuralError", fmt.Sprintf("failed to check validation schema for version %s: %v", v.Name, err)
			return &c
		}
		errs = append(errs, structural.ValidateStructural(
			field.NewPath("spec", "versions").Index(i).Child("schema", "openAPIV3Schema"), s)...)
	}
	if len(errs) == 0 {
		return nil
	}
	c.Status, c.Reason, c.Message = apiextensionsv1.ConditionTrue, "Violations", errs.ToAggregate().Error()
	return &c
}

// approval says whether a definition may be in one of Kubernetes' own groups;
// nil if it is in another.
func approval(d *definition) *condition {
	if !apihelpers.IsProtectedCommunityGroup(d.Spec.Group) {
		return nil
	}
	c := condition{Type: apiextensionsv1.KubernetesAPIApprovalPolicyConformant, Status: apiextensionsv1.ConditionFalse}
	state, why := apihelpers.GetAPIApprovalState(d.Annotations)
	c.Message = why
	switch state {
	case apihelpers.APIApprovalInvalid:
		c.Reason = "InvalidAnnotation"
	case apihelpers.APIApprovalMissing:
		c.Reason = "MissingAnnotation"
	case apihelpers.APIApproved:
		c.Status, c.Reason = apiextensionsv1.ConditionTrue, "ApprovedAnnotation"
	case apihelpers.APIApprovalBypassed:
		c.Reason = "UnapprovedAnnotation"
	default:
		c.Status, c.Reason = apiextensionsv1.ConditionUnknown, "UnknownAnnotation"
	}
	return &c
}

// What is said of a definition while it ends. (Upstream: controller/finalizer.)
var (
	inProgress = condition{Type: apiextensionsv1.Terminating, Status: apiextensionsv1.ConditionTrue,
		Reason: "InstanceDeletionInProgress", Message: "CustomResource deletion is in progress"}
	neverEstablished = condition{Type: apiextensionsv1.Terminating, Status: apiextensionsv1.ConditionFalse,
		Reason: "NeverEstablished", Message: "resource was never established"}
	completed = condition{Type: apiextensionsv1.Terminating, Status: apiextensionsv1.ConditionFalse,
		Reason: "InstanceDeletionCompleted", Message: "removed all instances"}
)

// with is d with a condition.
func with(d *definition, c condition, now time.Time) *definition {
	next := shallow(d)
	set(next, c, now)
	return next
}

// shallow is a copy of d of which all may be changed but the spec, which may be
// long.
func shallow(d *definition) *definition {
	return &definition{TypeMeta: d.TypeMeta, ObjectMeta: *d.ObjectMeta.DeepCopy(), Spec: d.Spec, Status: *d.Status.DeepCopy()}
}

// ended is d with nothing that holds it any more.
func ended(d *definition, c condition, now time.Time) *definition {
	next := with(d, c, now)
	apihelpers.CRDRemoveFinalizer(next, apiextensionsv1.CustomResourceCleanupFinalizer)
	return next
}

func cleansUp(d *definition) bool {
	return apihelpers.CRDHasFinalizer(d, apiextensionsv1.CustomResourceCleanupFinalizer)
}

func isTrue(d *definition, t apiextensionsv1.CustomResourceDefinitionConditionType) bool {
	return apihelpers.IsCRDConditionTrue(d, t)
}

// set puts a condition into d, which belongs to it. The time changes with the
// status alone.
func set(d *definition, c condition, now time.Time) {
	c.LastTransitionTime = metav1.NewTime(now.Truncate(time.Second))
	for i, have := range d.Status.Conditions {
		if have.Type != c.Type {
			continue
		}
		if have.Status == c.Status && !have.LastTransitionTime.IsZero() {
			c.LastTransitionTime = have.LastTransitionTime
		}
		d.Status.Conditions[i] = c
		return
	}
	d.Status.Conditions = append(d.Status.Conditions, c)
}
