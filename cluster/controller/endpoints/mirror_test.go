package endpoints

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func written(subsets ...corev1.EndpointSubset) *corev1.Endpoints {
	return &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "db", UID: "e",
		Labels:      map[string]string{"team": "a"},
		Annotations: map[string]string{"note": "x", corev1.LastAppliedConfigAnnotation: "{}", corev1.EndpointsLastChangeTriggerTime: "now"}},
		Subsets: subsets}
}

// subset is addresses, those with "!" not ready, behind a port.
func subset(addresses string, ports ...int32) corev1.EndpointSubset {
	var s corev1.EndpointSubset
	for _, a := range strings.Fields(addresses) {
		if ip, down := strings.CutPrefix(a, "!"); down {
			s.NotReadyAddresses = append(s.NotReadyAddresses, corev1.EndpointAddress{IP: ip})
		} else {
			s.Addresses = append(s.Addresses, corev1.EndpointAddress{IP: ip})
		}
	}
	for _, p := range ports {
		s.Ports = append(s.Ports, corev1.EndpointPort{Name: fmt.Sprint("p", p), Port: p, Protocol: corev1.ProtocolTCP})
	}
	return s
}

func shortSlice(s *discoveryv1.EndpointSlice) string {
	words := []string{string(s.AddressType)}
	for _, e := range s.Endpoints {
		ip := e.Addresses[0]
		if !*e.Conditions.Ready {
			ip = "!" + ip
		}
		words = append(words, ip)
	}
	words = append(words, ":")
	for _, p := range s.Ports {
		words = append(words, fmt.Sprint(*p.Port))
	}
	return strings.Join(words, " ")
}

func shortSlices(all []*discoveryv1.EndpointSlice) string {
	var texts []string
	for _, s := range all {
		texts = append(texts, shortSlice(s))
	}
	return strings.Join(texts, " | ")
}

func TestWhatIsMirrored(t *testing.T) {
	for _, c := range []struct {
		it   string
		e    *corev1.Endpoints
		want string
	}{
		{"a subset", written(subset("10.0.0.1 !10.0.0.2", 80)), "IPv4 10.0.0.1 !10.0.0.2 : 80"},
		{"families apart", written(subset("10.0.0.1 fd00::1", 80)), "IPv4 10.0.0.1 : 80 | IPv6 fd00::1 : 80"},
		{"ports apart", written(subset("10.0.0.1", 80), subset("10.0.0.2", 81, 82)), "IPv4 10.0.0.1 : 80 | IPv4 10.0.0.2 : 81 82"},
		{"the same ports together", written(subset("10.0.0.1", 82, 81), subset("10.0.0.2", 81, 82)), "IPv4 10.0.0.1 10.0.0.2 : 81 82"},
		{"nothing of what is no address", written(subset("host 10.0.0.1", 80)), "IPv4 10.0.0.1 : 80"},
	} {
		r := reflect(c.e, nil)
		if got := shortSlices(r.create); got != c.want {
			t.Errorf("%s: %q, want %q", c.it, got, c.want)
		}
	}
	s := reflect(written(subset("10.0.0.1", 80)), nil).create[0]
	if want := "map[endpointslice.kubernetes.io/managed-by:endpointslicemirroring-controller.k8s.io kubernetes.io/service-name:db team:a]"; fmt.Sprint(s.Labels) != want {
		t.Errorf("labels %v, want %v", s.Labels, want)
	}
	if want := "map[note:x]"; fmt.Sprint(s.Annotations) != want || s.GenerateName != "db-" {
		t.Errorf("annotations %v, name %q", s.Annotations, s.GenerateName)
	}
	if o := metav1.GetControllerOf(s); o == nil || o.Kind != "Endpoints" || o.UID != "e" {
		t.Errorf("its owner is %v", o)
	}
}

func TestAMirrorHasLimits(t *testing.T) {
	var many []string
	for n := range 1100 {
		many = append(many, fmt.Sprintf("10.0.%d.%d", n/250, n%250))
	}
	r := reflect(written(subset(strings.Join(many, " ")+" host", 80)), nil)
	if n := len(r.create[0].Endpoints); n != 1000 || r.skipped != 101 {
		t.Errorf("%d mirrored, %d skipped", n, r.skipped)
	}
}

func TestASliceIsUsedAgain(t *testing.T) {
	first := reflect(written(subset("10.0.0.1", 80), subset("fd00::1", 80)), nil).create
	r := reflect(written(subset("10.0.0.1", 81)), first)
	if shortSlices(r.update) != "IPv4 10.0.0.1 : 81" || shortSlices(r.remove) != "IPv6 fd00::1 : 80" || len(r.create) != 0 {
		t.Errorf("create %s, update %s, remove %s", shortSlices(r.create), shortSlices(r.update), shortSlices(r.remove))
	}
	if first[0].Ports[0].Port == r.update[0].Ports[0].Port {
		t.Error("what was given has changed")
	}
}

func TestWhoIsMirrored(t *testing.T) {
	plain, selecting := &corev1.Service{}, service("")
	skip, lock := written(), written()
	skip.Labels[discoveryv1.LabelSkipMirror] = "true"
	lock.Annotations[leaderAnnotation] = "{}"
	for _, c := range []struct {
		it   string
		e    *corev1.Endpoints
		svc  *corev1.Service
		want bool
	}{
		{"Endpoints of a service without selector", written(), plain, true},
		{"not those of one with selector", written(), selecting, false},
		{"not those of no service", written(), nil, false},
		{"not those that do not want it", skip, plain, false},
		{"not locks", lock, plain, false},
	} {
		if got := mirrorable(c.e, c.svc); got != c.want {
			t.Errorf("%s: %v", c.it, got)
		}
	}
}

func TestAMirrorRestsOnceItIsRight(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	pool := []string{"10.0.0.1", "10.0.0.2", "!10.0.0.3", "fd00::1", "!fd00::2", "host"}
	var have []*discoveryv1.EndpointSlice
	for round := range 2000 {
		e := written()
		for range r.IntN(4) {
			var words []string
			for range 1 + r.IntN(3) {
				words = append(words, pool[r.IntN(len(pool))])
			}
			e.Subsets = append(e.Subsets, subset(strings.Join(words, " "), []int32{80, 81, 82}[r.IntN(3)]))
		}
		step := reflect(e, have)
		have = slices.DeleteFunc(have, func(s *discoveryv1.EndpointSlice) bool { return slices.Contains(step.remove, s) })
		for _, u := range step.update {
			i := slices.IndexFunc(have, func(s *discoveryv1.EndpointSlice) bool { return s.Name == u.Name })
			if i < 0 || have[i].AddressType != u.AddressType {
				t.Fatalf("round %d: %s is updated to %s", round, u.Name, shortSlice(u))
			}
			have[i] = u
		}
		for i, s := range step.create {
			s.Name = fmt.Sprintf("db-%d-%d", round, i)
			have = append(have, s)
		}
		if again := reflect(e, have); len(again.create)+len(again.update)+len(again.remove) > 0 {
			t.Fatalf("round %d: it does not rest: create %s, update %s, remove %s", round,
				shortSlices(again.create), shortSlices(again.update), shortSlices(again.remove))
		}
	}
	if gone := reflect(nil, have); len(gone.remove) != len(have) {
		t.Errorf("%d of %d are removed", len(gone.remove), len(have))
	}
}
