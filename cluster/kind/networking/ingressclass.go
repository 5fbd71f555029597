package networking

import (
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
)

const maxController = 250

// IngressClass says which controller serves the ingresses that name it.
func IngressClass() *kind.Kind {
	return kind.Declare(kind.Of[networkingv1.IngressClass]{
		GVK:       networkingv1.SchemeGroupVersion.WithKind("IngressClass"),
		Plural:    "ingressclasses",
		Rechecked: true,
		Cluster:   true,
		Default: func(c *networkingv1.IngressClass) {
			if p := c.Spec.Parameters; p != nil && p.Scope == nil {
				scope := networkingv1.IngressClassParametersReferenceScopeCluster
				p.Scope = &scope
			}
		},
		Validate: validateIngressClass,
		Spec:     func(c *networkingv1.IngressClass) any { return &c.Spec },
		Columns: []kind.Column[networkingv1.IngressClass]{
			{Name: "Name", Format: "name", Description: metav1.ObjectMeta{}.SwaggerDoc()["name"],
				Cell: func(c *networkingv1.IngressClass, _ time.Time) any {
					if c.Annotations[networkingv1.AnnotationIsDefaultIngressClass] == "true" {
						return c.Name + " (default)"
					}
					return c.Name
				}},
			{Name: "Controller", Description: "Controller that is responsible for handling this class",
				Cell: func(c *networkingv1.IngressClass, _ time.Time) any { return c.Spec.Controller }},
			{Name: "Parameters", Description: "A reference to a resource with additional parameters",
				Cell: func(c *networkingv1.IngressClass, _ time.Time) any {
					p := c.Spec.Parameters
					if p == nil {
						return "<none>"
					}
					text := p.Kind
					if p.APIGroup != nil {
						text += "." + *p.APIGroup
					}
					return text + "/" + p.Name
				}},
			kind.Age[networkingv1.IngressClass](),
		},
	})
}

func validateIngressClass(c, old *networkingv1.IngressClass) (errs field.ErrorList) {
	spec, s := field.NewPath("spec"), &c.Spec
	controller := spec.Child("controller")
	if old != nil {
		errs = append(errs, kind.Immutable(s.Controller, old.Spec.Controller, controller)...)
	}
	if len(s.Controller) > maxController {
		errs = append(errs, field.TooLong(controller, "", maxController))
	}
	errs = append(errs, validation.IsDomainPrefixedPath(controller, s.Controller)...)
	if s.Parameters != nil {
		errs = append(errs, classParameters(s.Parameters, spec.Child("parameters"))...)
	}
	return errs
}

func classParameters(p *networkingv1.IngressClassParametersReference, path *field.Path) (errs field.ErrorList) {
	if p.APIGroup != nil {
		errs = append(errs, kind.DNSSubdomain(*p.APIGroup, path.Child("apiGroup"))...)
	}
	errs = append(errs, segment(p.Kind, path.Child("kind"))...)
	errs = append(errs, segment(p.Name, path.Child("name"))...)
	if p.Scope == nil {
		return append(errs, field.Required(path.Child("scope"), ""))
	}
	ns := path.Child("namespace")
	switch *p.Scope {
	case networkingv1.IngressClassParametersReferenceScopeNamespace:
		if p.Namespace == nil {
			return append(errs, field.Required(ns, "`parameters.scope` is set to 'Namespace'"))
		}
		for _, msg := range apivalidation.ValidateNamespaceName(*p.Namespace, false) {
			errs = append(errs, field.Invalid(ns, *p.Namespace, msg))
		}
	case networkingv1.IngressClassParametersReferenceScopeCluster:
		if p.Namespace != nil {
			errs = append(errs, field.Forbidden(ns, "`parameters.scope` is set to 'Cluster'"))
		}
	default:
		errs = append(errs, field.NotSupported(path.Child("scope"), *p.Scope, []string{
			networkingv1.IngressClassParametersReferenceScopeCluster, networkingv1.IngressClassParametersReferenceScopeNamespace}))
	}
	return errs
}
