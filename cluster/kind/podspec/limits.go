package podspec

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// ValidateContainerResource checks the name of what a container asks for.
func ValidateContainerResource(name corev1.ResourceName, path *field.Path) field.ErrorList {
	return containerResource(name, path)
}

// ValidateResource checks the name of any resource.
func ValidateResource(name corev1.ResourceName, path *field.Path) (errs field.ErrorList) {
	for _, msg := range validation.IsQualifiedName(string(name)) {
		errs = append(errs, field.Invalid(path, name, msg))
	}
	if len(errs) == 0 && !strings.Contains(string(name), "/") && !standard[name] && !hugeOfQuota(name) {
		errs = append(errs, field.Invalid(path, name, "must be a standard resource type or fully qualified"))
	}
	return errs
}

// StandardQuota is true for the resources without a domain that a quota may
// limit.
func StandardQuota(name corev1.ResourceName) bool {
	return standard[name] && name != corev1.ResourceStorage || hugeOfQuota(name)
}

func hugeOfQuota(name corev1.ResourceName) bool {
	return isHuge(name) || strings.HasPrefix(string(name), corev1.ResourceRequestsHugePagesPrefix)
}

// Overcommit is true for what may be promised more often than it is there.
func Overcommit(name corev1.ResourceName) bool { return overcommit(name) }

// Extended is true for the names of extended resources, as containers ask for
// them.
func Extended(name corev1.ResourceName) bool {
	return !native(name) && !strings.HasPrefix(string(name), corev1.DefaultResourceRequestsPrefix) &&
		len(validation.IsQualifiedName(corev1.DefaultResourceRequestsPrefix+string(name))) == 0
}

// Native is true for names that belong to Kubernetes.
func Native(name corev1.ResourceName) bool { return native(name) }
