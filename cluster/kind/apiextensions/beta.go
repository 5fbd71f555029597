package apiextensions

import (
	"context"
	"fmt"
	"slices"

	internal "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1beta1"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
)

// Beta is v1beta1, in which upstream stores definitions, and which it once
// served. A definition of it may keep fields that no schema names, and say once
// for all versions what each of them says for itself in v1.
func Beta() kind.Version {
	return kind.Version{
		GVK: v1beta1.SchemeGroupVersion.WithKind("CustomResourceDefinition"),
		Old: true,
		New: func() kind.Object { return &v1beta1.CustomResourceDefinition{} },
		Default: func(obj kind.Object) {
			v1beta1.SetObjectDefaults_CustomResourceDefinition(obj.(*v1beta1.CustomResourceDefinition))
		},
		ToHub:   fromBeta,
		FromHub: toBeta,
		Forgive: forgiveBeta,
	}
}

func fromBeta(obj kind.Object) (kind.Object, error) {
	beta, ok := obj.(*v1beta1.CustomResourceDefinition)
	if !ok {
		return nil, fmt.Errorf("custom resource definition: cannot convert a %T to apiextensions.k8s.io/v1", obj)
	}
	var between internal.CustomResourceDefinition
	if err := v1beta1.Convert_v1beta1_CustomResourceDefinition_To_apiextensions_CustomResourceDefinition(beta, &between, nil); err != nil {
		return nil, err
	}
	d := &apiextensionsv1.CustomResourceDefinition{}
	err := apiextensionsv1.Convert_apiextensions_CustomResourceDefinition_To_v1_CustomResourceDefinition(&between, d, nil)
	d.SetGroupVersionKind(apiextensionsv1.SchemeGroupVersion.WithKind("CustomResourceDefinition"))
	return d, err
}

func toBeta(obj kind.Object) (kind.Object, error) {
	d, ok := obj.(*apiextensionsv1.CustomResourceDefinition)
	if !ok {
		return nil, fmt.Errorf("custom resource definition: cannot convert a %T to apiextensions.k8s.io/v1beta1", obj)
	}
	between, err := hub(d)
	if err != nil {
		return nil, err
	}
	beta := &v1beta1.CustomResourceDefinition{}
	err = v1beta1.Convert_apiextensions_CustomResourceDefinition_To_v1beta1_CustomResourceDefinition(between, beta, nil)
	beta.SetGroupVersionKind(v1beta1.SchemeGroupVersion.WithKind("CustomResourceDefinition"))
	return beta, err
}

// forgiveBeta drops faults that v1beta1 did not know: they are those that
// upstream lets pass where a definition has had them before.
func forgiveBeta(errs field.ErrorList, obj kind.Object) field.ErrorList {
	d, ok := obj.(*apiextensionsv1.CustomResourceDefinition)
	if !ok {
		return errs
	}
	left := check(d, d, func(d, old *internal.CustomResourceDefinition) field.ErrorList {
		return validation.ValidateCustomResourceDefinitionUpdate(context.Background(), d, old)
	})
	return slices.DeleteFunc(errs, func(e *field.Error) bool {
		return e.Field != "metadata.name" && !(e.Type == field.ErrorTypeInvalid && e.Detail == "field is immutable") &&
			!slices.ContainsFunc(left, func(l *field.Error) bool { return l.Error() == e.Error() })
	})
}
