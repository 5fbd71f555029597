package endpointslice

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"sampan/cluster/client"
	"sampan/cluster/controller/controllertest"
	"sampan/cluster/kind"
	"sampan/cluster/kind/core"
	"sampan/cluster/kind/discovery"
)

// world is a controller at work on a client in memory, in a bubble of time.
type world struct{ controllertest.World }

func run(t *testing.T, test func(w world), objs ...kind.Object) {
	synctest.Test(t, func(t *testing.T) {
		objs = append(objs, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1"}})
		w := world{controllertest.New(t, kind.NewTable(core.Kinds(), discovery.Kinds()), objs...)}
		w.Start(New(Config{Client: w, Log: slog.New(slog.DiscardHandler)}))
		test(w)
	})
}

func service(how ...func(*corev1.Service)) *corev1.Service {
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "svc-uid", Labels: map[string]string{"team": "a"}},
		Spec: corev1.ServiceSpec{Selector: map[string]string{"app": "web"}, ClusterIP: "10.96.0.9", ClusterIPs: []string{"10.96.0.9"},
			IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
			Ports:      []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromString("web"), Protocol: corev1.ProtocolTCP}}},
	}
	for _, h := range how {
		h(svc)
	}
	return svc
}

// pod is number i, with the address 10.0.x.y, in the state that words say:
// "ready", "leaving", "over", "homeless" (no address), and "port=8080".
func pod(i int, words string) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprintf("web-%03d", i),
			UID: types.UID(fmt.Sprintf("uid-%d", i)), Labels: map[string]string{"app": "web"}},
		Spec: corev1.PodSpec{NodeName: "node-1", Containers: []corev1.Container{{Name: "c", Image: "web",
			TerminationMessagePolicy: corev1.TerminationMessageReadFile,
			Ports:                    []corev1.ContainerPort{{Name: "web", ContainerPort: 8080, Protocol: corev1.ProtocolTCP}}}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning},
	}
	setIP(p, fmt.Sprintf("10.0.%d.%d", i/250, i%250+1))
	for _, w := range strings.Fields(words) {
		switch {
		case w == "ready":
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
		case w == "leaving":
			now := metav1.Now()
			p.DeletionTimestamp = &now
		case w == "over":
			p.Status.Phase = corev1.PodFailed
		case w == "homeless":
			p.Status.PodIP, p.Status.PodIPs = "", nil
		case strings.HasPrefix(w, "port="):
			fmt.Sscanf(w, "port=%d", &p.Spec.Containers[0].Ports[0].ContainerPort)
		case strings.HasPrefix(w, "also="):
			p.Status.PodIPs = append(p.Status.PodIPs, corev1.PodIP{IP: strings.TrimPrefix(w, "also=")})
		default:
			panic(w)
		}
	}
	return p
}

func setIP(p *corev1.Pod, ip string) {
	p.Status.PodIP, p.Status.PodIPs = ip, []corev1.PodIP{{IP: ip}}
}

func (w world) slices() []*discoveryv1.EndpointSlice {
	return controllertest.All[*discoveryv1.EndpointSlice](w)
}

// text is all slices, sorted: "IPv4 http:8080 10.0.0.1+ 10.0.0.2-". + is
// ready, - not, ~ serving but leaving.
func text(all []*discoveryv1.EndpointSlice) []string {
	lines := []string{}
	for _, s := range all {
		line := string(s.AddressType)
		for _, p := range s.Ports {
			line += fmt.Sprintf(" %s:%d", *p.Name, *p.Port)
		}
		var endpoints []string
		for _, e := range s.Endpoints {
			c := e.Conditions
			mark := "-"
			switch {
			case *c.Ready:
				mark = "+"
			case *c.Serving && *c.Terminating:
				mark = "~"
			}
			endpoints = append(endpoints, strings.Join(e.Addresses, ",")+mark)
		}
		slices.Sort(endpoints)
		lines = append(lines, strings.Join(append([]string{line}, endpoints...), " "))
	}
	slices.Sort(lines)
	return lines
}

func (w world) want(lines ...string) {
	w.Helper()
	synctest.Wait()
	if got := text(w.slices()); !slices.Equal(got, lines) {
		w.Errorf("slices are\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(lines, "\n\t"))
	}
}

func TestAServiceKnowsItsPods(t *testing.T) {
	run(t, func(w world) {
		w.want("IPv4") // an empty slice: nobody is there
		w.Put(pod(0, "ready"))
		w.want("IPv4 http:8080 10.0.0.1+")
		w.Put(pod(1, ""))
		w.want("IPv4 http:8080 10.0.0.1+ 10.0.0.2-")
		w.Put(pod(1, "ready"))
		w.want("IPv4 http:8080 10.0.0.1+ 10.0.0.2+")
		w.Put(pod(0, "ready leaving"))
		w.want("IPv4 http:8080 10.0.0.1~ 10.0.0.2+")
		w.Put(pod(0, "over leaving"))
		w.want("IPv4 http:8080 10.0.0.2+")
		w.Drop(client.KindOf[*corev1.Pod](w), "default", "web-001")
		w.want("IPv4")
		if n := len(w.slices()); n != 1 {
			w.Fatalf("%d slices", n)
		}
		s := w.slices()[0]
		want := map[string]string{"team": "a", "kubernetes.io/service-name": "web", "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"}
		if fmt.Sprint(s.Labels) != fmt.Sprint(want) || !strings.HasPrefix(s.Name, "web-") || s.OwnerReferences[0].UID != "svc-uid" {
			w.Errorf("slice %s has labels %v, owners %v", s.Name, s.Labels, s.OwnerReferences)
		}
	}, service())
}

func TestAChangeOfOnePodIsOneWrite(t *testing.T) {
	objs := []kind.Object{service()}
	for i := range 250 {
		objs = append(objs, pod(i, "ready"))
	}
	run(t, func(w world) {
		if n := len(w.slices()); n != 3 {
			w.Errorf("%d slices for 250 pods, want 3", n)
		}
		w.Forget()
		w.Put(pod(120, ""))
		synctest.Wait()
		if a := w.Actions(); len(a) != 1 || a[0].Verb != "update" {
			w.Errorf("wrote %v, want one update", a)
		}
		w.Forget()
		p := pod(120, "")
		p.Annotations = map[string]string{"says": "nothing"}
		w.Put(p)
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		if a := w.Actions(); len(a) != 0 {
			w.Errorf("wrote %v, want nothing", a)
		}
	}, objs...)
}

func TestWhatSomebodyElseDidToASliceIsSetRight(t *testing.T) {
	run(t, func(w world) {
		w.want("IPv4 http:8080 10.0.0.1+")
		s := w.slices()[0].DeepCopy()
		s.Endpoints = nil
		w.Put(s)
		w.want("IPv4 http:8080 10.0.0.1+")
		w.Drop(client.KindOf[*discoveryv1.EndpointSlice](w), s.Namespace, s.Name)
		w.want("IPv4 http:8080 10.0.0.1+")
		// One that is somebody else's is left alone.
		s = s.DeepCopy()
		s.Name, s.UID, s.Labels = "custom", "", map[string]string{discoveryv1.LabelServiceName: "web", discoveryv1.LabelManagedBy: "me"}
		w.Put(s)
		synctest.Wait()
		if n := len(w.slices()); n != 2 {
			w.Errorf("%d slices, want 2", n)
		}
	}, service(), pod(0, "ready"))
}

func TestOnlyServicesWithASelectorHaveSlices(t *testing.T) {
	run(t, func(w world) { w.want() },
		service(func(s *corev1.Service) { s.Spec.Selector = nil }), pod(0, "ready"))
	run(t, func(w world) { w.want() },
		service(func(s *corev1.Service) {
			s.Spec.Type, s.Spec.ClusterIP, s.Spec.ClusterIPs, s.Spec.ExternalName = corev1.ServiceTypeExternalName, "", nil, "example.org"
		}), pod(0, "ready"))
}

func TestTheZoneOfANodeIsFollowed(t *testing.T) {
	run(t, func(w world) {
		synctest.Wait()
		if z := w.slices()[0].Endpoints[0].Zone; z != nil {
			w.Fatalf("zone %s", *z)
		}
		w.Put(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1", Labels: map[string]string{corev1.LabelTopologyZone: "east"}}})
		synctest.Wait()
		if z := w.slices()[0].Endpoints[0].Zone; z == nil || *z != "east" {
			w.Errorf("zone %v, want east", z)
		}
	}, service(), pod(0, "ready"))
}
