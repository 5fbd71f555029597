package endpointslice

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func nodes(names ...string) func(string) *corev1.Node {
	return func(name string) *corev1.Node {
		if !slices.Contains(names, name) {
			return nil
		}
		return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelTopologyZone: "east"}}}
	}
}

func TestWhatAServiceSays(t *testing.T) {
	for _, c := range []struct {
		it   string
		svc  func(*corev1.Service)
		pods []*corev1.Pod
		want []string
	}{
		{it: "nobody is there", want: []string{"IPv4"}},
		{it: "who has no address, or is over, is nobody",
			pods: []*corev1.Pod{pod(0, "homeless"), pod(1, "ready over")}, want: []string{"IPv4"}},
		{it: "who is ready, who is not, who leaves",
			pods: []*corev1.Pod{pod(0, "ready"), pod(1, ""), pod(2, "ready leaving"), pod(3, "leaving")},
			want: []string{"IPv4 http:8080 10.0.0.1+ 10.0.0.2- 10.0.0.3~ 10.0.0.4-"}},
		{it: "everybody, if that is asked for",
			svc:  func(s *corev1.Service) { s.Spec.PublishNotReadyAddresses = true },
			pods: []*corev1.Pod{pod(0, ""), pod(1, "leaving")},
			want: []string{"IPv4 http:8080 10.0.0.1+ 10.0.0.2+"}},
		{it: "a named port by its number in each pod, which makes two slices",
			pods: []*corev1.Pod{pod(0, "ready"), pod(1, "ready port=9090")},
			want: []string{"IPv4 http:8080 10.0.0.1+", "IPv4 http:9090 10.0.0.2+"}},
		{it: "a number as it is",
			svc:  func(s *corev1.Service) { s.Spec.Ports[0].TargetPort = intstr.FromInt32(77) },
			pods: []*corev1.Pod{pod(0, "ready")},
			want: []string{"IPv4 http:77 10.0.0.1+"}},
		{it: "only ports that the pod has",
			svc: func(s *corev1.Service) {
				s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: "admin", Port: 1, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromString("admin")})
			},
			pods: []*corev1.Pod{pod(0, "ready")},
			want: []string{"IPv4 http:8080 10.0.0.1+"}},
		{it: "no port by that name for another protocol",
			svc:  func(s *corev1.Service) { s.Spec.Ports[0].Protocol = corev1.ProtocolUDP },
			pods: []*corev1.Pod{pod(0, "ready")},
			want: []string{"IPv4 10.0.0.1+"}},
		{it: "addresses without ports, of a headless service that has none",
			svc: func(s *corev1.Service) {
				s.Spec.ClusterIP, s.Spec.ClusterIPs, s.Spec.Ports = corev1.ClusterIPNone, []string{corev1.ClusterIPNone}, nil
			},
			pods: []*corev1.Pod{pod(0, "ready")},
			want: []string{"IPv4 10.0.0.1+"}},
		{it: "each family in slices of its own",
			svc: func(s *corev1.Service) {
				s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv6Protocol, corev1.IPv4Protocol}
			},
			pods: []*corev1.Pod{pod(0, "ready also=fd00::1"), pod(1, "ready")},
			want: []string{"IPv4 http:8080 10.0.0.1+ 10.0.0.2+", "IPv6 http:8080 fd00::1+"}},
		{it: "the family of its address, if it does not say",
			svc: func(s *corev1.Service) {
				s.Spec.IPFamilies, s.Spec.ClusterIP, s.Spec.ClusterIPs = nil, "fd00:1::1", []string{"fd00:1::1"}
			},
			pods: []*corev1.Pod{pod(0, "ready also=fd00::1")},
			want: []string{"IPv6 http:8080 fd00::1+"}},
	} {
		t.Run(c.it, func(t *testing.T) {
			svc := service()
			if c.svc != nil {
				c.svc(svc)
			}
			d := decide(state{service: svc, pods: c.pods, node: nodes("node-1")})
			if got := text(d.create); !slices.Equal(got, c.want) || len(d.update)+len(d.remove) > 0 {
				t.Errorf("got\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(c.want, "\n\t"))
			}
		})
	}
}

func TestAnEndpointNamesItsPod(t *testing.T) {
	p := pod(0, "ready")
	p.Spec.Hostname, p.Spec.Subdomain = "first", "web"
	e := decide(state{service: service(), pods: []*corev1.Pod{p}, node: nodes("node-1")}).create[0].Endpoints[0]
	if *e.Hostname != "first" || *e.NodeName != "node-1" || *e.Zone != "east" ||
		*e.TargetRef != (corev1.ObjectReference{Kind: "Pod", Namespace: "default", Name: "web-000", UID: "uid-0"}) {
		t.Errorf("endpoint %+v", e)
	}
	p.Spec.Subdomain = "other"
	if e = decide(state{service: service(), pods: []*corev1.Pod{p}, node: nodes("node-1")}).create[0].Endpoints[0]; e.Hostname != nil {
		t.Errorf("hostname %s, of another subdomain", *e.Hostname)
	}
}

func TestAPodOfALostNodeIsNoEndpoint(t *testing.T) {
	s := state{service: service(), pods: []*corev1.Pod{pod(0, "ready")}, node: nodes()}
	if got := text(decide(s).create); !slices.Equal(got, []string{"IPv4"}) {
		t.Errorf("got %q", got)
	}
	s.service.Spec.PublishNotReadyAddresses = true
	if got := text(decide(s).create); !slices.Equal(got, []string{"IPv4 http:8080 10.0.0.1+"}) {
		t.Errorf("got %q; it was asked for", got)
	}
}

func TestAHeadlessServiceIsMarked(t *testing.T) {
	svc := service(func(s *corev1.Service) { s.Spec.ClusterIP = corev1.ClusterIPNone })
	svc.Labels[discoveryv1.LabelServiceName] = "a lie"
	labels := decide(state{service: svc, node: nodes()}).create[0].Labels
	if _, ok := labels[corev1.IsHeadlessService]; !ok || labels[discoveryv1.LabelServiceName] != "web" || labels["team"] != "a" {
		t.Errorf("labels %v", labels)
	}
}

func TestANewServiceOfTheNameTakesTheSlices(t *testing.T) {
	s := state{service: service(), pods: []*corev1.Pod{pod(0, "ready")}, node: nodes("node-1")}
	s.slices = decide(s).create
	s.service.UID = "another"
	d := decide(s)
	if len(d.update) != 1 || d.update[0].OwnerReferences[0].UID != "another" || len(d.create)+len(d.remove) > 0 {
		t.Errorf("decision %+v", d)
	}
}

// carryOut does what a decision says, as the API server would.
func carryOut(have []*discoveryv1.EndpointSlice, d decision, next *int) []*discoveryv1.EndpointSlice {
	have = slices.DeleteFunc(slices.Clone(have), func(s *discoveryv1.EndpointSlice) bool {
		return slices.ContainsFunc(d.remove, func(r *discoveryv1.EndpointSlice) bool { return r.Name == s.Name })
	})
	for _, u := range d.update {
		for i := range have {
			if have[i].Name == u.Name {
				have[i] = u
			}
		}
	}
	for _, c := range d.create {
		c = c.DeepCopy()
		*next++
		c.Name = fmt.Sprint(c.GenerateName, *next)
		have = append(have, c)
	}
	return have
}

// Whatever pods come and go: after carrying out a decision every pod is in one
// slice as it is, no slice is too full, there is always one, and nothing more is
// to be done.
func TestAnyPodsAreWrittenDownOnce(t *testing.T) {
	words := []string{"ready", "", "ready leaving", "over", "homeless", "ready port=9090", "ready also=fd00::7"}
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 0))
		svc := service()
		if r.IntN(2) == 0 {
			svc.Spec.IPFamilies = append(svc.Spec.IPFamilies, corev1.IPv6Protocol)
		}
		all, names := map[int]*corev1.Pod{}, 0
		var have []*discoveryv1.EndpointSlice
		for step := range 20 {
			for range []int{1, 3, 150}[r.IntN(3)] {
				i := r.IntN(400)
				if r.IntN(3) == 0 {
					delete(all, i)
				} else {
					all[i] = pod(i, words[r.IntN(len(words))])
				}
			}
			s := state{service: svc, slices: have, node: nodes("node-1")}
			wanted := map[string]string{}
			for _, p := range all {
				s.pods = append(s.pods, p)
				for _, family := range addressTypes(svc) {
					if e, ok := endpoint(s, p, family); ok {
						wanted[string(family)+" "+identity(e)] = fmt.Sprint(portsKey(endpointPorts(svc, p)), *e.Conditions.Ready, *e.Conditions.Serving, *e.Conditions.Terminating)
					}
				}
			}
			have = carryOut(have, decide(s), &names)
			got := map[string]string{}
			families := map[discoveryv1.AddressType]bool{}
			for _, slice := range have {
				families[slice.AddressType] = true
				if len(slice.Endpoints) > most {
					t.Fatalf("seed %d, step %d: %d endpoints in a slice", seed, step, len(slice.Endpoints))
				}
				for _, e := range slice.Endpoints {
					id := string(slice.AddressType) + " " + identity(e)
					if _, twice := got[id]; twice {
						t.Fatalf("seed %d, step %d: %s is there twice", seed, step, id)
					}
					got[id] = fmt.Sprint(portsKey(slice.Ports), *e.Conditions.Ready, *e.Conditions.Serving, *e.Conditions.Terminating)
				}
			}
			if len(got) != len(wanted) {
				t.Fatalf("seed %d, step %d: %d endpoints, want %d", seed, step, len(got), len(wanted))
			}
			for id, w := range wanted {
				if got[id] != w {
					t.Fatalf("seed %d, step %d: %s is %q, want %q", seed, step, id, got[id], w)
				}
			}
			if len(families) != len(addressTypes(svc)) {
				t.Fatalf("seed %d, step %d: slices of %v", seed, step, families)
			}
			s.slices = have
			if d := decide(s); len(d.create)+len(d.update)+len(d.remove) > 0 {
				t.Fatalf("seed %d, step %d: decides again: create %q, update %q, remove %q", seed, step, text(d.create), text(d.update), text(d.remove))
			}
		}
	}
}

func TestOneEmptySliceIsEnough(t *testing.T) {
	s := state{service: service(), node: nodes("node-1")}
	n := 0
	for range 3 {
		s.slices = carryOut(s.slices, decision{create: decide(state{service: s.service, node: s.node}).create}, &n)
	}
	if d := decide(s); len(d.remove) != 2 || len(d.create)+len(d.update) > 0 {
		t.Errorf("create %q, update %q, remove %q; want two removed", text(d.create), text(d.update), text(d.remove))
	}
}
