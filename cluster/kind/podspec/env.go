package podspec

import (
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
)

func env(vars []corev1.EnvVar, volumes volumeSet, path *field.Path) (errs field.ErrorList) {
	for i := range vars {
		v, at := &vars[i], path.Index(i)
		if v.Name == "" {
			errs = append(errs, field.Required(at.Child("name"), ""))
		} else {
			for _, msg := range validation.IsRelaxedEnvVarName(v.Name) {
				errs = append(errs, field.Invalid(at.Child("name"), v.Name, msg))
			}
		}
		if v.ValueFrom != nil {
			errs = append(errs, valueFrom(v, volumes, at.Child("valueFrom"))...)
		}
	}
	return errs
}

func valueFrom(v *corev1.EnvVar, volumes volumeSet, path *field.Path) (errs field.ErrorList) {
	n, from := 0, v.ValueFrom
	if from.FieldRef != nil {
		n++
		errs = append(errs, fieldRef(from.FieldRef, envFields, path.Child("fieldRef"))...)
	}
	if from.ResourceFieldRef != nil {
		n++
		errs = append(errs, resourceRef(from.ResourceFieldRef, false, path.Child("resourceFieldRef"))...)
	}
	if r := from.ConfigMapKeyRef; r != nil {
		n++
		errs = append(errs, keyRef(r.Name, r.Key, path.Child("configMapKeyRef"))...)
	}
	if r := from.SecretKeyRef; r != nil {
		n++
		errs = append(errs, keyRef(r.Name, r.Key, path.Child("secretKeyRef"))...)
	}
	if r := from.FileKeyRef; r != nil {
		n++
		errs = append(errs, fileRef(r, volumes, path.Child("fileKeyRef"))...)
	}
	switch {
	case n == 0:
		return append(errs, field.Invalid(path, "", "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"))
	case v.Value != "":
		return append(errs, field.Invalid(path, "", "may not be specified when `value` is not empty"))
	case n > 1:
		return append(errs, field.Invalid(path, "", "may not have more than one field specified at a time"))
	}
	return errs
}

func keyRef(name, key string, path *field.Path) (errs field.ErrorList) {
	errs = append(errs, kind.DNSSubdomain(name, path.Child("name"))...)
	if key == "" {
		return append(errs, field.Required(path.Child("key"), ""))
	}
	for _, msg := range validation.IsConfigMapKey(key) {
		errs = append(errs, field.Invalid(path.Child("key"), key, msg))
	}
	return errs
}

func fileRef(r *corev1.FileKeySelector, volumes volumeSet, path *field.Path) (errs field.ErrorList) {
	if r.VolumeName == "" {
		errs = append(errs, field.Required(path.Child("volumeName"), ""))
	} else if v, ok := volumes[r.VolumeName]; !ok {
		errs = append(errs, field.NotFound(path.Child("volumeName"), r.VolumeName))
	} else if v.EmptyDir == nil {
		errs = append(errs, field.Invalid(path.Child("volumeName"), r.VolumeName, "must be an emptyDir volume"))
	}
	if r.Path == "" {
		errs = append(errs, field.Required(path.Child("path"), ""))
	} else {
		errs = append(errs, descending(r.Path, path.Child("path"))...)
	}
	if r.Key == "" {
		return append(errs, field.Required(path.Child("key"), ""))
	}
	for _, msg := range validation.IsRelaxedEnvVarName(r.Key) {
		errs = append(errs, field.Invalid(path.Child("key"), r.Key, msg))
	}
	return errs
}

func envFrom(all []corev1.EnvFromSource, path *field.Path) (errs field.ErrorList) {
	for i := range all {
		e, at := &all[i], path.Index(i)
		if e.Prefix != "" {
			for _, msg := range validation.IsRelaxedEnvVarName(e.Prefix) {
				errs = append(errs, field.Invalid(at.Child("prefix"), e.Prefix, msg))
			}
		}
		n := 0
		if e.ConfigMapRef != nil {
			n++
			errs = append(errs, envName(e.ConfigMapRef.Name, at.Child("configMapRef", "name"))...)
		}
		if e.SecretRef != nil {
			n++
			errs = append(errs, envName(e.SecretRef.Name, at.Child("secretRef", "name"))...)
		}
		switch {
		case n == 0:
			errs = append(errs, field.Invalid(path, "", "must specify one of: `configMapRef` or `secretRef`"))
		case n > 1:
			errs = append(errs, field.Invalid(path, "", "may not have more than one field specified at a time"))
		}
	}
	return errs
}

// envName checks the name of a source of variables; upstream allows a dash at
// its end, as if it were a prefix.
func envName(name string, path *field.Path) (errs field.ErrorList) {
	if name == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	for _, msg := range apivalidation.NameIsDNSSubdomain(name, true) {
		errs = append(errs, field.Invalid(path, name, msg))
	}
	return errs
}

// fields is a set of paths that a fieldRef may name.
type fields map[string]bool

// The paths of the downward API, as variables and as files.
var (
	envFields = fields{
		"metadata.name": true, "metadata.namespace": true, "metadata.uid": true,
		"spec.nodeName": true, "spec.serviceAccountName": true,
		"status.hostIP": true, "status.hostIPs": true, "status.podIP": true, "status.podIPs": true,
	}
	volumeFields = fields{
		"metadata.name": true, "metadata.namespace": true, "metadata.labels": true, "metadata.annotations": true, "metadata.uid": true,
	}
	// known are the paths of a pod that mean something here or there.
	known = func() fields {
		all := maps.Clone(envFields)
		maps.Copy(all, volumeFields)
		for _, f := range []string{"spec.restartPolicy", "spec.schedulerName", "status.phase", "spec.host"} {
			all[f] = true
		}
		return all
	}()
)

func fieldRef(r *corev1.ObjectFieldSelector, allowed fields, path *field.Path) (errs field.ErrorList) {
	if r.APIVersion == "" {
		return field.ErrorList{field.Required(path.Child("apiVersion"), "")}
	}
	if r.FieldPath == "" {
		return field.ErrorList{field.Required(path.Child("fieldPath"), "")}
	}
	at := path.Child("fieldPath")
	if base, key, ok := subscript(r.FieldPath); ok {
		switch base {
		case "metadata.annotations":
			for _, msg := range validation.IsQualifiedName(strings.ToLower(key)) {
				errs = append(errs, field.Invalid(path, strings.ToLower(key), msg))
			}
		case "metadata.labels":
			for _, msg := range validation.IsQualifiedName(key) {
				errs = append(errs, field.Invalid(path, key, msg))
			}
		default:
			errs = append(errs, field.Invalid(path, base, "does not support subscript"))
		}
		return errs
	}
	if !known[r.FieldPath] {
		return field.ErrorList{field.Invalid(at, r.FieldPath, "error converting fieldPath: field label not supported: "+r.FieldPath)}
	}
	if !allowed[r.FieldPath] {
		return field.ErrorList{field.NotSupported(at, r.FieldPath, slices.Sorted(maps.Keys(allowed)))}
	}
	return nil
}

// subscript splits "metadata.labels['app']" into its path and key.
func subscript(s string) (base, key string, ok bool) {
	rest, ok := strings.CutSuffix(s, "']")
	if !ok {
		return "", "", false
	}
	base, key, ok = strings.Cut(rest, "['")
	return base, key, ok && base != ""
}

func resourceRef(r *corev1.ResourceFieldSelector, volume bool, path *field.Path) field.ErrorList {
	if volume && r.ContainerName == "" {
		return field.ErrorList{field.Required(path.Child("containerName"), "")}
	}
	if r.Resource == "" {
		return field.ErrorList{field.Required(path.Child("resource"), "")}
	}
	_, name, ok := strings.Cut(r.Resource, ".")
	base := strings.HasPrefix(r.Resource, "limits.") || strings.HasPrefix(r.Resource, "requests.")
	huge := strings.HasPrefix(name, corev1.ResourceHugePagesPrefix)
	if !ok || !base || !(huge || name == "cpu" || name == "memory" || name == "ephemeral-storage") {
		return field.ErrorList{field.NotSupported(path.Child("resource"), r.Resource, []string{
			"limits.cpu", "limits.ephemeral-storage", "limits.memory", "requests.cpu", "requests.ephemeral-storage", "requests.memory"})}
	}
	return divisor(r.Resource, name, r.Divisor, path.Child("divisor"))
}

func divisor(of, name string, q resource.Quantity, path *field.Path) field.ErrorList {
	if q.IsZero() {
		return nil
	}
	if name == "cpu" {
		if s := q.String(); s != "1m" && s != "1" {
			return field.ErrorList{field.Invalid(path, of, "only divisor's values 1m and 1 are supported with the cpu resource")}
		}
		return nil
	}
	const sizes = "1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei"
	if slices.Contains(strings.Split(sizes, ", "), q.String()) {
		return nil
	}
	word := name
	if strings.HasPrefix(name, corev1.ResourceHugePagesPrefix) {
		word = "hugepages"
	} else if name == "ephemeral-storage" {
		word = "local ephemeral storage"
	}
	return field.ErrorList{field.Invalid(path, of, "only divisor's values "+sizes+" are supported with the "+word+" resource")}
}
