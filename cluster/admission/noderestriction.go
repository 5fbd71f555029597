package admission

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	kubeletapis "k8s.io/kubelet/pkg/apis"

	"sampan/cluster/client"
	"sampan/cluster/kind"
)

// NodeRestriction lets a node write its own Node, lease and CSINode, the state
// of the pods bound to it, and tokens for those: what authorization cannot
// tell, because it does not see the object. It is upstream's plugin of that
// name, without what it says of claims and resource slices.
type NodeRestriction struct{ Reader client.Reader }

// nodeName is the node that asks; false for all others.
func nodeName(a *Attempt) (string, bool) {
	name, ok := strings.CutPrefix(a.Request.User.Name, "system:node:")
	return name, ok && slices.Contains(a.Request.User.Groups, "system:nodes")
}

// Mutate implements Mutator; it changes nothing.
func (n NodeRestriction) Mutate(ctx context.Context, a *Attempt) error {
	node, ok := nodeName(a)
	if !ok {
		return nil
	}
	r := a.Request
	err := fmt.Errorf("could not determine node from user %q", r.User.Name)
	if node != "" {
		switch r.Kind.GroupResource() {
		case schema.GroupResource{Resource: "pods"}:
			err = n.pod(ctx, node, a)
		case schema.GroupResource{Resource: "nodes"}:
			err = ownNode(node, a)
		case schema.GroupResource{Resource: "serviceaccounts"}:
			err = n.token(ctx, node, a)
		case schema.GroupResource{Group: coordinationv1.GroupName, Resource: "leases"}:
			err = ownLease(node, a)
		case schema.GroupResource{Group: certificatesv1.GroupName, Resource: "podcertificaterequests"}:
			err = n.podCertificate(ctx, node, a)
		case schema.GroupResource{Group: storagev1.GroupName, Resource: "csinodes"}:
			err = nil
			if named(a) != node {
				err = errors.New("can only access CSINode with the same name as the requesting node")
			}
		default:
			err = nil
		}
	}
	if err == nil || apierrors.IsNotFound(err) {
		return err
	}
	return apierrors.NewForbidden(r.Kind.GroupResource(), r.Name, err)
}

// named is the object's name; of one that is to be made, the one it will have.
func named(a *Attempt) string {
	if a.Operation == Create && a.Object != nil {
		return a.Object.GetName()
	}
	return a.Request.Name
}

func (n NodeRestriction) pod(ctx context.Context, node string, a *Attempt) error {
	bound := func() string { // where the stored pod runs
		if p, ok := a.Old.(*corev1.Pod); ok {
			return p.Spec.NodeName
		}
		return ""
	}
	switch sub := a.Request.Subresource; {
	case sub == "" && a.Operation == Create:
		return n.mirror(ctx, node, a.Object.(*corev1.Pod))
	case sub == "" && a.Operation == Delete:
		if bound() != node {
			return fmt.Errorf("node %q can only delete pods with spec.nodeName set to itself", node)
		}
	case sub == "":
		return fmt.Errorf("unexpected operation %q, node %q can only create and delete mirror pods", a.Operation, node)
	case sub == "status" && a.Operation == Update:
		return podStatus(node, a.Object.(*corev1.Pod), a.Old.(*corev1.Pod))
	case sub == "eviction" && a.Operation == Create:
		if bound() != node {
			return fmt.Errorf("node %s can only evict pods with spec.nodeName set to itself", node)
		}
	default:
		return fmt.Errorf("unexpected pod subresource %q, only 'status' and 'eviction' are allowed", sub)
	}
	return nil
}

// mirror: the only pods that a node makes show what it runs from files.
func (n NodeRestriction) mirror(ctx context.Context, node string, p *corev1.Pod) error {
	if _, ok := p.Annotations[corev1.MirrorPodAnnotationKey]; !ok {
		return fmt.Errorf("pod does not have %q annotation, node %q can only create mirror pods", corev1.MirrorPodAnnotationKey, node)
	}
	if p.Spec.NodeName != node {
		return fmt.Errorf("node %q can only create pods with spec.nodeName set to itself", node)
	}
	if len(p.OwnerReferences) > 1 {
		return fmt.Errorf("node %q can only create pods with a single owner reference set to itself", node)
	}
	if len(p.OwnerReferences) == 0 {
		return fmt.Errorf("node %q can only create pods with an owner reference set to itself", node)
	}
	switch owner := p.OwnerReferences[0]; {
	case owner.APIVersion != "v1" || owner.Kind != "Node" || owner.Name != node:
		return fmt.Errorf("node %q can only create pods with an owner reference set to itself", node)
	case owner.Controller == nil || !*owner.Controller:
		return fmt.Errorf("node %q can only create pods with a controller owner reference set to itself", node)
	case owner.BlockOwnerDeletion != nil && *owner.BlockOwnerDeletion:
		return fmt.Errorf("node %q must not set blockOwnerDeletion on an owner reference", node)
	default:
		live, err := client.Get[*corev1.Node](ctx, n.Reader, "", node)
		if err != nil {
			return err
		}
		if live.UID != owner.UID {
			return fmt.Errorf("node %s UID mismatch: expected %s got %s", node, owner.UID, live.UID)
		}
	}
	if what := references(p); what != "" {
		return fmt.Errorf("node %q can not create pods that reference %s", node, what)
	}
	return nil
}

// references says what of the API a pod names; a node must not get at objects
// by making a pod that names them. What is not known to name none, does.
func references(p *corev1.Pod) string {
	if p.Spec.ServiceAccountName != "" {
		return "serviceaccounts"
	}
	if len(p.Spec.ImagePullSecrets) > 0 {
		return "secrets"
	}
	containers := slices.Concat(p.Spec.InitContainers, p.Spec.Containers)
	for _, c := range p.Spec.EphemeralContainers {
		containers = append(containers, corev1.Container(c.EphemeralContainerCommon))
	}
	for _, c := range containers {
		for _, e := range c.EnvFrom {
			if e.SecretRef != nil {
				return "secrets"
			}
			if e.ConfigMapRef != nil {
				return "configmaps"
			}
		}
		for _, e := range c.Env {
			if e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil {
				return "secrets"
			}
			if e.ValueFrom != nil && e.ValueFrom.ConfigMapKeyRef != nil {
				return "configmaps"
			}
		}
	}
	if len(p.Spec.ResourceClaims) > 0 {
		return "resourceclaims"
	}
	for i := range p.Spec.Volumes {
		if what := volumeReferences(&p.Spec.Volumes[i]); what != "" {
			return what
		}
	}
	return ""
}

func volumeReferences(v *corev1.Volume) string {
	switch {
	case v.DownwardAPI != nil, v.EmptyDir != nil, v.HostPath != nil, v.Image != nil, v.NFS != nil, v.FC != nil, v.GitRepo != nil:
		return ""
	case v.ConfigMap != nil:
		return "configmaps (via configmap volumes)"
	case v.Secret != nil:
		return "secrets (via secret volumes)"
	case v.CSI != nil:
		return "csidrivers (via CSI volumes)"
	case v.PersistentVolumeClaim != nil:
		return "persistentvolumeclaims"
	case v.Ephemeral != nil:
		return "persistentvolumeclaims (via ephemeral volumes)"
	case v.Projected != nil:
		for _, s := range v.Projected.Sources {
			switch {
			case s.ConfigMap != nil:
				return "configmaps (via projected volumes)"
			case s.Secret != nil:
				return "secrets (via projected volumes)"
			case s.ServiceAccountToken != nil:
				return "serviceaccounts (via projected volumes)"
			case s.ClusterTrustBundle != nil:
				return "clustertrustbundles"
			case s.PodCertificate != nil:
				return "podcertificates"
			case s.DownwardAPI == nil:
				return fmt.Sprintf("objects (via an unknown source of projected volume %q)", v.Name)
			}
		}
		return ""
	}
	return fmt.Sprintf("objects (via volume %q)", v.Name)
}

func podStatus(node string, now, old *corev1.Pod) error {
	switch {
	case old.Spec.NodeName != node:
		return fmt.Errorf("node %q can only update pod status for pods with spec.nodeName set to itself", node)
	case !kind.Equal(now.Labels, old.Labels):
		return fmt.Errorf("node %q cannot update labels through pod status", node)
	case !kind.Equal(now.Status.ResourceClaimStatuses, old.Status.ResourceClaimStatuses):
		return fmt.Errorf("node %q cannot update resource claim statues", node)
	case !kind.Equal(now.Status.ExtendedResourceClaimStatus, old.Status.ExtendedResourceClaimStatus):
		return fmt.Errorf("node %q cannot update extended resource claim status", node)
	}
	return nil
}

func ownNode(node string, a *Attempt) error {
	if name := named(a); name != node {
		return fmt.Errorf("node %q is not allowed to modify node %q", node, name)
	}
	now, ok := a.Object.(*corev1.Node)
	if !ok {
		return nil
	}
	if a.Operation == Create {
		if now.Spec.ConfigSource != nil {
			return fmt.Errorf("node %q is not allowed to create pods with a non-nil configSource", node)
		}
		if bad := forbiddenLabels(now.Labels, nil); bad != "" {
			return fmt.Errorf("node %q is not allowed to set the following labels: %s", node, bad)
		}
		return nil
	}
	old := a.Old.(*corev1.Node)
	switch bad := forbiddenLabels(now.Labels, old.Labels); {
	case now.Spec.ConfigSource != nil && !kind.Equal(now.Spec.ConfigSource, old.Spec.ConfigSource):
		return fmt.Errorf("node %q is not allowed to update configSource to a new non-nil configSource", node)
	case !kind.Equal(now.Spec.Taints, old.Spec.Taints):
		return fmt.Errorf("node %q is not allowed to modify taints", node)
	case !kind.Equal(now.OwnerReferences, old.OwnerReferences):
		return fmt.Errorf("node %q is not allowed to modify ownerReferences", node)
	case bad != "":
		return fmt.Errorf("is not allowed to modify labels: %s", bad)
	}
	return nil
}

// forbiddenLabels are those that differ and that a node must not set: it could
// steer pods to itself by them.
func forbiddenLabels(now, old map[string]string) string {
	var bad []string
	differ := func(a, b map[string]string) {
		for k, v := range a {
			if w, ok := b[k]; ok && v == w {
				continue
			}
			domain, _, ok := strings.Cut(k, "/")
			if !ok {
				continue
			}
			within := func(of string) bool { return domain == of || strings.HasSuffix(domain, "."+of) }
			if within(corev1.LabelNamespaceNodeRestriction) || (within("kubernetes.io") || within("k8s.io")) && !kubeletapis.IsKubeletLabel(k) {
				bad = append(bad, k)
			}
		}
	}
	differ(now, old)
	differ(old, now)
	slices.Sort(bad)
	return strings.Join(slices.Compact(bad), ", ")
}

func ownLease(node string, a *Attempt) error {
	if a.Request.Namespace != corev1.NamespaceNodeLease {
		return fmt.Errorf("can only access leases in the %q system namespace", corev1.NamespaceNodeLease)
	}
	if named(a) != node {
		return errors.New("can only access node lease with the same name as the requesting node")
	}
	return nil
}

// token: a node asks for tokens in the name of its pods only.
func (n NodeRestriction) token(ctx context.Context, node string, a *Attempt) error {
	t, ok := a.Body.(*authenticationv1.TokenRequest)
	if !ok {
		return nil
	}
	ref := t.Spec.BoundObjectRef
	if ref == nil || ref.APIVersion != "v1" || ref.Kind != "Pod" || ref.Name == "" {
		return errors.New("node requested token not bound to a pod")
	}
	if ref.UID == "" {
		return errors.New("node requested token with a pod binding without a uid")
	}
	p, err := client.Get[*corev1.Pod](ctx, n.Reader, a.Request.Namespace, ref.Name)
	if err != nil {
		return err
	}
	if ref.UID != p.UID {
		return fmt.Errorf("the UID in the bound object reference (%s) does not match the UID in record. The object might have been deleted and then recreated", ref.UID)
	}
	if p.Spec.NodeName != node {
		return errors.New("node requested token bound to a pod scheduled on a different node")
	}
	return nil
}
