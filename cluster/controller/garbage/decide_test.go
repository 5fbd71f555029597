package garbage

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"sampan/cluster/client"
	"sampan/cluster/kind"
)

func leaving(o *corev1.ConfigMap, finalizers ...string) *corev1.ConfigMap {
	now := metav1.Now()
	o.DeletionTimestamp, o.Finalizers = &now, finalizers
	return o
}

func TestDecide(t *testing.T) {
	const foreground, orphan = metav1.FinalizerDeleteDependents, metav1.FinalizerOrphanDependents
	a := func(s standing) owner { return owner{"a", s} }
	b := func(s standing) owner { return owner{"b", s} }
	for _, c := range []struct {
		it         string
		obj        kind.Object
		owners     []owner
		dependents []kind.Object
		want       string
	}{
		{it: "leaves alone what has no owners", obj: obj("x")},
		{it: "leaves alone what has an owner", obj: obj("x", "a"), owners: []owner{a(solid)}},
		{it: "deletes what has lost its owner", obj: obj("x", "a"), owners: []owner{a(absent)}, want: "delete Background"},
		{it: "deletes with the finalizer's policy", obj: func() kind.Object { o := obj("x", "a"); o.Finalizers = []string{orphan}; return o }(),
			owners: []owner{a(absent)}, want: "delete Orphan"},
		{it: "forgets one of two owners", obj: obj("x", "a", "b"), owners: []owner{a(absent), b(solid)}, want: "drop a"},
		{it: "forgets an owner that waits", obj: obj("x", "a", "b"), owners: []owner{a(solid), b(waiting)}, want: "drop b"},
		{it: "deletes what only those want who wait", obj: obj("x", "a", "b"), owners: []owner{a(absent), b(waiting)}, want: "delete Background"},
		{it: "has a chain wait from its end", obj: obj("x", "!a"), owners: []owner{a(waiting)}, dependents: []kind.Object{obj("y", "!x")}, want: "delete Foreground"},
		{it: "breaks a circle of those who wait", obj: obj("x", "!a"), owners: []owner{a(waiting)},
			dependents: []kind.Object{leaving(obj("a", "!x"), foreground)}, want: "unblock, delete Foreground"},
		{it: "does nothing to what leaves by itself", obj: leaving(obj("x", "a"), "example.org/slow"), owners: []owner{a(absent)}},
		{it: "frees an owner without dependents", obj: leaving(obj("x"), foreground), want: "free foregroundDeletion"},
		{it: "keeps an owner until who blocks is gone", obj: leaving(obj("x"), foreground), dependents: []kind.Object{obj("y", "!x"), obj("z", "x")}, want: "look y z"},
		{it: "does not look twice at who leaves", obj: leaving(obj("x"), foreground), dependents: []kind.Object{leaving(obj("y", "!x"))}},
		{it: "frees an owner that nobody blocks, and deletes them", obj: leaving(obj("x"), foreground), dependents: []kind.Object{obj("y", "x")},
			want: "look y, free foregroundDeletion"},
		{it: "lets orphans go, then the owner", obj: leaving(obj("x"), orphan), dependents: []kind.Object{obj("y", "!x")}, want: "orphan y, free orphan"},
	} {
		t.Run(c.it, func(t *testing.T) {
			if got := decide(c.obj, c.owners, c.dependents).String(); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// String is a decision in words, for tests.
func (d decision) String() string {
	var words []string
	say := func(ok bool, format string, args ...any) {
		if ok {
			words = append(words, fmt.Sprintf(format, args...))
		}
	}
	names := func(objs []kind.Object) (all []string) {
		for _, o := range objs {
			all = append(all, o.GetName())
		}
		return all
	}
	say(len(d.orphan) > 0, "orphan %s", strings.Join(names(d.orphan), " "))
	say(len(d.look) > 0, "look %s", strings.Join(names(d.look), " "))
	say(d.free != "", "free %s", d.free)
	say(len(d.drop) > 0, "drop %s", strings.Trim(fmt.Sprint(d.drop), "[]"))
	say(d.unblock, "unblock")
	say(d.delete != "", "delete %s", d.delete)
	return strings.Join(words, ", ")
}

// Whoever owns whom, in circles too: after the deletion of one object exactly
// those are left that have an owner left, or never had one.
func TestAnyGraphIsCollected(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 0))
		n := 2 + r.IntN(8)
		owners := map[string][]string{}
		var objs []kind.Object
		for i := range n {
			name := fmt.Sprint(i)
			var all []string
			for o := range n {
				if o != i && r.IntN(n) == 0 {
					all = append(all, fmt.Sprint(o))
				}
			}
			owners[name] = all
			refs := slices.Clone(all)
			for j := range refs {
				if r.IntN(2) == 0 {
					refs[j] = "!" + refs[j]
				}
			}
			objs = append(objs, obj(name, refs...))
		}
		policy := []metav1.DeletionPropagation{metav1.DeletePropagationBackground, metav1.DeletePropagationForeground, metav1.DeletePropagationOrphan}[r.IntN(3)]

		removed := map[string]bool{"0": true}
		for more := policy != metav1.DeletePropagationOrphan; more; {
			more = false
			for name, all := range owners {
				if !removed[name] && len(all) > 0 && !slices.ContainsFunc(all, func(o string) bool { return !removed[o] }) {
					removed[name], more = true, true
				}
			}
		}
		run(t, func(w world) {
			w.delete("0", policy)
			synctest.Wait()
			left, err := client.List[*corev1.ConfigMap](w.Context(), w, client.Query{})
			if err != nil {
				t.Fatal(err)
			}
			var got, want []string
			for _, o := range left {
				got = append(got, o.Name)
				for _, ref := range o.OwnerReferences {
					if removed[string(ref.UID)] {
						t.Errorf("seed %d: %s refers to %s, which is gone", seed, o.Name, ref.UID)
					}
				}
				if o.DeletionTimestamp != nil {
					t.Errorf("seed %d, %s: %s is stuck with finalizers %v", seed, policy, o.Name, o.Finalizers)
				}
			}
			for name := range owners {
				if !removed[name] {
					want = append(want, name)
				}
			}
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Fatalf("seed %d, %s of 0, owners %v: left are %v, want %v", seed, policy, owners, got, want)
			}
		}, objs...)
	}
}

func TestOnlySomeChangesConcernTheCollector(t *testing.T) {
	with := func(change func(o *corev1.ConfigMap)) *corev1.ConfigMap {
		o := obj("x", "!a")
		change(o)
		return o
	}
	for _, c := range []struct {
		it       string
		old, now *corev1.ConfigMap
		want     bool
		released []types.UID
	}{
		{it: "data", old: obj("x", "!a"), now: with(func(o *corev1.ConfigMap) { o.Data = map[string]string{"a": "b"} })},
		{it: "a deletion", old: obj("x", "!a"), now: leaving(obj("x", "!a")), want: true},
		{it: "a finalizer", old: obj("x", "!a"), now: with(func(o *corev1.ConfigMap) { o.Finalizers = []string{"f"} }), want: true},
		{it: "another owner", old: obj("x", "!a"), now: obj("x", "!a", "b"), want: true},
		{it: "an owner less", old: obj("x", "!a"), now: obj("x"), want: true, released: []types.UID{"a"}},
		{it: "a block less", old: obj("x", "!a"), now: obj("x", "a"), want: true, released: []types.UID{"a"}},
	} {
		t.Run(c.it, func(t *testing.T) {
			if got := concerns(c.old, c.now); got != c.want {
				t.Errorf("concerns: %v, want %v", got, c.want)
			}
			var got []types.UID
			for _, ref := range released(c.old.OwnerReferences, c.now.OwnerReferences) {
				got = append(got, ref.UID)
			}
			if !slices.Equal(got, c.released) {
				t.Errorf("released %v, want %v", got, c.released)
			}
		})
	}
}
