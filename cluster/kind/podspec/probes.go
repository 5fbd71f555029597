package podspec

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
)

// probes checks a container's three probes. Only readiness may come and go:
// the other two end a container, so one success is enough for them.
func probes(c *corev1.Container, s *corev1.PodSpec, path *field.Path) (errs field.ErrorList) {
	if p := c.LivenessProbe; p != nil {
		errs = append(errs, probe(p, path.Child("livenessProbe"))...)
		errs = append(errs, onceEnough(p, path.Child("livenessProbe"))...)
	}
	if p := c.ReadinessProbe; p != nil {
		errs = append(errs, probe(p, path.Child("readinessProbe"))...)
		if p.TerminationGracePeriodSeconds != nil {
			errs = append(errs, field.Invalid(path.Child("readinessProbe", "terminationGracePeriodSeconds"),
				p.TerminationGracePeriodSeconds, "must not be set for readinessProbes"))
		}
	}
	if p := c.StartupProbe; p != nil {
		errs = append(errs, probe(p, path.Child("startupProbe"))...)
		errs = append(errs, onceEnough(p, path.Child("startupProbe"))...)
	}
	return errs
}

func onceEnough(p *corev1.Probe, path *field.Path) field.ErrorList {
	if p.SuccessThreshold == 1 {
		return nil
	}
	return field.ErrorList{field.Invalid(path.Child("successThreshold"), p.SuccessThreshold, "must be 1")}
}

func probe(p *corev1.Probe, path *field.Path) (errs field.ErrorList) {
	errs = append(errs, handler(&p.ProbeHandler, path)...)
	for _, n := range []struct {
		name  string
		value int32
	}{
		{"initialDelaySeconds", p.InitialDelaySeconds},
		{"timeoutSeconds", p.TimeoutSeconds},
		{"periodSeconds", p.PeriodSeconds},
		{"successThreshold", p.SuccessThreshold},
		{"failureThreshold", p.FailureThreshold},
	} {
		errs = append(errs, kind.NotNegative(int64(n.value), path.Child(n.name))...)
	}
	if n := p.TerminationGracePeriodSeconds; n != nil && *n <= 0 {
		errs = append(errs, field.Invalid(path.Child("terminationGracePeriodSeconds"), *n, "must be greater than 0"))
	}
	return errs
}

// choice counts the handlers set; all but the first are one too many.
type choice struct {
	path *field.Path
	n    int
	errs field.ErrorList
}

func (c *choice) offer(set bool, name string, check func(*field.Path) field.ErrorList) {
	if !set {
		return
	}
	at := c.path.Child(name)
	if c.n++; c.n > 1 {
		c.errs = append(c.errs, field.Forbidden(at, "may not specify more than 1 handler type"))
		return
	}
	c.errs = append(c.errs, check(at)...)
}

func (c *choice) done() field.ErrorList {
	if c.n == 0 {
		c.errs = append(c.errs, field.Required(c.path, "must specify a handler type"))
	}
	return c.errs
}

func handler(h *corev1.ProbeHandler, path *field.Path) field.ErrorList {
	c := choice{path: path}
	c.offer(h.Exec != nil, "exec", func(at *field.Path) field.ErrorList { return execAction(h.Exec, at) })
	c.offer(h.HTTPGet != nil, "httpGet", func(at *field.Path) field.ErrorList { return httpAction(h.HTTPGet, at) })
	c.offer(h.TCPSocket != nil, "tcpSocket", func(at *field.Path) field.ErrorList {
		return kind.PortNumOrName(h.TCPSocket.Port, at.Child("port"))
	})
	c.offer(h.GRPC != nil, "grpc", func(at *field.Path) field.ErrorList { return kind.Port(h.GRPC.Port, at.Child("port")) })
	return c.done()
}

func execAction(e *corev1.ExecAction, path *field.Path) field.ErrorList {
	if len(e.Command) > 0 {
		return nil
	}
	return field.ErrorList{field.Required(path.Child("command"), "")}
}

func httpAction(h *corev1.HTTPGetAction, path *field.Path) (errs field.ErrorList) {
	if h.Path == "" {
		errs = append(errs, field.Required(path.Child("path"), ""))
	}
	errs = append(errs, kind.PortNumOrName(h.Port, path.Child("port"))...)
	if h.Scheme != corev1.URISchemeHTTP && h.Scheme != corev1.URISchemeHTTPS {
		errs = append(errs, field.NotSupported(path.Child("scheme"), h.Scheme, []corev1.URIScheme{corev1.URISchemeHTTP, corev1.URISchemeHTTPS}))
	}
	for _, header := range h.HTTPHeaders {
		for _, msg := range validation.IsHTTPHeaderName(header.Name) {
			errs = append(errs, field.Invalid(path.Child("httpHeaders"), header.Name, msg))
		}
	}
	return errs
}

// lifecycle checks a container's hooks and stop signal.
func lifecycle(c *corev1.Container, s *corev1.PodSpec, path *field.Path) (errs field.ErrorList) {
	l := c.Lifecycle
	if l == nil {
		return nil
	}
	path = path.Child("lifecycle")
	grace := int64(0)
	if s.TerminationGracePeriodSeconds != nil {
		grace = *s.TerminationGracePeriodSeconds
	}
	if l.PostStart != nil {
		errs = append(errs, hook(l.PostStart, grace, path.Child("postStart"))...)
	}
	if l.PreStop != nil {
		errs = append(errs, hook(l.PreStop, grace, path.Child("preStop"))...)
	}
	if sig := l.StopSignal; sig != nil {
		at := path.Child("stopSignal")
		if s.OS == nil {
			errs = append(errs, field.Forbidden(at, "may not be set for containers with empty `spec.os.name`"))
		} else if s.OS.Name == corev1.Windows && *sig != corev1.SIGTERM && *sig != corev1.SIGKILL {
			errs = append(errs, field.NotSupported(at, *sig, []corev1.Signal{corev1.SIGKILL, corev1.SIGTERM}))
		}
	}
	return errs
}

func hook(h *corev1.LifecycleHandler, grace int64, path *field.Path) field.ErrorList {
	c := choice{path: path}
	c.offer(h.Exec != nil, "exec", func(at *field.Path) field.ErrorList { return execAction(h.Exec, at) })
	c.offer(h.HTTPGet != nil, "httpGet", func(at *field.Path) field.ErrorList { return httpAction(h.HTTPGet, at) })
	c.offer(h.TCPSocket != nil, "tcpSocket", func(at *field.Path) field.ErrorList {
		return kind.PortNumOrName(h.TCPSocket.Port, at.Child("port"))
	})
	c.offer(h.Sleep != nil, "sleep", func(at *field.Path) field.ErrorList {
		if h.Sleep.Seconds >= 0 && h.Sleep.Seconds <= grace {
			return nil
		}
		return field.ErrorList{field.Invalid(at, h.Sleep.Seconds,
			fmt.Sprintf("must be non-negative and less than terminationGracePeriodSeconds (%d)", grace))}
	})
	return c.done()
}
