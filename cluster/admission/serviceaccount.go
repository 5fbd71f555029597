package admission

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilrand "k8s.io/apimachinery/pkg/util/rand"

	"sampan/cluster/client"
)

// ServiceAccounts gives each new pod an account, and a token of it where the
// pod or the account do not decline: a projected volume in every container.
type ServiceAccounts struct {
	Reader client.Reader

	// Patience is how long a pod waits for an account that does not exist yet:
	// those of a new namespace are made a moment after it. Default: a second.
	Patience time.Duration
}

const (
	tokenVolume    = "kube-api-access-"
	tokenPath      = "/var/run/secrets/kubernetes.io/serviceaccount"
	tokenSeconds   = int64(3607) // an hour, and some seconds that tell it was not chosen by a user
	rootCA         = "kube-root-ca.crt"
	defaultAccount = "default"
)

// Mutate implements Mutator.
func (s ServiceAccounts) Mutate(ctx context.Context, a *Attempt) error {
	pod, ok := newPod(a)
	if !ok || pod.Annotations[corev1.MirrorPodAnnotationKey] != "" {
		return nil // a mirror pod's account is refused by the rules of pods
	}
	if pod.Spec.ServiceAccountName == "" {
		pod.Spec.ServiceAccountName = defaultAccount
	}
	pod.Spec.DeprecatedServiceAccount = pod.Spec.ServiceAccountName
	account, err := s.account(ctx, a.Request.Namespace, pod.Spec.ServiceAccountName)
	if err != nil {
		return apierrors.NewForbidden(a.Request.Kind.GroupResource(), pod.Name, fmt.Errorf(
			"error looking up service account %s/%s: %w", a.Request.Namespace, pod.Spec.ServiceAccountName, err))
	}
	if mounts(pod, account) {
		mountToken(pod)
	}
	if len(pod.Spec.ImagePullSecrets) == 0 {
		pod.Spec.ImagePullSecrets = slices.Clone(account.ImagePullSecrets)
	}
	return nil
}

// newPod is the pod about to be created, if that is what the attempt is.
func newPod(a *Attempt) (*corev1.Pod, bool) {
	if a.Operation != Create || a.Request.Subresource != "" {
		return nil, false
	}
	pod, ok := a.Object.(*corev1.Pod)
	return pod, ok
}

func mounts(pod *corev1.Pod, account *corev1.ServiceAccount) bool {
	switch {
	case pod.Spec.AutomountServiceAccountToken != nil:
		return *pod.Spec.AutomountServiceAccountToken
	case account.AutomountServiceAccountToken != nil:
		return *account.AutomountServiceAccountToken
	}
	return true
}

// account returns a service account, and waits for it for a moment if it does
// not exist.
func (s ServiceAccounts) account(ctx context.Context, namespace, name string) (*corev1.ServiceAccount, error) {
	account, err := client.Get[*corev1.ServiceAccount](ctx, s.Reader, namespace, name)
	if !apierrors.IsNotFound(err) {
		return account, err
	}
	patience := s.Patience
	if patience == 0 {
		patience = time.Second
	}
	short, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	found := errors.New("found")
	k := client.KindOf[*corev1.ServiceAccount](s.Reader)
	w, err := s.Reader.Watch(short, k, client.Query{Namespace: namespace, Name: name})
	if err != nil {
		return nil, err
	}
	for err = nil; err == nil; {
		var events []client.Event
		if events, err = w.Next(short); err != nil {
			break
		}
		for _, e := range events {
			if e.Type == client.Added || e.Type == client.Modified {
				account, err = e.Object.(*corev1.ServiceAccount), found
			}
		}
	}
	if errors.Is(err, found) {
		return account, nil
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	// The lister of upstream's plugin names the resource in the singular.
	return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "serviceaccount"}, name)
}

// mountToken adds the token's volume to all containers that mount nothing at
// its place, and to the pod if any needs it.
func mountToken(pod *corev1.Pod) {
	name := ""
	for name == "" || slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == name }) {
		name = tokenVolume + utilrand.String(5)
	}
	needed := false
	for _, containers := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range containers {
			c := &containers[i]
			taken := func(m corev1.VolumeMount) bool { return m.MountPath == tokenPath }
			if slices.ContainsFunc(c.VolumeMounts, taken) {
				continue
			}
			c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: name, ReadOnly: true, MountPath: tokenPath})
			needed = true
		}
	}
	if needed {
		pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: name, VolumeSource: token()})
	}
}

func token() corev1.VolumeSource {
	seconds, mode := tokenSeconds, corev1.ProjectedVolumeSourceDefaultMode
	return corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
		DefaultMode: &mode,
		Sources: []corev1.VolumeProjection{
			{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: &seconds}},
			{ConfigMap: &corev1.ConfigMapProjection{
				LocalObjectReference: corev1.LocalObjectReference{Name: rootCA},
				Items:                []corev1.KeyToPath{{Key: "ca.crt", Path: "ca.crt"}}}},
			{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{{
				Path:     "namespace",
				FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.namespace"}}}}},
		},
	}}
}
