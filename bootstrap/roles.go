package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/auth/rbac/validation"

	"sampan/cluster/auth"
	"sampan/cluster/auth/policy"
	"sampan/cluster/client"
	"sampan/cluster/kind"
)

// writeRoles brings the roles that every cluster has into the store, as
// upstream does at each start: what is missing is added, what somebody added
// stays, and an object whose annotation says autoupdate=false is left alone.
// It runs beside the API; until it has ended the rules count as written.
func (r *running) writeRoles(ctx context.Context) error {
	if err := keepPolicy(ctx, r.verbs.As(auth.Server()), policy.Bootstrap()); err != nil {
		return err
	}
	r.rbac.Written()
	<-ctx.Done()
	return nil
}

// writersAtOnce shares one fsync of the store among several writes.
const writersAtOnce = 8

func keepPolicy(ctx context.Context, c client.Client, p *policy.Policy) error {
	var work []func() error
	for _, o := range p.ClusterRoles {
		work = append(work, func() error { return keep(ctx, c, o, mendClusterRole) })
	}
	for _, o := range p.Roles {
		work = append(work, func() error { return keep(ctx, c, o, mendRole) })
	}
	for _, o := range p.ClusterRoleBindings {
		work = append(work, func() error {
			return keep(ctx, c, o, func(have, want *rbacv1.ClusterRoleBinding) verdict {
				return mendBinding(have, want, &have.RoleRef, want.RoleRef, &have.Subjects, want.Subjects)
			})
		})
	}
	for _, o := range p.RoleBindings {
		work = append(work, func() error {
			return keep(ctx, c, o, func(have, want *rbacv1.RoleBinding) verdict {
				return mendBinding(have, want, &have.RoleRef, want.RoleRef, &have.Subjects, want.Subjects)
			})
		})
	}
	next := make(chan func() error)
	failed := make([]error, writersAtOnce)
	var all sync.WaitGroup
	for i := range failed {
		all.Go(func() {
			for f := range next {
				failed[i] = errors.Join(failed[i], f())
			}
		})
	}
	for _, f := range work {
		next <- f
	}
	close(next)
	all.Wait()
	return errors.Join(failed...)
}

// verdict is what has to happen to an object that is there.
type verdict int

const (
	fine verdict = iota
	update
	replace
)

// keep creates want, or mends what is there. A race that is lost is run again.
func keep[T client.Typed](ctx context.Context, c client.Client, want T, mend func(have, want T) verdict) error {
	for {
		have, err := client.Get[T](ctx, c, want.GetNamespace(), want.GetName())
		switch {
		case apierrors.IsNotFound(err):
			_, err = client.Create(ctx, c, want.DeepCopyObject().(T))
			if apierrors.IsAlreadyExists(err) {
				continue
			}
		case err == nil && have.GetAnnotations()[rbacv1.AutoUpdateAnnotationKey] != "false":
			have = have.DeepCopyObject().(T)
			switch mend(have, want) {
			case update:
				if _, err = client.Update(ctx, c, have); apierrors.IsConflict(err) {
					continue
				}
			case replace:
				uid := have.GetUID()
				err = client.Delete[T](ctx, c, want.GetNamespace(), want.GetName(),
					&metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
				if err == nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
					continue
				}
			}
		}
		if err != nil {
			return fmt.Errorf("%s %s: %w", client.KindOf[T](c), want.GetName(), err)
		}
		return nil
	}
}

// The functions below are pure but for have, a copy, which they make as it
// must be. (Upstream: component-helpers/auth/rbac/reconciliation.)

func mendMeta(have, want kind.Object) (v verdict) {
	for _, of := range []struct {
		have, want map[string]string
		set        func(map[string]string)
	}{{have.GetLabels(), want.GetLabels(), have.SetLabels}, {have.GetAnnotations(), want.GetAnnotations(), have.SetAnnotations}} {
		all := map[string]string{}
		maps.Copy(all, of.want)
		maps.Copy(all, of.have)
		if len(all) > len(of.have) {
			of.set(all)
			v = update
		}
	}
	return v
}

// missingRules are those of want that have does not cover.
func missingRules(have, want []rbacv1.PolicyRule) []rbacv1.PolicyRule {
	if reflect.DeepEqual(have, want) {
		return nil
	}
	_, missing := validation.Covers(have, want)
	return missing
}

func mendRole(have, want *rbacv1.Role) verdict {
	v := mendMeta(have, want)
	if more := missingRules(have.Rules, want.Rules); len(more) > 0 {
		have.Rules, v = append(have.Rules, more...), update
	}
	return v
}

func mendClusterRole(have, want *rbacv1.ClusterRole) verdict {
	v := mendMeta(have, want)
	if more := missingRules(have.Rules, want.Rules); len(more) > 0 {
		have.Rules, v = append(have.Rules, more...), update
	}
	switch {
	case want.AggregationRule == nil && have.AggregationRule != nil:
		have.AggregationRule, v = nil, update
	case want.AggregationRule != nil && have.AggregationRule == nil:
		have.AggregationRule, v = want.AggregationRule.DeepCopy(), update
	case want.AggregationRule != nil:
		for _, s := range want.AggregationRule.ClusterRoleSelectors {
			same := func(o metav1.LabelSelector) bool { return kind.Equal(o, s) }
			if !slices.ContainsFunc(have.AggregationRule.ClusterRoleSelectors, same) {
				have.AggregationRule.ClusterRoleSelectors = append(have.AggregationRule.ClusterRoleSelectors, *s.DeepCopy())
				v = update
			}
		}
	}
	return v
}

// mendBinding: a binding of another role cannot be changed, only replaced.
func mendBinding(have, want kind.Object, ref *rbacv1.RoleRef, wantRef rbacv1.RoleRef, subjects *[]rbacv1.Subject, wanted []rbacv1.Subject) verdict {
	if *ref != wantRef {
		return replace
	}
	v := mendMeta(have, want)
	for _, s := range wanted {
		if !slices.Contains(*subjects, s) {
			*subjects, v = append(*subjects, s), update
		}
	}
	return v
}
