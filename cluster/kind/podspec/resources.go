package podspec

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
)

// requirements checks what a container asks for.
func requirements(r *corev1.ResourceRequirements, s *corev1.PodSpec, path *field.Path) field.ErrorList {
	return append(amounts(r, containerResource, path), claims(r, s, path.Child("claims"))...)
}

// ValidateAmounts checks limits and requests of a container, or of what is
// counted like one.
func ValidateAmounts(r *corev1.ResourceRequirements, path *field.Path) field.ErrorList {
	return amounts(r, containerResource, path)
}

// amounts checks limits and requests, and their names by checkName.
func amounts(r *corev1.ResourceRequirements, checkName func(corev1.ResourceName, *field.Path) field.ErrorList, path *field.Path) (errs field.ErrorList) {
	limits, requests := path.Child("limits"), path.Child("requests")
	hugeOnly, normal := false, false
	note := func(name corev1.ResourceName) {
		hugeOnly = hugeOnly || isHuge(name)
		normal = normal || name == corev1.ResourceCPU || name == corev1.ResourceMemory
	}
	for _, name := range slices.Sorted(maps.Keys(r.Limits)) {
		note(name)
		errs = append(errs, checkName(name, limits.Key(string(name)))...)
		errs = append(errs, ValidateQuantity(name, r.Limits[name], limits.Key(string(name)))...)
		errs = append(errs, wholePages(name, r.Limits[name], limits.Key(string(name)))...)
	}
	for _, name := range slices.Sorted(maps.Keys(r.Requests)) {
		note(name)
		errs = append(errs, checkName(name, requests.Key(string(name)))...)
		asked := r.Requests[name]
		errs = append(errs, ValidateQuantity(name, asked, requests.Key(string(name)))...)
		errs = append(errs, wholePages(name, asked, requests.Key(string(name)))...)
		limit, ok := r.Limits[name]
		switch {
		case !ok && !overcommit(name):
			errs = append(errs, field.Required(limits, "Limit must be set for non overcommitable resources"))
		case ok && asked.Cmp(limit) != 0 && !overcommit(name):
			errs = append(errs, field.Invalid(requests, asked.String(), fmt.Sprintf("must be equal to %s limit of %s", name, limit.String())))
		case ok && asked.Cmp(limit) > 0:
			errs = append(errs, field.Invalid(requests, asked.String(), fmt.Sprintf("must be less than or equal to %s limit of %s", name, limit.String())))
		}
	}
	if hugeOnly && !normal {
		errs = append(errs, field.Forbidden(path, "HugePages require cpu or memory"))
	}
	return errs
}

func claims(r *corev1.ResourceRequirements, s *corev1.PodSpec, path *field.Path) (errs field.ErrorList) {
	if len(r.Claims) == 0 {
		return nil
	}
	var known []string
	for _, c := range s.ResourceClaims {
		known = append(known, c.Name)
	}
	slices.Sort(known)
	seen := map[string]bool{}
	for i, c := range r.Claims {
		at := path.Index(i)
		if c.Name == "" {
			errs = append(errs, field.Required(at, ""))
			continue
		}
		key := c.Name
		if c.Request != "" {
			errs = append(errs, kind.DNSLabel(c.Request, at.Child("request"))...)
			key += "/" + c.Request
		}
		if seen[c.Name] || seen[key] { // the whole claim, or this part of it
			errs = append(errs, field.Duplicate(at, key))
		}
		seen[key] = true
		if !slices.Contains(known, c.Name) {
			unknown := field.NotFound(at, c.Name)
			unknown.Detail = "must be one of the names in pod.spec.resourceClaims which is empty"
			if len(known) > 0 {
				unknown.Detail = "must be one of the names in pod.spec.resourceClaims: " + strings.Join(known, ", ")
			}
			errs = append(errs, unknown)
		}
	}
	return errs
}

// wholePages checks that an amount of huge pages is made of whole ones.
func wholePages(name corev1.ResourceName, q resource.Quantity, path *field.Path) field.ErrorList {
	text, huge := strings.CutPrefix(string(name), corev1.ResourceHugePagesPrefix)
	if !huge {
		return nil
	}
	page, err := resource.ParseQuantity(text)
	if err == nil && page.Sign() > 0 && q.Sign() >= 0 && q.Value()%page.Value() == 0 {
		return nil
	}
	return field.ErrorList{field.Invalid(path, q.String(), fmt.Sprintf("%s is not positive integer multiple of %s", q.String(), name))}
}

func isHuge(name corev1.ResourceName) bool {
	return strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix)
}

// native is true for names that belong to Kubernetes: without a domain, or
// with its own.
func native(name corev1.ResourceName) bool {
	return !strings.Contains(string(name), "/") || strings.Contains(string(name), corev1.ResourceDefaultNamespacePrefix)
}

// overcommit is true for what may be promised more often than it is there.
func overcommit(name corev1.ResourceName) bool { return native(name) && !isHuge(name) }

// standard are the resources without a domain, of containers and of quotas.
var standard = func() map[corev1.ResourceName]bool {
	all := map[corev1.ResourceName]bool{}
	for _, name := range strings.Fields(`cpu memory ephemeral-storage storage
		requests.cpu requests.memory requests.storage requests.ephemeral-storage limits.cpu limits.memory limits.ephemeral-storage
		pods resourcequotas services replicationcontrollers secrets configmaps persistentvolumeclaims services.nodeports services.loadbalancers`) {
		all[corev1.ResourceName(name)] = true
	}
	return all
}()

// resourceName checks the name of a resource: it has a domain, or is known.
func resourceName(name corev1.ResourceName, path *field.Path) (errs field.ErrorList) {
	for _, msg := range validation.IsQualifiedName(string(name)) {
		errs = append(errs, field.Invalid(path, name, msg))
	}
	if len(errs) == 0 && !strings.Contains(string(name), "/") &&
		!standard[name] && !isHuge(name) && !strings.HasPrefix(string(name), "requests."+corev1.ResourceHugePagesPrefix) {
		errs = append(errs, field.Invalid(path, name, "must be a standard resource type or fully qualified"))
	}
	return errs
}

// containerResource checks the name of what a container asks for.
func containerResource(name corev1.ResourceName, path *field.Path) (errs field.ErrorList) {
	errs = resourceName(name, path)
	switch {
	case !strings.Contains(string(name), "/"):
		if name != corev1.ResourceCPU && name != corev1.ResourceMemory && name != corev1.ResourceEphemeralStorage && !isHuge(name) {
			errs = append(errs, field.Invalid(path, name, "must be a standard resource for containers"))
		}
	case !native(name):
		// A quota counts an extended resource as "requests." plus its name.
		quota := "requests." + string(name)
		if strings.HasPrefix(string(name), "requests.") || len(validation.IsQualifiedName(quota)) > 0 {
			errs = append(errs, field.Invalid(path, name, "doesn't follow extended resource name standard"))
		}
	}
	return errs
}

// ValidateQuantity checks an amount: not negative, and whole where parts make
// no sense.
func ValidateQuantity(name corev1.ResourceName, q resource.Quantity, path *field.Path) (errs field.ErrorList) {
	if q.Sign() < 0 {
		errs = append(errs, field.Invalid(path, q.String(), "must be greater than or equal to 0").WithOrigin("minimum"))
	}
	whole := !native(name) || isHuge(name) || name == corev1.ResourcePods
	if whole && q.MilliValue()%1000 != 0 {
		errs = append(errs, field.Invalid(path, q.String(), "must be an integer"))
	}
	return errs
}

func resizePolicy(c *corev1.Container, s *corev1.PodSpec, path *field.Path) (errs field.ErrorList) {
	seen := map[corev1.ResourceName]bool{}
	for i, p := range c.ResizePolicy {
		if seen[p.ResourceName] {
			errs = append(errs, field.Duplicate(path.Index(i), p.ResourceName))
		}
		seen[p.ResourceName] = true
		errs = append(errs, kind.OneOf(p.ResourceName, path, corev1.ResourceCPU, corev1.ResourceMemory)...)
		errs = append(errs, kind.OneOf(p.RestartPolicy, path, corev1.NotRequired, corev1.RestartContainer)...)
		if s.RestartPolicy == corev1.RestartPolicyNever && p.RestartPolicy == corev1.RestartContainer {
			errs = append(errs, field.Invalid(path, p.RestartPolicy, "must be 'NotRequired' when `restartPolicy` is 'Never'"))
		}
	}
	return errs
}

// validatePodResources checks what the pod asks for as a whole (KEP-2837), and
// what it costs beside its containers.
func validatePodResources(s *corev1.PodSpec, path *field.Path) (errs field.ErrorList) {
	errs = append(errs, ValidateAmounts(&corev1.ResourceRequirements{Limits: s.Overhead}, path.Child("overhead"))...)
	names := map[string]bool{}
	for i, c := range s.ResourceClaims {
		at := path.Child("resourceClaims").Index(i)
		if c.Name == "" {
			errs = append(errs, field.Required(at.Child("name"), ""))
		} else {
			errs = append(errs, kind.DNSLabel(c.Name, at.Child("name"))...)
		}
		if names[c.Name] {
			errs = append(errs, field.Duplicate(at.Child("name"), c.Name))
		}
		names[c.Name] = true
		if c.ResourceClaimName != nil && c.ResourceClaimTemplateName != nil {
			errs = append(errs, field.Invalid(at, c, "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"))
		}
		if c.ResourceClaimName == nil && c.ResourceClaimTemplateName == nil {
			errs = append(errs, field.Invalid(at, c, "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"))
		}
		if n := c.ResourceClaimName; n != nil {
			errs = append(errs, kind.DNSSubdomain(*n, at.Child("resourceClaimName"))...)
		}
		if n := c.ResourceClaimTemplateName; n != nil {
			errs = append(errs, kind.DNSSubdomain(*n, at.Child("resourceClaimTemplateName"))...)
		}
	}
	r, at := s.Resources, path.Child("resources")
	if r == nil {
		return errs
	}
	if len(r.Claims) > 0 {
		errs = append(errs, field.Forbidden(at.Child("claims"), "claims may not be set for Resources at pod-level"))
	}
	errs = append(errs, amounts(r, podResource, at)...)
	errs = append(errs, claims(r, s, at.Child("claims"))...)
	sum := sumRequests(s)
	for _, name := range slices.Sorted(maps.Keys(r.Requests)) {
		asked := r.Requests[name]
		if total, ok := sum[name]; ok && asked.Cmp(total) < 0 {
			errs = append(errs, field.Invalid(at.Child("requests").Key(string(name)), asked.String(),
				fmt.Sprintf("must be greater than or equal to aggregate container requests of %s", total.String())))
		}
	}
	for i := range s.Containers {
		for name, limit := range s.Containers[i].Resources.Limits {
			if most, ok := r.Limits[name]; ok && limit.Cmp(most) > 0 {
				errs = append(errs, field.Invalid(at.Child("containers").Index(i).Key(string(name)).Child("limits"), limit.String(),
					fmt.Sprintf("must be less than or equal to pod limits of %s", most.String())))
			}
		}
	}
	return errs
}

func podResource(name corev1.ResourceName, path *field.Path) field.ErrorList {
	if podLevel(name) {
		return nil
	}
	if errs := resourceName(name, path); len(errs) > 0 {
		return errs
	}
	return field.ErrorList{field.NotSupported(path, name, []corev1.ResourceName{corev1.ResourceCPU, "hugepages-", corev1.ResourceMemory})}
}
