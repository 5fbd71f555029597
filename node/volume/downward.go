package volume

import (
	"context"

	corev1 "k8s.io/api/core/v1"

	"sampan/node/downward"
)

// downwardAPI is a file for each field of the pod that is asked for.
func (s *Set) downwardAPI(ctx context.Context, r *request) (string, error) {
	p := payload{}
	if err := s.addDownward(r, p, r.v.DownwardAPI.Items, mode(r.v.DownwardAPI.DefaultMode)); err != nil {
		return "", err
	}
	return r.dir, r.write(p, false)
}

func (s *Set) addDownward(r *request, p payload, items []corev1.DownwardAPIVolumeFile, mode int32) error {
	for i := range items {
		item := &items[i]
		var value string
		var err error
		switch {
		case item.FieldRef != nil:
			value, err = downward.Field(r.pod, item.FieldRef.FieldPath, s.c.Facts())
		case item.ResourceFieldRef != nil:
			value, err = downward.Resource(r.pod, item.ResourceFieldRef.ContainerName, item.ResourceFieldRef, s.c.Facts())
		}
		if err != nil {
			return err
		}
		m := mode
		if item.Mode != nil {
			m = *item.Mode
		}
		if err := p.put(item.Path, file{data: []byte(value), mode: m}); err != nil {
			return err
		}
	}
	return nil
}
