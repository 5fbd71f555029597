package statefulset

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"sampan/cluster/controller/history"
)

// noon is when everything below happens.
var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// members describes pods by number: "0:ready 1:new,starting 2:leaving". A pod is
// of the old revision unless it is new. Words: "ready", "since=10s" (ready
// since), "starting", "failed", "succeeded", "leaving", "anonymous" (without
// its labels).
func members(all string) (some []*corev1.Pod) {
	for _, text := range strings.Fields(all) {
		number, words, _ := strings.Cut(text, ":")
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "db-" + number, UID: types.UID("db-" + number + "-uid"),
			Labels: map[string]string{appsv1.StatefulSetRevisionLabel: "old", appsv1.StatefulSetPodNameLabel: "db-" + number}}}
		p.Status.Phase = corev1.PodPending
		since := noon.Add(-time.Hour)
		for _, word := range strings.Split(words, ",") {
			word, value, _ := strings.Cut(word, "=")
			switch word {
			case "new":
				p.Labels[appsv1.StatefulSetRevisionLabel] = "new"
			case "since":
				d, err := time.ParseDuration(value)
				if err != nil {
					panic(err)
				}
				since = noon.Add(-d)
				fallthrough
			case "ready":
				p.Status.Phase = corev1.PodRunning
				p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(since)}}
			case "running":
				p.Status.Phase = corev1.PodRunning
			case "starting", "":
			case "failed":
				p.Status.Phase = corev1.PodFailed
			case "succeeded":
				p.Status.Phase = corev1.PodSucceeded
			case "leaving":
				p.DeletionTimestamp = &metav1.Time{Time: noon}
			case "anonymous":
				delete(p.Labels, appsv1.StatefulSetPodNameLabel)
			default:
				panic(word)
			}
		}
		some = append(some, p)
	}
	return some
}

func revision(name string, number int64) *appsv1.ControllerRevision {
	patch, err := history.Patch(&corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "db"}},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: name}}}})
	if err != nil {
		panic(err)
	}
	r := &appsv1.ControllerRevision{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"}, Revision: number}
	r.Data.Raw = patch
	return r
}

// set describes a stateful set of n pods: "parallel", "OnDelete", "partition=2",
// "unavailable=50%", "start=3", "minReady=10", "plain" (no pace), "deleting",
// "claims" (one template), "scaled" and "deleted" (claims go then).
func set(n int32, words string) *appsv1.StatefulSet {
	one, none := intstr.FromInt32(1), int32(0)
	labels := map[string]string{"app": "db"}
	s := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "db", UID: "db-uid"},
		Spec: appsv1.StatefulSetSpec{Replicas: &n, ServiceName: "dbs", PodManagementPolicy: appsv1.OrderedReadyPodManagement,
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			UpdateStrategy: appsv1.StatefulSetUpdateStrategy{Type: appsv1.RollingUpdateStatefulSetStrategyType,
				RollingUpdate: &appsv1.RollingUpdateStatefulSetStrategy{Partition: &none, MaxUnavailable: &one}},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "db:1", TerminationMessagePolicy: corev1.TerminationMessageReadFile}}}},
			PersistentVolumeClaimRetentionPolicy: &appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{WhenDeleted: "Retain", WhenScaled: "Retain"}}}
	for _, word := range strings.Fields(words) {
		word, value, _ := strings.Cut(word, "=")
		parsed := intstr.Parse(value)
		number := int32(parsed.IntValue())
		switch word {
		case "parallel":
			s.Spec.PodManagementPolicy = appsv1.ParallelPodManagement
		case "OnDelete":
			s.Spec.UpdateStrategy = appsv1.StatefulSetUpdateStrategy{Type: appsv1.OnDeleteStatefulSetStrategyType}
		case "partition":
			s.Spec.UpdateStrategy.RollingUpdate.Partition = &number
		case "unavailable":
			s.Spec.UpdateStrategy.RollingUpdate.MaxUnavailable = &parsed
		case "plain":
			s.Spec.UpdateStrategy.RollingUpdate = nil
		case "start":
			s.Spec.Ordinals = &appsv1.StatefulSetOrdinals{Start: number}
		case "minReady":
			s.Spec.MinReadySeconds = number
		case "current":
			s.Status.CurrentReplicas = number
		case "deleting":
			s.DeletionTimestamp = &metav1.Time{Time: noon}
		case "claims":
			s.Spec.VolumeClaimTemplates = []corev1.PersistentVolumeClaim{{ObjectMeta: metav1.ObjectMeta{Name: "data"}}}
		case "scaled":
			s.Spec.PersistentVolumeClaimRetentionPolicy.WhenScaled = deletes
		case "deleted":
			s.Spec.PersistentVolumeClaimRetentionPolicy.WhenDeleted = deletes
		default:
			panic(word)
		}
	}
	return s
}

func look(t *testing.T, s *appsv1.StatefulSet, owned []*corev1.Pod) *view {
	t.Helper()
	v, err := newView(s, past{current: revision("old", 1), update: revision("new", 2)}, owned, noon)
	if err != nil {
		t.Fatal(err)
	}
	return &v
}

// text is a decision in words: "create 1new, remove 2".
func text(d decision) string {
	var all []string
	for _, s := range d.steps {
		t := fmt.Sprintf("%s %d", [...]string{"create", "provide", "mend", "own", "remove"}[s.do], ordinal(s.pod))
		if s.do == create {
			t += revisionOf(s.pod)
		}
		all = append(all, t)
	}
	return strings.Join(all, ", ")
}

func TestDecide(t *testing.T) {
	for _, c := range []struct {
		it   string
		size int32
		set  string
		pods string
		want string
	}{
		{it: "makes the first pod", size: 3, want: "create 0new"},
		{it: "makes the next when the one before is ready", size: 3, pods: "0:new,ready", want: "create 1new"},
		{it: "waits until it is", size: 3, pods: "0:new,running"},
		{it: "and has been for long enough", size: 3, set: "minReady=10", pods: "0:new,since=9s"},
		{it: "goes on then", size: 3, set: "minReady=10", pods: "0:new,since=10s", want: "create 1new"},
		{it: "waits for a pod that leaves", size: 3, pods: "0:new,ready 1:new,ready,leaving"},
		{it: "replaces a pod in the middle first", size: 3, pods: "0:new,ready 2:new,ready", want: "create 1new"},
		{it: "removes what has ended, whatever with", size: 2, pods: "0:new,failed 1:new,succeeded", want: "remove 0"},
		{it: "waits for what has ended to be gone", size: 2, pods: "0:new,failed,leaving"},
		{it: "stops the highest first", size: 1, pods: "0:new,ready 1:new,ready 2:new,ready", want: "remove 2"},
		{it: "one after the other", size: 1, pods: "0:new,ready 1:new,ready 2:new,ready,leaving"},
		{it: "does not stop any while a replica is not ready", size: 1, pods: "0:new,running 1:new,ready"},
		{it: "does not stop a healthy one while a lower one is sick", size: 0, pods: "0:new,running 1:new,ready", want: "remove 1"},
		{it: "stops a sick one only if it is the first", size: 0, pods: "0:new,running 1:new,running"},
		{it: "stops the first sick one", size: 0, pods: "0:new,ready 1:new,running", want: "remove 1"},
		{it: "starts where it is told", size: 2, set: "start=5", pods: "5:new,ready", want: "create 6new"},
		{it: "stops those below the start", size: 2, set: "start=1", pods: "0:new,ready 1:new,ready 2:new,ready", want: "remove 0"},
		{it: "does nothing for a set that is being deleted", size: 3, set: "deleting", pods: "0:new,failed"},
		{it: "gives a pod its name back", size: 1, pods: "0:new,ready,anonymous", want: "mend 0"},

		{it: "makes all at once in parallel", size: 3, set: "parallel", pods: "1:new,running", want: "create 0new, create 2new"},
		{it: "stops all at once in parallel", size: 1, set: "parallel", pods: "0:new,running 1:new,running 2:new,leaving 3:new,ready", want: "remove 3, remove 1"},

		{it: "updates from the top, one at a time", size: 3, pods: "0:ready 1:ready 2:ready", want: "remove 2"},
		{it: "makes the updated one of the new template", size: 3, pods: "0:ready 1:ready", want: "create 2new"},
		{it: "waits for it", size: 3, pods: "0:ready 1:ready 2:new,starting"},
		{it: "goes on when it serves", size: 3, pods: "0:ready 1:ready 2:new,ready", want: "remove 1"},
		{it: "does not replace a sick one of the old template: that is its user's to do", size: 2, pods: "0:running 1:ready"},
		{it: "moves only what is above the partition", size: 3, set: "partition=2", pods: "0:ready 1:ready 2:new,ready"},
		{it: "makes those below it of the old template", size: 3, set: "partition=2", pods: "1:ready 2:new,ready", want: "create 0old"},
		{it: "counts the partition from the start", size: 2, set: "partition=1 start=3", want: "create 3old"},
		{it: "leaves it to the user to delete them", size: 2, set: "OnDelete", pods: "0:ready 1:ready"},
		{it: "and makes what was deleted of the new template", size: 2, set: "OnDelete", pods: "1:ready", want: "create 0new"},
		{it: "without a pace keeps as many old ones as there are", size: 3, set: "plain current=1", pods: "", want: "create 0old"},
		{it: "updates as many at a time as may be unavailable", size: 4, set: "unavailable=2", pods: "0:ready 1:ready 2:ready 3:ready", want: "remove 3, remove 2"},
		{it: "rounds a share of them down, but never to none", size: 4, set: "unavailable=10%", pods: "0:ready 1:ready 2:ready 3:ready", want: "remove 3"},
		{it: "stops surplus before it updates", size: 1, pods: "0:ready 1:ready", want: "remove 1"},

		{it: "replaces first what serves nobody in parallel", size: 4, set: "parallel unavailable=2", pods: "0:running 1:ready 2:ready 3:ready", want: "remove 0, remove 3"},
		{it: "replaces those even beyond the limit", size: 3, set: "parallel", pods: "0:running 1:running 2:ready", want: "remove 1, remove 0"},
		{it: "counts a pod that leaves as missing", size: 3, set: "parallel", pods: "0:ready 1:ready 2:ready,leaving"},
		{it: "removes a failed pod once", size: 1, set: "parallel", pods: "0:failed", want: "remove 0"},
	} {
		t.Run(c.it, func(t *testing.T) {
			v := look(t, set(c.size, c.set), members(c.pods))
			if got := text(decide(v)); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

// From any state, doing what is decided, while pods become ready and those
// that leave are gone, leads to the pods asked for, of the latest template, and
// in order there is never more than one step under way.
func TestEveryUpdateEnds(t *testing.T) {
	states := []string{"ready", "new,ready", "starting", "new,starting", "failed", "leaving", "new,running"}
	for seed := range uint64(500) {
		r := rand.New(rand.NewPCG(seed, 0))
		s := set(r.Int32N(5), []string{"", "parallel", "unavailable=2", "parallel unavailable=3", "start=2"}[r.IntN(5)])
		var all []*corev1.Pod
		for i := range r.IntN(7) {
			if r.IntN(3) > 0 {
				all = append(all, members(fmt.Sprintf("%d:%s", i, states[r.IntN(len(states))]))...)
			}
		}
		done := false
		for round := 0; round < 200 && !done; round++ {
			d := decide(look(t, s, all))
			if changes := len(d.steps); !d.together && changes > 1 && s.Spec.UpdateStrategy.RollingUpdate.MaxUnavailable.IntValue() == 1 {
				t.Fatalf("seed %d: %s at once", seed, text(d))
			}
			for _, step := range d.steps {
				switch step.do {
				case create:
					p := step.pod.DeepCopy()
					p.Status.Phase = corev1.PodPending
					all = append(all, p)
				case remove:
					step.pod.DeletionTimestamp = &metav1.Time{Time: noon}
				default:
					t.Fatalf("seed %d: %s", seed, text(d))
				}
			}
			gone := func(p *corev1.Pod) bool { return p.DeletionTimestamp != nil && r.IntN(2) == 0 }
			all = slices.DeleteFunc(all, gone)
			for i, p := range all {
				if !within(s, ordinal(p)) && p.Status.Phase == corev1.PodFailed {
					p.Status.Phase = corev1.PodRunning // in order, surplus that has ended waits for its user, as upstream
				}
				word := "running"
				if revisionOf(p) == "new" {
					word = "new"
				}
				sick := p.Status.Phase == corev1.PodPending || p.Status.Phase == corev1.PodRunning && p.Status.Conditions == nil
				if p.DeletionTimestamp == nil && sick && r.IntN(2) == 0 {
					all[i] = members(fmt.Sprintf("%d:%s,ready", ordinal(p), word))[0]
				}
			}
			v := look(t, s, all)
			st, _ := v.status()
			n := *s.Spec.Replicas
			done = len(d.steps) == 0 && len(all) == int(n) && st.AvailableReplicas == n && st.UpdatedReplicas == n &&
				st.CurrentRevision == "new" && st.CurrentReplicas == n
		}
		if !done {
			v := look(t, s, all)
			st, _ := v.status()
			t.Fatalf("seed %d: ends with %d pods of %d, status %+v", seed, len(all), size(s), st)
		}
	}
}

func TestStatus(t *testing.T) {
	s := set(4, "minReady=60")
	s.Generation = 3
	v := look(t, s, members("0:ready 1:since=50s 2:new,ready 3:new,starting 4:new,ready,leaving 5:ready"))
	st, again := v.status()
	got := fmt.Sprintf("%d %d %d %d %d %s %s %d %d %v", st.Replicas, st.ReadyReplicas, st.AvailableReplicas, st.CurrentReplicas, st.UpdatedReplicas,
		st.CurrentRevision, st.UpdateRevision, st.ObservedGeneration, *st.CollisionCount, again)
	if want := "6 5 4 3 2 old new 3 0 10s"; got != want {
		t.Errorf("replicas, ready, available, current, updated, current revision, update revision, generation, collisions, again are\n%s, want\n%s", got, want)
	}
	st, _ = look(t, set(1, ""), members("0:new,ready")).status()
	if st.CurrentRevision != "new" || st.CurrentReplicas != 1 {
		t.Errorf("after an update the current revision is %s with %d", st.CurrentRevision, st.CurrentReplicas)
	}
}

func TestIdentity(t *testing.T) {
	for name, want := range map[string]string{"db-0": "db 0", "a-b-12": "a-b 12", "db": " -1", "db-": " -1", "db-1a": " -1", "db-99999999999": "db -1", "-3": " 3"} {
		parent, n := identity(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}})
		if got := fmt.Sprintf("%s %d", parent, n); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	s := set(1, "claims")
	s.Spec.Template.Spec.Volumes = []corev1.Volume{{Name: "data"}, {Name: "tmp"}}
	p := newPod(s, &s.Spec.Template, "db-1234", 3)
	if p.Name != "db-3" || p.Spec.Hostname != "db-3" || p.Spec.Subdomain != "dbs" || p.Labels["statefulset.kubernetes.io/pod-name"] != "db-3" ||
		p.Labels["apps.kubernetes.io/pod-index"] != "3" || p.Labels["controller-revision-hash"] != "db-1234" || p.Labels["app"] != "db" {
		t.Errorf("made %+v", p)
	}
	if v := p.Spec.Volumes; len(v) != 2 || v[0].PersistentVolumeClaim.ClaimName != "data-db-3" || v[1].Name != "tmp" || !mounted(s, p) {
		t.Errorf("volumes %+v", p.Spec.Volumes)
	}
	if len(s.Spec.Template.Labels) != 1 {
		t.Errorf("the template was written to: %v", s.Spec.Template.Labels)
	}
}

func TestClaimsHaveTheOwnerTheyGoWith(t *testing.T) {
	for _, c := range []struct {
		it   string
		set  string
		pod  string
		refs []metav1.OwnerReference
		want string // owners afterwards; "as they are"
	}{
		{it: "nobody, where they stay", set: "claims", pod: "0:", want: "as they are"},
		{it: "the set, where they go with it", set: "claims deleted", pod: "0:", want: "StatefulSet/db"},
		{it: "the set, also when the pod is one too many", set: "claims deleted", pod: "5:", want: "StatefulSet/db"},
		{it: "nobody, while the pod stays", set: "claims scaled", pod: "0:", want: "as they are"},
		{it: "the pod, when it is one too many", set: "claims scaled", pod: "5:", want: "Pod/db-5"},
		{it: "the pod instead of the set", set: "claims scaled deleted", pod: "5:", refs: refs("StatefulSet/db"), want: "Pod/db-5"},
		{it: "the set instead of the pod", set: "claims scaled deleted", pod: "0:", refs: refs("Pod/db-0"), want: "StatefulSet/db"},
		{it: "nobody, when they stay from now on", set: "claims", pod: "0:", refs: refs("StatefulSet/db", "Other/x"), want: "Other/x"},
		{it: "somebody else, if they have that", set: "claims deleted", pod: "0:", refs: refs("!Other/x"), want: "as they are"},
		{it: "nobody beside a controller", set: "claims deleted", pod: "0:", refs: refs("!Other/x", "StatefulSet/db"), want: "Other/x"},
		{it: "an earlier pod of the name, which takes them along", set: "claims scaled", pod: "5:", refs: refs("~Pod/db-5"), want: "as they are"},
	} {
		t.Run(c.it, func(t *testing.T) {
			s, p := set(1, c.set), members(c.pod)[0]
			claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{OwnerReferences: c.refs}}
			if ok := owned(claim, s, p); ok != (c.want == "as they are") {
				t.Fatalf("owned is %v", ok)
			}
			if c.want == "as they are" {
				return
			}
			claim.OwnerReferences = owners(claim, s, p)
			var got []string
			for _, ref := range claim.OwnerReferences {
				got = append(got, ref.Kind+"/"+ref.Name)
			}
			if strings.Join(got, " ") != c.want || !owned(claim, s, p) {
				t.Errorf("owners %v, want %s; settled is %v", got, c.want, owned(claim, s, p))
			}
		})
	}
}

// refs are owner references as "Kind/name": with "!" of a controller, with "~"
// of an object that has gone.
func refs(all ...string) (some []metav1.OwnerReference) {
	for _, text := range all {
		name, gone := strings.CutPrefix(text, "~")
		name, other := strings.CutPrefix(name, "!")
		k, name, _ := strings.Cut(name, "/")
		ref := metav1.OwnerReference{APIVersion: "v1", Kind: k, Name: name, UID: types.UID(name + "-uid")}
		if k == "StatefulSet" {
			ref.APIVersion = "apps/v1"
		}
		if k != "Other" || other {
			ref.Controller = new(true)
		}
		if gone {
			ref.UID = "gone"
		}
		some = append(some, ref)
	}
	return some
}

func TestFound(t *testing.T) {
	a, b, c := revision("a", 1), revision("b", 2), revision("a", 3)
	c.Name = "c"
	never := func(*appsv1.ControllerRevision) bool { return false }
	for _, x := range []struct {
		it     string
		all    []*appsv1.ControllerRevision
		keeps  *appsv1.ControllerRevision
		same   bool
		want   *appsv1.ControllerRevision
		number int64
	}{
		{"the first is to be made", nil, a, false, nil, 1},
		{"a new one is to be made", []*appsv1.ControllerRevision{a}, b, false, nil, 2},
		{"the latest stays", []*appsv1.ControllerRevision{a, b}, b, false, b, 2},
		{"an earlier one becomes the latest", []*appsv1.ControllerRevision{a, b}, a, false, a, 3},
		{"the latest of two that are alike stays", []*appsv1.ControllerRevision{a, b, c}, a, false, c, 3},
		{"the latest stays if it means the same", []*appsv1.ControllerRevision{a}, b, true, a, 1},
	} {
		same := never
		if x.same {
			same = func(*appsv1.ControllerRevision) bool { return true }
		}
		if got, number := found(x.all, x.keeps.Data.Raw, same); got != x.want || number != x.number {
			t.Errorf("%s: got %v with number %d", x.it, got, number)
		}
	}
}

func TestWhy(t *testing.T) {
	revisions := []*appsv1.ControllerRevision{revision("new", 2), revision("old", 1)}
	for _, c := range []struct {
		size int32
		set  string
		pods string
		want string
	}{
		{1, "", "0:new,ready", ""},
		{2, "", "0:new,ready", "pod db-1 is missing and will be made; available: 1 of 2 pods"},
		{2, "", "0:new,running", "pod db-0 is not available; those that come after it wait for it; available: 0 of 2 pods"},
		{1, "", "0:new,ready 1:new,ready", "pod db-1 will be deleted"},
		{1, "OnDelete", "0:ready", "left of earlier templates: 1 pod"},
		{1, "deleting", "", "it is being deleted and makes no pods"},
	} {
		s := set(c.size, c.set)
		s.Status.CurrentRevision, s.Status.UpdateRevision = "old", "new"
		if got := strings.Join(Explain(s, members(c.pods), revisions, noon), "; "); got != c.want {
			t.Errorf("because %q, want %q", got, c.want)
		}
	}
	if got := Explain(set(1, ""), nil, nil, noon); len(got) != 1 {
		t.Errorf("without a revision: %q", got)
	}
}
