package endpoints

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// service selects app=web; words: "headless", "portless", "early" (publishes
// what is not ready), "six", "named" (its port goes to the port "http").
func service(words string) *corev1.Service {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", Labels: map[string]string{"team": "a"}},
		Spec: corev1.ServiceSpec{Selector: map[string]string{"app": "web"}, ClusterIP: "10.0.0.1",
			IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
			Ports:      []corev1.ServicePort{{Name: "web", Port: 80, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromInt32(8080)}}}}
	for _, w := range strings.Fields(words) {
		switch w {
		case "headless":
			s.Spec.ClusterIP = corev1.ClusterIPNone
		case "portless":
			s.Spec.Ports = nil
		case "early":
			s.Spec.PublishNotReadyAddresses = true
		case "six":
			s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv6Protocol}
		case "named":
			s.Spec.Ports[0].TargetPort = intstr.FromString("http")
		case "two":
			s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: "admin", Port: 81, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromString("http")})
		}
	}
	return s
}

// pod is a ready pod with the addresses 10.1.0.N and fd00::N.
func pod(n int, words string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: fmt.Sprint("p", n), UID: types.UID(fmt.Sprint("u", n)), Labels: map[string]string{"app": "web"}},
		Spec: corev1.PodSpec{NodeName: "n1", Containers: []corev1.Container{{Name: "c"}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: fmt.Sprintf("10.1.%d.%d", n/250, n%250),
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}}}
	p.Status.PodIPs = []corev1.PodIP{{IP: p.Status.PodIP}, {IP: fmt.Sprintf("fd00::%d", n)}}
	for _, w := range strings.Fields(words) {
		switch w {
		case "starting":
			p.Status.Conditions[0].Status = corev1.ConditionFalse
		case "leaving":
			now := metav1.Now()
			p.DeletionTimestamp = &now
		case "ended":
			p.Status.Phase = corev1.PodSucceeded
		case "unaddressed":
			p.Status.PodIP, p.Status.PodIPs = "", nil
		case "http9000", "http9001":
			port := int32(9000)
			if w == "http9001" {
				port++
			}
			p.Spec.Containers[0].Ports = []corev1.ContainerPort{{Name: "http", ContainerPort: port, Protocol: corev1.ProtocolTCP}}
		case "sidecar":
			always := corev1.ContainerRestartPolicyAlways
			p.Spec.InitContainers = []corev1.Container{{Name: "s", RestartPolicy: &always,
				Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 7000, Protocol: corev1.ProtocolTCP}}}}
		case "hosted":
			p.Spec.Hostname, p.Spec.Subdomain = "h", "web"
		}
	}
	return p
}

// short is subsets in one line: "10.1.0.1 !10.1.0.2 : web 8080".
func short(all []corev1.EndpointSubset) string {
	var subsets []string
	for _, s := range all {
		var words []string
		for _, a := range s.Addresses {
			words = append(words, a.IP+strings.TrimRight("="+a.Hostname, "="))
		}
		for _, a := range s.NotReadyAddresses {
			words = append(words, "!"+a.IP)
		}
		words = append(words, ":")
		for _, p := range s.Ports {
			words = append(words, p.Name, fmt.Sprint(p.Port))
		}
		subsets = append(subsets, strings.Join(words, " "))
	}
	return strings.Join(subsets, " | ")
}

func TestWhatAServiceReaches(t *testing.T) {
	for _, c := range []struct {
		it   string
		svc  string
		pods []*corev1.Pod
		want string
	}{
		{"ready pods and those that are not, apart", "", []*corev1.Pod{pod(2, "starting"), pod(1, "")}, "10.1.0.1 !10.1.0.2 : web 8080"},
		{"no pod that is leaving", "", []*corev1.Pod{pod(1, "leaving"), pod(2, "")}, "10.1.0.2 : web 8080"},
		{"no pod that has ended, or has no address", "", []*corev1.Pod{pod(1, "ended"), pod(2, "unaddressed")}, ""},
		{"all that live, if it publishes early", "early", []*corev1.Pod{pod(1, "starting"), pod(2, "leaving"), pod(3, "ended")}, "10.1.0.1 10.1.0.2 : web 8080"},
		{"addresses of its first family", "six", []*corev1.Pod{pod(1, "")}, "fd00::1 : web 8080"},
		{"a port by name, which may differ", "named", []*corev1.Pod{pod(1, "http9000"), pod(2, "http9001"), pod(3, "")}, "10.1.0.1 : web 9000 | 10.1.0.2 : web 9001"},
		{"a port of a sidecar", "named", []*corev1.Pod{pod(1, "sidecar")}, "10.1.0.1 : web 7000"},
		{"ports that the same pods have in one subset", "two", []*corev1.Pod{pod(1, "http9000"), pod(2, "http9000")}, "10.1.0.1 10.1.0.2 : admin 9000 web 8080"},
		{"ports that some pods have in their own", "two", []*corev1.Pod{pod(1, "http9000"), pod(2, "")}, "10.1.0.1 : admin 9000 | 10.1.0.1 10.1.0.2 : web 8080"},
		{"pods without ports, if headless", "headless portless", []*corev1.Pod{pod(1, ""), pod(2, "starting")}, "10.1.0.1 !10.1.0.2 :"},
		{"nothing without ports, if not", "portless", []*corev1.Pod{pod(1, "")}, ""},
		{"a host name that the pod has below the service", "headless", []*corev1.Pod{pod(1, "hosted")}, "10.1.0.1=h : web 8080"},
	} {
		if got := short(compile(service(c.svc), c.pods)); got != c.want {
			t.Errorf("it reaches %s: %q, want %q", c.it, got, c.want)
		}
	}
}

func TestLabelsOfEndpoints(t *testing.T) {
	e := decide(service("headless"), nil, nil)
	if want := "map[endpoints.kubernetes.io/managed-by:endpoint-controller service.kubernetes.io/headless: team:a]"; fmt.Sprint(e.Labels) != want {
		t.Errorf("got %v, want %v", e.Labels, want)
	}
	if _, ok := decide(service(""), nil, e).Labels[corev1.IsHeadlessService]; ok {
		t.Error("a service that has an address is not headless")
	}
}

func TestTooManyAddressesAreCutReadyOnesLast(t *testing.T) {
	var pods []*corev1.Pod
	for n := range 1200 {
		pods = append(pods, pod(n, map[bool]string{true: "starting"}[n%3 == 0]))
	}
	count := func(e *corev1.Endpoints) (up, down int) {
		for _, s := range e.Subsets {
			up, down = up+len(s.Addresses), down+len(s.NotReadyAddresses)
		}
		return up, down
	}
	e := decide(service(""), pods, nil)
	if up, down := count(e); up != 800 || down != 200 || e.Annotations[corev1.EndpointsOverCapacity] != "truncated" {
		t.Errorf("%d ready, %d not, %v", up, down, e.Annotations)
	}
	if decide(service(""), pods, e) != e {
		t.Error("it does not rest")
	}
	e = decide(service("early"), pods, e)
	if up, down := count(e); up != 1000 || down != 0 {
		t.Errorf("%d ready, %d not, want 1000 and none", up, down)
	}
	e = decide(service(""), pods[:3], e)
	if up, down := count(e); up != 2 || down != 1 || e.Annotations[corev1.EndpointsOverCapacity] != "" {
		t.Errorf("%d ready, %d not, %v", up, down, e.Annotations)
	}
}

func TestADecisionCarriedOutLeadsToNone(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	svcs := []string{"", "early", "headless", "headless portless", "named", "two", "six"}
	words := []string{"", "", "starting", "leaving", "ended", "unaddressed", "http9000", "http9001", "sidecar", "hosted"}
	var have *corev1.Endpoints
	for i := range 2000 {
		var pods []*corev1.Pod
		for n := range r.IntN(6) {
			pods = append(pods, pod(n, words[r.IntN(len(words))]))
		}
		svc := service(svcs[r.IntN(len(svcs))])
		have = decide(svc, pods, have)
		r.Shuffle(len(pods), func(i, j int) { pods[i], pods[j] = pods[j], pods[i] })
		if next := decide(svc, pods, have); next != have {
			t.Fatalf("round %d: after %s comes %s", i, short(have.Subsets), short(next.Subsets))
		}
		for _, s := range have.Subsets {
			for _, a := range s.Addresses {
				for _, p := range pods {
					if p.UID == a.TargetRef.UID && !svc.Spec.PublishNotReadyAddresses && (p.DeletionTimestamp != nil || !isReady(p)) {
						t.Fatalf("round %d: %s is said to be ready", i, p.Name)
					}
				}
			}
		}
	}
}

func TestOnlyWhatMattersWakes(t *testing.T) {
	for _, words := range []string{"starting", "leaving", "ended", "unaddressed", "hosted"} {
		if !matters(pod(1, ""), pod(1, words)) {
			t.Errorf("%s does not matter", words)
		}
	}
	noise := pod(1, "")
	noise.Annotations = map[string]string{"a": "b"}
	noise.Status.Conditions = append(noise.Status.Conditions, corev1.PodCondition{Type: "Other"})
	if matters(pod(1, ""), noise) {
		t.Error("an annotation matters")
	}
}
