// Package downward is what a pod may learn about itself: fields of its own
// object and the resources of its containers, as text, for environment
// variables and downwardAPI volumes alike.
//
// It is pure: it reads nothing but its arguments.
package downward

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	helper "k8s.io/component-helpers/resource"

	"sampan/internal/fault"
)

// Facts are what the object does not say while a pod starts.
type Facts struct {
	NodeName    string
	HostIPs     []string
	PodIPs      []string
	Allocatable corev1.ResourceList // of the node: the limit of containers without one
}

// Field returns the value of a field path such as metadata.labels['app'].
func Field(pod *corev1.Pod, path string, f Facts) (string, error) {
	if base, key, ok := subscript(path); ok {
		switch base {
		case "metadata.annotations":
			return pod.Annotations[key], nil
		case "metadata.labels":
			return pod.Labels[key], nil
		}
		return "", unsupported(pod, path)
	}
	switch path {
	case "metadata.annotations":
		return Pairs(pod.Annotations), nil
	case "metadata.labels":
		return Pairs(pod.Labels), nil
	case "metadata.name":
		return pod.Name, nil
	case "metadata.namespace":
		return pod.Namespace, nil
	case "metadata.uid":
		return string(pod.UID), nil
	case "spec.nodeName":
		if pod.Spec.NodeName == "" {
			return f.NodeName, nil
		}
		return pod.Spec.NodeName, nil
	case "spec.serviceAccountName":
		return pod.Spec.ServiceAccountName, nil
	case "status.hostIP":
		return first(f.HostIPs), nil
	case "status.hostIPs":
		return strings.Join(f.HostIPs, ","), nil
	case "status.podIP":
		return first(f.PodIPs), nil
	case "status.podIPs":
		return strings.Join(f.PodIPs, ","), nil
	}
	return "", unsupported(pod, path)
}

// Pairs formats a map as downwardAPI files have it: key="escaped value",
// sorted, a line each.
func Pairs(m map[string]string) string {
	lines := make([]string, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		lines = append(lines, k+"="+strconv.Quote(m[k]))
	}
	return strings.Join(lines, "\n")
}

// Resource returns a container's request or limit in units of the divisor,
// rounded up. A limit that is not set is what the node can give.
func Resource(pod *corev1.Pod, container string, sel *corev1.ResourceFieldSelector, f Facts) (string, error) {
	if sel.ContainerName != "" {
		container = sel.ContainerName
	}
	c := find(pod, container)
	if c == nil {
		return "", &fault.Error{Class: fault.Invalid, Op: "read resource " + sel.Resource, On: pod.Namespace + "/" + pod.Name,
			Err: fmt.Errorf("container %s not found", container)}
	}
	side, name, ok := strings.Cut(sel.Resource, ".")
	if !ok {
		return "", unsupported(pod, sel.Resource)
	}
	resourceName := corev1.ResourceName(name)
	var q resource.Quantity
	var set bool
	switch side {
	case "limits":
		if q, set = c.Resources.Limits[resourceName]; !set {
			limits := helper.PodLimits(pod, helper.PodResourcesOptions{})
			if pod.Spec.Resources != nil && pod.Spec.Resources.Limits != nil {
				q, set = limits[resourceName]
			}
		}
		if !set || q.IsZero() {
			q = f.Allocatable[resourceName]
		}
	case "requests":
		if q, set = c.Resources.Requests[resourceName]; !set {
			q = c.Resources.Limits[resourceName] // the API's default
		}
	default:
		return "", unsupported(pod, sel.Resource)
	}
	divisor := sel.Divisor
	if divisor.IsZero() {
		divisor = resource.MustParse("1")
	}
	if resourceName == corev1.ResourceCPU {
		return strconv.FormatInt(int64(math.Ceil(float64(q.MilliValue())/float64(divisor.MilliValue()))), 10), nil
	}
	return strconv.FormatInt(int64(math.Ceil(float64(q.Value())/float64(divisor.Value()))), 10), nil
}

func find(pod *corev1.Pod, name string) *corev1.Container {
	for _, list := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	return nil
}

func subscript(path string) (base, key string, ok bool) {
	base, rest, ok := strings.Cut(path, "['")
	if !ok {
		return "", "", false
	}
	key, ok = strings.CutSuffix(rest, "']")
	return base, key, ok
}

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}

func unsupported(pod *corev1.Pod, path string) error {
	return &fault.Error{Class: fault.Invalid, Op: "read field " + path, On: pod.Namespace + "/" + pod.Name,
		Err: fmt.Errorf("unsupported fieldPath: %v", path)}
}
