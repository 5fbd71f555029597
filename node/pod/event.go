package pod

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
)

// event tells people about the pod, or about one of its containers.
func (w *Worker) event(pod *corev1.Pod, container, eventType, reason, format string, args ...any) {
	ref := corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name,
		UID: pod.UID, ResourceVersion: pod.ResourceVersion}
	if container != "" {
		ref.FieldPath = fieldPath(pod, container)
	}
	w.c.Events.EventAbout(ref, eventType, reason, format, args...)
}

func fieldPath(pod *corev1.Pod, name string) string {
	for i := range pod.Spec.InitContainers {
		if pod.Spec.InitContainers[i].Name == name {
			return fmt.Sprintf("spec.initContainers{%s}", name)
		}
	}
	for i := range pod.Spec.EphemeralContainers {
		if pod.Spec.EphemeralContainers[i].Name == name {
			return fmt.Sprintf("spec.ephemeralContainers{%s}", name)
		}
	}
	return fmt.Sprintf("spec.containers{%s}", name)
}

// tell makes events of waiting that begins: back-off of crashes and pulls.
func (w *Worker) tell(pod *corev1.Pod, s *corev1.PodStatus) {
	for _, list := range [][]corev1.ContainerStatus{s.InitContainerStatuses, s.ContainerStatuses} {
		for i := range list {
			c := &list[i]
			said := ""
			if c.State.Waiting != nil {
				said = c.State.Waiting.Reason + c.ContainerID + c.State.Waiting.Message
				if c.State.Waiting.Reason == reasonPullBackoff {
					said += w.of(c.Name).Pull.Updated.String()
				}
			}
			if w.told[c.Name] == said {
				continue
			}
			w.told[c.Name] = said
			if c.State.Waiting == nil {
				continue
			}
			switch c.State.Waiting.Reason {
			case reasonCrashLoop:
				w.event(pod, c.Name, corev1.EventTypeWarning, "BackOff", "Back-off restarting failed container %s in pod %s", c.Name, Format(pod))
			case reasonPullBackoff:
				w.event(pod, c.Name, corev1.EventTypeNormal, "BackOff", "Back-off pulling image %q", imageOf(pod, c.Name))
				w.event(pod, c.Name, corev1.EventTypeWarning, "Failed", "Error: %s", reasonPullBackoff)
			}
		}
	}
}

func imageOf(pod *corev1.Pod, name string) string {
	if c := containerOf(pod, name); c != nil {
		return c.Image
	}
	return ""
}

// containerOf finds a container of any sort by name.
func containerOf(pod *corev1.Pod, name string) *corev1.Container {
	for _, list := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	for i := range pod.Spec.EphemeralContainers {
		if pod.Spec.EphemeralContainers[i].Name == name {
			c := corev1.Container(pod.Spec.EphemeralContainers[i].EphemeralContainerCommon)
			return &c
		}
	}
	return nil
}
