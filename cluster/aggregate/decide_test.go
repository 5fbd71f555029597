package aggregate

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"sampan/cluster/request"
)

func TestWhatBecomesOfAnAPIServiceOfOurOwn(t *testing.T) {
	of := func(how string, priority int32) *apiService {
		s := &apiService{Spec: apiregistrationv1.APIServiceSpec{VersionPriority: priority}}
		if how != "" {
			s.Labels = map[string]string{managedLabel: how}
		}
		return s
	}
	for _, c := range []struct {
		it                  string
		have, want          *apiService
		registered, atStart bool
		step                step
	}{
		{it: "is nothing to us", step: leave},
		{it: "is made", want: of(onStart, 1), step: create},
		{it: "is made whenever it is missing, of custom resources", want: of(always, 1), registered: true, step: create},
		{it: "is made once, of our own groups: who deletes it means it", want: of(onStart, 1), registered: true, step: leave},
		{it: "is a user's", have: of("", 2), want: of(always, 1), atStart: true, step: leave},
		{it: "is a user's with our label, made since we started", have: of(onStart, 2), want: of(onStart, 1), step: leave},
		{it: "is brought up to date at the start", have: of(onStart, 2), want: of(onStart, 1), atStart: true, step: update},
		{it: "is brought up to date at the start alone", have: of(onStart, 2), want: of(onStart, 1), atStart: true, registered: true, step: leave},
		{it: "is brought up to date always", have: of(always, 2), want: of(always, 1), step: update},
		{it: "is as it should be", have: of(always, 1), want: of(always, 1), step: leave},
		{it: "is of a group that is no more", have: of(onStart, 1), atStart: true, step: remove},
		{it: "is of a custom resource that is no more", have: of(always, 1), step: remove},
	} {
		if got := decide(c.have, c.want, c.registered, c.atStart); got != c.step {
			t.Errorf("%s: step %d, want %d", c.it, got, c.step)
		}
	}
}

func TestWhereAServerListens(t *testing.T) {
	port := func(name string, number int32) discoveryv1.EndpointPort {
		return discoveryv1.EndpointPort{Name: &name, Port: &number}
	}
	no := false
	ready := discoveryv1.Endpoint{Addresses: []string{"10.0.0.1"}}
	slice := func(p discoveryv1.EndpointPort, all ...discoveryv1.Endpoint) []*discoveryv1.EndpointSlice {
		return []*discoveryv1.EndpointSlice{{Ports: []discoveryv1.EndpointPort{p}, Endpoints: all}}
	}
	service := func(number int32) *corev1.Service {
		return &corev1.Service{Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP, Ports: []corev1.ServicePort{{Name: "api", Port: number}}}}
	}
	asked := int32(7443)
	for _, c := range []struct {
		it      string
		service *corev1.Service
		slices  []*discoveryv1.EndpointSlice
		want    string // the address, or reason and message
	}{
		{"names one that is ready", service(7443), slice(port("api", 443), ready), "10.0.0.1:443"},
		{"follows a name outside", &corev1.Service{Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "api.example.com"}}, nil, "api.example.com:7443"},
		{"finds no service", nil, nil, `ServiceNotFound: service/web in "shop" is not present`},
		{"finds another port", service(443), nil, `ServicePortError: service/web in "shop" is not listening on port 7443`},
		{"finds no slices", service(7443), nil, `EndpointsNotFound: cannot find endpointslices for service/web in "shop"`},
		{"finds none that is ready", service(7443), slice(port("api", 443), discoveryv1.Endpoint{Addresses: []string{"10.0.0.1"}, Conditions: discoveryv1.EndpointConditions{Ready: &no}}),
			`MissingEndpoints: endpointslices for service/web in "shop" have no addresses with port name "api"`},
		{"finds none of that port", service(7443), slice(port("other", 443), ready),
			`MissingEndpoints: endpointslices for service/web in "shop" have no addresses with port name "api"`},
	} {
		addresses, not := where(&apiregistrationv1.ServiceReference{Namespace: "shop", Name: "web", Port: &asked}, c.service, c.slices)
		got := strings.Join(addresses, " ")
		if not != nil {
			got = not.Reason + ": " + not.Message
		}
		if got != c.want {
			t.Errorf("%s: %s\nwant %s", c.it, got, c.want)
		}
	}
}

func TestNobodySaysWhoTheyAre(t *testing.T) {
	h := http.Header{"X-Remote-User": {"root"}, "X-Remote-Group": {"system:masters"}, "X-Remote-Uid": {"0"}, "X-Remote-Extra-Scopes": {"all"},
		"x-remote-extra-odd": {"1"}, "Authorization": {"Bearer secret"}, "Accept": {"*/*"}}
	identify(h, request.User{Name: "ann", Groups: []string{"a", "b"}, Extra: map[string][]string{"example.com/x": {"1", "2"}}})
	for key, want := range map[string][]string{"X-Remote-User": {"ann"}, "X-Remote-Group": {"a", "b"}, "X-Remote-Extra-Example.com%2fx": {"1", "2"}, "Accept": {"*/*"}} {
		if got := h.Values(key); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", key, got, want)
		}
	}
	if len(h) != 4 {
		t.Errorf("more than that is left: %v", h)
	}
}

func TestPrioritiesAreUpstreams(t *testing.T) {
	s := &State{priorities: map[schema.GroupVersion]Priority{{Group: "wardle.example.com", Version: "v1"}: {2000, 20}}}
	for gv, want := range map[string]Priority{"v1": {18000, 1}, "apps/v1": {17800, 15}, "autoscaling/v2": {17500, 30}, "apiregistration.k8s.io/v1": {20001, 0},
		"wardle.example.com/v1": {2000, 20}, "crd.example.com/v1": {1000, 100}} {
		parsed, err := schema.ParseGroupVersion(gv)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Priority(parsed); got != want {
			t.Errorf("%s: %v, want %v", gv, got, want)
		}
	}
}

func TestTrustIsSharedWithOtherServers(t *testing.T) {
	trust := Trust{ClientCA: "CA\n", ProxyCA: "PROXY\n", Names: []string{"us"}}
	first := trust.in(nil)
	want := map[string]string{"client-ca-file": "CA\n", "requestheader-client-ca-file": "PROXY\n", "requestheader-allowed-names": `["us"]`,
		"requestheader-username-headers": `["X-Remote-User"]`, "requestheader-uid-headers": `["X-Remote-Uid"]`,
		"requestheader-group-headers": `["X-Remote-Group"]`, "requestheader-extra-headers-prefix": `["X-Remote-Extra-"]`}
	for key, text := range want {
		if first[key] != text {
			t.Errorf("%s is %q, want %q", key, first[key], text)
		}
	}
	both := Trust{ClientCA: "OLD\n", Names: []string{"them"}}.in(first)
	again := trust.in(both)
	if again["client-ca-file"] != "CA\nOLD\n" || again["requestheader-allowed-names"] != `["us","them"]` {
		t.Errorf("%v", again)
	}
	if len(again) != len(want) {
		t.Errorf("%d entries, want %d", len(again), len(want))
	}
}
