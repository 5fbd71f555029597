package policy

import (
	"context"
	"errors"
	"fmt"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sampan/cluster/client"
	"sampan/cluster/kind"
	"sampan/cluster/object"
)

// params are the objects with which a policy's expressions are run, once for
// each. A nil among them: without parameters. None: the binding says that this is
// fine, and nothing is run. (Upstream: generic.CollectParams.)
func (c *Config) params(ctx context.Context, of *admissionregistrationv1.ParamKind, ref *admissionregistrationv1.ParamRef, namespace string) ([]runtime.Object, error) {
	if of == nil || ref == nil {
		return []runtime.Object{nil}, nil
	}
	gvk := schema.FromAPIVersionAndKind(of.APIVersion, of.Kind)
	k := c.Objects.Kinds().ByGVK(gvk)
	if k == nil {
		return nil, fmt.Errorf("paramKind kind `%v` not known", of.String())
	}
	switch {
	case k.Cluster && ref.Namespace != "":
		return nil, errors.New("paramRef.namespace must not be provided for a cluster-scoped `paramKind`")
	case k.Cluster:
		namespace = ""
	case ref.Namespace != "":
		namespace = ref.Namespace
	case namespace == "":
		return nil, errors.New("cannot use namespaced paramRef in policy binding that matches cluster-scoped resources")
	}
	found, err := c.find(ctx, k, ref, namespace)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 && ref.ParameterNotFoundAction != nil && *ref.ParameterNotFoundAction == admissionregistrationv1.DenyAction {
		return nil, errors.New("no params found for policy binding with `Deny` parameterNotFoundAction")
	}
	all := make([]runtime.Object, len(found))
	for i, o := range found {
		if o, err = object.As(k, o, gvk); err != nil {
			return nil, err
		}
		if o.GetObjectKind().GroupVersionKind() != gvk {
			o = o.DeepCopyObject().(kind.Object)
			o.GetObjectKind().SetGroupVersionKind(gvk)
		}
		all[i] = o
	}
	return all, nil
}

func (c *Config) find(ctx context.Context, k *kind.Kind, ref *admissionregistrationv1.ParamRef, namespace string) ([]kind.Object, error) {
	if ref.Name != "" {
		obj, err := c.Objects.Get(ctx, k, namespace, ref.Name)
		if apierrors.IsNotFound(err) {
			return nil, nil
		}
		return []kind.Object{obj}, err
	}
	selector, err := metav1.LabelSelectorAsSelector(ref.Selector)
	if err != nil {
		return nil, err
	}
	return c.Objects.List(ctx, k, client.Query{Namespace: namespace, Labels: selector})
}
