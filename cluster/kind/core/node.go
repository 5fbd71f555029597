package core

import (
	"cmp"
	"fmt"
	"maps"
	"net"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
	"sampan/cluster/kind/podspec"
)

// Node is a machine that runs pods.
func Node() *kind.Kind {
	return kind.Declare(kind.Of[corev1.Node]{
		GVK:       corev1.SchemeGroupVersion.WithKind("Node"),
		Plural:    "nodes",
		Rechecked: true,
		Short:     []string{"no"},
		Cluster:   true,
		Prefix:    "minions",
		Default:   defaultNode,
		Prepare:   prepareNode,
		Validate:  validateNode,
		Warn:      func(n, _ *corev1.Node) []string { return nodeWarnings(n) },
		Parts: map[string]kind.Part[corev1.Node]{
			"status": {
				Take:         func(dst, src *corev1.Node) { dst.Status = src.Status },
				KeepOnCreate: true, // a node registers itself with its capacity
				WithMetadata: true,
				Prepare:      prepareNode,
				Validate:     validateNode,
			},
		},
		Ignored: kind.Paths("", NodeGaps),
		Columns: nodeColumns(),
		Fields: map[string]func(*corev1.Node) string{
			"spec.unschedulable": func(n *corev1.Node) string { return fmt.Sprint(n.Spec.Unschedulable) },
		},
	})
}

func defaultNode(n *corev1.Node) {
	// The singular field is the first of the plural; where both are there and
	// differ, it is what an old client has written.
	switch {
	case n.Spec.PodCIDR != "" && (len(n.Spec.PodCIDRs) == 0 || n.Spec.PodCIDRs[0] != n.Spec.PodCIDR):
		n.Spec.PodCIDRs = []string{n.Spec.PodCIDR}
	case len(n.Spec.PodCIDRs) > 0:
		n.Spec.PodCIDR = n.Spec.PodCIDRs[0]
	}
	if n.Status.Allocatable == nil && n.Status.Capacity != nil {
		n.Status.Allocatable = n.Status.Capacity.DeepCopy()
	}
	podspec.RoundQuantities(n.Status.Capacity)
	podspec.RoundQuantities(n.Status.Allocatable)
}

// prepareNode drops fields that upstream has taken out, or has not switched on,
// unless the node has them already.
func prepareNode(n, old *corev1.Node) {
	if old == nil {
		old = &corev1.Node{}
	}
	if old.Spec.ConfigSource == nil {
		n.Spec.ConfigSource = nil
	}
	if old.Status.Config == nil {
		n.Status.Config = nil
	}
	if old.Spec.PodPreemptionPolicy == nil {
		n.Spec.PodPreemptionPolicy = nil
	}
}

// declaredFeature is how a node names something that it can do (KEP-5328).
var declaredFeature = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Z][a-zA-Z0-9]*(/[a-zA-Z][a-zA-Z0-9]*)*$`) })

func declaredFeatures(all []string, path *field.Path) (errs field.ErrorList) {
	for i, name := range all {
		switch {
		case len(name) > validation.DNS1123SubdomainMaxLength:
			errs = append(errs, field.Invalid(path.Index(i), name,
				fmt.Sprintf("invalid feature name %q: must be no more than %d characters", name, validation.DNS1123SubdomainMaxLength)))
		case !declaredFeature().MatchString(name):
			errs = append(errs, field.Invalid(path.Index(i), name, fmt.Sprintf("invalid feature name %q: must start with an UpperCamelCase segment, "+
				"with subsequent segments separated by '/' (e.g., MyFeature or MyFeature/mySubFeature), and contain only alphanumeric characters and slashes", name)))
		}
		switch {
		case i == 0:
		case name == all[i-1]:
			errs = append(errs, field.Duplicate(path.Index(i), name))
		case name < all[i-1]:
			errs = append(errs, field.Invalid(path.Index(i), name, "list must be sorted alphabetically"))
		}
	}
	return errs
}

// nodeWarnings has upstream's words about what is no longer read.
func nodeWarnings(n *corev1.Node) (texts []string) {
	if n.Spec.ConfigSource != nil {
		texts = append(texts, "spec.configSource: the feature is removed")
	}
	if n.Spec.DoNotUseExternalID != "" {
		texts = append(texts, "spec.externalID: this field is deprecated, and is unused by Kubernetes")
	}
	for i, cidr := range n.Spec.PodCIDRs {
		texts = append(texts, validation.GetWarningsForCIDR(field.NewPath("spec", "podCIDRs").Index(i), cidr)...)
	}
	return texts
}

// readable says which range is none, in upstream's words.
func readable(cidrs []string) error {
	for i, cidr := range cidrs {
		if _, _, err := net.ParseCIDR(cidr); err != nil {
			return fmt.Errorf("invalid CIDR[%d]: %v (%w)", i, (*net.IPNet)(nil), err)
		}
	}
	return nil
}

func validateNode(n, old *corev1.Node) (errs field.ErrorList) {
	spec := field.NewPath("spec")
	errs = append(errs, podspec.ValidateTaints(n.Spec.Taints, field.NewPath("metadata", "taints"))...) // sic
	six, cidrs := 0, n.Spec.PodCIDRs
	for i, cidr := range cidrs {
		errs = append(errs, validation.IsValidCIDR(spec.Child("podCIDRs").Index(i), cidr)...)
		if strings.Contains(cidr, ":") {
			six++
		}
	}
	if err := readable(cidrs); len(cidrs) > 1 && err != nil { // sic
		errs = append(errs, field.InternalError(spec.Child("podCIDRs"), fmt.Errorf("invalid PodCIDRs. failed to check with dual stack with error:%w", err)))
	}
	if n := len(n.Spec.PodCIDRs); n > 2 || n == 2 && six != 1 {
		errs = append(errs, field.Invalid(spec.Child("podCIDRs"), cidrs, "may specify no more than one CIDR for each IP family"))
	}
	errs = append(errs, quantities(n.Status.Capacity, field.NewPath("status", "capacity"))...)
	errs = append(errs, quantities(n.Status.Allocatable, field.NewPath("status", "allocatable"))...)
	errs = append(errs, declaredFeatures(n.Status.DeclaredFeatures, field.NewPath("status", "declaredFeatures"))...)
	if old == nil {
		return errs
	}
	if len(old.Spec.PodCIDRs) > 0 && !slices.Equal(n.Spec.PodCIDRs, old.Spec.PodCIDRs) {
		errs = append(errs, field.Forbidden(spec.Child("podCIDRs"), "node updates may not change podCIDR except from \"\" to valid"))
	}
	switch now, was := n.Spec.ProviderID, old.Spec.ProviderID; {
	case was == "" || now == was:
	case now == "":
		errs = append(errs, field.Invalid(spec.Child("providerID"), nil, "field cannot be cleared once set"))
	default:
		errs = append(errs, field.Invalid(spec.Child("providerID"), nil, "field cannot be modified once set"))
	}
	if n.Spec.DoNotUseExternalID != old.Spec.DoNotUseExternalID {
		errs = append(errs, field.Forbidden(spec.Child("externalID"), "may not be updated"))
	}
	addresses := map[corev1.NodeAddress]bool{}
	for i, a := range n.Status.Addresses {
		if addresses[a] {
			errs = append(errs, field.Duplicate(field.NewPath("status", "addresses").Index(i), a))
		}
		addresses[a] = true
	}
	return errs
}

func quantities(l corev1.ResourceList, path *field.Path) (errs field.ErrorList) {
	for _, name := range slices.Sorted(maps.Keys(l)) {
		errs = append(errs, podspec.ValidateQuantity(name, l[name], path.Child(string(name)))...)
	}
	return errs
}

func nodeColumns() []kind.Column[corev1.Node] {
	info := func(name, field string, get func(*corev1.NodeSystemInfo) string) kind.Column[corev1.Node] {
		return kind.Column[corev1.Node]{Name: name, Priority: 1, Description: corev1.NodeSystemInfo{}.SwaggerDoc()[field],
			Cell: func(n *corev1.Node, _ time.Time) any { return cmp.Or(get(&n.Status.NodeInfo), "<unknown>") }}
	}
	address := func(name string, t corev1.NodeAddressType) kind.Column[corev1.Node] {
		return kind.Column[corev1.Node]{Name: name, Priority: 1, Description: corev1.NodeStatus{}.SwaggerDoc()["addresses"],
			Cell: func(n *corev1.Node, _ time.Time) any { return nodeAddress(n, t) }}
	}
	return []kind.Column[corev1.Node]{
		{Name: "Status", Description: "The status of the node",
			Cell: func(n *corev1.Node, _ time.Time) any { return nodeStatus(n) }},
		{Name: "Roles", Description: "The roles of the node",
			Cell: func(n *corev1.Node, _ time.Time) any { return nodeRoles(n) }},
		kind.Age[corev1.Node](),
		{Name: "Version", Description: corev1.NodeSystemInfo{}.SwaggerDoc()["kubeletVersion"],
			Cell: func(n *corev1.Node, _ time.Time) any { return n.Status.NodeInfo.KubeletVersion }},
		address("Internal-IP", corev1.NodeInternalIP),
		address("External-IP", corev1.NodeExternalIP),
		info("OS-Image", "osImage", func(i *corev1.NodeSystemInfo) string { return i.OSImage }),
		info("Kernel-Version", "kernelVersion", func(i *corev1.NodeSystemInfo) string {
			if i.Architecture == "" {
				return i.KernelVersion
			}
			return cmp.Or(i.KernelVersion, "<unknown>") + " (" + i.Architecture + ")"
		}),
		info("Container-Runtime", "containerRuntimeVersion", func(i *corev1.NodeSystemInfo) string { return i.ContainerRuntimeVersion }),
	}
}

func nodeStatus(n *corev1.Node) string {
	status := "Unknown"
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			status = "NotReady"
			if c.Status == corev1.ConditionTrue {
				status = "Ready"
			}
		}
	}
	if n.Spec.Unschedulable {
		status += ",SchedulingDisabled"
	}
	return status
}

// nodeRoles reads the labels that say what a node is for. They have two
// forms, kubeadm's and an older one.
func nodeRoles(n *corev1.Node) string {
	var roles []string
	for label, value := range n.Labels {
		role, ok := strings.CutPrefix(label, "node-role.kubernetes.io/")
		if !ok && label == "kubernetes.io/role" {
			role = value
		}
		if role != "" && (ok || label == "kubernetes.io/role") {
			roles = append(roles, role)
		}
	}
	if len(roles) == 0 {
		return "<none>"
	}
	slices.Sort(roles)
	return strings.Join(slices.Compact(roles), ",")
}

func nodeAddress(n *corev1.Node, t corev1.NodeAddressType) string {
	for _, a := range n.Status.Addresses {
		if a.Type == t {
			return a.Address
		}
	}
	return "<none>"
}
