package admission

import (
	"context"
	"errors"
	"io"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/component-base/metrics"
	"k8s.io/pod-security-admission/admission"
	"k8s.io/pod-security-admission/admission/api/load"
	"k8s.io/pod-security-admission/api"
	recorder "k8s.io/pod-security-admission/metrics"
	"k8s.io/pod-security-admission/policy"

	"sampan/cluster/client"
	"sampan/internal/counted"
)

// PodSecurity holds pods to the Pod Security Standards that the labels of
// their namespace name (KEP-2579). What the standards say and what is said of
// those who do not meet them is upstream's library.
type PodSecurity struct {
	standards *admission.Admission
	counts    metrics.KubeRegistry
}

// NewPodSecurity returns the plugin, told a PodSecurityConfiguration, or
// nothing: then what has no labels is privileged, and nobody is exempt.
func NewPodSecurity(reader client.Reader, configuration []byte) (*PodSecurity, error) {
	told, err := load.LoadFromData(configuration)
	if err != nil {
		return nil, misconfigured("PodSecurity", err)
	}
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		return nil, err
	}
	counter, counts := recorder.NewPrometheusRecorder(api.GetAPIVersion()), metrics.NewKubeRegistry()
	counter.MustRegister(counts.MustRegister)
	p := &PodSecurity{counts: counts, standards: &admission.Admission{Configuration: told, Evaluator: evaluator, Metrics: counter,
		PodSpecExtractor: admission.DefaultPodSpecExtractor{}, NamespaceGetter: namespaced{reader}, PodLister: namespaced{reader}}}
	if err := p.standards.CompleteConfiguration(); err != nil {
		return nil, misconfigured("PodSecurity", err)
	}
	return p, misconfigured("PodSecurity", p.standards.ValidateConfiguration())
}

// namespaced reads what the standards need of the cluster.
type namespaced struct{ reader client.Reader }

// GetNamespace implements admission.NamespaceGetter.
func (n namespaced) GetNamespace(ctx context.Context, name string) (*corev1.Namespace, error) {
	return client.Get[*corev1.Namespace](ctx, n.reader, "", name)
}

// ListPods implements admission.PodLister.
func (n namespaced) ListPods(ctx context.Context, namespace string) ([]*corev1.Pod, error) {
	return client.List[*corev1.Pod](ctx, n.reader, client.Query{Namespace: namespace})
}

// Review implements Reviewer.
func (p *PodSecurity) Review(ctx context.Context, a *Attempt) error {
	r := a.Request
	resource := r.Kind.GroupResource()
	if a.Operation != Create && a.Operation != Update || a.Object == nil || a.Body != nil ||
		resource != corev1.Resource("namespaces") && !p.standards.PodSpecExtractor.HasPodSpec(resource) {
		return nil
	}
	asked := &api.AttributesRecord{Name: r.Name, Namespace: r.Namespace, Kind: r.Kind.GVK, Resource: r.Kind.GVK.GroupVersion().WithResource(resource.Resource),
		Subresource: r.Subresource, Operation: admissionv1.Operation(a.Operation), Object: a.Object, Username: r.User.Name}
	if a.Old != nil {
		asked.OldObject = a.Old
	}
	if resource.Resource == "namespaces" {
		asked.Namespace = a.Object.GetName() // upstream has the namespace's own name here
	}
	answer := p.standards.Validate(ctx, asked)
	if r.Warn != nil {
		for _, text := range answer.Warnings {
			r.Warn(text)
		}
	}
	for key, value := range answer.AuditAnnotations {
		r.Note(api.AuditAnnotationPrefix+key, value)
	}
	if answer.Allowed {
		return nil
	}
	var refusal *apierrors.StatusError
	if err := forbidden(a, errors.New("Not allowed by PodSecurity")); !errors.As(err, &refusal) || answer.Result == nil {
		return err
	}
	s, why := &refusal.ErrStatus, answer.Result
	if why.Message != "" {
		s.Message = why.Message
	}
	if why.Reason != "" {
		s.Reason = why.Reason
	}
	if why.Details != nil {
		s.Details = why.Details
	}
	if why.Code != 0 {
		s.Code = why.Code
	}
	return refusal
}

// WriteMetrics writes what was counted: the metrics pod_security_* of upstream.
func (p *PodSecurity) WriteMetrics(w io.Writer) {
	_ = counted.Write(w, p.counts, "") // who asks has gone, or it is not to be trusted
}
