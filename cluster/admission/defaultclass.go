package admission

import (
	"cmp"
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	storagev1 "k8s.io/api/storage/v1"

	"sampan/cluster/client"
)

// DefaultStorageClass gives claims that name no class the default one.
type DefaultStorageClass struct{ Reader client.Reader }

// DefaultIngressClass gives ingresses that name no class the default one.
type DefaultIngressClass struct{ Reader client.Reader }

// The annotations that make a class the default one.
const (
	defaultStorageClass     = "storageclass.kubernetes.io/is-default-class"
	betaDefaultStorageClass = "storageclass.beta.kubernetes.io/is-default-class"
	ingressClassAnnotation  = "kubernetes.io/ingress.class" // predecessor of spec.ingressClassName
)

// Mutate implements Mutator.
func (d DefaultStorageClass) Mutate(ctx context.Context, a *Attempt) error {
	pvc, ok := a.Object.(*corev1.PersistentVolumeClaim)
	if !ok || a.Operation != Create || a.Request.Subresource != "" {
		return nil
	}
	if _, named := pvc.Annotations[corev1.BetaStorageClassAnnotation]; named || pvc.Spec.StorageClassName != nil {
		return nil
	}
	name, err := defaultOf[*storagev1.StorageClass](ctx, d.Reader, defaultStorageClass, betaDefaultStorageClass)
	if err != nil {
		return forbidden(a, err)
	}
	pvc.Spec.StorageClassName = name
	return nil
}

// Mutate implements Mutator.
func (d DefaultIngressClass) Mutate(ctx context.Context, a *Attempt) error {
	ingress, ok := a.Object.(*networkingv1.Ingress)
	if !ok || a.Operation != Create || a.Request.Subresource != "" {
		return nil
	}
	if _, named := ingress.Annotations[ingressClassAnnotation]; named || ingress.Spec.IngressClassName != nil {
		return nil
	}
	name, err := defaultOf[*networkingv1.IngressClass](ctx, d.Reader, networkingv1.AnnotationIsDefaultIngressClass)
	if err != nil {
		return forbidden(a, err)
	}
	ingress.Spec.IngressClassName = name
	return nil
}

// defaultOf is the name of the newest class with one of the annotations, nil
// if there is none.
func defaultOf[T client.Typed](ctx context.Context, r client.Reader, annotations ...string) (*string, error) {
	all, err := client.List[T](ctx, r, client.Query{})
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(c T) bool {
		return !slices.ContainsFunc(annotations, func(key string) bool { return c.GetAnnotations()[key] == "true" })
	})
	if len(all) == 0 {
		return nil, nil
	}
	newest := slices.MinFunc(all, func(a, b T) int {
		return cmp.Or(b.GetCreationTimestamp().Compare(a.GetCreationTimestamp().Time), cmp.Compare(a.GetName(), b.GetName()))
	})
	name := newest.GetName()
	return &name, nil
}
