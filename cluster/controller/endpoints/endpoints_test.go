package endpoints

import (
	"log/slog"
	"testing"
	"testing/synctest"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/client"
	"sampan/cluster/client/clienttest"
	"sampan/cluster/controller/controllertest"
	"sampan/cluster/kind"
	"sampan/cluster/kind/core"
	"sampan/cluster/kind/discovery"
)

// world is the API with the controller running on it.
type world struct{ controllertest.World }

func with(t *testing.T, test func(w world), objs ...kind.Object) {
	synctest.Test(t, func(t *testing.T) {
		w := world{controllertest.New(t, kind.NewTable(core.Kinds(), discovery.Kinds()), objs...)}
		w.Start(New(Config{Client: w, Log: slog.New(slog.DiscardHandler)}))
		test(w)
	})
}

// endpoints are those of a service in one line, "none" if there are none.
func (w world) endpoints(name string) string {
	w.Helper()
	synctest.Wait()
	e, err := client.Get[*corev1.Endpoints](w.Context(), w, "shop", name)
	if apierrors.IsNotFound(err) {
		return "none"
	}
	if err != nil {
		w.Fatal(err)
	}
	return short(e.Subsets)
}

func (w world) slices(name string) string {
	w.Helper()
	synctest.Wait()
	all, err := client.List[*discoveryv1.EndpointSlice](w.Context(), w, client.Query{Namespace: "shop", Index: discoveryv1.LabelServiceName, Value: name})
	if err != nil {
		w.Fatal(err)
	}
	return shortSlices(all)
}

func (w world) is(got, want string) {
	w.Helper()
	if got != want {
		w.Errorf("got %q, want %q", got, want)
	}
}

func TestEndpointsFollowPodsAndServices(t *testing.T) {
	with(t, func(w world) {
		w.is(w.endpoints("web"), "")
		w.Put(pod(1, "starting"))
		w.is(w.endpoints("web"), "!10.1.0.1 : web 8080")
		w.Put(pod(1, ""))
		w.is(w.endpoints("web"), "10.1.0.1 : web 8080")
		stranger := pod(2, "")
		stranger.Labels["app"] = "db"
		w.Put(stranger)
		w.is(w.endpoints("web"), "10.1.0.1 : web 8080")
		stranger.Labels["app"] = "web"
		w.Put(stranger)
		w.is(w.endpoints("web"), "10.1.0.1 10.1.0.2 : web 8080")
		stranger.Labels["app"] = "db"
		w.Put(stranger)
		w.is(w.endpoints("web"), "10.1.0.1 : web 8080")
		w.Put(pod(1, "leaving"))
		w.is(w.endpoints("web"), "")

		w.Put(pod(1, ""))
		synctest.Wait()
		w.Forget()
		noise := pod(1, "")
		noise.Annotations = map[string]string{"a": "b"}
		w.Put(noise)
		w.is(w.endpoints("web"), "10.1.0.1 : web 8080")
		if len(w.Actions()) != 0 {
			t.Errorf("nothing has changed, yet: %v", w.Actions())
		}

		w.Drop(client.KindOf[*corev1.Endpoints](w), "shop", "web")
		w.is(w.endpoints("web"), "10.1.0.1 : web 8080")
		w.Drop(client.KindOf[*corev1.Service](w), "shop", "web")
		w.is(w.endpoints("web"), "none")
		w.is(w.slices("web"), "") // those of selecting services are not ours
	}, service(""))
}

func TestEndpointsOfAServiceThatWentWhileNobodyWatchedGo(t *testing.T) {
	left := decide(service(""), []*corev1.Pod{pod(1, "")}, nil)
	own := written(subset("10.0.0.1", 80))
	with(t, func(w world) {
		w.is(w.endpoints("web"), "none")
		w.is(w.endpoints("db"), "10.0.0.1 : p80 80") // somebody's own, without a service
		w.is(w.slices("db"), "")
	}, left, own)
}

func TestMirrorsFollowWhatPeopleWrite(t *testing.T) {
	db := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "db"}, Spec: corev1.ServiceSpec{ClusterIP: "10.0.0.9",
		Type: corev1.ServiceTypeClusterIP, Ports: []corev1.ServicePort{{Port: 80, Protocol: corev1.ProtocolTCP}}}}
	with(t, func(w world) {
		own := written(subset("10.0.0.1", 80))
		own.UID = ""
		w.Put(own)
		w.is(w.slices("db"), "IPv4 10.0.0.1 : 80")
		own.Subsets = []corev1.EndpointSubset{subset("10.0.0.2 !10.0.0.3", 81)}
		w.Put(own)
		w.is(w.slices("db"), "IPv4 10.0.0.2 !10.0.0.3 : 81")
		w.is(w.endpoints("db"), "10.0.0.2 !10.0.0.3 : p81 81")

		all, err := client.List[*discoveryv1.EndpointSlice](w.Context(), w, client.Query{})
		if err != nil || len(all) != 1 {
			t.Fatalf("%d slices, %v", len(all), err)
		}
		w.Drop(client.KindOf[*discoveryv1.EndpointSlice](w), "shop", all[0].Name)
		w.is(w.slices("db"), "IPv4 10.0.0.2 !10.0.0.3 : 81")

		w.Drop(client.KindOf[*corev1.Endpoints](w), "shop", "db")
		w.is(w.slices("db"), "")
		w.is(w.endpoints("db"), "none")

		w.Put(own)
		w.is(w.slices("db"), "IPv4 10.0.0.2 !10.0.0.3 : 81")
		w.Drop(client.KindOf[*corev1.Service](w), "shop", "db")
		w.is(w.slices("db"), "")
		w.is(w.endpoints("db"), "none")
	}, db)
}

func TestAServiceThatGetsASelectorNeedsNoMirror(t *testing.T) {
	plain := service("")
	plain.Spec.Selector = nil
	own := written(subset("10.0.0.1", 80))
	own.Name, own.UID = "web", ""
	with(t, func(w world) {
		w.is(w.slices("web"), "IPv4 10.0.0.1 : 80")
		w.Put(service(""))
		w.is(w.slices("web"), "")
		w.is(w.endpoints("web"), "10.1.0.1 : web 8080")
		w.Put(plain) // the Endpoints stay, and are now whoever's wants them
		w.is(w.slices("web"), "IPv4 10.1.0.1 : 8080")
		e, err := client.Get[*corev1.Endpoints](w.Context(), w, "shop", "web")
		if err != nil {
			t.Fatal(err)
		}
		e = e.DeepCopy()
		e.Subsets = []corev1.EndpointSubset{subset("10.0.0.7", 80)}
		w.Put(e)
		w.is(w.slices("web"), "IPv4 10.0.0.7 : 80")
	}, plain, own, pod(1, ""))
}

func TestATerminatingNamespaceGetsNothing(t *testing.T) {
	with(t, func(w world) {
		w.Refuse(func(a clienttest.Action) error {
			if a.Verb != "create" || a.Kind.Plural != "endpoints" {
				return nil
			}
			refusal := apierrors.NewForbidden(a.Kind.GroupResource(), a.Name, nil)
			refusal.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause}}
			return refusal
		})
		w.Put(service(""))
		w.is(w.endpoints("web"), "none")
		if n := len(w.Actions()); n != 1 {
			t.Errorf("%d tries, want 1: %v", n, w.Actions())
		}
	})
}
