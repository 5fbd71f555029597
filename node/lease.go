package node

import (
	"context"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/client"
)

// keepLease renews the node's lease (KEP-589). The local node's is long and seldom
// renewed: an isolated write costs the disk 43 kB, and this process knows
// whether it lives.
func (a *Agent) keepLease(ctx context.Context) error {
	for {
		if err := a.renew(ctx); err != nil {
			return err
		}
		wait(ctx, a.c.LeaseRenew)
		if ctx.Err() != nil {
			return nil
		}
	}
}

func (a *Agent) renew(ctx context.Context) error {
	seconds := int32(a.c.LeaseDuration / time.Second)
	now := metav1.NowMicro()
	spec := coordinationv1.LeaseSpec{HolderIdentity: &a.c.NodeName, LeaseDurationSeconds: &seconds, RenewTime: &now}
	live, err := client.Get[*coordinationv1.Lease](ctx, a.c.Client, corev1.NamespaceNodeLease, a.c.NodeName)
	if apierrors.IsNotFound(err) {
		l := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: corev1.NamespaceNodeLease, Name: a.c.NodeName}, Spec: spec}
		l.OwnerReferences = a.owner()
		_, err = client.Create(ctx, a.c.Client, l)
		return err
	}
	if err != nil {
		return err
	}
	l := live.DeepCopy()
	l.Spec.HolderIdentity, l.Spec.LeaseDurationSeconds, l.Spec.RenewTime = spec.HolderIdentity, spec.LeaseDurationSeconds, spec.RenewTime
	if len(l.OwnerReferences) == 0 {
		l.OwnerReferences = a.owner()
	}
	_, err = client.Update(ctx, a.c.Client, l)
	return err
}

// owner makes the lease go with the node; empty until the node is known.
func (a *Agent) owner() []metav1.OwnerReference {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.node == nil {
		return nil
	}
	return []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: a.node.Name, UID: a.node.UID}}
}
