package admission

import (
	"context"
	"fmt"
	"slices"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"sampan/cluster/client"
)

// podCertificate: a node asks for certificates of the pods that run on it, as
// they are, from signers that they name. Errors of the class NotFound, and
// those about UIDs, are upstream's as they are: the node tries again.
func (n NodeRestriction) podCertificate(ctx context.Context, node string, a *Attempt) error {
	if a.Operation != Create {
		return fmt.Errorf("unexpected operation %v", a.Operation)
	}
	if sub := a.Request.Subresource; sub != "" {
		return fmt.Errorf("unexpected subresource %v", sub)
	}
	r := a.Object.(*certificatesv1.PodCertificateRequest)
	s := &r.Spec
	key := a.Request.Namespace + "/" + s.PodName
	if string(s.NodeName) != node {
		return fmt.Errorf("PodCertificateRequest.Spec.NodeName=%q, which is not the requesting node %q", s.NodeName, node)
	}
	own, err := client.Get[*corev1.Node](ctx, n.Reader, "", node)
	if err != nil {
		return missing(err, "while retrieving node %q named in the PodCertificateRequest: %w", node)
	}
	if own.UID != s.NodeUID {
		return fmt.Errorf("PodCertificateRequest for pod %q names node UID %q, inconsistent with the running node (%q)", key, s.NodeUID, own.UID)
	}
	pod, err := client.Get[*corev1.Pod](ctx, n.Reader, a.Request.Namespace, s.PodName)
	if err != nil {
		return missing(err, "while retrieving pod %q named in the PodCertificateRequest: %w", key)
	}
	_, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]
	switch {
	case pod.UID != s.PodUID:
		return fmt.Errorf("PodCertificateRequest for pod %q contains pod UID (%q) which differs from running pod %q", key, s.PodUID, pod.UID)
	case pod.Spec.NodeName != node:
		return fmt.Errorf("pod %q is not running on node %q named in the PodCertificateRequest", key, node)
	case mirror:
		return fmt.Errorf("pod %q is a mirror pod", key)
	case pod.Spec.ServiceAccountName != s.ServiceAccountName:
		return fmt.Errorf("PodCertificateRequest for pod %q contains serviceAccountName (%q) that differs from running pod (%q)", key, s.ServiceAccountName, pod.Spec.ServiceAccountName)
	}
	account, err := client.Get[*corev1.ServiceAccount](ctx, n.Reader, a.Request.Namespace, s.ServiceAccountName)
	if err != nil {
		return missing(err, "while retrieving service account %q named in the PodCertificateRequest: %w", a.Request.Namespace+"/"+s.ServiceAccountName)
	}
	if account.UID != s.ServiceAccountUID {
		return fmt.Errorf("PodCertificateRequest for pod %q names service account UID %q, which differs from the running service account (%q)", key, s.ServiceAccountUID, account.UID)
	}
	if !asksSigner(pod, s.SignerName) {
		return fmt.Errorf("pod %q does not mount a podCertificate projected volume for signer %q", key, s.SignerName)
	}
	return nil
}

// missing says what was looked for; that it is not there stays the answer's
// class.
func missing(err error, format, what string) error {
	if apierrors.IsNotFound(err) {
		return err
	}
	return fmt.Errorf(format, what, err)
}

func asksSigner(p *corev1.Pod, signer string) bool {
	return slices.ContainsFunc(p.Spec.Volumes, func(v corev1.Volume) bool {
		return v.Projected != nil && slices.ContainsFunc(v.Projected.Sources, func(s corev1.VolumeProjection) bool {
			return s.PodCertificate != nil && s.PodCertificate.SignerName == signer
		})
	})
}
