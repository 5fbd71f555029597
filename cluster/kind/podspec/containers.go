package podspec

import (
	"fmt"
	"math"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
)

const maxInt32 = math.MaxInt32

func between(low, high int) string { return validation.InclusiveRangeError(low, high) }

func equal(a, b any) bool { return equality.Semantic.DeepEqual(a, b) }

// validateContainers checks all three lists of containers, and what they may
// not share: names and ports of the node.
func validateContainers(s *corev1.PodSpec, volumes volumeSet, path *field.Path) (errs field.ErrorList) {
	if len(s.Containers) == 0 {
		errs = append(errs, field.Required(path.Child("containers"), ""))
	}
	names, hostPorts := map[string]bool{}, map[string]bool{}
	for i := range s.Containers {
		c, at := &s.Containers[i], path.Child("containers").Index(i)
		errs = append(errs, validateContainer(c, s, volumes, at)...)
		errs = append(errs, uniqueName(c.Name, names, at)...)
		errs = append(errs, uniqueHostPorts(c, hostPorts, at)...)
		errs = append(errs, lifecycle(c, s, at)...)
		errs = append(errs, probes(c, s, at)...)
		errs = append(errs, resizePolicy(c, s, at.Child("resizePolicy"))...)
	}
	for i := range s.InitContainers {
		c, at := &s.InitContainers[i], path.Child("initContainers").Index(i)
		errs = append(errs, validateContainer(c, s, volumes, at)...)
		errs = append(errs, uniqueName(c.Name, names, at)...)
		// Ports of init containers are free again when they end: each alone.
		errs = append(errs, uniqueHostPorts(c, map[string]bool{}, at)...)
		if isSidecar(c) {
			errs = append(errs, lifecycle(c, s, at)...)
			errs = append(errs, probes(c, s, at)...)
			errs = append(errs, resizePolicy(c, s, at.Child("resizePolicy"))...)
			continue
		}
		const only = "may not be set for init containers without restartPolicy=Always"
		for _, f := range []struct {
			set  bool
			name string
		}{
			{c.Lifecycle != nil, "lifecycle"},
			{c.LivenessProbe != nil, "livenessProbe"},
			{c.ReadinessProbe != nil, "readinessProbe"},
			{c.StartupProbe != nil, "startupProbe"},
		} {
			if f.set {
				errs = append(errs, field.Forbidden(at.Child(f.name), only))
			}
		}
		if len(c.ResizePolicy) > 0 {
			errs = append(errs, field.Invalid(at.Child("resizePolicy"), c.ResizePolicy, "must not be set for init containers"))
		}
	}
	return append(errs, ephemeral(s, volumes, names, path.Child("ephemeralContainers"))...)
}

func uniqueName(name string, seen map[string]bool, path *field.Path) field.ErrorList {
	if name != "" && seen[name] {
		return field.ErrorList{field.Duplicate(path.Child("name"), name)}
	}
	seen[name] = true
	return nil
}

// validateContainer checks what containers of all lists have in common.
func validateContainer(c *corev1.Container, s *corev1.PodSpec, volumes volumeSet, path *field.Path) (errs field.ErrorList) {
	if c.Name == "" {
		errs = append(errs, field.Required(path.Child("name"), ""))
	} else {
		errs = append(errs, kind.DNSLabel(c.Name, path.Child("name"))...)
	}
	if c.Image == "" {
		errs = append(errs, field.Required(path.Child("image"), ""))
	}
	errs = append(errs, kind.OneOf(c.TerminationMessagePolicy, path.Child("terminationMessagePolicy"),
		corev1.TerminationMessageReadFile, corev1.TerminationMessageFallbackToLogsOnError)...)
	errs = append(errs, ports(c.Ports, path.Child("ports"))...)
	errs = append(errs, env(c.Env, volumes, path.Child("env"))...)
	errs = append(errs, envFrom(c.EnvFrom, path.Child("envFrom"))...)
	errs = append(errs, mounts(c, volumes, path.Child("volumeMounts"))...)
	errs = append(errs, devices(c, volumes, path.Child("volumeDevices"))...)
	errs = append(errs, kind.OneOf(c.ImagePullPolicy, path.Child("imagePullPolicy"),
		corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever)...)
	errs = append(errs, requirements(&c.Resources, s, path.Child("resources"))...)
	errs = append(errs, validateSecurity(c.SecurityContext, path.Child("securityContext"))...)
	return append(errs, containerRestarts(c, path)...)
}

// containerRestarts checks a container's own restart policy (KEP-5307).
func containerRestarts(c *corev1.Container, path *field.Path) (errs field.ErrorList) {
	at, rules := path.Child("restartPolicy"), path.Child("restartPolicyRules")
	if p := c.RestartPolicy; p != nil {
		errs = append(errs, kind.OneOf(*p, at, corev1.ContainerRestartPolicyAlways,
			corev1.ContainerRestartPolicyNever, corev1.ContainerRestartPolicyOnFailure)...)
	} else if len(c.RestartPolicyRules) > 0 {
		errs = append(errs, field.Required(at, "must specify restartPolicy when restart rules are used"))
	}
	if isSidecar(c) && len(c.RestartPolicyRules) > 0 && strings.Contains(path.String(), "initContainers") {
		errs = append(errs, field.Forbidden(rules, "must not specify restartPolicyRules when restartPolicy is Always for init containers"))
	}
	if len(c.RestartPolicyRules) > 20 {
		errs = append(errs, field.TooLong(rules, c.RestartPolicyRules, 20))
	}
	for i, r := range c.RestartPolicyRules {
		at := rules.Index(i)
		errs = append(errs, kind.OneOf(r.Action, at.Child("action"), corev1.ContainerRestartRuleActionRestart, corev1.ContainerRestartRuleActionRestartAllContainers)...)
		if r.ExitCodes == nil {
			errs = append(errs, field.Required(at.Child("exitCodes"), "must be specified"))
			continue
		}
		switch in, out := corev1.ContainerRestartRuleOnExitCodesOpIn, corev1.ContainerRestartRuleOnExitCodesOpNotIn; r.ExitCodes.Operator {
		case in, out:
		default: // upstream says so of an empty one too
			errs = append(errs, field.NotSupported(at.Child("exitCodes", "operator"), r.ExitCodes.Operator, []corev1.ContainerRestartRuleOnExitCodesOperator{in, out}))
		}
		if len(r.ExitCodes.Values) > 255 {
			errs = append(errs, field.TooLong(at.Child("exitCodes", "values"), r.ExitCodes.Values, 255))
		}
	}
	return errs
}

// fieldsOfEphemeral are what an ephemeral container may not have: nothing can
// be promised to a guest.
func fieldsOfEphemeral(c *corev1.EphemeralContainerCommon) []struct {
	set  bool
	name string
} {
	r := c.Resources
	return []struct {
		set  bool
		name string
	}{
		{len(c.Ports) > 0, "ports"},
		{c.LivenessProbe != nil, "livenessProbe"},
		{c.ReadinessProbe != nil, "readinessProbe"},
		{c.StartupProbe != nil, "startupProbe"},
		{c.Lifecycle != nil, "lifecycle"},
		{len(r.Limits)+len(r.Requests)+len(r.Claims) > 0, "resources"},
		{len(c.ResizePolicy) > 0, "resizePolicy"},
		{c.RestartPolicy != nil, "restartPolicy"},
		{len(c.RestartPolicyRules) > 0, "restartPolicyRules"},
	}
}

func ephemeral(s *corev1.PodSpec, volumes volumeSet, names map[string]bool, path *field.Path) (errs field.ErrorList) {
	for i := range s.EphemeralContainers {
		e, at := &s.EphemeralContainers[i], path.Index(i)
		c := corev1.Container(e.EphemeralContainerCommon)
		errs = append(errs, validateContainer(&c, s, volumes, at)...)
		errs = append(errs, uniqueName(e.Name, names, at)...)
		if t := e.TargetContainerName; t != "" && !slices.ContainsFunc(s.Containers, func(c corev1.Container) bool { return c.Name == t }) &&
			!slices.ContainsFunc(s.InitContainers, func(c corev1.Container) bool { return c.Name == t }) {
			errs = append(errs, field.NotFound(at.Child("targetContainerName"), t))
		}
		for _, f := range fieldsOfEphemeral(&e.EphemeralContainerCommon) {
			if f.set {
				errs = append(errs, field.Forbidden(at.Child(f.name), "cannot be set for an Ephemeral Container"))
			}
		}
		for j, m := range e.VolumeMounts {
			if m.SubPath != "" {
				errs = append(errs, field.Forbidden(at.Child("volumeMounts").Index(j).Child("subPath"), "cannot be set for an Ephemeral Container"))
			}
			if m.SubPathExpr != "" {
				errs = append(errs, field.Forbidden(at.Child("volumeMounts").Index(j).Child("subPathExpr"), "cannot be set for an Ephemeral Container"))
			}
		}
	}
	return errs
}

// annotations checks those that are part of the pod API.
func annotations(a map[string]string, path *field.Path) (errs field.ErrorList) {
	if v, ok := a[corev1.PodDeletionCost]; ok && !isInt32(v) {
		errs = append(errs, field.Invalid(path.Key(corev1.PodDeletionCost), v, "must be a 32bit integer"))
	}
	return errs
}

// isInt32 is upstream's reading of a deletion cost: no sign "+", no zeros in
// front, so that every number has one spelling.
func isInt32(s string) bool {
	var n int32
	if _, err := fmt.Sscan(s, &n); err != nil {
		return false
	}
	return fmt.Sprint(n) == s
}

// metadata checks the labels and annotations of a template.
func metadata(t *corev1.PodTemplateSpec, at *field.Path) (errs field.ErrorList) {
	errs = append(errs, metav1validation.ValidateLabels(t.Labels, at.Child("labels"))...)
	errs = append(errs, annotationKeys(t.Annotations, at.Child("annotations"))...)
	return errs
}

func annotationKeys(a map[string]string, at *field.Path) (errs field.ErrorList) {
	total := 0
	for k, v := range a {
		for _, msg := range validation.IsQualifiedName(strings.ToLower(k)) {
			errs = append(errs, field.Invalid(at, k, msg))
		}
		total += len(k) + len(v)
	}
	const most = 256 << 10
	if total > most {
		errs = append(errs, field.TooLong(at, "" /* too long to show */, most))
	}
	return errs
}
