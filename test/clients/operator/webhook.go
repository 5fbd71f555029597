package main

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"sampan/test/clients/crew"
)

// most sailors fit on a boat.
const most = 5

// rules are what the schema of crews does not say.
type rules struct{}

// Default implements admission.Defaulter.
func (rules) Default(_ context.Context, c *crew.Crew) error {
	if c.Spec.Image == "" {
		c.Spec.Image = "test/probe:1"
	}
	return nil
}

// ValidateCreate implements admission.Validator.
func (rules) ValidateCreate(_ context.Context, c *crew.Crew) (admission.Warnings, error) {
	if c.Spec.Replicas > most {
		return nil, apierrors.NewInvalid(schema.GroupKind{Group: crew.Group, Kind: "Crew"}, c.Name, field.ErrorList{
			field.Invalid(field.NewPath("spec", "replicas"), c.Spec.Replicas, fmt.Sprintf("a boat carries %d", most))})
	}
	if c.Spec.Orders == "" {
		return admission.Warnings{"a crew without orders drifts"}, nil
	}
	return nil, nil
}

// ValidateUpdate implements admission.Validator.
func (r rules) ValidateUpdate(ctx context.Context, _, c *crew.Crew) (admission.Warnings, error) {
	return r.ValidateCreate(ctx, c)
}

// ValidateDelete implements admission.Validator.
func (rules) ValidateDelete(_ context.Context, c *crew.Crew) (admission.Warnings, error) {
	if c.Annotations["clients.test/at-sea"] == "true" {
		return nil, fmt.Errorf("the crew %s is at sea", c.Name)
	}
	return nil, nil
}
