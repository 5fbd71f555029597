package claim

import (
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"sampan/cluster/client"
	"sampan/cluster/client/clienttest"
	"sampan/cluster/kind"
	"sampan/cluster/kind/apps"
	"sampan/cluster/kind/core"
)

var selector = labels.SelectorFromSet(labels.Set{"app": "web"})

func set(words string) *appsv1.ReplicaSet {
	rs := &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "set", UID: "set"}}
	if words == "leaving" {
		now := metav1.Now()
		rs.DeletionTimestamp = &now
	}
	return rs
}

// pod is one in words: "matches", "leaving", "mine", "theirs" (another
// controls it), "shared" (we own it, and do not control it).
func pod(name, words string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
	own := func(rs *appsv1.ReplicaSet, uid string) {
		ref := metav1.NewControllerRef(rs, appsv1.SchemeGroupVersion.WithKind("ReplicaSet"))
		if uid != "" {
			ref.UID = "another"
		}
		p.OwnerReferences = append(p.OwnerReferences, *ref)
	}
	for _, w := range strings.Fields(words) {
		switch w {
		case "matches":
			p.Labels = map[string]string{"app": "web"}
		case "leaving":
			now := metav1.Now()
			p.DeletionTimestamp = &now
		case "mine":
			own(set(""), "")
		case "theirs":
			own(set(""), "another")
		case "shared":
			own(set(""), "")
			p.OwnerReferences[0].Controller = nil
		default:
			panic(w)
		}
	}
	return p
}

func names(all []*corev1.Pod) string {
	var some []string
	for _, p := range all {
		some = append(some, p.Name)
	}
	return strings.Join(some, " ")
}

func TestDecide(t *testing.T) {
	for _, c := range []struct {
		it, owner, pod       string
		mine, adopt, release bool
	}{
		{it: "keeps what it has", pod: "mine matches", mine: true},
		{it: "keeps what is leaving", pod: "mine matches leaving", mine: true},
		{it: "takes an orphan", pod: "matches", mine: true, adopt: true},
		{it: "takes what it owns and nobody controls", pod: "shared matches", mine: true, adopt: true},
		{it: "takes no orphan that is leaving", pod: "matches leaving"},
		{it: "takes no orphan that it does not select", pod: ""},
		{it: "takes nothing from others", pod: "theirs matches"},
		{it: "lets go of what it does not select", pod: "mine", release: true},
		{it: "neither takes when it is leaving", owner: "leaving", pod: "matches"},
		{it: "nor gives", owner: "leaving", pod: "mine"},
		{it: "and keeps what it has then", owner: "leaving", pod: "mine matches", mine: true},
	} {
		t.Run(c.it, func(t *testing.T) {
			v := Decide(set(c.owner), selector, nil, []*corev1.Pod{pod("p", c.pod)})
			if len(v.Mine) == 1 != c.mine || len(v.Adopt) == 1 != c.adopt || len(v.Release) == 1 != c.release {
				t.Errorf("mine %q, adopt %q, release %q", names(v.Mine), names(v.Adopt), names(v.Release))
			}
		})
	}
}

// claims knows the pods of a client in memory, as a watch would tell.
func claims(t *testing.T, objs ...kind.Object) (*Claims[*corev1.Pod], *clienttest.Fake) {
	f := clienttest.New(t, kind.NewTable(core.Kinds(), apps.Kinds()), objs...)
	c := &Claims[*corev1.Pod]{Client: f, Owner: client.KindOf[*appsv1.ReplicaSet](f)}
	all, err := client.List[*corev1.Pod](t.Context(), f, client.Query{})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		c.Note(client.Change[*corev1.Pod]{Type: client.Added, Object: p})
	}
	return c, f
}

func TestWhatIsClaimedIsWritten(t *testing.T) {
	c, f := claims(t, set(""), pod("kept", "mine matches"), pod("orphan", "matches"), pod("stranger", "mine"), pod("other", "theirs matches"))
	got, err := c.Of(t.Context(), set(""), selector)
	if err != nil || names(got) != "kept orphan" {
		t.Fatalf("claimed %q, err %v; want kept and orphan", names(got), err)
	}
	for _, p := range got {
		ref := metav1.GetControllerOf(p)
		if ref == nil || ref.UID != "set" || ref.Kind != "ReplicaSet" || ref.APIVersion != "apps/v1" {
			t.Errorf("%s is controlled by %+v", p.Name, ref)
		}
	}
	stranger, err := client.Get[*corev1.Pod](t.Context(), f, "default", "stranger")
	if err != nil || len(stranger.OwnerReferences) != 0 {
		t.Errorf("stranger has owners %+v, err %v", stranger.OwnerReferences, err)
	}
	// Both are written by now: looking again writes nothing.
	f.Forget()
	if _, err = c.Of(t.Context(), set(""), selector); err != nil || len(f.Actions()) > 0 {
		t.Errorf("wrote %v, err %v", f.Actions(), err)
	}
}

func TestAnOrphanThatIsGoneIsForgotten(t *testing.T) {
	c, f := claims(t, set(""), pod("orphan", "matches"))
	orphan, err := client.Get[*corev1.Pod](t.Context(), f, "default", "orphan")
	if err != nil {
		t.Fatal(err)
	}
	f.Drop(client.KindOf[*corev1.Pod](f), "default", "orphan")
	if got, err := c.Of(t.Context(), set(""), selector); err != nil || len(got) > 0 { // the watch is behind
		t.Errorf("claimed %q, err %v", names(got), err)
	}
	c.Note(client.Change[*corev1.Pod]{Type: client.Deleted, Object: orphan})
	if len(c.orphans) > 0 {
		t.Errorf("still known: %v", c.orphans)
	}
}

func TestAFailureToAdoptIsOne(t *testing.T) {
	c, f := claims(t, set(""), pod("orphan", "matches"))
	f.Before = func(a clienttest.Action) error {
		if a.Verb == "patch" {
			return apierrors.NewInternalError(errors.New("no leader"))
		}
		return nil
	}
	if _, err := c.Of(t.Context(), set(""), selector); err == nil {
		t.Error("no error")
	}
}

func TestOwnersThatWouldAdopt(t *testing.T) {
	a, b, broken := set(""), set(""), set("")
	a.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}
	b.Name, b.UID, b.Spec.Selector = "b", "b", &metav1.LabelSelector{MatchLabels: map[string]string{"app": "db"}}
	broken.Name, broken.UID, broken.Spec.Selector = "broken", "broken", &metav1.LabelSelector{}
	_, f := claims(t, a, b, broken)
	got := Owners(t.Context(), f, pod("p", "matches"), func(rs *appsv1.ReplicaSet) *metav1.LabelSelector { return rs.Spec.Selector })
	if len(got) != 1 || !slices.ContainsFunc(got, func(rs *appsv1.ReplicaSet) bool { return rs.Name == "set" }) {
		t.Errorf("%d owners: %+v", len(got), got)
	}
}

func TestOwnersThatAChangeConcerns(t *testing.T) {
	a, b := set(""), set("")
	a.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}
	b.Name, b.UID, b.Spec.Selector = "b", "b", a.Spec.Selector
	_, f := claims(t, a, b)
	ofJob := pod("p", "mine")
	ofJob.OwnerReferences[0].Kind = "Job"
	for _, c := range []struct {
		it       string
		typ      client.EventType
		old, now *corev1.Pod
		want     string
	}{
		{"a pod of a set wakes the set", client.Added, nil, pod("p", "matches mine"), "set"},
		{"an orphan wakes who would adopt it", client.Added, nil, pod("p", "matches"), "b set"},
		{"an orphan that is gone wakes nobody", client.Deleted, pod("p", "matches"), pod("p", "matches"), ""},
		{"a pod that is gone wakes its set", client.Deleted, pod("p", "mine"), pod("p", "mine"), "set"},
		{"a pod that was let go wakes who had it, too", client.Modified, pod("p", "mine"), ofJob, "set"},
		{"a change that keeps the owner wakes it once", client.Modified, pod("p", "mine"), pod("p", "matches mine"), "set"},
		{"what another kind controls wakes nobody", client.Added, nil, ofJob, ""},
	} {
		keys := Concerned(t.Context(), f, client.Change[*corev1.Pod]{Type: c.typ, Old: c.old, Object: c.now},
			func(rs *appsv1.ReplicaSet) *metav1.LabelSelector { return rs.Spec.Selector })
		var got []string
		for _, k := range keys {
			got = append(got, k.Name)
		}
		slices.Sort(got)
		if have := strings.Join(got, " "); have != c.want {
			t.Errorf("%s: %q, want %q", c.it, have, c.want)
		}
	}
}

func TestAnOwnerComesWithWhatItSelects(t *testing.T) {
	good, bad := set(""), set("")
	good.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}
	bad.Name, bad.Spec.Selector = "bad", &metav1.LabelSelector{MatchLabels: map[string]string{"a b": "c"}}
	f := clienttest.New(t, kind.NewTable(core.Kinds(), apps.Kinds()), good, bad)
	for _, c := range []struct{ name, want string }{{"set", "app=web"}, {"bad", "nothing"}, {"gone", "nothing"}} {
		_, matches, err := Owner(t.Context(), f, types.NamespacedName{Namespace: "default", Name: c.name},
			func(rs *appsv1.ReplicaSet) *metav1.LabelSelector { return rs.Spec.Selector }, slog.New(slog.DiscardHandler))
		got := "nothing"
		if matches != nil {
			got = matches.String()
		}
		if err != nil || got != c.want {
			t.Errorf("%s selects %s (%v), want %s", c.name, got, err, c.want)
		}
	}
}
