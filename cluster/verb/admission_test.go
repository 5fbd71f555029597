package verb_test

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/admission"
	"sampan/cluster/client"
	"sampan/cluster/kind"
)

// lazily is a reader that is set after the plugins that need it are made.
type lazily struct{ client.Reader }

func serveWithAll(t *testing.T) *server {
	t.Helper()
	reader := &lazily{}
	services, err := admission.NewServices(reader, []netip.Prefix{netip.MustParsePrefix("10.96.0.0/24")}, admission.PortRange{First: 30000, Last: 30099})
	if err != nil {
		t.Fatal(err)
	}
	s := serve(t, admission.Namespaces{Reader: reader}, admission.ServiceAccounts{Reader: reader, Patience: time.Millisecond},
		admission.Tolerations{}, admission.Priorities{Reader: reader}, services)
	reader.Reader = s.reader()
	s.mustCreate("namespaces", `{"metadata":{"name":"default"}}`)
	return s
}

func TestNamespaceAdmission(t *testing.T) {
	s := serveWithAll(t)
	r := s.ask("create", "configmaps")
	r.Namespace = "none"
	_, err := s.api.Create(t.Context(), r, asJSON(`{"metadata":{"name":"a"}}`))
	s.status(err, 404, `namespaces "none" not found`)

	s.mustCreate("namespaces", `{"metadata":{"name":"old"}}`)
	if _, _, err := s.delete("namespaces/old", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	r.Namespace = "old"
	_, err = s.api.Create(t.Context(), r, asJSON(`{"metadata":{"name":"a"}}`))
	s.status(err, 403, `configmaps "a" is forbidden: unable to create new content in namespace old because it is being terminated`)
	if causes := err.(interface{ Status() metav1.Status }).Status().Details.Causes; len(causes) != 1 || causes[0].Type != corev1.NamespaceTerminatingCause {
		t.Errorf("causes %v", causes)
	}
	_, _, err = s.delete("namespaces/default", metav1.DeleteOptions{})
	s.status(err, 403, `namespaces "default" is forbidden: this namespace may not be deleted`)
}

func TestPodAdmission(t *testing.T) {
	s := serveWithAll(t)
	const pod = `{"metadata":{"name":"%s"},"spec":{%s"initContainers":[{"name":"i","image":"i"}],"containers":[{"name":"c","image":"i"}]}}`
	_, err := s.create("pods", fmt.Sprintf(pod, "a", ""))
	s.status(err, 403, `pods "a" is forbidden: error looking up service account default/default: serviceaccount "default" not found`)

	s.mustCreate("serviceaccounts", `{"metadata":{"name":"default"},"imagePullSecrets":[{"name":"pull"}]}`)
	p := s.mustCreate("pods", fmt.Sprintf(pod, "a", "")).(*corev1.Pod)
	if p.Spec.ServiceAccountName != "default" || p.Spec.ImagePullSecrets[0].Name != "pull" || *p.Spec.Priority != 0 || *p.Spec.PreemptionPolicy != "PreemptLowerPriority" {
		t.Errorf("got %s", text(p.Spec))
	}
	volume := p.Spec.Volumes[0]
	for _, c := range append(p.Spec.InitContainers, p.Spec.Containers...) {
		if m := c.VolumeMounts[0]; m.Name != volume.Name || m.MountPath != "/var/run/secrets/kubernetes.io/serviceaccount" || !m.ReadOnly {
			t.Errorf("mount %s", text(m))
		}
	}
	if !strings.HasPrefix(volume.Name, "kube-api-access-") || *volume.Projected.DefaultMode != 0o644 || *volume.Projected.Sources[0].ServiceAccountToken.ExpirationSeconds != 3607 {
		t.Errorf("volume %s", text(volume))
	}
	var tolerated []string
	for _, tol := range p.Spec.Tolerations {
		tolerated = append(tolerated, fmt.Sprint(tol.Key, " ", *tol.TolerationSeconds))
	}
	if got := strings.Join(tolerated, ", "); got != "node.kubernetes.io/not-ready 300, node.kubernetes.io/unreachable 300" {
		t.Errorf("tolerations %s", got)
	}
	p = s.mustCreate("pods", fmt.Sprintf(pod, "b", `"automountServiceAccountToken":false,"priorityClassName":"system-node-critical",`)).(*corev1.Pod)
	if len(p.Spec.Volumes) != 0 || *p.Spec.Priority != 2000001000 {
		t.Errorf("got %s", text(p.Spec))
	}
	_, err = s.create("pods", fmt.Sprintf(pod, "c", `"priorityClassName":"none",`))
	s.status(err, 403, `no PriorityClass with name none was found`)
}

func TestServiceAdmission(t *testing.T) {
	s := serveWithAll(t)
	service := func(name, spec string) string {
		return fmt.Sprintf(`{"metadata":{"name":%q},"spec":{%s}}`, name, spec)
	}
	const port = `"ports":[{"port":80}]`
	spec := func(obj kind.Object) corev1.ServiceSpec { return obj.(*corev1.Service).Spec }

	first := spec(s.mustCreate("services", service("a", port)))
	if !netip.MustParsePrefix("10.96.0.0/24").Contains(netip.MustParseAddr(first.ClusterIP)) || first.ClusterIPs[0] != first.ClusterIP ||
		*first.IPFamilyPolicy != "SingleStack" || first.IPFamilies[0] != "IPv4" {
		t.Errorf("got %s", text(first))
	}
	if got := spec(s.mustCreate("services", service("h", port+`,"clusterIP":"None"`))); got.ClusterIP != "None" {
		t.Errorf("headless: %s", text(got))
	}
	for _, c := range []struct{ it, spec, want string }{
		{"an address that is taken", port + `,"clusterIP":"` + first.ClusterIP + `"`, "failed to allocate IP " + first.ClusterIP + ": provided IP is already allocated"},
		{"an address elsewhere", port + `,"clusterIP":"10.97.0.1"`, "the provided network does not match the current range"},
		{"a port out of range", `"type":"NodePort","ports":[{"port":80,"nodePort":80}]`, "spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid ports is 30000-30099"},
		{"a family that is not there", port + `,"ipFamilies":["IPv6"]`, `spec.ipFamilies[0]: Invalid value: "IPv6": not configured on this cluster`},
		{"two families", port + `,"ipFamilyPolicy":"RequireDualStack"`, "this cluster is not configured for dual-stack services"},
	} {
		_, err := s.create("services", service("bad", c.spec))
		s.status(err, 422, c.want)
	}
	// What is wrong with an address is said before anything else, and alone.
	_, err := s.create("services", service("bad", `"ports":[{"port":0}],"clusterIP":"x"`))
	s.status(err, 422, `Service "bad" is invalid: spec.clusterIPs[0]: Invalid value: "x": must be a valid IP address`)
	_, err = s.create("services", service("bad", port+`,"clusterIPs":["10.96.0.9"]`))
	s.status(err, 422, "must be empty when `clusterIP` is not specified")
	_, err = s.create("services", service("bad", `"type":"NodePort","ports":[{"name":"a","port":80},{"name":"b","port":80}]`))
	s.status(err, 422, "spec.ports[1].nodePort: Duplicate value")
	_, err = s.create("services", service("a/b", `"ports":[{"port":0}]`))
	s.status(err, 422, `failed to allocate IP: IPAddress.networking.k8s.io "10.96.0.1" is invalid: spec.parentRef.name: Invalid value: "a/b": may not contain '/'`)
	if got := spec(s.mustCreate("services", service("alone", port+`,"clusterIP":"None"`))); *got.IPFamilyPolicy != "RequireDualStack" || len(got.IPFamilies) != 2 {
		t.Errorf("a headless service without a selector is of both families: %s", text(got))
	}
	if got := spec(s.mustCreate("services", service("lb", `"type":"LoadBalancer","externalTrafficPolicy":"Local",`+port))); got.HealthCheckNodePort == 0 ||
		got.HealthCheckNodePort == got.Ports[0].NodePort {
		t.Errorf("a load balancer that looks for pods asks at a node port: %s", text(got))
	}
	np := spec(s.mustCreate("services", service("np", `"type":"NodePort","ports":[{"name":"t","port":53,"protocol":"TCP"},{"name":"u","port":53,"protocol":"UDP"},{"name":"x","port":80,"nodePort":30005}]`)))
	if np.Ports[0].NodePort == 0 || np.Ports[0].NodePort != np.Ports[1].NodePort || np.Ports[2].NodePort != 30005 {
		t.Errorf("node ports %s", text(np.Ports))
	}
	_, err = s.create("services", service("np2", `"type":"NodePort","ports":[{"port":80,"nodePort":30005}]`))
	s.status(err, 422, "provided port is already allocated")

	// An update keeps what it does not name; a change of type gives it back.
	obj, err := s.update("services/np", service("np", `"type":"NodePort","ports":[{"name":"t","port":53,"protocol":"TCP"}]`))
	if err != nil || spec(obj).ClusterIP != np.ClusterIP || spec(obj).Ports[0].NodePort != np.Ports[0].NodePort {
		t.Errorf("got %s, %v", text(obj), err)
	}
	s.mustCreate("services", service("np2", `"type":"NodePort","ports":[{"port":80,"nodePort":30005}]`))
	if obj, err := s.update("services/np2", service("np2", port)); err != nil || spec(obj).Ports[0].NodePort != 0 {
		t.Errorf("got %s, %v", text(obj), err)
	}
	if _, _, err := s.delete("services/a", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	s.mustCreate("services", service("a2", port+`,"clusterIP":"`+first.ClusterIP+`"`))
}

func TestNoTwoServicesGetTheSame(t *testing.T) {
	s := serveWithAll(t)
	var wait sync.WaitGroup
	var mu sync.Mutex
	addrs, ports, full := map[string]bool{}, map[int32]bool{}, 0
	for w := range 8 {
		wait.Go(func() {
			for i := range 15 {
				obj, err := s.api.Create(t.Context(), s.ask("create", "services"), asJSON(fmt.Sprintf(
					`{"metadata":{"name":"s-%d-%d"},"spec":{"type":"NodePort","ports":[{"port":80}]}}`, w, i)))
				mu.Lock()
				if err != nil && strings.Contains(err.Error(), "range is full") {
					full++
				} else if err != nil {
					t.Error(err)
				} else {
					svc := obj.(*corev1.Service)
					if addrs[svc.Spec.ClusterIP] || ports[svc.Spec.Ports[0].NodePort] {
						t.Errorf("given twice: %s %d", svc.Spec.ClusterIP, svc.Spec.Ports[0].NodePort)
					}
					addrs[svc.Spec.ClusterIP], ports[svc.Spec.Ports[0].NodePort] = true, true
				}
				mu.Unlock()
			}
		})
	}
	wait.Wait()
	if len(ports) != 100 || full != 20 {
		t.Errorf("%d of 100 ports given, %d times told that there are none; want 100 and 20", len(ports), full)
	}
}
