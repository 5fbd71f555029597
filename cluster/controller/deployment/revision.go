package deployment

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/controller/pods"
)

// Annotations of a replica set, and of the deployment the first one. kubectl
// reads them for `rollout history` and `rollout undo`.
const (
	revisionAnnotation = "deployment.kubernetes.io/revision"
	historyAnnotation  = "deployment.kubernetes.io/revision-history" // revisions that this set was before
	desiredAnnotation  = "deployment.kubernetes.io/desired-replicas" // the deployment's size when it last wrote here
	maximumAnnotation  = "deployment.kubernetes.io/max-replicas"     // the same with maxSurge
	rollbackAnnotation = "deprecated.deployment.rollback.to"
)

// longestHistory bounds historyAnnotation, in bytes.
const longestHistory = 2000

// notCopied are annotations of the deployment that its sets do not get.
var notCopied = map[string]bool{
	corev1.LastAppliedConfigAnnotation: true,
	revisionAnnotation:                 true,
	historyAnnotation:                  true,
	desiredAnnotation:                  true,
	maximumAnnotation:                  true,
	rollbackAnnotation:                 true,
}

// follow gives the newest set the latest revision and the deployment's
// annotations. Nothing happens if there is none yet.
func (p *plan) follow() {
	if p.newest == nil {
		return
	}
	s := p.newest
	p.annotate(s, p.nextRevision())
	s.minReady = p.d.Spec.MinReadySeconds
	p.show(s)
	if p.hasDeadline() && condition(p.out.status.Conditions, appsv1.DeploymentProgressing) == nil {
		p.say(appsv1.DeploymentProgressing, corev1.ConditionTrue, "FoundNewReplicaSet",
			fmt.Sprintf("Found new replica set %q", s.live.Name))
	}
}

// found plans a set with d's template.
func (p *plan) found() {
	d := p.d
	template := *d.Spec.Template.DeepCopy()
	hash := pods.TemplateHash(&d.Spec.Template, d.Status.CollisionCount)
	template.Labels = with(template.Labels, appsv1.DefaultDeploymentUniqueLabelKey, hash)
	selector := d.Spec.Selector.DeepCopy()
	selector.MatchLabels = with(selector.MatchLabels, appsv1.DefaultDeploymentUniqueLabelKey, hash)

	s := &set{fresh: true, replicas: p.newestSize(), minReady: d.Spec.MinReadySeconds}
	p.annotate(s, p.nextRevision())
	s.annotations[desiredAnnotation] = strconv.Itoa(int(p.size))
	s.annotations[maximumAnnotation] = strconv.Itoa(int(p.size + p.surge))
	s.live = &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: d.Namespace, Name: d.Name + "-" + hash,
			Labels: maps.Clone(template.Labels), Annotations: s.annotations,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(d, appsv1.SchemeGroupVersion.WithKind("Deployment"))},
		},
		Spec: appsv1.ReplicaSetSpec{
			Replicas: &s.replicas, MinReadySeconds: s.minReady, Selector: selector, Template: template},
	}
	p.newest = s
	p.show(s)
	if p.hasDeadline() {
		p.say(appsv1.DeploymentProgressing, corev1.ConditionTrue, "NewReplicaSetCreated",
			fmt.Sprintf("Created new replica set %q", s.live.Name))
	}
}

// nextRevision is one more than any old set has.
func (p *plan) nextRevision() int64 {
	last := int64(0)
	for _, s := range p.old {
		last = max(last, revision(s.annotations))
	}
	return last + 1
}

// annotate copies d's annotations to s and raises its revision to next.
func (p *plan) annotate(s *set, next int64) {
	a := maps.Clone(s.annotations)
	if a == nil {
		a = map[string]string{}
	}
	for key, value := range p.d.Annotations {
		if !notCopied[key] {
			a[key] = value
		}
	}
	was, known := a[revisionAnnotation]
	if n, err := strconv.ParseInt(was, 10, 64); (err == nil || was == "") && n < next {
		a[revisionAnnotation] = strconv.FormatInt(next, 10)
		if known && was != "" {
			a[historyAnnotation] = history(a[historyAnnotation], was)
		}
	}
	s.annotations = a
}

// history appends a revision, and drops the first ones if the text grows too
// long.
func history(have, revision string) string {
	var all []string
	if have != "" {
		all = strings.Split(have, ",")
	}
	all = append(all, revision)
	for text := strings.Join(all, ","); ; text = strings.Join(all, ",") {
		if len(text) <= longestHistory || len(all) == 1 {
			return text
		}
		all = all[1:]
	}
}

// show has the deployment wear its newest set's revision.
func (p *plan) show(s *set) {
	if r := s.annotations[revisionAnnotation]; r != p.d.Annotations[revisionAnnotation] {
		p.out.revision = r
	}
}

// resize plans a size, and notes in the set what it was derived from.
func (p *plan) resize(s *set, replicas int32) {
	desired, most := strconv.Itoa(int(p.size)), strconv.Itoa(int(p.size+p.surge))
	s.replicas = replicas
	if s.annotations[desiredAnnotation] != desired || s.annotations[maximumAnnotation] != most {
		s.annotations = with(with(s.annotations, desiredAnnotation, desired), maximumAnnotation, most)
	}
}

func revision(annotations map[string]string) int64 {
	n, err := strconv.ParseInt(annotations[revisionAnnotation], 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// sameTemplate compares templates but for the label that a set adds.
func sameTemplate(a, b *corev1.PodTemplateSpec) bool {
	x, y := *a, *b
	x.Labels, y.Labels = maps.Clone(a.Labels), maps.Clone(b.Labels)
	delete(x.Labels, appsv1.DefaultDeploymentUniqueLabelKey)
	delete(y.Labels, appsv1.DefaultDeploymentUniqueLabelKey)
	return equality.Semantic.DeepEqual(&x, &y)
}

// with is m with one more entry; m itself may be shared.
func with(m map[string]string, key, value string) map[string]string {
	m = maps.Clone(m)
	if m == nil {
		m = map[string]string{}
	}
	m[key] = value
	return m
}

func sameMap(a, b map[string]string) bool {
	return len(a) == 0 && len(b) == 0 || maps.Equal(a, b)
}

func condition(all []appsv1.DeploymentCondition, t appsv1.DeploymentConditionType) *appsv1.DeploymentCondition {
	if i := slices.IndexFunc(all, func(c appsv1.DeploymentCondition) bool { return c.Type == t }); i >= 0 {
		return &all[i]
	}
	return nil
}
