package scheduling

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
)

const (
	highestOfUsers = int32(1_000_000_000)
	systemPrefix   = "system-"
)

// SystemClasses are the classes that every cluster has, upstream's. The caller
// owns them.
func SystemClasses() []*schedulingv1.PriorityClass {
	class := func(name string, value int32, description string) *schedulingv1.PriorityClass {
		return &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Value: value, Description: description}
	}
	return []*schedulingv1.PriorityClass{
		class("system-node-critical", 2*highestOfUsers+1000, "Used for system critical pods that must not be moved from their current node."),
		class("system-cluster-critical", 2*highestOfUsers,
			"Used for system critical pods that must run in the cluster, but can be moved to another node if necessary."),
	}
}

// PriorityClass is a name for how important pods are.
func PriorityClass() *kind.Kind {
	doc := schedulingv1.PriorityClass{}.SwaggerDoc()
	return kind.Declare(kind.Of[schedulingv1.PriorityClass]{
		GVK:      schedulingv1.SchemeGroupVersion.WithKind("PriorityClass"),
		Plural:   "priorityclasses",
		Short:    []string{"pc"},
		Cluster:  true,
		Default:  defaultPriorityClass,
		Validate: validatePriorityClass,
		Spec:     func(p *schedulingv1.PriorityClass) any { return p.Value },
		Columns: []kind.Column[schedulingv1.PriorityClass]{
			{Name: "Value", Type: "integer", Description: doc["value"],
				Cell: func(p *schedulingv1.PriorityClass, _ time.Time) any { return int64(p.Value) }},
			{Name: "Global-Default", Type: "boolean", Description: doc["globalDefault"],
				Cell: func(p *schedulingv1.PriorityClass, _ time.Time) any { return p.GlobalDefault }},
			kind.Age[schedulingv1.PriorityClass](),
			{Name: "PreemptionPolicy", Description: doc["preemptionPolicy"],
				Cell: func(p *schedulingv1.PriorityClass, _ time.Time) any {
					if p.PreemptionPolicy == nil {
						return ""
					}
					return string(*p.PreemptionPolicy)
				}},
		},
	})
}

func defaultPriorityClass(p *schedulingv1.PriorityClass) {
	if p.PreemptionPolicy == nil {
		policy := corev1.PreemptLowerPriority
		p.PreemptionPolicy = &policy
	}
}

func validatePriorityClass(p, old *schedulingv1.PriorityClass) (errs field.ErrorList) {
	if old != nil {
		if p.Value != old.Value {
			errs = append(errs, field.Forbidden(field.NewPath("value"), "may not be changed in an update."))
		}
		return append(errs, kind.Immutable(p.PreemptionPolicy, old.PreemptionPolicy, field.NewPath("preemptionPolicy"))...)
	}
	if strings.HasPrefix(p.Name, systemPrefix) {
		if why := notSystem(p); why != "" {
			errs = append(errs, field.Forbidden(field.NewPath("metadata", "name"),
				"priority class names with '"+systemPrefix+"' prefix are reserved for system use only. error: "+why))
		}
	} else if p.Value > highestOfUsers {
		errs = append(errs, field.Forbidden(field.NewPath("value"),
			fmt.Sprintf("maximum allowed value of a user defined priority is %v", highestOfUsers)))
	}
	if p.PreemptionPolicy != nil {
		errs = append(errs, kind.OneOf(*p.PreemptionPolicy, field.NewPath("preemptionPolicy"),
			corev1.PreemptLowerPriority, corev1.PreemptNever)...)
	}
	return errs
}

// notSystem says why p is none of the system's classes; empty: it is one.
func notSystem(p *schedulingv1.PriorityClass) string {
	for _, c := range SystemClasses() {
		switch {
		case c.Name != p.Name:
		case c.Value != p.Value:
			return fmt.Sprintf("value of %v PriorityClass must be %v", c.Name, c.Value)
		case p.GlobalDefault:
			return fmt.Sprintf("globalDefault of %v PriorityClass must be false", c.Name)
		default:
			return ""
		}
	}
	return fmt.Sprintf("%v is not a known system priority class", p.Name)
}
