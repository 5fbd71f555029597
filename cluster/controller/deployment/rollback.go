package deployment

import (
	"context"
	"fmt"
	"maps"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"sampan/cluster/client"
)

// rollback is the end of a wish to go back to an earlier revision: the
// deployment without the wish, and what is said of it.
type rollback struct {
	to                    *appsv1.Deployment
	event, reason, detail string
}

// wanted is the revision that d is to go back to: spec.rollbackTo of versions
// of the API before apps/v1beta2, and deployments/rollback, leave it in this
// annotation. What is no number is no wish.
func wanted(d *appsv1.Deployment) (revision int64, ok bool) {
	n, err := strconv.ParseInt(d.Annotations[rollbackAnnotation], 10, 64)
	return n, err == nil
}

// rollBack takes the template and the annotations of the set that has a
// revision; 0 is the last but one. The wish ends whether that was possible or
// not (pkg/controller/deployment/rollback.go).
func (p *plan) rollBack(to int64) {
	next := p.d.DeepCopy()
	delete(next.Annotations, rollbackAnnotation)
	end := func(event, reason, format string, args ...any) {
		p.out.rollback = &rollback{to: next, event: event, reason: reason, detail: fmt.Sprintf(format, args...)}
	}
	if to == 0 {
		if to = p.lastButOne(); to == 0 {
			end(corev1.EventTypeWarning, "DeploymentRollbackRevisionNotFound", "Unable to find last revision.")
			return
		}
	}
	s := p.ofRevision(to)
	switch {
	case s == nil:
		end(corev1.EventTypeWarning, "DeploymentRollbackRevisionNotFound", "Unable to find the revision to rollback to.")
	case sameTemplate(&p.d.Spec.Template, &s.live.Spec.Template):
		end(corev1.EventTypeWarning, "DeploymentRollbackTemplateUnchanged",
			"The rollback revision contains the same template as current deployment %q", p.d.Name)
	default:
		next.Spec.Template = *s.live.Spec.Template.DeepCopy()
		delete(next.Spec.Template.Labels, appsv1.DefaultDeploymentUniqueLabelKey)
		next.Annotations = annotationsOf(s, next.Annotations)
		end(corev1.EventTypeNormal, "DeploymentRollback", "Rolled back deployment %q to revision %d", p.d.Name, to)
	}
}

// annotationsOf are those that a deployment had when s was its newest set, such
// as the cause of the change. Those that sets do not get stay as they are.
func annotationsOf(s *set, have map[string]string) map[string]string {
	all := maps.Clone(s.annotations)
	maps.DeleteFunc(all, func(key, _ string) bool { return notCopied[key] })
	for key, value := range have {
		if notCopied[key] {
			all = with(all, key, value)
		}
	}
	return all
}

// lastButOne is the second highest revision; 0 if there are not two.
func (p *plan) lastButOne() int64 {
	last, before := int64(0), int64(0)
	for _, s := range p.all() {
		switch n := revision(s.annotations); {
		case n >= last:
			last, before = n, last
		case n > before:
			before = n
		}
	}
	return before
}

// ofRevision is the set that has a revision; nil if none has.
func (p *plan) ofRevision(n int64) *set {
	for _, s := range append(p.old[:len(p.old):len(p.old)], p.newest) {
		if have, err := strconv.ParseInt(s.annotations[revisionAnnotation], 10, 64); err == nil && have == n {
			return s
		}
	}
	return nil
}

// rollBack writes a deployment as it is after the end of its wish. Its status
// follows when it is looked at again.
func (c *Controller) rollBack(ctx context.Context, d *appsv1.Deployment, r *rollback) error {
	say := func() { c.events.Eventf(d, r.event, r.reason, "%s", r.detail) }
	if r.event == corev1.EventTypeWarning {
		say()
	}
	if _, err := client.Update(ctx, c.cfg.Client, r.to); err != nil {
		return err
	}
	if r.event == corev1.EventTypeNormal {
		say()
	}
	return nil
}
