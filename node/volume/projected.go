package volume

import (
	"context"
	"errors"
	"fmt"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"sampan/cluster/client"
	"sampan/internal/fault"
)

// projected puts several sources into one directory, in memory only.
func (s *Set) projected(ctx context.Context, r *request) (string, error) {
	p := payload{}
	m := mode(r.v.Projected.DefaultMode)
	for i := range r.v.Projected.Sources {
		var err error
		switch src := &r.v.Projected.Sources[i]; {
		case src.ConfigMap != nil:
			err = s.addConfigMap(ctx, r, p, src.ConfigMap.Name, src.ConfigMap.Items, m, optional(src.ConfigMap.Optional))
		case src.Secret != nil:
			err = s.addSecret(ctx, r, p, src.Secret.Name, src.Secret.Items, m, optional(src.Secret.Optional))
		case src.DownwardAPI != nil:
			err = s.addDownward(r, p, src.DownwardAPI.Items, m)
		case src.ServiceAccountToken != nil:
			err = s.addToken(ctx, r, p, src.ServiceAccountToken, m)
		case src.ClusterTrustBundle != nil:
			err = s.addTrustBundle(ctx, r, p, src.ClusterTrustBundle, m)
		case src.PodCertificate != nil:
			err = s.addPodCertificate(ctx, r, p, src.PodCertificate, i, m)
		default:
			err = &fault.Error{Class: fault.Invalid, Op: "make projected volume", On: r.v.Name,
				Err: errors.New("sources of this type are not supported by this node yet"),
				Fix: "use configMap, secret, downwardAPI, serviceAccountToken, clusterTrustBundle or podCertificate"}
		}
		if err != nil {
			return "", err
		}
	}
	return r.dir, r.write(p, true)
}

// tokenKey is one token of one volume.
type tokenKey struct {
	pod          types.UID
	volume, path string
}

type token struct {
	value string
	renew time.Time
}

// addToken puts a token for the pod's service account into a payload. It is
// kept until four fifths of its life are over, a day at most (KEP-1205).
func (s *Set) addToken(ctx context.Context, r *request, p payload, src *corev1.ServiceAccountTokenProjection, m int32) error {
	key := tokenKey{r.pod.UID, r.v.Name, src.Path}
	s.mu.Lock()
	t, ok := s.tokens[key]
	s.mu.Unlock()
	if !ok || !time.Now().Before(t.renew) {
		var err error
		if t, err = s.request(ctx, r.pod, src); err != nil {
			return err
		}
		s.mu.Lock()
		s.tokens[key] = t
		s.mu.Unlock()
	}
	r.renew(t.renew)
	return p.put(src.Path, s.private(r, []byte(t.value), m))
}

func (s *Set) request(ctx context.Context, pod *corev1.Pod, src *corev1.ServiceAccountTokenProjection) (token, error) {
	body := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		ExpirationSeconds: src.ExpirationSeconds,
		BoundObjectRef:    &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID},
	}}
	if src.Audience != "" {
		body.Spec.Audiences = []string{src.Audience}
	}
	account := pod.Spec.ServiceAccountName
	if account == "" {
		account = "default"
	}
	now := time.Now()
	answer, err := s.c.Client.Act(ctx, client.KindOf[*corev1.ServiceAccount](s.c.Client), pod.Namespace, account, "token", body)
	if err != nil {
		return token{}, fmt.Errorf("failed to fetch token: %w", err)
	}
	got, ok := answer.(*authenticationv1.TokenRequest)
	if !ok {
		return token{}, &fault.Error{Op: "fetch token", On: pod.Namespace + "/" + account, Err: fmt.Errorf("answer is %T", answer)}
	}
	life := got.Status.ExpirationTimestamp.Sub(now)
	return token{value: got.Status.Token, renew: now.Add(min(life*4/5, 24*time.Hour))}, nil
}

// onlyUser is the user that all containers run as, nil if they differ or do
// not say.
func onlyUser(pod *corev1.Pod) *int64 {
	var common *int64
	var fallback *int64
	if sc := pod.Spec.SecurityContext; sc != nil {
		fallback = sc.RunAsUser
	}
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			uid := fallback
			if sc := list[i].SecurityContext; sc != nil && sc.RunAsUser != nil {
				uid = sc.RunAsUser
			}
			if uid == nil || common != nil && *common != *uid {
				return nil
			}
			common = uid
		}
	}
	return common
}
