package quota_test

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"sampan/cluster/kind"
	"sampan/cluster/kind/apps"
	"sampan/cluster/kind/core"
	"sampan/cluster/kind/kindtest"
	"sampan/cluster/kind/quota"
)

func read[T any](t *testing.T, text string) *T {
	t.Helper()
	obj := new(T)
	if err := yaml.UnmarshalStrict([]byte(text), obj); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return obj
}

func TestUsage(t *testing.T) {
	for _, c := range []struct {
		it   string
		kind *kind.Kind
		obj  string
		want string
	}{
		{it: "an object counts by its kind", kind: apps.ReplicaSet(), obj: `{}`, want: "count/replicasets.apps=1"},
		{it: "old kinds have an old name too", kind: core.Secret(), obj: `{}`, want: "count/secrets=1,secrets=1"},
		{it: "a pod counts by what it asks for", kind: core.Pod(),
			obj: `spec: {containers: [{name: a, resources: {requests: {cpu: 500m, example.com/gpu: 2}, limits: {cpu: 1, memory: 1Gi}}}, {name: b, resources: {requests: {cpu: 1, memory: 1Mi}}}]}`,
			want: "count/pods=1,cpu=1500m,limits.cpu=1,limits.memory=1Gi,memory=1Mi,pods=1," +
				"requests.cpu=1500m,requests.example.com/gpu=2,requests.memory=1Mi"},
		{it: "a pod that has ended is but an object", kind: core.Pod(), want: "count/pods=1",
			obj: `{spec: {containers: [{name: a, resources: {requests: {cpu: 1}}}]}, status: {phase: Failed}}`},
		{it: "a pod that is on its way counts", kind: core.Pod(), want: "count/pods=1,pods=1",
			obj: `{metadata: {deletionTimestamp: "2026-11-21T11:59:50Z", deletionGracePeriodSeconds: 30}}`},
		{it: "a pod that should be gone does not", kind: core.Pod(), want: "count/pods=1",
			obj: `{metadata: {deletionTimestamp: "2026-11-21T11:59:00Z", deletionGracePeriodSeconds: 30}}`},
		{it: "a service without node ports", kind: core.Service(), want: "count/services=1,services=1,services.loadbalancers=0,services.nodeports=0",
			obj: `spec: {type: ClusterIP, ports: [{port: 1}]}`},
		{it: "a service with node ports", kind: core.Service(), want: "count/services=1,services=1,services.loadbalancers=0,services.nodeports=2",
			obj: `spec: {type: NodePort, ports: [{port: 1}, {port: 2}]}`},
		{it: "a balancer without node ports", kind: core.Service(), want: "count/services=1,services=1,services.loadbalancers=1,services.nodeports=1",
			obj: `spec: {type: LoadBalancer, allocateLoadBalancerNodePorts: false, ports: [{port: 1}, {port: 2, nodePort: 30000}]}`},
	} {
		t.Run(c.it, func(t *testing.T) {
			used := quota.Usage(c.kind, kindtest.Read(t, c.kind, c.obj), kindtest.Now)
			if got := quota.Format(used, quota.Names(used)); got != c.want {
				t.Errorf("counts %s\nwant   %s", got, c.want)
			}
		})
	}
}

func TestClaimsCountByClass(t *testing.T) {
	claim := read[corev1.PersistentVolumeClaim](t, `{spec: {storageClassName: gold, resources: {requests: {storage: 1Gi}}}}`)
	k := kind.Declare(kind.Of[corev1.PersistentVolumeClaim]{GVK: corev1.SchemeGroupVersion.WithKind("PersistentVolumeClaim"), Plural: "persistentvolumeclaims"})
	used := quota.Usage(k, claim, time.Now())
	want := "count/persistentvolumeclaims=1,gold.storageclass.storage.k8s.io/persistentvolumeclaims=1," +
		"gold.storageclass.storage.k8s.io/requests.storage=1Gi,persistentvolumeclaims=1,requests.storage=1Gi"
	if got := quota.Format(used, quota.Names(used)); got != want {
		t.Errorf("counts %s\nwant   %s", got, want)
	}
}

func TestScopes(t *testing.T) {
	pods := map[string]string{
		"best effort": `{spec: {containers: [{name: a}]}}`,
		"burstable":   `{spec: {containers: [{name: a, resources: {requests: {cpu: 1}}}]}}`,
		"ending":      `{spec: {activeDeadlineSeconds: 0, containers: [{name: a}]}}`,
		"important":   `{spec: {priorityClassName: high, containers: [{name: a}]}}`,
		"sociable":    `{spec: {containers: [{name: a}], affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: z, namespaceSelector: {}}]}}}}`,
	}
	for _, c := range []struct {
		quota string
		takes []string
	}{
		{`{spec: {}}`, []string{"best effort", "burstable", "ending", "important", "sociable"}},
		{`{spec: {scopes: [BestEffort]}}`, []string{"best effort", "ending", "important", "sociable"}},
		{`{spec: {scopes: [NotBestEffort]}}`, []string{"burstable"}},
		{`{spec: {scopes: [Terminating]}}`, []string{"ending"}},
		{`{spec: {scopes: [NotTerminating, NotBestEffort]}}`, []string{"burstable"}},
		{`{spec: {scopes: [PriorityClass]}}`, []string{"important"}},
		{`{spec: {scopes: [CrossNamespacePodAffinity]}}`, []string{"sociable"}},
		{`{spec: {scopeSelector: {matchExpressions: [{scopeName: PriorityClass, operator: In, values: [low, high]}]}}}`, []string{"important"}},
		{`{spec: {scopeSelector: {matchExpressions: [{scopeName: PriorityClass, operator: In, values: [low]}]}}}`, nil},
		{`{spec: {scopeSelector: {matchExpressions: [{scopeName: PriorityClass, operator: NotIn, values: [high]}]}}}`,
			[]string{"best effort", "burstable", "ending", "sociable"}},
		{`{spec: {scopeSelector: {matchExpressions: [{scopeName: PriorityClass, operator: DoesNotExist}]}}}`,
			[]string{"best effort", "burstable", "ending", "sociable"}},
	} {
		q := read[corev1.ResourceQuota](t, c.quota)
		want := map[string]bool{}
		for _, name := range c.takes {
			want[name] = true
		}
		for name, text := range pods {
			if got := quota.Matches(q, read[corev1.Pod](t, text)); got != want[name] {
				t.Errorf("%s takes %s: %v, want %v", c.quota, name, got, want[name])
			}
		}
		if got := quota.Matches(q, &corev1.Secret{}); got != (c.quota == `{spec: {}}`) {
			t.Errorf("%s takes a secret: %v", c.quota, got)
		}
	}
}

func TestConstraint(t *testing.T) {
	names := []corev1.ResourceName{corev1.ResourceLimitsMemory, corev1.ResourceCPU, corev1.ResourcePods}
	for text, want := range map[string]string{
		`{spec: {containers: [{name: b}, {name: a, resources: {requests: {cpu: 1}}}]}}`:           "must specify cpu for: b; limits.memory for: a,b",
		`{spec: {containers: [{name: a, resources: {requests: {cpu: 1}, limits: {memory: 1}}}]}}`: "",
		`{spec: {resources: {requests: {cpu: 1}}, containers: [{name: a}]}}`:                      "",
	} {
		if got := quota.Constraint(read[corev1.Pod](t, text), names); got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}

func TestCounted(t *testing.T) {
	table := kind.NewTable(core.Kinds(), apps.Kinds())
	for name, want := range map[corev1.ResourceName]string{
		"pods": "pods", "cpu": "pods", "requests.example.com/gpu": "pods", "hugepages-2Mi": "pods", "count/pods": "pods",
		"services.nodeports": "services", "gold.storageclass.storage.k8s.io/requests.storage": "persistentvolumeclaims",
		"count/replicasets.apps": "replicasets.apps", "secrets": "secrets", "count/secrets": "secrets",
		"count/widgets.example.com": "", "count/nodes": "", "count/events": "", "example.com/gpu": "",
	} {
		got := ""
		if r, ok := quota.Counted(table, name); ok {
			got = r.String()
		}
		if got != want {
			t.Errorf("%s counts %q, want %q", name, got, want)
		}
	}
}
