// Package apiregistration declares the kind of apiregistration.k8s.io: which
// server answers for a group version, and in which order discovery names them.
package apiregistration

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/validation/path"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"sampan/cluster/kind"
)

// Kinds is the table of this group.
func Kinds() []*kind.Kind { return []*kind.Kind{APIService()} }

// APIService says who answers for one version of one group: this server, or
// one behind a service.
func APIService() *kind.Kind {
	return kind.Declare(kind.Of[apiregistrationv1.APIService]{
		GVK:          apiregistrationv1.SchemeGroupVersion.WithKind("APIService"),
		Plural:       "apiservices",
		AnyFinalizer: true,
		Categories:   []string{"api-extensions"},
		Cluster:      true,
		Prefix:       "apiregistration.k8s.io/apiservices",
		Conditional:  true,
		Default:      defaultService,
		Prepare:      prepareService,
		Validate:     validateService,
		// That it is the version and the group, validateService looks at.
		ValidateName: path.ValidatePathSegmentName,
		Parts: map[string]kind.Part[apiregistrationv1.APIService]{
			"status": {
				Take:     func(dst, src *apiregistrationv1.APIService) { dst.Status = src.Status },
				Validate: validateStatus,
			},
		},
		Columns: []kind.Column[apiregistrationv1.APIService]{
			{Name: "Service", Description: "The reference to the service that hosts this API endpoint.",
				Cell: func(s *apiregistrationv1.APIService, _ time.Time) any { return serviceCell(s) }},
			{Name: "Available", Description: "Whether this service is available.",
				Cell: func(s *apiregistrationv1.APIService, _ time.Time) any { return availableCell(s) }},
			kind.Age[apiregistrationv1.APIService](),
		},
	})
}

// Name is what an APIService of gv is called.
func Name(gv schema.GroupVersion) string { return gv.Version + "." + gv.Group }

// Condition is the condition Available of s, or nil.
func Condition(s *apiregistrationv1.APIService) *apiregistrationv1.APIServiceCondition {
	i := slices.IndexFunc(s.Status.Conditions, func(c apiregistrationv1.APIServiceCondition) bool { return c.Type == apiregistrationv1.Available })
	if i < 0 {
		return nil
	}
	return &s.Status.Conditions[i]
}

// Local is the condition of what this server answers for itself.
func Local(now time.Time) apiregistrationv1.APIServiceCondition {
	return apiregistrationv1.APIServiceCondition{Type: apiregistrationv1.Available, Status: apiregistrationv1.ConditionTrue,
		LastTransitionTime: metav1.NewTime(now.Truncate(time.Second)), Reason: "Local", Message: "Local APIServices are always available"}
}

func defaultService(s *apiregistrationv1.APIService) {
	if r := s.Spec.Service; r != nil && r.Port == nil {
		apiregistrationv1.SetDefaults_ServiceReference(r)
	}
}

// prepareService: nobody has to look whether this server is there.
func prepareService(s, old *apiregistrationv1.APIService) {
	if old == nil && s.Spec.Service == nil {
		s.Status.Conditions = []apiregistrationv1.APIServiceCondition{Local(time.Now())}
	}
}

func serviceCell(s *apiregistrationv1.APIService) string {
	if r := s.Spec.Service; r != nil {
		return r.Namespace + "/" + r.Name
	}
	return "Local"
}

func availableCell(s *apiregistrationv1.APIService) string {
	c := Condition(s)
	switch {
	case c == nil:
		return string(apiregistrationv1.ConditionUnknown)
	case c.Status == apiregistrationv1.ConditionTrue || c.Reason == "":
		return string(c.Status)
	}
	return fmt.Sprintf("%s (%s)", c.Status, c.Reason)
}

// validateService is upstream's ValidateAPIService, of
// kube-aggregator/pkg/apis/apiregistration/validation.
func validateService(s, _ *apiregistrationv1.APIService) (errs field.ErrorList) {
	spec := &s.Spec
	name := spec.Version + "." + spec.Group
	for _, given := range []struct{ field, value string }{{"generateName", s.GenerateName}, {"name", s.Name}} {
		if given.value != "" && given.value != name && len(path.IsValidPathSegmentName(given.value)) == 0 {
			errs = append(errs, field.Invalid(field.NewPath("metadata", given.field), given.value,
				fmt.Sprintf("must be `spec.version+\".\"+spec.group`: %q", name)))
		}
	}
	at := field.NewPath("spec")
	if spec.Group == "" && spec.Version != "v1" {
		errs = append(errs, field.Required(at.Child("group"), "only v1 may have an empty group and it better be legacy kube"))
	}
	if spec.Group != "" {
		for _, msg := range validation.IsDNS1123Subdomain(spec.Group) {
			errs = append(errs, field.Invalid(at.Child("group"), spec.Group, msg))
		}
	}
	for _, msg := range validation.IsDNS1035Label(spec.Version) {
		errs = append(errs, field.Invalid(at.Child("version"), spec.Version, msg))
	}
	if n := spec.GroupPriorityMinimum; n <= 0 || n > 20000 {
		errs = append(errs, field.Invalid(at.Child("groupPriorityMinimum"), n, "must be positive and less than 20000"))
	}
	if n := spec.VersionPriority; n <= 0 || n > 1000 {
		errs = append(errs, field.Invalid(at.Child("versionPriority"), n, "must be positive and less than 1000"))
	}
	if spec.Service == nil {
		if n := len(spec.CABundle); n != 0 {
			errs = append(errs, field.Invalid(at.Child("caBundle"), fmt.Sprintf("%d bytes", n), "local APIServices may not have a caBundle"))
		}
		if spec.InsecureSkipTLSVerify {
			errs = append(errs, field.Invalid(at.Child("insecureSkipTLSVerify"), true, "local APIServices may not have insecureSkipTLSVerify"))
		}
		return errs
	}
	return append(errs, validateReference(spec, at)...)
}

func validateReference(spec *apiregistrationv1.APIServiceSpec, at *field.Path) (errs field.ErrorList) {
	r, service := spec.Service, at.Child("service")
	if r.Namespace == "" {
		errs = append(errs, field.Required(service.Child("namespace"), ""))
	}
	if r.Name == "" {
		errs = append(errs, field.Required(service.Child("name"), ""))
	}
	var port int32
	if r.Port != nil {
		port = *r.Port
	}
	if msgs := validation.IsValidPortNum(int(port)); msgs != nil {
		errs = append(errs, field.Invalid(service.Child("port"), port, "port is not valid: "+strings.Join(msgs, ", ")))
	}
	if spec.InsecureSkipTLSVerify && len(spec.CABundle) > 0 {
		errs = append(errs, field.Invalid(at.Child("insecureSkipTLSVerify"), true, "may not be true if caBundle is present"))
	}
	return errs
}

var statuses = []apiregistrationv1.ConditionStatus{
	apiregistrationv1.ConditionTrue, apiregistrationv1.ConditionFalse, apiregistrationv1.ConditionUnknown}

func validateStatus(s, _ *apiregistrationv1.APIService) (errs field.ErrorList) {
	for i, c := range s.Status.Conditions {
		if !slices.Contains(statuses, c.Status) {
			errs = append(errs, field.NotSupported(field.NewPath("status", "conditions").Index(i).Child("status"), c.Status, statuses))
		}
	}
	return errs
}
