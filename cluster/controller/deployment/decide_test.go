package deployment

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"sampan/cluster/controller/pods"
)

// noon is when everything below happens.
var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// sea is a cluster as far as replica sets and pods go: pods become ready or
// not, die, and leave slowly; nothing happens at the time when it is wanted.
type sea struct {
	*rand.Rand
	d    *appsv1.Deployment
	sets []*appsv1.ReplicaSet
	pods map[types.UID]*fleet
	now  time.Time
}

// fleet is the pods of one set.
type fleet struct{ starting, ready, leaving int32 }

// carryOut does what a decision says, as the API server would.
func (s *sea) carryOut(plan decision) {
	s.now = s.now.Add(time.Second)
	if rs := plan.create; rs != nil {
		rs = rs.DeepCopy()
		rs.UID, rs.Generation = types.UID(fmt.Sprint("set-", len(s.sets), "-", s.now.Unix())), 1
		rs.CreationTimestamp = metav1.NewTime(s.now)
		s.sets, s.pods[rs.UID] = append(s.sets, rs), &fleet{}
	}
	for _, u := range plan.update {
		i := slices.Index(s.sets, u.from)
		if !sameInt(u.from.Spec.Replicas, u.to.Spec.Replicas) {
			u.to.Generation++
		}
		s.sets[i] = u.to
	}
	for _, rs := range plan.remove {
		s.sets = slices.DeleteFunc(s.sets, func(have *appsv1.ReplicaSet) bool { return have == rs })
	}
	d := s.d.DeepCopy()
	d.Status = plan.status
	if plan.revision != "" {
		d.Annotations = with(d.Annotations, revisionAnnotation, plan.revision)
	}
	s.d = d
}

func sameInt(a, b *int32) bool { return *a == *b }

// work does some of what replica sets and nodes would, to one set.
func (s *sea) work(eager bool) {
	if len(s.sets) == 0 {
		return
	}
	i := s.IntN(len(s.sets))
	rs := s.sets[i].DeepCopy()
	f := s.pods[rs.UID]
	if eager || s.IntN(2) == 0 { // the replica set's controller
		for f.starting+f.ready > *rs.Spec.Replicas {
			if f.starting > 0 {
				f.starting--
			} else {
				f.ready--
			}
			f.leaving++
		}
		f.starting += *rs.Spec.Replicas - f.starting - f.ready
	}
	if n := f.starting; n > 0 && (eager || s.IntN(2) == 0) {
		some := 1 + s.Int32N(n)
		f.starting, f.ready = f.starting-some, f.ready+some
	}
	if n := f.leaving; n > 0 && (eager || s.IntN(2) == 0) {
		f.leaving -= 1 + s.Int32N(n)
	}
	if eager || s.IntN(3) > 0 { // the status may come late
		terminating := f.leaving
		rs.Status = appsv1.ReplicaSetStatus{ObservedGeneration: rs.Generation, Replicas: f.starting + f.ready,
			ReadyReplicas: f.ready, AvailableReplicas: f.ready, TerminatingReplicas: &terminating}
	}
	s.sets[i] = rs
}

func (s *sea) running() map[types.UID]int {
	n := map[types.UID]int{}
	for uid, f := range s.pods {
		n[uid] = int(f.starting + f.ready + f.leaving)
	}
	return n
}

func (s *sea) decide() decision { return decide(s.d, s.sets, s.running(), s.now) }

func (s *sea) String() string {
	var all []string
	for _, rs := range s.sets {
		all = append(all, fmt.Sprintf("%s=%d/%d%+v", rs.Spec.Template.Spec.Containers[0].Image, rs.Status.AvailableReplicas, *rs.Spec.Replicas, *s.pods[rs.UID]))
	}
	return fmt.Sprintf("size %d, sets %s", *s.d.Spec.Replicas, strings.Join(all, " "))
}

func newSea(seed uint64, d *appsv1.Deployment) *sea {
	limit, deadline := int32(10), int32(600)
	d.Generation, d.Spec.RevisionHistoryLimit, d.Spec.ProgressDeadlineSeconds = 1, &limit, &deadline
	return &sea{Rand: rand.New(rand.NewPCG(seed, 0)), d: d, pods: map[types.UID]*fleet{}, now: noon}
}

// settle lets everybody work until nothing is left to do.
func (s *sea) settle(t *testing.T) {
	t.Helper()
	for range 2000 {
		plan := s.decide()
		idle := plan.create == nil && len(plan.update) == 0 && len(plan.remove) == 0
		s.carryOut(plan)
		if idle && complete(s.d) {
			return
		}
		s.work(true)
	}
	t.Fatalf("it does not end: %s, status %+v", s, s.d.Status)
}

func complete(d *appsv1.Deployment) bool {
	s := d.Status
	return s.UpdatedReplicas == *d.Spec.Replicas && s.Replicas == *d.Spec.Replicas && s.AvailableReplicas == *d.Spec.Replicas
}

func (s *sea) edit(how ...func(*appsv1.Deployment)) {
	d := s.d.DeepCopy()
	for _, h := range how {
		h(d)
	}
	d.Generation++
	s.d = d
}

func (s *sea) ready() (n int32) {
	for _, f := range s.pods {
		n += f.ready
	}
	return n
}

func (s *sea) wanted() (n int32) {
	for _, rs := range s.sets {
		n += *rs.Spec.Replicas
	}
	return n
}

// However slow pods and their controller are: while templates change and no
// pod dies, never fewer than size - maxUnavailable are ready, never more than
// size + maxSurge are wanted, and it ends.
func TestAnyRolloutStaysWithinItsBounds(t *testing.T) {
	for seed := range uint64(150) {
		r := rand.New(rand.NewPCG(seed, 1))
		d := web(1+r.Int32N(12), rolling(choose(r, "0", "1", "3", "25%", "100%"), choose(r, "0", "1", "2", "25%", "60%")))
		s := newSea(seed, d)
		s.settle(t)
		surge, missing := bounds(s.d)
		size := *d.Spec.Replicas
		for step := range 150 {
			if step%40 == 0 { // also before the last one is through
				s.edit(image(fmt.Sprint("web:", 2+r.IntN(4))))
			}
			s.carryOut(s.decide())
			s.work(false)
			if n := s.ready(); n < size-missing {
				t.Fatalf("seed %d, step %d: %d ready, at least %d have to be: %s", seed, step, n, size-missing, s)
			}
			if n := s.wanted(); n > size+surge {
				t.Fatalf("seed %d, step %d: %d wanted, at most %d may be: %s", seed, step, n, size+surge, s)
			}
		}
		s.settle(t)
		if len(s.sets) == 0 || s.ready() != size {
			t.Fatalf("seed %d: in the end %s", seed, s)
		}
	}
}

// Recreate never has pods of two templates, however slowly they leave.
func TestRecreateNeverMixes(t *testing.T) {
	for seed := range uint64(100) {
		s := newSea(seed, web(1+int32(seed%5), recreate))
		s.settle(t)
		for step := range 100 {
			if step%30 == 0 {
				s.edit(image(fmt.Sprint("web:", step)))
			}
			s.carryOut(s.decide())
			s.work(false)
			var there []string
			for _, rs := range s.sets {
				if f := s.pods[rs.UID]; f.starting+f.ready+f.leaving > 0 {
					there = append(there, rs.Spec.Template.Spec.Containers[0].Image)
				}
			}
			if len(there) > 1 {
				t.Fatalf("seed %d, step %d: pods of %v: %s", seed, step, there, s)
			}
		}
		s.settle(t)
	}
}

// Sizes, templates, pauses and bounds in any order: what is decided once, and
// done, leads to nothing more unless something happens, and all ends well.
func TestAnyEditsEnd(t *testing.T) {
	for seed := range uint64(150) {
		r := rand.New(rand.NewPCG(seed, 2))
		s := newSea(seed, web(r.Int32N(10), rolling("25%", "25%")))
		for range 30 {
			switch r.IntN(6) {
			case 0:
				s.edit(size(r.Int32N(20)))
			case 1:
				s.edit(image(fmt.Sprint("web:", r.IntN(4))))
			case 2:
				s.edit(func(d *appsv1.Deployment) { d.Spec.Paused = !d.Spec.Paused })
			case 3:
				s.edit(rolling(choose(r, "0", "2", "30%"), choose(r, "0", "2", "30%")))
			}
			for range r.IntN(5) {
				s.carryOut(s.decide())
				s.work(false)
			}
			// A new size is one decision, the roll-out that follows another.
			for range 2 {
				s.carryOut(s.decide())
			}
			if plan := s.decide(); plan.create != nil || len(plan.update)+len(plan.remove) > 0 {
				t.Fatalf("seed %d: decides again: create %v, update %d, remove %d: %s", seed, plan.create, len(plan.update), len(plan.remove), s)
			}
		}
		s.edit(func(d *appsv1.Deployment) { d.Spec.Paused = false })
		s.settle(t)
		if why := Explain(s.d, s.sets, nil, s.now); len(why) > 0 {
			t.Fatalf("seed %d: all is well, but %q", seed, why)
		}
	}
}

func choose(r *rand.Rand, from ...string) string { return from[r.IntN(len(from))] }

func TestBounds(t *testing.T) {
	for _, c := range []struct {
		size               int32
		surge, unavailable string
		wantS, wantU       int32
	}{
		{10, "25%", "25%", 3, 2},
		{1, "25%", "25%", 1, 0},
		{2, "0", "0%", 0, 1}, // something has to give
		{3, "0", "10", 0, 3},
		{0, "1", "1", 1, 0},
	} {
		s, u := bounds(web(c.size, rolling(c.surge, c.unavailable)))
		if s != c.wantS || u != c.wantU {
			t.Errorf("%d pods, surge %s, unavailable %s: %d and %d, want %d and %d", c.size, c.surge, c.unavailable, s, u, c.wantS, c.wantU)
		}
	}
	if s, u := bounds(web(5, recreate)); s != 0 || u != 0 {
		t.Errorf("recreate: %d and %d, want 0 and 0", s, u)
	}
}

func TestTemplateHash(t *testing.T) {
	template := web(1).Spec.Template
	one := int32(1)
	a, b, c := pods.TemplateHash(&template, nil), pods.TemplateHash(&template, &one), pods.TemplateHash(template.DeepCopy(), nil)
	if a != c {
		t.Errorf("one template has the names %s and %s", a, c)
	}
	if a == b {
		t.Errorf("a collision does not change the name %s", a)
	}
	template.Spec.Containers[0].Image = "web:2"
	if d := pods.TemplateHash(&template, nil); d == a {
		t.Errorf("two templates have the name %s", d)
	}
	for _, r := range a {
		if !strings.ContainsRune("bcdfghjklmnpqrstvwxz2456789", r) {
			t.Errorf("%s has %c, which names avoid", a, r)
		}
	}
}

func TestHistoryKeepsTheLatest(t *testing.T) {
	if got := history("", "1"); got != "1" {
		t.Errorf("got %q", got)
	}
	if got := history("1,2", "5"); got != "1,2,5" {
		t.Errorf("got %q", got)
	}
	long := strings.Repeat("1234567,", 249) + "1234567"
	if got := history(long, "999"); len(got) > longestHistory || !strings.HasSuffix(got, "1234567,999") {
		t.Errorf("%d bytes, ends in %s", len(got), got[len(got)-15:])
	}
}

func TestAdoptedRevisionsMayBeLarge(t *testing.T) {
	s := newSea(1, web(1))
	s.settle(t)
	old := s.sets[0].DeepCopy()
	old.Annotations[revisionAnnotation] = "9223372036854775806"
	s.sets[0] = old
	s.edit(image("web:2"))
	s.settle(t)
	if r := s.d.Annotations[revisionAnnotation]; r != "9223372036854775807" {
		t.Errorf("revision %s", r)
	}
}

func TestExplain(t *testing.T) {
	s := newSea(1, web(4, rolling("1", "0")))
	s.settle(t)
	s.edit(image("web:2"))
	first := Explain(s.d, s.sets, nil, s.now)
	s.carryOut(s.decide())
	for len(s.decide().update) > 0 {
		s.carryOut(s.decide())
	}
	second := Explain(s.d, s.sets, nil, s.now)
	name := s.sets[1].Name
	for i, c := range []struct{ got, want []string }{
		{first, []string{
			"generation 2 was not looked at yet, the latest that was is 1",
			"replica set " + name + " for the present template will be made, with 1 pod",
			"with the present template: 0 of 4 pods",
			"left of earlier templates: 4 pods",
		}},
		{second, []string{
			"with the present template: 0 of 4 pods",
			"left of earlier templates: 4 pods",
		}},
	} {
		if !slices.Equal(c.got, c.want) {
			t.Errorf("%d: got\n\t%s\nwant\n\t%s", i, strings.Join(c.got, "\n\t"), strings.Join(c.want, "\n\t"))
		}
	}
	s.now = s.now.Add(time.Hour)
	if got := Explain(s.d, s.sets, nil, s.now); got[len(got)-1] != fmt.Sprintf("Progressing: ProgressDeadlineExceeded: ReplicaSet %q has timed out progressing.", name) {
		t.Errorf("got %q", got)
	}
}

func TestRoundingLosesNoPod(t *testing.T) {
	for _, c := range []struct {
		it   string
		have []int32 // youngest last; all of them were told of a maximum of their sum
		size int32
		want []int32
	}{
		{it: "what rounding leaves goes to the youngest of the largest", have: []int32{1, 1, 1}, size: 4, want: []int32{1, 1, 2}},
		{it: "and to the largest", have: []int32{1, 3, 1}, size: 6, want: []int32{1, 4, 1}},
		{it: "what is taken comes from the oldest of the largest", have: []int32{1, 1, 1}, size: 2, want: []int32{0, 1, 1}},
		{it: "shares are kept", have: []int32{5, 10}, size: 30, want: []int32{10, 20}},
		{it: "nobody is left at 0", have: []int32{5, 10}, size: 0, want: []int32{0, 0}},
	} {
		t.Run(c.it, func(t *testing.T) {
			p := &plan{d: web(c.size), size: c.size}
			total := int32(0)
			for _, n := range c.have {
				total += n
			}
			var all []*set
			for i, n := range c.have {
				rs := &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint(i), CreationTimestamp: metav1.NewTime(noon.Add(time.Duration(i) * time.Hour))}}
				all = append(all, &set{live: rs, replicas: n, annotations: map[string]string{maximumAnnotation: fmt.Sprint(total)}})
			}
			p.share(slices.Clone(all))
			var got []int32
			for _, s := range all {
				got = append(got, s.replicas)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestAConditionKeepsItsTimes(t *testing.T) {
	const available = appsv1.DeploymentAvailable
	first := say(nil, available, "True", "Enough", "a", noon)
	if same := say(first, available, "True", "Enough", "b", noon.Add(time.Hour)); same[0] != first[0] {
		t.Errorf("%+v, want it as it was", same[0])
	}
	c := say(first, available, "True", "Other", "b", noon.Add(time.Hour))[0]
	if !c.LastTransitionTime.Time.Equal(noon) || !c.LastUpdateTime.Time.Equal(noon.Add(time.Hour)) {
		t.Errorf("another reason: transition %v, update %v", c.LastTransitionTime, c.LastUpdateTime)
	}
	c = say(first, available, "False", "Other", "b", noon.Add(time.Hour))[0]
	if !c.LastTransitionTime.Time.Equal(noon.Add(time.Hour)) || first[0].Status != "True" {
		t.Errorf("another status: transition %v; the list given has %+v", c.LastTransitionTime, first[0])
	}
}
