package podspec

import (
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
)

// validatePodSecurity checks what holds for all containers of a pod.
func validatePodSecurity(s *corev1.PodSpec, path *field.Path) (errs field.ErrorList) {
	if s.ShareProcessNamespace != nil && *s.ShareProcessNamespace && s.HostPID {
		errs = append(errs, field.Invalid(path.Child("shareProcessNamespace"), true, "ShareProcessNamespace and HostPID cannot both be enabled"))
	}
	c := s.SecurityContext
	if c == nil {
		return errs
	}
	errs = append(errs, user(c.RunAsUser, path.Child("runAsUser"))...)
	errs = append(errs, group(c.RunAsGroup, path.Child("runAsGroup"))...)
	errs = append(errs, group(c.FSGroup, path.Child("fsGroup"))...)
	for i := range c.SupplementalGroups {
		errs = append(errs, group(&c.SupplementalGroups[i], path.Child("supplementalGroups").Index(i))...)
	}
	errs = append(errs, sysctls(s, c.Sysctls, path.Child("sysctls"))...)
	if p := c.FSGroupChangePolicy; p != nil {
		errs = append(errs, kind.OneOf(*p, path.Child("fsGroupChangePolicy"), corev1.FSGroupChangeAlways, corev1.FSGroupChangeOnRootMismatch)...)
	}
	if p := c.SupplementalGroupsPolicy; p != nil {
		errs = append(errs, kind.OneOf(*p, path.Child("supplementalGroupsPolicy"), corev1.SupplementalGroupsPolicyMerge, corev1.SupplementalGroupsPolicyStrict)...)
	}
	if p := c.SELinuxChangePolicy; p != nil {
		errs = append(errs, kind.OneOf(*p, path.Child("seLinuxChangePolicy"), corev1.SELinuxChangePolicyMountOption, corev1.SELinuxChangePolicyRecursive)...)
	}
	errs = append(errs, seccomp(c.SeccompProfile, path.Child("seccompProfile"))...)
	return append(errs, appArmor(c.AppArmorProfile, path.Child("appArmorProfile"))...)
}

// validateSecurity checks a container's own security context.
func validateSecurity(c *corev1.SecurityContext, path *field.Path) (errs field.ErrorList) {
	if c == nil {
		return nil
	}
	errs = append(errs, user(c.RunAsUser, path.Child("runAsUser"))...)
	errs = append(errs, group(c.RunAsGroup, path.Child("runAsGroup"))...)
	if m := c.ProcMount; m != nil {
		errs = append(errs, kind.OneOf(*m, path.Child("procMount"), corev1.DefaultProcMount, corev1.UnmaskedProcMount)...)
	}
	errs = append(errs, seccomp(c.SeccompProfile, path.Child("seccompProfile"))...)
	errs = append(errs, appArmor(c.AppArmorProfile, path.Child("appArmorProfile"))...)
	if e := c.AllowPrivilegeEscalation; e != nil && !*e {
		if c.Privileged != nil && *c.Privileged {
			errs = append(errs, field.Invalid(path, c, "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"))
		}
		if c.Capabilities != nil && slices.Contains(c.Capabilities.Add, "CAP_SYS_ADMIN") {
			errs = append(errs, field.Invalid(path, c, "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"))
		}
	}
	return errs
}

func user(id *int64, path *field.Path) (errs field.ErrorList) {
	if id != nil {
		for _, msg := range validation.IsValidUserID(*id) {
			errs = append(errs, field.Invalid(path, *id, msg))
		}
	}
	return errs
}

func group(id *int64, path *field.Path) (errs field.ErrorList) {
	if id != nil {
		for _, msg := range validation.IsValidGroupID(*id) {
			errs = append(errs, field.Invalid(path, *id, msg))
		}
	}
	return errs
}

func seccomp(p *corev1.SeccompProfile, path *field.Path) field.ErrorList {
	if p == nil {
		return nil
	}
	return profile(p.Type, corev1.SeccompProfileTypeLocalhost, p.LocalhostProfile, "seccomp", path,
		[]corev1.SeccompProfileType{corev1.SeccompProfileTypeLocalhost, corev1.SeccompProfileTypeRuntimeDefault, corev1.SeccompProfileTypeUnconfined}, true)
}

func appArmor(p *corev1.AppArmorProfile, path *field.Path) field.ErrorList {
	if p == nil {
		return nil
	}
	return profile(p.Type, corev1.AppArmorProfileTypeLocalhost, p.LocalhostProfile, "AppArmor", path,
		[]corev1.AppArmorProfileType{corev1.AppArmorProfileTypeLocalhost, corev1.AppArmorProfileTypeRuntimeDefault, corev1.AppArmorProfileTypeUnconfined}, false)
}

// profile checks a seccomp or AppArmor profile: only one of type Localhost
// has a name. file is true if the name is a path.
func profile[T ~string](typ, local T, name *string, what string, path *field.Path, valid []T, file bool) (errs field.ErrorList) {
	at := path.Child("localhostProfile")
	switch {
	case typ == "":
		return field.ErrorList{field.Required(path.Child("type"), "type is required when "+strings.ToLower(what[:1])+what[1:]+"Profile is set")}
	case !slices.Contains(valid, typ):
		return field.ErrorList{field.NotSupported(path.Child("type"), typ, valid)}
	case typ != local:
		if name != nil {
			msg := "can only be set when seccomp type is Localhost"
			if !file {
				msg = "can only be set when AppArmor type is Localhost"
			}
			errs = append(errs, field.Invalid(at, name, msg))
		}
		return errs
	case name == nil:
		return field.ErrorList{field.Required(at, "must be set when "+what+" type is Localhost")}
	case file:
		return descending(*name, at)
	case strings.TrimSpace(*name) == "":
		return field.ErrorList{field.Required(at, "must be set when AppArmor type is Localhost")}
	case strings.TrimSpace(*name) != *name:
		return field.ErrorList{field.Invalid(at, *name, "must not be padded with whitespace")}
	case len(*name) > 4095:
		return field.ErrorList{field.TooLong(at, *name, 4095)}
	}
	return nil
}

// sysctlName is upstream's: segments of lower-case letters, digits, "-", "_",
// joined by dots or slashes.
var sysctlName = regexp.MustCompile(`^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$`)

func sysctls(s *corev1.PodSpec, all []corev1.Sysctl, path *field.Path) (errs field.ErrorList) {
	seen := map[string]bool{}
	for i, c := range all {
		at := path.Index(i).Child("name")
		dotted := strings.ReplaceAll(c.Name, "/", ".")
		switch {
		case c.Name == "":
			errs = append(errs, field.Required(at, ""))
		case len(c.Name) > 253 || !sysctlName.MatchString(c.Name):
			errs = append(errs, field.Invalid(at, c.Name, "must have at most 253 characters and match regex "+sysctlName.String()))
		case seen[c.Name]:
			errs = append(errs, field.Duplicate(at, c.Name))
		}
		seen[c.Name] = true
		if s.HostNetwork && strings.HasPrefix(dotted, "net.") {
			errs = append(errs, field.Invalid(at, c.Name, "may not be specified when 'hostNetwork' is true"))
		}
		if s.HostIPC && (strings.HasPrefix(dotted, "kernel.shm") || strings.HasPrefix(dotted, "kernel.msg") || dotted == "kernel.sem" || strings.HasPrefix(dotted, "fs.mqueue.")) {
			errs = append(errs, field.Invalid(at, c.Name, "may not be specified when 'hostIPC' is true"))
		}
	}
	return errs
}

// validateHost checks what a pod shares with its node.
func validateHost(s *corev1.PodSpec, path *field.Path) (errs field.ErrorList) {
	if s.HostUsers != nil && !*s.HostUsers {
		const msg = "when `pod.Spec.HostUsers` is false"
		if s.HostNetwork {
			errs = append(errs, field.Forbidden(path.Child("hostNetwork"), msg))
		}
		if s.HostPID {
			errs = append(errs, field.Forbidden(path.Child("HostPID"), msg))
		}
		if s.HostIPC {
			errs = append(errs, field.Forbidden(path.Child("HostIPC"), msg))
		}
	}
	if s.OS != nil {
		switch s.OS.Name {
		case "":
			errs = append(errs, field.Required(path.Child("os", "name"), "cannot be empty"))
		case corev1.Linux, corev1.Windows:
		default:
			errs = append(errs, field.NotSupported(path.Child("os"), s.OS.Name, []corev1.OSName{corev1.Linux, corev1.Windows}))
		}
	}
	return errs
}
