package tokens

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

type decision struct {
	remove bool           // the account is gone
	secret *corev1.Secret // as it is to be, but for the token; nil: as it is
	sign   bool           // a token is wanted
}

// decide is a pure function of what the cache holds; sa is nil if there is none
// of that name.
func decide(s *corev1.Secret, sa *corev1.ServiceAccount, ca string) (d decision) {
	if s.Type != corev1.SecretTypeServiceAccountToken || s.DeletionTimestamp != nil {
		return d
	}
	if uid := s.Annotations[corev1.ServiceAccountUIDKey]; sa == nil || uid != "" && uid != string(sa.UID) {
		return decision{remove: true}
	}
	d.sign = len(s.Data[corev1.ServiceAccountTokenKey]) == 0
	trusts, placed := string(s.Data[corev1.ServiceAccountRootCAKey]) == ca, len(s.Data[corev1.ServiceAccountNamespaceKey]) > 0
	if trusts && placed && !d.sign {
		return d
	}
	d.secret = s.DeepCopy()
	if d.secret.Data == nil {
		d.secret.Data = map[string][]byte{}
	}
	d.secret.Data[corev1.ServiceAccountRootCAKey] = []byte(ca)
	if !placed {
		d.secret.Data[corev1.ServiceAccountNamespaceKey] = []byte(s.Namespace)
	}
	metav1.SetMetaDataAnnotation(&d.secret.ObjectMeta, corev1.ServiceAccountNameKey, sa.Name)
	metav1.SetMetaDataAnnotation(&d.secret.ObjectMeta, corev1.ServiceAccountUIDKey, string(sa.UID))
	return d
}
