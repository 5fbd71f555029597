package volume

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"sampan/cluster/client"
)

// secret is a file for each key of a Secret, in memory only.
func (s *Set) secret(ctx context.Context, r *request) (string, error) {
	src := r.v.Secret
	p := payload{}
	if err := s.addSecret(ctx, r, p, src.SecretName, src.Items, mode(src.DefaultMode), optional(src.Optional)); err != nil {
		return "", err
	}
	return r.dir, r.write(p, true)
}

func (s *Set) addSecret(ctx context.Context, r *request, p payload, name string, items []corev1.KeyToPath, mode int32, optional bool) error {
	sec, err := client.Get[*corev1.Secret](ctx, s.c.Client, r.pod.Namespace, name)
	if err != nil {
		if apierrors.IsNotFound(err) {
			s.sources.saw(secrets, r.pod.Namespace, name, "")
			if optional {
				return nil
			}
			return fmt.Errorf("secret %q not found", name)
		}
		return err
	}
	s.sources.saw(secrets, r.pod.Namespace, name, sec.ResourceVersion)
	return p.add(sec.Data, items, mode, optional, "secret")
}
