package volume

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"sampan/cluster/client"
)

// configMap is a file for each key of a ConfigMap.
func (s *Set) configMap(ctx context.Context, r *request) (string, error) {
	src := r.v.ConfigMap
	p := payload{}
	if err := s.addConfigMap(ctx, r, p, src.Name, src.Items, mode(src.DefaultMode), optional(src.Optional)); err != nil {
		return "", err
	}
	return r.dir, r.write(p, false)
}

// addConfigMap puts the keys of a ConfigMap into a payload; it serves projected
// volumes as well.
func (s *Set) addConfigMap(ctx context.Context, r *request, p payload, name string, items []corev1.KeyToPath, mode int32, optional bool) error {
	m, err := client.Get[*corev1.ConfigMap](ctx, s.c.Client, r.pod.Namespace, name)
	if err != nil {
		if apierrors.IsNotFound(err) {
			s.sources.saw(configMaps, r.pod.Namespace, name, "")
			if optional {
				return nil
			}
			return fmt.Errorf("configmap %q not found", name)
		}
		return err
	}
	s.sources.saw(configMaps, r.pod.Namespace, name, m.ResourceVersion)
	data := make(map[string][]byte, len(m.Data)+len(m.BinaryData))
	for k, v := range m.Data {
		data[k] = []byte(v)
	}
	for k, v := range m.BinaryData {
		data[k] = v
	}
	return p.add(data, items, mode, optional, "configmap")
}

func mode(m *int32) int32 {
	if m == nil {
		return 0o644
	}
	return *m
}

func optional(o *bool) bool { return o != nil && *o }
