package podspec

import (
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Warnings are texts about what a pod says that is legal and hardly meant, or
// deprecated. They are upstream's.
func Warnings(p, old *corev1.Pod) []string {
	if old != nil {
		return nil // programs update pods, and often
	}
	var texts []string
	if msgs := validation.IsDNS1123Label(p.Name); len(msgs) > 0 {
		texts = append(texts, fmt.Sprintf("metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: %v", msgs))
	}
	return append(texts, warn(&p.Spec, field.NewPath("spec"))...)
}

// NameWarnings are those about the name of a workload that names its pods.
func NameWarnings(name string) []string {
	if msgs := validation.IsDNS1123Label(name); len(msgs) > 0 {
		return []string{fmt.Sprintf("metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended: %v", msgs)}
	}
	return nil
}

// TemplateWarnings are those of a workload's pod template.
func TemplateWarnings(t *corev1.PodTemplateSpec, path *field.Path) []string {
	return warn(&t.Spec, path.Child("spec"))
}

func warn(s *corev1.PodSpec, path *field.Path) (texts []string) {
	say := func(at *field.Path, format string, args ...any) {
		texts = append(texts, at.String()+": "+fmt.Sprintf(format, args...))
	}
	deprecatedLabel := func(key string, at *field.Path) {
		if use, ok := map[string]string{
			corev1.LabelFailureDomainBetaZone:   corev1.LabelTopologyZone,
			corev1.LabelFailureDomainBetaRegion: corev1.LabelTopologyRegion,
			corev1.LabelInstanceType:            corev1.LabelInstanceTypeStable,
			"beta.kubernetes.io/os":             corev1.LabelOSStable,
			"beta.kubernetes.io/arch":           corev1.LabelArchStable,
		}[key]; ok {
			say(at, "deprecated since v1.14; use %q instead", use)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(s.NodeSelector)) {
		deprecatedLabel(key, path.Child("nodeSelector").Key(key))
	}
	hosts := map[string]bool{}
	for i, a := range s.HostAliases {
		if hosts[a.IP] {
			say(path.Child("hostAliases").Index(i).Child("ip"), "duplicate ip %q", a.IP)
		}
		hosts[a.IP] = true
	}
	secrets := map[string]bool{}
	for i, r := range s.ImagePullSecrets {
		at := path.Child("imagePullSecrets").Index(i).Child("name")
		if r.Name == "" {
			say(at, "invalid empty name %q", r.Name)
		} else if secrets[r.Name] {
			say(path.Child("imagePullSecrets").Index(i).Child("name"), "duplicate name %q", r.Name)
		}
		secrets[r.Name] = true
	}
	for i, v := range s.Volumes {
		at := path.Child("volumes").Index(i)
		switch {
		case v.GitRepo != nil:
			say(at.Child("gitRepo"), "deprecated in v1.11, and disabled by default in v1.33+")
		case v.ScaleIO != nil:
			say(at.Child("scaleIO"), "deprecated in v1.16, non-functional in v1.22+")
		case v.Flocker != nil:
			say(at.Child("flocker"), "deprecated in v1.22, non-functional in v1.25+")
		case v.StorageOS != nil:
			say(at.Child("storageOS"), "deprecated in v1.22, non-functional in v1.25+")
		case v.Quobyte != nil:
			say(at.Child("quobyte"), "deprecated in v1.22, non-functional in v1.25+")
		case v.Glusterfs != nil:
			say(at.Child("glusterfs"), "deprecated in v1.25, non-functional in v1.26+")
		case v.CephFS != nil:
			say(at.Child("cephfs"), "deprecated in v1.28, non-functional in v1.31+")
		case v.RBD != nil:
			say(at.Child("rbd"), "deprecated in v1.28, non-functional in v1.31+")
		case v.PhotonPersistentDisk != nil:
			say(at.Child("photonPersistentDisk"), "deprecated in v1.11, non-functional in v1.16+")
		}
	}
	lists := []struct {
		all  []corev1.Container
		path *field.Path
	}{{s.InitContainers, path.Child("initContainers")}, {s.Containers, path.Child("containers")}}
	for _, list := range lists {
		for i := range list.all {
			c, at := &list.all[i], list.path.Index(i)
			seen := map[string]string{}
			for j, e := range c.Env {
				if value, twice := seen[e.Name]; twice && !(value != "" && e.Value == value) {
					say(at.Child("env").Index(j), "hides previous definition of %q, which may be dropped when using apply", e.Name)
				}
				seen[e.Name] = e.Value
			}
			for _, l := range []struct {
				name string
				list corev1.ResourceList
			}{{"requests", c.Resources.Requests}, {"limits", c.Resources.Limits}} {
				for _, name := range []corev1.ResourceName{corev1.ResourceMemory, corev1.ResourceEphemeralStorage} {
					if q, ok := l.list[name]; ok && q.MilliValue()%1000 != 0 {
						say(at.Child("resources", l.name).Key(string(name)), "fractional byte value %q is invalid, must be an integer", q.String())
					}
				}
			}
		}
	}
	if g := s.TerminationGracePeriodSeconds; g != nil && *g < 0 {
		say(path.Child("terminationGracePeriodSeconds"), "must be >= 0; negative values are invalid and will be treated as 1")
	}
	return texts
}
