package podspec

import (
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
)

// volumeSet are a pod's volumes by name.
type volumeSet map[string]*corev1.VolumeSource

func validateVolumes(s *corev1.PodSpec, path *field.Path) (volumeSet, field.ErrorList) {
	var errs field.ErrorList
	set := volumeSet{}
	for i := range s.Volumes {
		v, at := &s.Volumes[i], path.Index(i)
		bad := volumeSource(v, at)
		switch {
		case v.Name == "":
			bad = append(bad, field.Required(at.Child("name"), ""))
		default:
			bad = append(bad, kind.DNSLabel(v.Name, at.Child("name"))...)
		}
		if _, taken := set[v.Name]; taken {
			bad = append(bad, field.Duplicate(at.Child("name"), v.Name))
		}
		errs = append(errs, bad...)
		if len(bad) == 0 {
			set[v.Name] = &v.VolumeSource
		}
	}
	return set, errs
}

// volumeSource checks that a volume is of one type, and that type's rules for
// what is mounted here. Of the others only the choice is checked.
func volumeSource(v *corev1.Volume, path *field.Path) (errs field.ErrorList) {
	types := sources(&v.VolumeSource)
	if len(types) == 0 {
		return field.ErrorList{field.Required(path, "must specify a volume type")}
	}
	for _, name := range types[1:] {
		errs = append(errs, field.Forbidden(path.Child(name), "may not specify more than 1 volume type"))
	}
	at := path.Child(types[0])
	switch types[0] {
	case "hostPath":
		errs = append(errs, hostPath(v.HostPath, at)...)
	case "emptyDir":
		if q := v.EmptyDir.SizeLimit; q != nil && q.Sign() < 0 {
			errs = append(errs, field.Forbidden(at.Child("sizeLimit"), "SizeLimit field must be a valid resource quantity"))
		}
		if m := v.EmptyDir.Mode; m != nil && (*m < 0 || *m > 0o1777) {
			errs = append(errs, field.Invalid(at.Child("mode"), *m, "must be a number between 0 and 01777 (octal), both inclusive"))
		}
	case "secret":
		if v.Secret.SecretName == "" {
			errs = append(errs, field.Required(at.Child("secretName"), ""))
		}
		errs = append(errs, fileMode(v.Secret.DefaultMode, at.Child("defaultMode"))...)
		errs = append(errs, items(v.Secret.Items, at.Child("items"))...)
	case "configMap":
		if v.ConfigMap.Name == "" {
			errs = append(errs, field.Required(at.Child("name"), ""))
		}
		errs = append(errs, fileMode(v.ConfigMap.DefaultMode, at.Child("defaultMode"))...)
		errs = append(errs, items(v.ConfigMap.Items, at.Child("items"))...)
	case "downwardAPI":
		errs = append(errs, fileMode(v.DownwardAPI.DefaultMode, at.Child("defaultMode"))...)
		errs = append(errs, downwardItems(v.DownwardAPI.Items, at)...)
	case "projected":
		errs = append(errs, projected(v.Projected, at)...)
	case "persistentVolumeClaim":
		if v.PersistentVolumeClaim.ClaimName == "" {
			errs = append(errs, field.Required(at.Child("claimName"), ""))
		}
	case "image":
		if v.Image.Reference == "" {
			errs = append(errs, field.Required(at.Child("reference"), ""))
		}
		errs = append(errs, kind.OneOf(v.Image.PullPolicy, at.Child("pullPolicy"), corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever)...)
	case "csi":
		if v.CSI.Driver == "" {
			errs = append(errs, field.Required(at.Child("driver"), ""))
		}
	case "ephemeral":
		if v.Ephemeral.VolumeClaimTemplate == nil {
			errs = append(errs, field.Required(at.Child("volumeClaimTemplate"), ""))
		}
	case "nfs":
		if v.NFS.Server == "" {
			errs = append(errs, field.Required(at.Child("server"), ""))
		}
		if v.NFS.Path == "" {
			errs = append(errs, field.Required(at.Child("path"), ""))
		} else if !filepath.IsAbs(v.NFS.Path) {
			errs = append(errs, field.Invalid(at.Child("path"), v.NFS.Path, "must be an absolute path"))
		}
	}
	return errs
}

// sources lists the types that a volume has set, by their JSON names.
func sources(v *corev1.VolumeSource) (names []string) {
	value := reflect.ValueOf(v).Elem()
	for i := range value.NumField() {
		if f := value.Field(i); f.Kind() == reflect.Pointer && !f.IsNil() {
			name, _, _ := strings.Cut(value.Type().Field(i).Tag.Get("json"), ",")
			names = append(names, name)
		}
	}
	return names
}

func hostPath(h *corev1.HostPathVolumeSource, path *field.Path) (errs field.ErrorList) {
	if h.Path == "" {
		return field.ErrorList{field.Required(path.Child("path"), "")}
	}
	errs = append(errs, noBacksteps(h.Path, path.Child("path"))...)
	if h.Type != nil {
		errs = append(errs, kind.OneOfIfSet(*h.Type, path.Child("type"), corev1.HostPathBlockDev, corev1.HostPathCharDev, corev1.HostPathDirectory,
			corev1.HostPathDirectoryOrCreate, corev1.HostPathFile, corev1.HostPathFileOrCreate, corev1.HostPathSocket, corev1.HostPathUnset)...)
	}
	return errs
}

func fileMode(mode *int32, path *field.Path) field.ErrorList {
	if mode == nil || *mode >= 0 && *mode <= 0o777 {
		return nil
	}
	return field.ErrorList{field.Invalid(path, *mode, "must be a number between 0 and 0777 (octal), both inclusive")}
}

func items(all []corev1.KeyToPath, path *field.Path) (errs field.ErrorList) {
	for i := range all {
		at := path.Index(i)
		if all[i].Key == "" {
			errs = append(errs, field.Required(at.Child("key"), ""))
		}
		errs = append(errs, filePath(all[i].Path, at.Child("path"))...)
		errs = append(errs, fileMode(all[i].Mode, at.Child("mode"))...)
	}
	return errs
}

func downwardItems(all []corev1.DownwardAPIVolumeFile, path *field.Path) (errs field.ErrorList) {
	for i := range all {
		// Upstream names no index here.
		f, at := &all[i], path
		errs = append(errs, filePath(f.Path, at.Child("path"))...)
		switch {
		case f.FieldRef != nil:
			errs = append(errs, fieldRef(f.FieldRef, volumeFields, at.Child("fieldRef"))...)
			if f.ResourceFieldRef != nil {
				errs = append(errs, field.Invalid(at, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously"))
			}
		case f.ResourceFieldRef != nil:
			errs = append(errs, resourceRef(f.ResourceFieldRef, true, at.Child("resourceFieldRef"))...)
		default:
			errs = append(errs, field.Required(at, "one of fieldRef and resourceFieldRef is required"))
		}
		errs = append(errs, fileMode(f.Mode, at.Child("mode"))...)
	}
	return errs
}

func projected(p *corev1.ProjectedVolumeSource, path *field.Path) (errs field.ErrorList) {
	errs = append(errs, fileMode(p.DefaultMode, path.Child("defaultMode"))...)
	files := map[string]bool{}
	claim := func(file string, at *field.Path, of ...any) {
		if file == "" {
			return
		}
		if files[file] {
			if len(of) > 0 {
				errs = append(errs, field.Invalid(at, of[0], "conflicting duplicate paths"))
			} else {
				errs = append(errs, field.Invalid(at, file, "conflicting duplicate paths"))
			}
		}
		files[file] = true
	}
	for i := range p.Sources {
		s, at := &p.Sources[i], path.Child("sources").Index(i)
		n := 0
		one := func(set bool, name string, check func(at *field.Path)) {
			if !set {
				return
			}
			if n++; n > 1 {
				errs = append(errs, field.Forbidden(at.Child(name), "may not specify more than 1 volume type per source"))
				return
			}
			check(at.Child(name))
		}
		keys := func(name string, all []corev1.KeyToPath, at *field.Path) {
			if name == "" {
				errs = append(errs, field.Required(at.Child("name"), ""))
			}
			errs = append(errs, items(all, at.Child("items"))...)
			for _, item := range all {
				claim(item.Path, path, name)
			}
		}
		one(s.Secret != nil, "secret", func(at *field.Path) { keys(s.Secret.Name, s.Secret.Items, at) })
		one(s.ConfigMap != nil, "configMap", func(at *field.Path) { keys(s.ConfigMap.Name, s.ConfigMap.Items, at) })
		one(s.DownwardAPI != nil, "downwardAPI", func(at *field.Path) {
			errs = append(errs, downwardItems(s.DownwardAPI.Items, at)...)
			for _, item := range s.DownwardAPI.Items {
				claim(item.Path, path)
			}
		})
		one(s.ServiceAccountToken != nil, "serviceAccountToken", func(at *field.Path) {
			errs = append(errs, tokenProjection(s.ServiceAccountToken, at)...)
			claim(s.ServiceAccountToken.Path, path)
		})
		one(s.ClusterTrustBundle != nil, "clusterTrustBundle", func(at *field.Path) {
			errs = append(errs, trustBundle(s.ClusterTrustBundle, at)...)
			claim(s.ClusterTrustBundle.Path, path)
		})
		one(s.PodCertificate != nil, "podCertificate", func(at *field.Path) {
			errs = append(errs, podCertificate(s.PodCertificate, at)...)
			for _, file := range []string{s.PodCertificate.CredentialBundlePath, s.PodCertificate.KeyPath, s.PodCertificate.CertificateChainPath} {
				if file != "" {
					errs = append(errs, filePath(file, at)...)
					claim(file, path)
				}
			}
		})
		if n == 0 {
			errs = append(errs, field.Required(at, "must specify a volume source")) // nobody could say what to project
		}
	}
	return errs
}

func tokenProjection(t *corev1.ServiceAccountTokenProjection, path *field.Path) (errs field.ErrorList) {
	if n := t.ExpirationSeconds; n != nil && *n < 10*60 {
		errs = append(errs, field.Invalid(path.Child("expirationSeconds"), *n, "may not specify a duration less than 10 minutes"))
	} else if n != nil && *n > 1<<32 {
		errs = append(errs, field.Invalid(path.Child("expirationSeconds"), *n, "may not specify a duration larger than 2^32 seconds"))
	}
	if t.Path == "" {
		return append(errs, field.Required(path.Child("path"), ""))
	}
	return append(errs, filePath(t.Path, path.Child("path"))...)
}

func trustBundle(b *corev1.ClusterTrustBundleProjection, path *field.Path) (errs field.ErrorList) {
	switch {
	case b.Name != nil && b.SignerName != nil:
		errs = append(errs, field.Invalid(path, b, "only one of name and signerName may be used"))
	case b.Name == nil && b.SignerName == nil:
		errs = append(errs, field.Required(path, "either name or signerName must be specified"))
	case b.Name != nil && *b.Name == "":
		errs = append(errs, field.Required(path.Child("name"), "must be a valid object name"))
	case b.Name != nil && b.LabelSelector != nil:
		errs = append(errs, field.Invalid(path.Child("labelSelector"), b.LabelSelector, "labelSelector must be unset if name is specified"))
	}
	return append(errs, filePath(b.Path, path.Child("path"))...)
}

// podCertificate checks what a pod asks a signer for (KEP-4317).
func podCertificate(c *corev1.PodCertificateProjection, path *field.Path) (errs field.ErrorList) {
	errs = append(errs, kind.SignerName(c.SignerName, path.Child("signerName"))...)
	errs = append(errs, kind.SignerAnnotations(c.UserAnnotations, path.Child("userAnnotations"))...)
	if types := []string{"RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519"}; !slices.Contains(types, c.KeyType) {
		errs = append(errs, field.NotSupported(path.Child("keyType"), c.KeyType, types))
	}
	if n := c.MaxExpirationSeconds; n != nil {
		at, most := path.Child("maxExpirationSeconds"), kind.LongestCertificate(c.SignerName)
		switch {
		case *n < kind.ShortestCertificate:
			errs = append(errs, field.Invalid(at, *n, fmt.Sprintf("if provided, maxExpirationSeconds must be >= %d", kind.ShortestCertificate)))
		case *n > most:
			errs = append(errs, field.Invalid(at, *n, fmt.Sprintf("if provided, maxExpirationSeconds must be <= %d", most)))
		}
	}
	if c.CredentialBundlePath == "" && c.KeyPath == "" && c.CertificateChainPath == "" {
		errs = append(errs, field.Required(path, "specify at least one of credentialBundlePath, keyPath, and certificateChainPath"))
	}
	return errs
}

// filePath checks where a projected file goes: below the volume, and not among
// the names that start with "..", with which the node switches versions.
func filePath(p string, path *field.Path) (errs field.ErrorList) {
	if p == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	errs = append(errs, descending(p, path)...)
	if strings.HasPrefix(p, "..") && !strings.HasPrefix(p, "../") && p != ".." {
		errs = append(errs, field.Invalid(path, p, "must not start with '..'"))
	}
	return errs
}

// descending checks a path that must stay below where it starts.
func descending(p string, path *field.Path) (errs field.ErrorList) {
	if strings.HasPrefix(p, "/") {
		errs = append(errs, field.Invalid(path, p, "must be a relative path"))
	}
	return append(errs, noBacksteps(p, path)...)
}

func noBacksteps(p string, path *field.Path) field.ErrorList {
	if slices.Contains(strings.Split(filepath.ToSlash(p), "/"), "..") {
		return field.ErrorList{field.Invalid(path, p, "must not contain '..'")}
	}
	return nil
}

// mounts checks where a container sees volumes.
func mounts(c *corev1.Container, volumes volumeSet, path *field.Path) (errs field.ErrorList) {
	places := map[string]bool{}
	privileged := c.SecurityContext != nil && c.SecurityContext.Privileged != nil && *c.SecurityContext.Privileged
	// Upstream names no index for what it checks of a mount's options.
	for i := range c.VolumeMounts {
		m, at := &c.VolumeMounts[i], path.Index(i)
		if m.Name == "" {
			errs = append(errs, field.Required(at.Child("name"), ""))
		}
		if _, ok := volumes[m.Name]; !ok {
			errs = append(errs, field.NotFound(at.Child("name"), m.Name))
		}
		if m.MountPath == "" {
			errs = append(errs, field.Required(at.Child("mountPath"), ""))
		}
		if places[m.MountPath] {
			errs = append(errs, field.Invalid(at.Child("mountPath"), m.MountPath, "must be unique"))
		}
		places[m.MountPath] = true
		if slices.ContainsFunc(c.VolumeDevices, func(d corev1.VolumeDevice) bool { return d.Name == m.Name }) {
			errs = append(errs, field.Invalid(at.Child("name"), m.Name, "must not already exist in volumeDevices"))
		}
		if slices.ContainsFunc(c.VolumeDevices, func(d corev1.VolumeDevice) bool { return d.DevicePath == m.MountPath }) {
			errs = append(errs, field.Invalid(at.Child("mountPath"), m.MountPath, "must not already exist as a path in volumeDevices"))
		}
		if m.SubPath != "" {
			errs = append(errs, descending(m.SubPath, path.Child("subPath"))...)
		}
		if m.SubPathExpr != "" {
			if m.SubPath != "" {
				errs = append(errs, field.Invalid(at.Child("subPathExpr"), m.SubPathExpr, "subPathExpr and subPath are mutually exclusive"))
			}
			errs = append(errs, descending(m.SubPathExpr, path.Child("subPathExpr"))...)
		}
		errs = append(errs, propagation(m, privileged, path)...)
	}
	return errs
}

func propagation(m *corev1.VolumeMount, privileged bool, path *field.Path) (errs field.ErrorList) {
	if p := m.MountPropagation; p != nil {
		at := path.Child("mountPropagation")
		errs = append(errs, kind.OneOf(*p, at, corev1.MountPropagationBidirectional, corev1.MountPropagationHostToContainer, corev1.MountPropagationNone)...)
		if *p == corev1.MountPropagationBidirectional && !privileged {
			errs = append(errs, field.Forbidden(at, "Bidirectional mount propagation is available only to privileged containers"))
		}
	}
	if r := m.RecursiveReadOnly; r != nil {
		at := path.Child("recursiveReadOnly")
		switch *r {
		case corev1.RecursiveReadOnlyDisabled:
		case corev1.RecursiveReadOnlyEnabled, corev1.RecursiveReadOnlyIfPossible:
			if !m.ReadOnly {
				errs = append(errs, field.Forbidden(at, "may only be specified when readOnly is true"))
			}
			if p := m.MountPropagation; p != nil && *p != corev1.MountPropagationNone {
				errs = append(errs, field.Forbidden(at, "may only be specified when mountPropagation is None or not specified"))
			}
		default:
			errs = append(errs, field.NotSupported(at, *r, []corev1.RecursiveReadOnlyMode{
				corev1.RecursiveReadOnlyDisabled, corev1.RecursiveReadOnlyIfPossible, corev1.RecursiveReadOnlyEnabled}))
		}
	}
	return errs
}

func devices(c *corev1.Container, volumes volumeSet, path *field.Path) (errs field.ErrorList) {
	names, places := map[string]bool{}, map[string]bool{}
	for i, d := range c.VolumeDevices {
		at := path.Index(i)
		if d.Name == "" {
			errs = append(errs, field.Required(at.Child("name"), ""))
		}
		if names[d.Name] {
			errs = append(errs, field.Invalid(at.Child("name"), d.Name, "must be unique"))
		}
		names[d.Name] = true
		if v, ok := volumes[d.Name]; !ok {
			errs = append(errs, field.NotFound(at.Child("name"), d.Name))
		} else if v.PersistentVolumeClaim == nil && v.Ephemeral == nil {
			errs = append(errs, field.Invalid(at.Child("name"), d.Name, "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"))
		}
		if d.DevicePath == "" {
			errs = append(errs, field.Required(at.Child("devicePath"), ""))
			continue
		}
		if places[d.DevicePath] {
			errs = append(errs, field.Invalid(at.Child("devicePath"), d.DevicePath, "must be unique"))
		}
		places[d.DevicePath] = true
		if len(noBacksteps(d.DevicePath, at)) > 0 {
			errs = append(errs, field.Invalid(at.Child("devicePath"), d.DevicePath, "can not contain backsteps ('..')"))
		}
	}
	return errs
}
