package core

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
)

// Secret is a ConfigMap for what not everyone should read.
func Secret() *kind.Kind {
	return kind.Declare(kind.Of[corev1.Secret]{
		GVK:       corev1.SchemeGroupVersion.WithKind("Secret"),
		Plural:    "secrets",
		Rechecked: true,
		Default:   defaultSecret,
		Validate:  validateSecret,
		Columns: []kind.Column[corev1.Secret]{
			{Name: "Type", Description: corev1.Secret{}.SwaggerDoc()["type"],
				Cell: func(s *corev1.Secret, _ time.Time) any { return string(s.Type) }},
			{Name: "Data", Description: corev1.Secret{}.SwaggerDoc()["data"],
				Cell: func(s *corev1.Secret, _ time.Time) any { return int64(len(s.Data)) }},
			kind.Age[corev1.Secret](),
		},
		Fields: map[string]func(*corev1.Secret) string{
			"type": func(s *corev1.Secret) string { return string(s.Type) },
		},
	})
}

func defaultSecret(s *corev1.Secret) {
	if s.Type == "" {
		s.Type = corev1.SecretTypeOpaque
	}
	// stringData is for writing only: what is stored and read is data.
	if len(s.StringData) > 0 && s.Data == nil {
		s.Data = make(map[string][]byte, len(s.StringData))
	}
	for key, value := range s.StringData {
		s.Data[key] = []byte(value)
	}
	s.StringData = nil
}

func validateSecret(obj, old *corev1.Secret) (errs field.ErrorList) {
	data := field.NewPath("data")
	if old != nil {
		errs = append(errs, validation.ValidateImmutableField(obj.Type, old.Type, field.NewPath("type"))...)
		if old.Immutable != nil && *old.Immutable {
			errs = append(errs, stillImmutable(obj.Immutable)...)
			if !maps.EqualFunc(obj.Data, old.Data, bytes.Equal) {
				errs = append(errs, field.Forbidden(data, "field is immutable when `immutable` is set"))
			}
		}
	}
	total := 0
	for _, key := range slices.Sorted(maps.Keys(obj.Data)) {
		errs = append(errs, dataKey(key, data)...)
		total += len(obj.Data[key])
	}
	if total > corev1.MaxSecretSize {
		errs = append(errs, field.TooLong(data, "" /* secret, and too long to show */, corev1.MaxSecretSize))
	}
	return append(errs, secretOfType(obj, data)...)
}

// secretOfType checks the keys that a type promises to its readers.
func secretOfType(s *corev1.Secret, data *field.Path) (errs field.ErrorList) {
	must := func(key string) bool {
		if _, ok := s.Data[key]; !ok {
			errs = append(errs, field.Required(data.Key(key), ""))
			return false
		}
		return true
	}
	mustBeJSON := func(key string) {
		if !must(key) {
			return
		}
		if err := json.Unmarshal(s.Data[key], &map[string]any{}); err != nil {
			errs = append(errs, field.Invalid(data.Key(key), "<secret contents redacted>", err.Error()))
		}
	}
	switch s.Type {
	case corev1.SecretTypeServiceAccountToken:
		if s.Annotations[corev1.ServiceAccountNameKey] == "" {
			errs = append(errs, field.Required(field.NewPath("metadata", "annotations").Key(corev1.ServiceAccountNameKey), ""))
		}
	case corev1.SecretTypeDockercfg:
		mustBeJSON(corev1.DockerConfigKey)
	case corev1.SecretTypeDockerConfigJson:
		mustBeJSON(corev1.DockerConfigJsonKey)
	case corev1.SecretTypeBasicAuth:
		_, user := s.Data[corev1.BasicAuthUsernameKey]
		_, password := s.Data[corev1.BasicAuthPasswordKey]
		if !user && !password {
			errs = append(errs, field.Required(data.Key(corev1.BasicAuthUsernameKey), ""),
				field.Required(data.Key(corev1.BasicAuthPasswordKey), ""))
		}
	case corev1.SecretTypeSSHAuth:
		if len(s.Data[corev1.SSHAuthPrivateKey]) == 0 {
			errs = append(errs, field.Required(data.Key(corev1.SSHAuthPrivateKey), ""))
		}
	case corev1.SecretTypeTLS:
		must(corev1.TLSCertKey)
		must(corev1.TLSPrivateKeyKey)
	}
	return errs
}
