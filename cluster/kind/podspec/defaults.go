package podspec

import (
	"cmp"
	"reflect"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// DefaultPod fills in what a pod leaves out: all of Default, and what
// upstream fills in for pods but not for templates, so that templates stay as
// they were written.
func DefaultPod(p *corev1.Pod) {
	Default(&p.Spec)
	for c := range containers(&p.Spec) {
		requestsFromLimits(&c.Resources)
	}
	defaultPodResources(&p.Spec)
	if p.Spec.EnableServiceLinks == nil {
		p.Spec.EnableServiceLinks = new(corev1.DefaultEnableServiceLinks)
	}
	if p.Spec.HostNetwork {
		// On the node's own network every port is a port of the node.
		for c := range containers(&p.Spec) {
			for i := range c.Ports {
				c.Ports[i].HostPort = cmp.Or(c.Ports[i].HostPort, c.Ports[i].ContainerPort)
			}
		}
	}
}

// DefaultTemplate fills in what a pod template leaves out.
func DefaultTemplate(t *corev1.PodTemplateSpec) { Default(&t.Spec) }

// Default fills in what a pod spec leaves out, wherever it is.
func Default(s *corev1.PodSpec) {
	s.DNSPolicy = cmp.Or(s.DNSPolicy, corev1.DNSClusterFirst)
	s.RestartPolicy = cmp.Or(s.RestartPolicy, corev1.RestartPolicyAlways)
	s.SchedulerName = cmp.Or(s.SchedulerName, corev1.DefaultSchedulerName)
	if s.SecurityContext == nil {
		s.SecurityContext = &corev1.PodSecurityContext{}
	}
	if s.TerminationGracePeriodSeconds == nil {
		s.TerminationGracePeriodSeconds = new(int64(corev1.DefaultTerminationGracePeriodSeconds))
	}
	SyncServiceAccount(s)
	for i := range s.Volumes {
		defaultVolume(&s.Volumes[i].VolumeSource)
	}
	for c := range containers(s) {
		defaultContainer(c)
	}
	for i := range s.EphemeralContainers {
		defaultContainer((*corev1.Container)(&s.EphemeralContainers[i].EphemeralContainerCommon))
	}
	RoundQuantities(s.Overhead)
	if s.Resources != nil {
		RoundQuantities(s.Resources.Limits)
		RoundQuantities(s.Resources.Requests)
	}
}

// SyncServiceAccount makes the two fields for one thing agree; the older one,
// serviceAccount, counts only where the newer is empty.
func SyncServiceAccount(s *corev1.PodSpec) {
	s.ServiceAccountName = cmp.Or(s.ServiceAccountName, s.DeprecatedServiceAccount)
	s.DeprecatedServiceAccount = s.ServiceAccountName
}

func defaultContainer(c *corev1.Container) {
	c.ImagePullPolicy = cmp.Or(c.ImagePullPolicy, pullPolicy(c.Image))
	c.TerminationMessagePath = cmp.Or(c.TerminationMessagePath, corev1.TerminationMessagePathDefault)
	c.TerminationMessagePolicy = cmp.Or(c.TerminationMessagePolicy, corev1.TerminationMessageReadFile)
	RoundQuantities(c.Resources.Limits)
	RoundQuantities(c.Resources.Requests)
	for i := range c.Ports {
		c.Ports[i].Protocol = cmp.Or(c.Ports[i].Protocol, corev1.ProtocolTCP)
	}
	for i := range c.Env {
		if from := c.Env[i].ValueFrom; from != nil {
			defaultFieldRef(from.FieldRef)
			if from.FileKeyRef != nil && from.FileKeyRef.Optional == nil {
				from.FileKeyRef.Optional = new(false)
			}
		}
	}
	for _, p := range []*corev1.Probe{c.LivenessProbe, c.ReadinessProbe, c.StartupProbe} {
		defaultProbe(p)
	}
	if c.Lifecycle != nil {
		for _, h := range []*corev1.LifecycleHandler{c.Lifecycle.PostStart, c.Lifecycle.PreStop} {
			if h != nil {
				defaultHTTP(h.HTTPGet)
			}
		}
	}
}

// pullPolicy follows the tag: what is called latest may change any time.
func pullPolicy(image string) corev1.PullPolicy {
	name, _, digest := strings.Cut(image, "@")
	tag := ""
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		tag = name[i+1:]
	}
	if tag == "latest" || tag == "" && !digest && image != "" {
		return corev1.PullAlways
	}
	return corev1.PullIfNotPresent
}

func defaultProbe(p *corev1.Probe) {
	if p == nil {
		return
	}
	p.TimeoutSeconds = cmp.Or(p.TimeoutSeconds, 1)
	p.PeriodSeconds = cmp.Or(p.PeriodSeconds, 10)
	p.SuccessThreshold = cmp.Or(p.SuccessThreshold, 1)
	p.FailureThreshold = cmp.Or(p.FailureThreshold, 3)
	defaultHTTP(p.HTTPGet)
	if p.GRPC != nil && p.GRPC.Service == nil {
		p.GRPC.Service = new("")
	}
}

func defaultHTTP(h *corev1.HTTPGetAction) {
	if h != nil {
		h.Path = cmp.Or(h.Path, "/")
		h.Scheme = cmp.Or(h.Scheme, corev1.URISchemeHTTP)
	}
}

func defaultFieldRef(r *corev1.ObjectFieldSelector) {
	if r != nil {
		r.APIVersion = cmp.Or(r.APIVersion, "v1")
	}
}

func defaultVolume(v *corev1.VolumeSource) {
	if reflect.ValueOf(*v).IsZero() {
		v.EmptyDir = &corev1.EmptyDirVolumeSource{}
		return
	}
	mode := func(p **int32) {
		if *p == nil {
			*p = new(corev1.SecretVolumeSourceDefaultMode) // 0644, as for all
		}
	}
	if v.Secret != nil {
		mode(&v.Secret.DefaultMode)
	}
	if v.ConfigMap != nil {
		mode(&v.ConfigMap.DefaultMode)
	}
	if v.DownwardAPI != nil {
		mode(&v.DownwardAPI.DefaultMode)
		defaultItems(v.DownwardAPI.Items)
	}
	if v.Projected != nil {
		mode(&v.Projected.DefaultMode)
		for i := range v.Projected.Sources {
			if s := &v.Projected.Sources[i]; s.DownwardAPI != nil {
				defaultItems(s.DownwardAPI.Items)
			} else if s.ServiceAccountToken != nil && s.ServiceAccountToken.ExpirationSeconds == nil {
				s.ServiceAccountToken.ExpirationSeconds = new(int64(3600))
			}
		}
	}
	if v.HostPath != nil && v.HostPath.Type == nil {
		v.HostPath.Type = new(corev1.HostPathUnset)
	}
	if v.Image != nil {
		v.Image.PullPolicy = cmp.Or(v.Image.PullPolicy, pullPolicy(v.Image.Reference))
	}
	if v.Ephemeral != nil && v.Ephemeral.VolumeClaimTemplate != nil && v.Ephemeral.VolumeClaimTemplate.Spec.VolumeMode == nil {
		v.Ephemeral.VolumeClaimTemplate.Spec.VolumeMode = new(corev1.PersistentVolumeFilesystem)
	}
	defaultForeign(v)
}

func defaultItems(items []corev1.DownwardAPIVolumeFile) {
	for i := range items {
		defaultFieldRef(items[i].FieldRef)
	}
}

// defaultForeign fills in volumes that nothing here mounts yet, so that they
// read back as upstream would show them.
func defaultForeign(v *corev1.VolumeSource) {
	if i := v.ISCSI; i != nil {
		i.ISCSIInterface = cmp.Or(i.ISCSIInterface, "default")
	}
	if r := v.RBD; r != nil {
		r.RBDPool = cmp.Or(r.RBDPool, "rbd")
		r.RadosUser = cmp.Or(r.RadosUser, "admin")
		r.Keyring = cmp.Or(r.Keyring, "/etc/ceph/keyring")
	}
	if s := v.ScaleIO; s != nil {
		s.StorageMode = cmp.Or(s.StorageMode, "ThinProvisioned")
		s.FSType = cmp.Or(s.FSType, "xfs")
	}
	if d := v.AzureDisk; d != nil {
		if d.CachingMode == nil {
			d.CachingMode = new(corev1.AzureDataDiskCachingReadWrite)
		}
		if d.Kind == nil {
			d.Kind = new(corev1.AzureSharedBlobDisk)
		}
		if d.FSType == nil {
			d.FSType = new("ext4")
		}
		if d.ReadOnly == nil {
			d.ReadOnly = new(false)
		}
	}
}

// RoundQuantities rounds up to thousandths, the finest the API keeps.
func RoundQuantities(l corev1.ResourceList) {
	for name, q := range l {
		q.RoundUp(resource.Milli)
		l[name] = q
	}
}

func requestsFromLimits(r *corev1.ResourceRequirements) {
	if r.Limits == nil {
		return
	}
	if r.Requests == nil {
		r.Requests = make(corev1.ResourceList, len(r.Limits))
	}
	for name, q := range r.Limits {
		if _, set := r.Requests[name]; !set {
			r.Requests[name] = q.DeepCopy()
		}
	}
}

// defaultPodResources completes the pod's own requests where it has limits
// (KEP-2837): what the containers ask for together, else the limit.
func defaultPodResources(s *corev1.PodSpec) {
	if s.Resources == nil || len(s.Resources.Limits) == 0 {
		return
	}
	asked := sumRequests(s)
	for name, limit := range s.Resources.Limits {
		if _, set := s.Resources.Requests[name]; set || !podLevel(name) {
			continue
		}
		if s.Resources.Requests == nil {
			s.Resources.Requests = corev1.ResourceList{}
		}
		if sum, ok := asked[name]; ok && !strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix) {
			limit = sum
		}
		s.Resources.Requests[name] = limit.DeepCopy()
	}
}
