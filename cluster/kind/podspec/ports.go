package podspec

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
)

func ports(all []corev1.ContainerPort, path *field.Path) (errs field.ErrorList) {
	names := map[string]bool{}
	for i := range all {
		p, at := &all[i], path.Index(i)
		if p.Name != "" {
			if msgs := validation.IsValidPortName(p.Name); len(msgs) > 0 {
				for _, msg := range msgs {
					errs = append(errs, field.Invalid(at.Child("name"), p.Name, msg))
				}
			} else if names[p.Name] {
				errs = append(errs, field.Duplicate(at.Child("name"), p.Name))
			}
			names[p.Name] = true
		}
		if p.ContainerPort == 0 {
			errs = append(errs, field.Required(at.Child("containerPort"), ""))
		} else {
			errs = append(errs, kind.Port(p.ContainerPort, at.Child("containerPort"))...)
		}
		if p.HostPort != 0 {
			errs = append(errs, kind.Port(p.HostPort, at.Child("hostPort"))...)
		}
		errs = append(errs, kind.Protocol(p.Protocol, at.Child("protocol"))...)
	}
	return errs
}

// uniqueHostPorts reports ports of the node that two ports of one pod want.
func uniqueHostPorts(c *corev1.Container, taken map[string]bool, path *field.Path) (errs field.ErrorList) {
	for i, p := range c.Ports {
		if p.HostPort == 0 {
			continue
		}
		port := fmt.Sprintf("%s/%s/%d", p.Protocol, p.HostIP, p.HostPort)
		if taken[port] {
			errs = append(errs, field.Duplicate(path.Child("ports").Index(i).Child("hostPort"), port))
		}
		taken[port] = true
	}
	return errs
}

// hostNetworkPorts: on the node's network a container's port is the node's.
// A template may leave host ports out, they are filled in with the pod.
func hostNetworkPorts(s *corev1.PodSpec, template bool, path *field.Path) (errs field.ErrorList) {
	if !s.HostNetwork {
		return nil
	}
	for i := range s.Containers {
		for j, p := range s.Containers[i].Ports {
			if p.HostPort != p.ContainerPort && !(template && p.HostPort == 0) {
				errs = append(errs, field.Invalid(path.Child("containers").Index(i).Child("ports").Index(j).Child("hostPort"), p.HostPort,
					"must match `containerPort` when `hostNetwork` is true"))
			}
		}
	}
	return errs
}
