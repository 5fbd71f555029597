package core_test

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/kind"
	"sampan/cluster/kind/core"
	"sampan/cluster/kind/kindtest"
)

func TestConfigMapRules(t *testing.T) {
	kindtest.Check(t, core.ConfigMap(), []kindtest.Rule{
		{Rule: "a key may hold dots and dashes", New: `data: {app-1.conf: x}`},
		{Rule: "a key may not be a path", New: `data: {a/b: x}`, Want: []string{
			`data[a/b]: Invalid value: "a/b": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')`}},
		{Rule: "a key is text or bytes", New: `{data: {a: x}, binaryData: {a: eA==}}`, Want: []string{
			`data[a]: Invalid value: "a": duplicate of key present in binaryData`}},
		{Rule: "an immutable map keeps its data", Old: `{immutable: true, data: {a: x}}`, New: `{immutable: true, data: {a: y}}`, Want: []string{
			"data: Forbidden: field is immutable when `immutable` is set"}},
		{Rule: "and stays immutable", Old: `{immutable: true, data: {a: x}}`, New: `{data: {a: x}}`, Want: []string{
			"immutable: Forbidden: field is immutable when `immutable` is set"}},
		{Rule: "a map is at most 1 MiB", New: `data: {a: ` + strings.Repeat("x", 1<<20+1) + `}`, Want: []string{
			`[]: Too long: may not be more than 1048576 bytes`}},
	})
}

func TestSecretRules(t *testing.T) {
	kindtest.Check(t, core.Secret(), []kindtest.Rule{
		{Rule: "anything is opaque", New: `data: {a: eA==}`},
		{Rule: "the type stays", Old: `type: a`, New: `type: b`, Want: []string{`type: Invalid value: "b": field is immutable`}},
		{Rule: "a TLS secret has both files", New: `type: kubernetes.io/tls`, Want: []string{
			`data[tls.crt]: Required value`, `data[tls.key]: Required value`}},
		{Rule: "docker's configuration is JSON", New: `{type: kubernetes.io/dockerconfigjson, data: {.dockerconfigjson: eA==}}`, Want: []string{
			`data[.dockerconfigjson]: Invalid value: "<secret contents redacted>": invalid character 'x' looking for beginning of value`}},
		{Rule: "a token names its account", New: `type: kubernetes.io/service-account-token`, Want: []string{
			`metadata.annotations[kubernetes.io/service-account.name]: Required value`}},
		{Rule: "an immutable secret keeps its data", Old: `{immutable: true, data: {a: eA==}}`, New: `{immutable: true, data: {}}`, Want: []string{
			"data: Forbidden: field is immutable when `immutable` is set"}},
	})
	s := kindtest.Create(t, core.Secret(), `{data: {a: eA==}, stringData: {a: new, b: b}}`).(*corev1.Secret)
	if string(s.Data["a"]) != "new" || string(s.Data["b"]) != "b" || s.StringData != nil || s.Type != "Opaque" {
		t.Errorf("stringData is written over data, once: %v", s)
	}
}

func TestNamespaceRules(t *testing.T) {
	k := core.Namespace()
	kindtest.Check(t, k, []kindtest.Rule{
		{Rule: "a name is enough", New: `metadata: {name: shop}`},
		{Rule: "a finalizer is qualified", New: `{metadata: {name: shop}, spec: {finalizers: [mine]}}`, Want: []string{
			`spec.finalizers: Invalid value: "mine": name is neither a standard finalizer name nor is it fully qualified`}},
	})
	ns := kindtest.Create(t, k, `{metadata: {name: shop}, status: {phase: Terminating}}`).(*corev1.Namespace)
	if ns.Labels["kubernetes.io/metadata.name"] != "shop" || ns.Status.Phase != corev1.NamespaceActive || len(ns.Spec.Finalizers) != 1 {
		t.Errorf("a new namespace is labelled, active and held: %v", ns)
	}
	if msgs := k.ValidateName("a.b", false); len(msgs) == 0 {
		t.Error("a namespace's name is a label")
	}
	ns.Status.Phase = corev1.NamespaceTerminating
	kindtest.Compare(t, k.Parts["status"].Validate(ns, ns),
		"status.Phase: Invalid value: \"Terminating\": may only be 'Active' if `deletionTimestamp` is empty")
}

func TestServiceRules(t *testing.T) {
	k := core.Service()
	const port = `ports: [{port: 80}]`
	kindtest.Check(t, k, []kindtest.Rule{
		{Rule: "a port is enough", New: `spec: {` + port + `}`},
		{Rule: "a port is needed", New: `spec: {}`, Want: []string{`spec.ports: Required value`}},
		{Rule: "not by a headless service", New: `spec: {clusterIP: None}`},
		{Rule: "an external name is needed", New: `spec: {type: ExternalName}`, Want: []string{`spec.externalName: Required value`}},
		{Rule: "an external name may end with a dot", New: `spec: {type: ExternalName, externalName: "a.b."}`},
		{Rule: "several ports have names", New: `spec: {ports: [{port: 80},{port: 81, name: x}]}`, Want: []string{`spec.ports[0].name: Required value`}},
		{Rule: "ports are unique", New: `spec: {ports: [{port: 80, name: a},{port: 80, name: b}]}`, Want: []string{
			`spec.ports[1]: Duplicate value: {"protocol":"TCP","port":80,"targetPort":0}`}},
		{Rule: "a cluster service has no node port", New: `spec: {ports: [{port: 80, nodePort: 30000}]}`, Want: []string{
			"spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"}},
		{Rule: "types are listed", New: `spec: {type: Odd, ` + port + `}`, Want: []string{
			`spec.type: Unsupported value: "Odd": supported values: "ClusterIP", "ExternalName", "LoadBalancer", "NodePort"`}},
		{Rule: "an address stays", Old: `spec: {clusterIP: 10.0.0.1, ` + port + `}`, New: `spec: {clusterIP: 10.0.0.2, ` + port + `}`, Want: []string{
			`spec.clusterIPs[0]: Invalid value: ["10.0.0.2"]: may not change once set`}},
		{Rule: "an address need not be repeated", Old: `spec: {clusterIP: 10.0.0.1, ` + port + `}`, New: `spec: {` + port + `}`},
		{Rule: "an address may go with the type", Old: `spec: {clusterIP: 10.0.0.1, ` + port + `}`, New: `spec: {type: ExternalName, externalName: a.b, clusterIP: 10.0.0.1}`},
		{Rule: "an address is one", New: `spec: {clusterIP: x, ` + port + `}`, Want: []string{
			`spec.clusterIPs[0]: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)`}},
		{Rule: "nobody is on loopback", New: `spec: {externalIPs: [127.0.0.1], ` + port + `}`, Want: []string{
			`spec.externalIPs[0]: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)`}},
		{Rule: "a day is the longest affinity", New: `spec: {sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 90000}}, ` + port + `}`, Want: []string{
			`spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 90000: must be greater than 0 and less than 86400`}},
		{Rule: "outside traffic comes from outside", New: `spec: {externalTrafficPolicy: Local, ` + port + `}`, Want: []string{
			`spec.externalTrafficPolicy: Invalid value: "Local": may only be set for externally-accessible services`}},
	})

	node := kindtest.Create(t, k, `spec: {type: NodePort, clusterIP: 10.0.0.1, ports: [{port: 80, nodePort: 30080}]}`)
	kept := kindtest.Update(t, k, `spec: {type: NodePort, ports: [{port: 80}]}`, node).(*corev1.Service)
	if kept.Spec.Ports[0].NodePort != 30080 || kept.Spec.ClusterIP != "10.0.0.1" || kept.Spec.ExternalTrafficPolicy != "Cluster" {
		t.Errorf("an update keeps what was given out: %+v", kept.Spec)
	}
	dropped := kindtest.Update(t, k, `spec: {type: ClusterIP, ports: [{port: 80, nodePort: 30080}], externalTrafficPolicy: Cluster}`, node).(*corev1.Service)
	if dropped.Spec.Ports[0].NodePort != 0 || dropped.Spec.ExternalTrafficPolicy != "" {
		t.Errorf("what the old type brought goes with it: %+v", dropped.Spec)
	}
	kindtest.Compare(t, k.Validate(dropped, node))
}

func TestServiceStatusAndWarnings(t *testing.T) {
	k := core.Service()
	status := func(typ, ingress string) *corev1.Service {
		return kindtest.Read(t, k, `{spec: {type: `+typ+`}, status: {loadBalancer: {ingress: [`+ingress+`]}}}`).(*corev1.Service)
	}
	check := func(s *corev1.Service, want ...string) {
		t.Helper()
		kindtest.Compare(t, k.Parts["status"].Validate(s, s), want...)
	}
	check(status("LoadBalancer", "{ip: 1.2.3.4, ipMode: VIP},{hostname: a.b}"))
	check(status("ClusterIP", "{ip: 1.2.3.4}"), "status.loadBalancer.ingress: Forbidden: may only be used when `spec.type` is 'LoadBalancer'")
	check(status("LoadBalancer", "{ip: 1.2.3.4}"), "status.loadBalancer.ingress[0].ipMode: Required value: must be specified when `ip` is set")
	check(status("LoadBalancer", "{hostname: 1.2.3.4}"), `status.loadBalancer.ingress[0].hostname: Invalid value: "1.2.3.4": must be a DNS name, not an IP address`)

	s := kindtest.Create(t, k, `spec: {clusterIP: None, sessionAffinity: ClientIP, externalIPs: [192.0.2.1], ports: [{port: 80}]}`)
	want := []string{"spec.externalIPs is ignored for headless services", "spec.SessionAffinity is ignored for headless services"}
	if got := k.Warn(s, nil); !slices.Equal(got, want) {
		t.Errorf("warnings %q, want %q", got, want)
	}
	s = kindtest.Create(t, k, `{metadata: {annotations: {service.kubernetes.io/topology-aware-hints: auto}}, spec: {externalName: x, trafficDistribution: PreferClose, externalIPs: [192.0.2.1], ports: [{port: 80}]}}`)
	want = []string{"annotation service.kubernetes.io/topology-aware-hints is deprecated, please use service.kubernetes.io/topology-mode instead",
		"spec.externalIPs is deprecated and may no longer be implemented in some clusters", `spec.externalName is ignored when spec.type is not "ExternalName"`,
		`spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone"`}
	if got := k.Warn(s, nil); !slices.Equal(got, want) {
		t.Errorf("warnings %q, want %q", got, want)
	}
	if got := core.Endpoints().Warn(&corev1.Endpoints{}, nil); len(got) != 1 || !strings.Contains(got[0], "deprecated in v1.33+") {
		t.Errorf("warnings %q", got)
	}
	got := core.Pod().Warn(kindtest.Read(t, core.Pod(), `{metadata: {name: a.b}, spec: {nodeSelector: {beta.kubernetes.io/os: linux}, terminationGracePeriodSeconds: -1}}`), nil)
	if len(got) != 3 || !strings.HasPrefix(got[0], "metadata.name: this is used in the Pod's hostname") ||
		got[1] != `spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use "kubernetes.io/os" instead` ||
		got[2] != "spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1" {
		t.Errorf("warnings %q", got)
	}
}

func TestNodeRules(t *testing.T) {
	k := core.Node()
	kindtest.Check(t, k, []kindtest.Rule{
		{Rule: "taints are unique", New: `spec: {taints: [{key: a, effect: NoSchedule},{key: a, effect: NoSchedule, value: x}]}`, Want: []string{
			`metadata.taints[1]: Duplicate value: {"key":"a","value":"x","effect":"NoSchedule"}: taints must be unique by key and effect pair`}},
		{Rule: "a taint has an effect", New: `spec: {taints: [{key: a}]}`, Want: []string{`metadata.taints[0].effect: Required value`}},
		{Rule: "a range may come", Old: `{}`, New: `spec: {podCIDR: 10.1.0.0/24}`},
		{Rule: "of two that differ the old field counts", New: `spec: {podCIDR: x, podCIDRs: [10.1.0.0/24]}`, Want: []string{
			`spec.podCIDRs[0]: Invalid value: "x": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)`}},
		{Rule: "each of two ranges is one", New: `spec: {podCIDR: 10.1.0.0/24, podCIDRs: [10.1.0.0/24, x]}`, Want: []string{
			`spec.podCIDRs[1]: Invalid value: "x": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)`,
			`spec.podCIDRs: Internal error: invalid PodCIDRs. failed to check with dual stack with error:invalid CIDR[1]: <nil> (invalid CIDR address: x)`,
			`spec.podCIDRs: Invalid value: ["10.1.0.0/24","x"]: may specify no more than one CIDR for each IP family`}},
		{Rule: "features have names, in order", New: `status: {declaredFeatures: [B, A/b, a]}`, Want: []string{
			`status.declaredFeatures[1]: Invalid value: "A/b": list must be sorted alphabetically`,
			`status.declaredFeatures[2]: Invalid value: "a": invalid feature name "a": must start with an UpperCamelCase segment, with subsequent segments separated by '/' (e.g., MyFeature or MyFeature/mySubFeature), and contain only alphanumeric characters and slashes`}},
		{Rule: "and not change", Old: `spec: {podCIDR: 10.1.0.0/24}`, New: `spec: {podCIDR: 10.2.0.0/24}`, Want: []string{
			`spec.podCIDRs: Forbidden: node updates may not change podCIDR except from "" to valid`}},
	})
	n := kindtest.Create(t, k, `status: {capacity: {cpu: 2}}`).(*corev1.Node)
	if n.Status.Allocatable.Cpu().String() != "2" {
		t.Errorf("a node registers with its capacity: %v", n.Status)
	}
	n = kindtest.Create(t, k, `{spec: {configSource: {}, podPreemptionPolicy: {}}, status: {config: {}}}`).(*corev1.Node)
	if n.Spec.ConfigSource != nil || n.Spec.PodPreemptionPolicy != nil || n.Status.Config != nil {
		t.Errorf("what upstream has taken out is dropped: %v", n)
	}
}

func TestEndpointsRules(t *testing.T) {
	kindtest.Check(t, core.Endpoints(), []kindtest.Rule{
		{Rule: "a subset has an address", New: `subsets: [{ports: [{port: 1}]}]`, Want: []string{"subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`"}},
		{Rule: "an address is one", New: `subsets: [{addresses: [{ip: x}]}]`, Want: []string{
			`subsets[0].addresses[0].ip: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)`,
			`subsets[0].addresses[0].ip: Invalid value: "x": must be a valid IP address`}},
		{Rule: "an address can be reached", New: `subsets: [{addresses: [{ip: 169.254.1.1}]}]`, Want: []string{
			`subsets[0].addresses[0].ip: Invalid value: "169.254.1.1": may not be in the link-local range (169.254.0.0/16, fe80::/10)`}},
	})
}

func TestAPodStartsPending(t *testing.T) {
	k := core.Pod()
	p := kindtest.Create(t, k, `{spec: {containers: [{name: a, image: a}], schedulingGates: [{name: g}]}, status: {phase: Running, podIP: 1.2.3.4}}`).(*corev1.Pod)
	if p.Status.Phase != corev1.PodPending || p.Status.PodIP != "" || p.Status.QOSClass != corev1.PodQOSBestEffort {
		t.Errorf("status of a new pod: %+v", p.Status)
	}
	if len(p.Status.Conditions) != 1 || p.Status.Conditions[0].Reason != "SchedulingGated" {
		t.Errorf("a gated pod says so: %+v", p.Status.Conditions)
	}
	report := kindtest.Read(t, k, `{metadata: {deletionTimestamp: null}, status: {phase: Running, podIPs: [{ip: 10.0.0.9}]}}`).(*corev1.Pod)
	stored := p.DeepCopy()
	stored.DeletionTimestamp = &metav1.Time{Time: kindtest.Now}
	k.Parts["status"].Prepare(report, stored)
	if report.DeletionTimestamp == nil || report.Status.PodIP != "10.0.0.9" || report.Status.QOSClass != corev1.PodQOSBestEffort {
		t.Errorf("a report neither undoes a deletion nor the class: %+v", report)
	}
}

func TestGrace(t *testing.T) {
	k := core.Pod()
	for _, c := range []struct {
		it    string
		pod   string
		asked *int64
		want  int64
	}{
		{"waits as the pod says", `spec: {nodeName: n, terminationGracePeriodSeconds: 7}`, nil, 7},
		{"waits as the request says", `spec: {nodeName: n, terminationGracePeriodSeconds: 7}`, new(int64(3)), 3},
		{"does not wait when told not to", `spec: {nodeName: n}`, new(int64(0)), 0},
		{"has nothing to wait for without a node", `spec: {terminationGracePeriodSeconds: 7}`, nil, 0},
		{"has nothing to wait for at its end", `{spec: {nodeName: n, terminationGracePeriodSeconds: 7}, status: {phase: Failed}}`, nil, 0},
		{"reads a negative period as one second", `spec: {nodeName: n, terminationGracePeriodSeconds: -7}`, nil, 1},
	} {
		opts := &metav1.DeleteOptions{GracePeriodSeconds: c.asked}
		if marked := k.Grace(kindtest.Read(t, k, c.pod), opts); !marked || *opts.GracePeriodSeconds != c.want {
			t.Errorf("a deletion %s: marked %v, %d s; want true, %d", c.it, marked, *opts.GracePeriodSeconds, c.want)
		}
	}
}

func TestBinding(t *testing.T) {
	k := core.Pod()
	bind := func(p *corev1.Pod, b *corev1.Binding) error { return k.Actions["binding"].Do(p, b) }
	to := func(node string) *corev1.Binding {
		return &corev1.Binding{ObjectMeta: metav1.ObjectMeta{UID: "u"}, Target: corev1.ObjectReference{Kind: "Node", Name: node}}
	}
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web", UID: "u"}, Status: corev1.PodStatus{Conditions: []corev1.PodCondition{
		{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable"}}}}
	b := to("n")
	b.Labels = map[string]string{"topology.kubernetes.io/zone": "z"}
	before := p.DeepCopy()
	if err := bind(p, b); err != nil {
		t.Fatal(err)
	}
	if p.Labels["topology.kubernetes.io/zone"] != "z" {
		t.Errorf("the node's place comes with the binding: %v", p.Labels)
	}
	if !kind.Equal(k.Spec(p), k.Spec(before)) {
		t.Error("a pod that got a node has a new generation")
	}
	if c := p.Status.Conditions; p.Spec.NodeName != "n" || len(c) != 1 || c[0].Status != corev1.ConditionTrue || c[0].Reason != "" {
		t.Errorf("bound: %+v", p)
	}
	for _, c := range []struct {
		why  string
		pod  *corev1.Pod
		b    *corev1.Binding
		want string
		is   func(error) bool
	}{
		{"taken", p, to("m"), `pod web is already assigned to node "n"`, apierrors.IsConflict},
		{"leaving", &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web", UID: "u", DeletionTimestamp: &metav1.Time{}}}, to("n"),
			"pod web is being deleted, cannot be assigned to a host", apierrors.IsConflict},
		{"another pod of the name", &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web", UID: "v"}}, to("n"), "Precondition failed: UID", apierrors.IsConflict},
		{"nowhere", &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web", UID: "u"}}, to(""), "target.name: Required value", apierrors.IsInvalid},
	} {
		if err := bind(c.pod, c.b); err == nil || !c.is(err) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", c.why, err, c.want)
		}
	}
}
