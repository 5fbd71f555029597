package nodelife

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// node is one by its state: "ready", "unready", "silent", "new" (has said
// nothing); further words: "full" (disk pressure), "cordoned", "other" (a
// taint of somebody else's); "+key:Effect" taints it has.
func node(words string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", CreationTimestamp: metav1.NewTime(noon)}}
	say := func(t corev1.NodeConditionType, s corev1.ConditionStatus) {
		n.Status.Conditions = append(n.Status.Conditions, corev1.NodeCondition{Type: t, Status: s, LastHeartbeatTime: metav1.NewTime(noon)})
	}
	for _, w := range strings.Fields(words) {
		switch w {
		case "ready":
			say(corev1.NodeReady, corev1.ConditionTrue)
		case "unready":
			say(corev1.NodeReady, corev1.ConditionFalse)
		case "silent":
			for _, t := range []corev1.NodeConditionType{corev1.NodeReady, corev1.NodeMemoryPressure, corev1.NodeDiskPressure, corev1.NodePIDPressure} {
				say(t, corev1.ConditionUnknown)
			}
		case "full":
			say(corev1.NodeDiskPressure, corev1.ConditionTrue)
		case "cordoned":
			n.Spec.Unschedulable = true
		case "other":
			n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: "example.com/gpu", Effect: corev1.TaintEffectNoExecute})
		case "new":
		default:
			key, effect, ok := strings.Cut(strings.TrimPrefix(w, "+"), ":")
			if !ok {
				panic(w)
			}
			n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: "node.kubernetes.io/" + key, Effect: corev1.TaintEffect(effect)})
		}
	}
	return n
}

func shortTaints(all []corev1.Taint) string {
	var texts []string
	for _, t := range all {
		texts = append(texts, strings.TrimPrefix(t.Key, "node.kubernetes.io/")+":"+string(t.Effect))
	}
	slices.Sort(texts)
	return strings.Join(texts, " ")
}

func TestASilentNodeIsUnknown(t *testing.T) {
	for _, c := range []struct {
		it     string
		node   string
		silent time.Duration
		again  time.Duration
		want   string
	}{
		{"waits as long as the node has time", "ready", 20 * time.Second, 30 * time.Second, ""},
		{"says so at the end of it", "ready", 50 * time.Second, 0,
			"Ready=Unknown/NodeStatusUnknown MemoryPressure=Unknown/NodeStatusNeverUpdated DiskPressure=Unknown/NodeStatusNeverUpdated PIDPressure=Unknown/NodeStatusNeverUpdated"},
		{"says so of a node that was not ready", "unready full", time.Hour, 0,
			"Ready=Unknown/NodeStatusUnknown DiskPressure=Unknown/NodeStatusUnknown MemoryPressure=Unknown/NodeStatusNeverUpdated PIDPressure=Unknown/NodeStatusNeverUpdated"},
		{"says so of a node that never spoke", "new", time.Minute, 0,
			"Ready=Unknown/NodeStatusNeverUpdated MemoryPressure=Unknown/NodeStatusNeverUpdated DiskPressure=Unknown/NodeStatusNeverUpdated PIDPressure=Unknown/NodeStatusNeverUpdated"},
		{"says it once", "silent", time.Hour, 0, ""},
	} {
		n := node(c.node)
		conditions, changed, again := expire(n, noon, 50*time.Second, noon.Add(c.silent))
		var texts []string
		for _, cond := range conditions {
			texts = append(texts, fmt.Sprintf("%s=%s/%s", cond.Type, cond.Status, cond.Reason))
			if changed && !cond.LastHeartbeatTime.Time.Equal(noon) {
				t.Errorf("%s: %s has the heartbeat %v", c.it, cond.Type, cond.LastHeartbeatTime)
			}
		}
		if got := strings.Join(texts, " "); changed != (c.want != "") || changed && got != c.want {
			t.Errorf("%s: %v %q, want %q", c.it, changed, got, c.want)
		}
		if again != c.again {
			t.Errorf("%s: again after %v, want %v", c.it, again, c.again)
		}
		n.Status.Conditions = conditions
		if _, changed, _ := expire(n, noon, 50*time.Second, noon.Add(c.silent)); changed {
			t.Errorf("%s: it does not rest", c.it)
		}
	}
}

func TestTaintsFollowConditions(t *testing.T) {
	for _, c := range []struct {
		it      string
		node    string
		allowed eviction
		want    string
		drives  bool
	}{
		{"none on a node that is well", "ready", evictNow, "", false},
		{"none on a node that has said nothing", "new", evictNow, "", false},
		{"both on one that is not ready", "unready", evictNow, "not-ready:NoExecute not-ready:NoSchedule", true},
		{"both on one that is silent", "silent", evictNow, "unreachable:NoExecute unreachable:NoSchedule", true},
		{"goes with what it followed from", "ready +not-ready:NoSchedule +not-ready:NoExecute +disk-pressure:NoSchedule", evictNow, "", false},
		{"changes with it", "silent +not-ready:NoSchedule +not-ready:NoExecute", evictNow, "unreachable:NoExecute unreachable:NoSchedule", false},
		{"of pressure", "ready full", evictNow, "disk-pressure:NoSchedule", false},
		{"of a cordon", "ready cordoned", evictNow, "unschedulable:NoSchedule", false},
		{"leaves those of others", "unready other", evictNow, "example.com/gpu:NoExecute not-ready:NoExecute not-ready:NoSchedule", true},
		{"only keeps pods away while evictions are held", "unready", evictNoMore, "not-ready:NoSchedule", false},
		{"goes on with the right one while they are held", "silent +not-ready:NoExecute", evictNoMore, "unreachable:NoExecute unreachable:NoSchedule", false},
		{"drives nobody away when no node is ready", "silent +unreachable:NoExecute", evictNone, "unreachable:NoSchedule", false},
	} {
		n := node(c.node)
		taints, changed, drives := taint(n, c.allowed, noon)
		if got := shortTaints(taints); got != c.want || drives != c.drives {
			t.Errorf("%s: %q drives %v, want %q %v", c.it, got, drives, c.want, c.drives)
		}
		if changed != (shortTaints(n.Spec.Taints) != c.want) {
			t.Errorf("%s: changed is %v", c.it, changed)
		}
		n.Spec.Taints = taints
		if _, changed, drives := taint(n, c.allowed, noon); changed || drives {
			t.Errorf("%s: it does not rest", c.it)
		}
	}
}

func TestTaintsRestFromAnyState(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	state := []string{"ready", "unready", "silent", "new"}
	extra := []string{"full", "cordoned", "other", "+not-ready:NoExecute", "+unreachable:NoExecute", "+not-ready:NoSchedule", "+memory-pressure:NoSchedule"}
	for range 2000 {
		words := state[r.IntN(len(state))]
		for _, w := range extra {
			if r.IntN(3) == 0 {
				words += " " + w
			}
		}
		n, allowed := node(words), eviction(r.IntN(3))
		was := shortTaints(n.Spec.Taints)
		n.Spec.Taints, _, _ = taint(n, allowed, noon)
		if strings.Contains(words, "other") != strings.Contains(shortTaints(n.Spec.Taints), "example.com/gpu") {
			t.Fatalf("%s: %s became %s", words, was, shortTaints(n.Spec.Taints))
		}
		if next, changed, _ := taint(n, allowed, noon); changed {
			t.Fatalf("%s with %v: after %s comes %s", words, allowed, shortTaints(n.Spec.Taints), shortTaints(next))
		}
	}
}

func in(zone, name string) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelTopologyZone: zone}}}
}

func TestZones(t *testing.T) {
	for _, c := range []struct {
		it     string
		a, b   [2]int // nodes, and those of them that are ready
		want   eviction
		within time.Duration
	}{
		{"empties a broken node", [2]int{3, 2}, [2]int{}, evictNow, pace},
		{"never empties the only node", [2]int{1, 0}, [2]int{}, evictNone, 0},
		{"empties none when no node of any zone is ready", [2]int{3, 0}, [2]int{4, 0}, evictNone, 0},
		{"empties a whole zone if another lives", [2]int{3, 0}, [2]int{1, 1}, evictNow, pace},
		{"holds in a small zone most of which is not ready", [2]int{10, 4}, [2]int{}, evictNoMore, 0},
		{"goes on with two of three", [2]int{3, 1}, [2]int{}, evictNow, pace},
		{"is slow in a large one", [2]int{60, 20}, [2]int{}, evictNow, slowPace},
	} {
		z := newZones()
		for i, zone := range [][2]int{c.a, c.b} {
			for n := range zone[0] {
				status := corev1.ConditionTrue
				if n >= zone[1] {
					status = corev1.ConditionUnknown
				}
				z.set(in("ab"[i:i+1], fmt.Sprint(i, "-", n)), status)
			}
		}
		if got, within := z.mode(":\x00:a"); got != c.want || within != c.within {
			t.Errorf("%s: %v %v, want %v %v", c.it, got, within, c.want, c.within)
		}
	}
}

func TestZonesTellWhenOthersAreConcerned(t *testing.T) {
	z := newZones()
	z.set(in("a", "1"), corev1.ConditionUnknown)
	z.set(in("a", "2"), corev1.ConditionUnknown)
	if changed, risen := z.set(in("a", "1"), corev1.ConditionTrue); !changed || !risen {
		t.Errorf("the first to come back: changed %v, risen %v", changed, risen)
	}
	if changed, risen := z.set(in("a", "2"), corev1.ConditionTrue); changed || risen {
		t.Errorf("the second: changed %v, risen %v", changed, risen)
	}
	z.evicted(in("a", "1"), noon)
	if allowed, wait := z.may(in("a", "2"), noon.Add(4*time.Second)); allowed != evictNoMore || wait != 6*time.Second {
		t.Errorf("the next has to wait %v, %v", allowed, wait)
	}
	z.drop("1")
	if changed, risen := z.drop("2"); !changed || risen || len(z.all) != 0 || len(z.nodes) != 0 {
		t.Errorf("the last to go: changed %v, left %v", changed, z)
	}
}

func TestHowLongAPodMayStay(t *testing.T) {
	seconds := func(n int64) *int64 { return &n }
	away := func(key string) corev1.Taint { return corev1.Taint{Key: key, Effect: corev1.TaintEffectNoExecute} }
	for _, c := range []struct {
		it       string
		tolerate []corev1.Toleration
		taints   []corev1.Taint
		stay     time.Duration
		bounded  bool
	}{
		{"for ever without taints", nil, nil, 0, false},
		{"for ever where only new pods are unwanted", nil, []corev1.Taint{{Key: "a", Effect: corev1.TaintEffectNoSchedule}}, 0, false},
		{"not at all with what it does not tolerate", nil, []corev1.Taint{away("a")}, 0, true},
		{"for ever with what it tolerates", []corev1.Toleration{{Key: "a", Operator: corev1.TolerationOpExists}}, []corev1.Taint{away("a")}, 0, false},
		{"as long as it tolerates it", []corev1.Toleration{{Key: "a", Operator: corev1.TolerationOpExists, TolerationSeconds: seconds(300)}}, []corev1.Taint{away("a")}, 300 * time.Second, true},
		{"the shortest of all", []corev1.Toleration{{Key: "a", Operator: corev1.TolerationOpExists, TolerationSeconds: seconds(300)},
			{Key: "b", Operator: corev1.TolerationOpExists, TolerationSeconds: seconds(30)}}, []corev1.Taint{away("a"), away("b")}, 30 * time.Second, true},
		{"not at all if one of two is not tolerated", []corev1.Toleration{{Key: "a", Operator: corev1.TolerationOpExists}}, []corev1.Taint{away("a"), away("b")}, 0, true},
		{"not at all for less than no time", []corev1.Toleration{{Key: "a", Operator: corev1.TolerationOpExists, TolerationSeconds: seconds(-5)}}, []corev1.Taint{away("a")}, 0, true},
	} {
		stay, bounded := judge(&corev1.Pod{Spec: corev1.PodSpec{Tolerations: c.tolerate}}, c.taints)
		if stay != c.stay || bounded != c.bounded {
			t.Errorf("it stays %s: %v %v, want %v %v", c.it, stay, bounded, c.stay, c.bounded)
		}
	}
}
