package pod

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"sampan/node/downward"
)

func TestNamesAreExpanded(t *testing.T) {
	known := func(name string) (string, bool) {
		v, ok := map[string]string{"A": "1", "EMPTY": ""}[name]
		return v, ok
	}
	for in, want := range map[string]string{
		"$(A)": "1", "x$(A)y$(A)": "x1y1", "$$(A)": "$(A)", "$$$(A)": "$1", "$(NO)": "$(NO)", "$(A": "$(A", "$A": "$A", "$": "$", "$(EMPTY)": "", "$()": "$()",
	} {
		if got := expand(in, known); got != want {
			t.Errorf("%q expands to %q, want %q", in, got, want)
		}
	}
}

func facts() *Facts {
	return &Facts{Facts: downward.Facts{NodeName: "n1", HostIPs: []string{"192.168.1.1"}, PodIPs: []string{"10.0.0.1", "fd00::1"},
		Allocatable: corev1.ResourceList{"cpu": resource.MustParse("4"), "memory": resource.MustParse("8Gi")}},
		ConfigMaps: map[string]*corev1.ConfigMap{"cfg": {Data: map[string]string{"key": "value", "not=ok": "x"}}},
		Secrets:    map[string]*corev1.Secret{"sec": {Data: map[string][]byte{"pw": []byte("s3")}}},
		Services: []*corev1.Service{
			{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "kubernetes"}, Spec: corev1.ServiceSpec{ClusterIP: "10.96.0.1", Ports: []corev1.ServicePort{{Name: "https", Port: 443, Protocol: corev1.ProtocolTCP}}}},
			{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "my-db"}, Spec: corev1.ServiceSpec{ClusterIP: "10.96.0.7", Ports: []corev1.ServicePort{{Port: 5432}}}},
			{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "headless"}, Spec: corev1.ServiceSpec{ClusterIP: "None", Ports: []corev1.ServicePort{{Port: 1}}}},
		}}
}

func env(t *testing.T, pod *corev1.Pod, c *corev1.Container) map[string]string {
	t.Helper()
	list, err := environment(pod, c, facts())
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]string{}
	for _, e := range list {
		m[e.Key] = string(e.Value)
	}
	return m
}

func TestTheEnvironmentComesFromAllItsSources(t *testing.T) {
	pod := podOf(corev1.RestartPolicyAlways, nil, "a")
	pod.Labels = map[string]string{"app": "web"}
	pod.Spec.ServiceAccountName = "robot"
	c := &pod.Spec.Containers[0]
	c.Resources.Limits = corev1.ResourceList{"cpu": resource.MustParse("1500m")}
	from := func(f corev1.EnvVarSource) *corev1.EnvVarSource { return &f }
	field := func(path string) *corev1.EnvVarSource {
		return from(corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}})
	}
	res := func(name, divisor string) *corev1.EnvVarSource {
		return from(corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{Resource: name, Divisor: resource.MustParse(divisor)}})
	}
	c.EnvFrom = []corev1.EnvFromSource{{Prefix: "P_", ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "cfg"}}},
		{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "none"}, Optional: ptr(true)}}}
	c.Env = []corev1.EnvVar{
		{Name: "PLAIN", Value: "x"}, {Name: "REF", Value: "$(PLAIN)-$(P_key)-$(LATER)-$(MY_DB_SERVICE_HOST)"}, {Name: "LATER", Value: "y"},
		{Name: "CFG", ValueFrom: from(corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "cfg"}, Key: "key"}})},
		{Name: "SEC", ValueFrom: from(corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "sec"}, Key: "pw"}})},
		{Name: "OPT", ValueFrom: from(corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "sec"}, Key: "no", Optional: ptr(true)}})},
		{Name: "IP", ValueFrom: field("status.podIP")}, {Name: "IPS", ValueFrom: field("status.podIPs")}, {Name: "HOST", ValueFrom: field("status.hostIP")},
		{Name: "APP", ValueFrom: field("metadata.labels['app']")}, {Name: "SA", ValueFrom: field("spec.serviceAccountName")}, {Name: "NODE", ValueFrom: field("spec.nodeName")},
		{Name: "CPU", ValueFrom: res("limits.cpu", "1")}, {Name: "CPUM", ValueFrom: res("limits.cpu", "1m")}, {Name: "MEM", ValueFrom: res("limits.memory", "1Mi")}, {Name: "REQ", ValueFrom: res("requests.cpu", "1m")},
	}
	got := env(t, pod, c)
	for name, want := range map[string]string{
		"PLAIN": "x", "REF": "x-value-$(LATER)-10.96.0.7", "P_key": "value", "CFG": "value", "SEC": "s3",
		"IP": "10.0.0.1", "IPS": "10.0.0.1,fd00::1", "HOST": "192.168.1.1", "APP": "web", "SA": "robot", "NODE": "n1",
		"CPU": "2", "CPUM": "1500", "MEM": "8192", "REQ": "1500",
		"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT_HTTPS": "443", "KUBERNETES_PORT_443_TCP": "tcp://10.96.0.1:443",
		"MY_DB_SERVICE_PORT": "5432", "MY_DB_PORT": "tcp://10.96.0.7:5432", "MY_DB_PORT_5432_TCP_ADDR": "10.96.0.7", "MY_DB_PORT_5432_TCP_PROTO": "tcp",
	} {
		if got[name] != want {
			t.Errorf("%s=%q, want %q", name, got[name], want)
		}
	}
	for _, name := range []string{"OPT", "P_not=ok", "HEADLESS_SERVICE_HOST"} {
		if v, ok := got[name]; ok {
			t.Errorf("%s=%q is there", name, v)
		}
	}
	pod.Spec.EnableServiceLinks = ptr(false)
	got = env(t, pod, c)
	if _, ok := got["MY_DB_SERVICE_HOST"]; ok || got["KUBERNETES_SERVICE_HOST"] == "" {
		t.Errorf("without links: %v", got)
	}
}

func TestMissingSourcesOfVariablesAreNamed(t *testing.T) {
	pod := podOf(corev1.RestartPolicyAlways, nil, "a")
	for want, e := range map[string]corev1.EnvVarSource{
		`configmap "no" not found`:                 {ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "no"}, Key: "k"}},
		`couldn't find key k in ConfigMap ns/cfg`:  {ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "cfg"}, Key: "k"}},
		`secret "no" not found`:                    {SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "no"}, Key: "k"}},
		`couldn't find key k in Secret ns/sec`:     {SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "sec"}, Key: "k"}},
		`fileKeyRef is not supported by this node`: {FileKeyRef: &corev1.FileKeySelector{VolumeName: "v"}},
		`unsupported fieldPath: status.phase`:      {FieldRef: &corev1.ObjectFieldSelector{FieldPath: "status.phase"}},
	} {
		c := pod.Spec.Containers[0]
		c.Env = []corev1.EnvVar{{Name: "X", ValueFrom: &e}}
		if _, err := environment(pod, &c, facts()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v, want %q", err, want)
		}
	}
}

func TestDNSFollowsThePolicy(t *testing.T) {
	h := &Host{ClusterDNS: []string{"10.96.0.10"}, ClusterDomain: "cluster.local",
		Resolver: ParseResolver([]byte("# x\nnameserver 1.1.1.1\nnameserver 2.2.2.2\nsearch old.example\nsearch corp.example.\noptions timeout:1 rotate\n"))}
	for _, c := range []struct {
		it                string
		change            func(*corev1.PodSpec)
		servers, searches []string
		options           []string
	}{
		{"asks the cluster first", func(s *corev1.PodSpec) {}, []string{"10.96.0.10"}, []string{"ns.svc.cluster.local", "svc.cluster.local", "cluster.local", "corp.example"}, []string{"ndots:5"}},
		{"uses the machine's with Default", func(s *corev1.PodSpec) { s.DNSPolicy = corev1.DNSDefault }, []string{"1.1.1.1", "2.2.2.2"}, []string{"corp.example"}, []string{"timeout:1", "rotate"}},
		{"uses the machine's for the host's network", func(s *corev1.PodSpec) { s.HostNetwork = true; s.DNSPolicy = corev1.DNSClusterFirst }, []string{"1.1.1.1", "2.2.2.2"}, []string{"corp.example"}, []string{"timeout:1", "rotate"}},
		{"asks the cluster there if told", func(s *corev1.PodSpec) { s.HostNetwork = true; s.DNSPolicy = corev1.DNSClusterFirstWithHostNet }, []string{"10.96.0.10"}, []string{"ns.svc.cluster.local", "svc.cluster.local", "cluster.local", "corp.example"}, []string{"ndots:5"}},
		{"takes only the pod's own with None", func(s *corev1.PodSpec) {
			s.DNSPolicy = corev1.DNSNone
			s.DNSConfig = &corev1.PodDNSConfig{Nameservers: []string{"9.9.9.9"}, Searches: []string{"a.b"}, Options: []corev1.PodDNSConfigOption{{Name: "ndots", Value: ptr("2")}, {Name: "edns0"}}}
		}, []string{"9.9.9.9"}, []string{"a.b"}, []string{"ndots:2", "edns0"}},
		{"lets the pod's options win", func(s *corev1.PodSpec) {
			s.DNSConfig = &corev1.PodDNSConfig{Options: []corev1.PodDNSConfigOption{{Name: "ndots", Value: ptr("1")}}}
		}, []string{"10.96.0.10"}, []string{"ns.svc.cluster.local", "svc.cluster.local", "cluster.local", "corp.example"}, []string{"ndots:1"}},
	} {
		pod := podOf(corev1.RestartPolicyAlways, nil, "a")
		c.change(&pod.Spec)
		d, err := dnsConfig(pod, h)
		if err != nil || !slices.Equal(d.Servers, c.servers) || !slices.Equal(d.Searches, c.searches) || !slices.Equal(d.Options, c.options) {
			t.Errorf("%s: %v %v %v, %v", c.it, d.GetServers(), d.GetSearches(), d.GetOptions(), err)
		}
	}
}

func TestHostnameAndHostsFile(t *testing.T) {
	pod := podOf(corev1.RestartPolicyAlways, nil, "a")
	pod.Spec.Hostname, pod.Spec.Subdomain = "web-0", "web"
	pod.Spec.HostAliases = []corev1.HostAlias{{IP: "1.2.3.4", Hostnames: []string{"x", "y"}}}
	h := &Host{ClusterDomain: "cluster.local"}
	got := string(HostsFile(pod, []string{"10.0.0.1"}, h))
	for _, want := range []string{"# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n", "10.0.0.1\tweb-0.web.ns.svc.cluster.local\tweb-0\n", "\n# Entries added by HostAliases.\n1.2.3.4\tx\ty\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("hosts file lacks %q:\n%s", want, got)
		}
	}
	pod.Spec.SetHostnameAsFQDN = ptr(true)
	cfg, err := SandboxConfig(pod, 0, h)
	if err != nil || cfg.Hostname != "web-0.web.ns.svc.cluster.local" {
		t.Errorf("hostname %q, %v", cfg.GetHostname(), err)
	}
	pod.Spec.Subdomain = strings.Repeat("x", 63)
	if _, err := SandboxConfig(pod, 0, h); err == nil {
		t.Error("a hostname that is too long is taken")
	}
	plain := podOf(corev1.RestartPolicyAlways, nil, "a")
	plain.Name = strings.Repeat("a", 62) + "-" + strings.Repeat("b", 20)
	if name, _, _ := Hostname(plain, "d"); name != strings.Repeat("a", 62) {
		t.Errorf("long name gives hostname %q", name)
	}
}

func TestContainersGetWhatTheSpecSays(t *testing.T) {
	pod := podOf(corev1.RestartPolicyAlways, nil, "a")
	pod.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: ptr(int64(1000)), RunAsGroup: ptr(int64(2000)), FSGroup: ptr(int64(3000)), SupplementalGroups: []int64{4000},
		SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}, Sysctls: []corev1.Sysctl{{Name: "net/ipv4/ip_forward", Value: "1"}}}
	pod.Spec.ShareProcessNamespace = ptr(true)
	c := &pod.Spec.Containers[0]
	c.Command, c.Args = []string{"sh", "-c", "echo $(A) $$(A)"}, []string{"$(A)"}
	c.Env = []corev1.EnvVar{{Name: "A", Value: "1"}}
	c.WorkingDir, c.TTY, c.Stdin = "/w", true, true
	c.Resources = corev1.ResourceRequirements{Requests: corev1.ResourceList{"cpu": resource.MustParse("250m"), "memory": resource.MustParse("1Gi")},
		Limits: corev1.ResourceList{"cpu": resource.MustParse("500m"), "memory": resource.MustParse("2Gi")}}
	c.SecurityContext = &corev1.SecurityContext{RunAsUser: ptr(int64(5)), AllowPrivilegeEscalation: ptr(false), ReadOnlyRootFilesystem: ptr(true),
		Capabilities: &corev1.Capabilities{Add: []corev1.Capability{"NET_ADMIN"}, Drop: []corev1.Capability{"ALL"}}}
	h := &Host{LogDir: "/logs", CgroupRoot: "/sampan-1", MemoryBytes: 16 << 30}
	cfg, err := ContainerConfig(pod, &ContainerRequest{Container: c, Attempt: 3, ImageRef: "ref", Facts: facts()}, h)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(cfg.Command, []string{"sh", "-c", "echo 1 $(A)"}) || !slices.Equal(cfg.Args, []string{"1"}) || cfg.LogPath != "a/3.log" || !cfg.Tty || !cfg.Stdin || cfg.WorkingDir != "/w" {
		t.Errorf("config: %v", cfg)
	}
	r := cfg.Linux.Resources
	if r.CpuShares != 256 || r.CpuQuota != 50000 || r.CpuPeriod != 100000 || r.MemoryLimitInBytes != 2<<30 || r.OomScoreAdj != 938 {
		t.Errorf("resources: %v", r)
	}
	sc := cfg.Linux.SecurityContext
	if sc.RunAsUser.Value != 5 || sc.RunAsGroup.Value != 2000 || !sc.NoNewPrivs || !sc.ReadonlyRootfs || sc.Seccomp.ProfileType != runtimeapi.SecurityProfile_RuntimeDefault ||
		!slices.Equal(sc.SupplementalGroups, []int64{3000, 4000}) || sc.NamespaceOptions.Pid != runtimeapi.NamespaceMode_POD || len(sc.MaskedPaths) == 0 ||
		!slices.Equal(sc.Capabilities.DropCapabilities, []string{"ALL"}) {
		t.Errorf("security context: %v", sc)
	}
	box, err := SandboxConfig(pod, 0, h)
	if err != nil {
		t.Fatal(err)
	}
	if box.Linux.CgroupParent != "/sampan-1/kubepods/burstable/podu" || box.Linux.Sysctls["net.ipv4.ip_forward"] != "1" || box.LogDirectory != "/logs/ns_p_u" {
		t.Errorf("sandbox: %v", box)
	}
	if l := box.Linux.Resources; l.CpuShares != 256 || l.MemoryLimitInBytes != 2<<30 {
		t.Errorf("pod resources: %v", l)
	}
}

func TestRunAsNonRootIsKept(t *testing.T) {
	pod := podOf(corev1.RestartPolicyAlways, nil, "a")
	c := &pod.Spec.Containers[0]
	c.SecurityContext = &corev1.SecurityContext{RunAsNonRoot: ptr(true)}
	for _, x := range []struct {
		user *int64
		img  image
		want string
	}{
		{nil, image{}, "container has runAsNonRoot and image will run as root"},
		{nil, image{UID: ptr(int64(0))}, "container has runAsNonRoot and image will run as root"},
		{nil, image{Username: "web"}, "container has runAsNonRoot and image has non-numeric user (web), cannot verify user is non-root"},
		{ptr(int64(0)), image{UID: ptr(int64(7))}, "container's runAsUser breaks non-root policy"},
		{nil, image{UID: ptr(int64(7))}, ""},
		{ptr(int64(7)), image{}, ""},
	} {
		c.SecurityContext.RunAsUser = x.user
		_, err := securityContext(pod, c, x.img, "")
		if x.want == "" && err != nil || x.want != "" && (err == nil || !strings.HasPrefix(err.Error(), x.want)) {
			t.Errorf("user %v, image %+v: %v, want %q", x.user, x.img, err, x.want)
		}
	}
}

func TestRegistriesAndCredentialsAreMatched(t *testing.T) {
	for _, c := range []struct {
		key, image string
		fits       bool
	}{
		{"https://index.docker.io/v1/", "nginx", true}, {"https://index.docker.io/v1/", "quay.io/x/y", false},
		{"registry.example:5000", "registry.example:5000/a/b:1", true}, {"registry.example:5000/a", "registry.example:5000/a/b", true},
		{"registry.example:5000/other", "registry.example:5000/a/b", false}, {"*.example.com", "eu.example.com/a", true}, {"*.example.com", "example.com/a", false},
	} {
		s := &corev1.Secret{Type: corev1.SecretTypeDockerConfigJson, Data: map[string][]byte{corev1.DockerConfigJsonKey: []byte(`{"auths":{"` + c.key + `":{"auth":"dTpw"}}}`)}}
		got := credentials(c.image, []*corev1.Secret{s})
		if (len(got) == 1) != c.fits {
			t.Errorf("%s for %s: %v", c.key, c.image, got)
		} else if c.fits && (got[0].Username != "u" || got[0].Password != "p") {
			t.Errorf("login is %v", got[0])
		}
	}
}
