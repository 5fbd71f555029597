package api

import (
	"net/url"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// connectOptions are the options of a request that is passed on, as admission
// sees them; nil for logs, which admission is not asked about.
func connectOptions(kind, path string, q url.Values) runtime.Object {
	meta := metav1.TypeMeta{APIVersion: "v1", Kind: kind}
	switch kind {
	case "PodExecOptions":
		return &corev1.PodExecOptions{TypeMeta: meta, Container: q.Get("container"), Command: q["command"],
			Stdin: isTrue(q, "stdin"), Stdout: isTrue(q, "stdout"), Stderr: isTrue(q, "stderr"), TTY: isTrue(q, "tty")}
	case "PodAttachOptions":
		return &corev1.PodAttachOptions{TypeMeta: meta, Container: q.Get("container"),
			Stdin: isTrue(q, "stdin"), Stdout: isTrue(q, "stdout"), Stderr: isTrue(q, "stderr"), TTY: isTrue(q, "tty")}
	case "PodPortForwardOptions":
		o := &corev1.PodPortForwardOptions{TypeMeta: meta}
		for _, text := range q["ports"] {
			if n, err := strconv.ParseInt(text, 10, 32); err == nil { // what is no port, the kubelet's answer names
				o.Ports = append(o.Ports, int32(n))
			}
		}
		return o
	case "PodProxyOptions":
		return &corev1.PodProxyOptions{TypeMeta: meta, Path: path}
	case "ServiceProxyOptions":
		return &corev1.ServiceProxyOptions{TypeMeta: meta, Path: path}
	case "NodeProxyOptions":
		return &corev1.NodeProxyOptions{TypeMeta: meta, Path: path}
	}
	return nil
}
