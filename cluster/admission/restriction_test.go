package admission

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"sampan/cluster/client"
	"sampan/cluster/client/clienttest"
	"sampan/cluster/kind"
	"sampan/cluster/kind/apps"
	"sampan/cluster/kind/core"
	"sampan/cluster/kind/kindtest"
	"sampan/cluster/request"
)

// write sends a pod through plugins, as a change of old unless that is empty.
func writePod(t *testing.T, plugins []any, now, old, sub string) (*corev1.Pod, error) {
	t.Helper()
	k := core.Pod()
	a := create(k, kindtest.Create(t, k, now))
	a.Request.Namespace, a.Request.Subresource, a.Request.Name = "shop", sub, "p"
	if old != "" {
		a.Operation, a.Old = Update, kindtest.Create(t, k, old)
	}
	c := NewChain(plugins...)
	err := c.Mutate(t.Context(), a)
	if err == nil {
		err = c.Review(t.Context(), a)
	}
	return a.Object.(*corev1.Pod), err
}

// world is a namespace with annotations, and nodes in zones.
func world(t *testing.T, annotations string) client.Reader {
	t.Helper()
	return clienttest.New(t, kind.NewTable(core.Kinds(), apps.Kinds()),
		kindtest.Read(t, core.Namespace(), `{metadata: {name: shop, annotations: {`+annotations+`}}}`),
		kindtest.Read(t, core.Node(), `{metadata: {name: west, labels: {topology.kubernetes.io/zone: w, topology.kubernetes.io/region: r, other: o}}, status: {allocatable: {cpu: "2", memory: 1Gi}}}`),
		kindtest.Read(t, core.Node(), `{metadata: {name: glass, labels: {kubernetes.io/os: windows}}, status: {allocatable: {cpu: "2", memory: 1Gi}}}`))
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestOptionalPluginsOfPods(t *testing.T) {
	const (
		selector = `scheduler.alpha.kubernetes.io/node-selector`
		defaults = `scheduler.alpha.kubernetes.io/defaultTolerations`
		allowed  = `scheduler.alpha.kubernetes.io/tolerationsWhitelist`
	)
	spec := func(more string) string {
		return `{metadata: {name: p, namespace: shop}, spec: {` + more + `containers: [{name: c, image: i}]}}`
	}
	nodes := func(annotations, told string) []any {
		return []any{must[*PodNodeSelector](t)(NewPodNodeSelector(world(t, annotations), []byte(told)))}
	}
	tolerations := func(annotations, told string) []any {
		if told != "" {
			told = "apiVersion: podtolerationrestriction.admission.k8s.io/v1alpha1\nkind: Configuration\n" + told
		}
		return []any{must[*PodTolerationRestriction](t)(NewPodTolerationRestriction(world(t, annotations), []byte(told)))}
	}
	always := []any{AlwaysPullImages{}}
	undo := mutation(func(p *corev1.Pod) { p.Spec.Containers[0].ImagePullPolicy = corev1.PullNever })
	labelsOf := func(p *corev1.Pod) string { return fmt.Sprint(p.Labels) }
	selectorOf := func(p *corev1.Pod) string { return fmt.Sprint(p.Spec.NodeSelector) }
	tolerationsOf := func(p *corev1.Pod) (s string) {
		for _, t := range p.Spec.Tolerations {
			s += fmt.Sprintf("%s%s:%s ", t.Key, t.Value, t.Effect)
		}
		return strings.TrimSpace(s)
	}
	policies := func(p *corev1.Pod) (s string) {
		for _, policy := range pullPolicies(&p.Spec) {
			s += string(*policy) + " "
		}
		return strings.TrimSpace(s)
	}
	for _, c := range []struct {
		it            string
		plugins       []any
		now, old, sub string
		of            func(*corev1.Pod) string
		got           string // what of says
		want          string // of the error
	}{
		{it: "images are pulled", plugins: always, of: policies, got: "Always Always Always", now: `{metadata: {name: p}, spec: {volumes: [{name: v, image: {reference: r, pullPolicy: Never}}],
 initContainers: [{name: a, image: i, imagePullPolicy: Never}], containers: [{name: c, image: i, imagePullPolicy: IfNotPresent}]}}`},
		{it: "images that were there are not", plugins: always, now: spec(""), old: spec(""), of: policies, got: "Always"}, // the default of an image without tag
		{it: "nobody undoes it", plugins: []any{AlwaysPullImages{}, undo}, now: spec(""),
			want: `pods "p" is forbidden: spec.containers[0].imagePullPolicy: Unsupported value: "Never": supported values: "Always"`},
		{it: "the namespace's nodes", plugins: nodes(selector+`: "a=b"`, ""), now: spec(""), of: selectorOf, got: "map[a:b]"},
		{it: "with the pod's own", plugins: nodes(selector+`: "a=b"`, ""), now: spec("nodeSelector: {c: d}, "), of: selectorOf, got: "map[a:b c:d]"},
		{it: "not against them", plugins: nodes(selector+`: "a=b"`, ""), now: spec("nodeSelector: {a: d}, "), want: `pods "p" is forbidden: pod node label selector conflicts with its namespace node label selector`},
		{it: "the cluster's nodes", plugins: nodes("", `{podNodeSelectorPluginConfig: {clusterDefaultNodeSelector: "x=y"}}`), now: spec(""), of: selectorOf, got: "map[x:y]"},
		{it: "no others", plugins: nodes("", `{podNodeSelectorPluginConfig: {shop: "x=y"}}`), now: spec("nodeSelector: {c: d}, "),
			want: `pods "p" is forbidden: pod node label selector labels conflict with its namespace whitelist`},
		{it: "the namespace's tolerations", plugins: tolerations(defaults+`: '[{"key":"k","operator":"Exists"}]'`, ""), now: spec(""), of: tolerationsOf, got: "k:"},
		{it: "the cluster's tolerations", plugins: tolerations("", `default: [{key: k, operator: Equal, value: v, effect: NoExecute}]`), now: spec(""), of: tolerationsOf, got: "kv:NoExecute"},
		{it: "none of the cluster's where the namespace says so", plugins: tolerations(defaults+`: ""`, `default: [{key: k, operator: Exists}]`), now: spec(""), of: tolerationsOf, got: ""},
		{it: "memory pressure for those that ask for something", plugins: tolerations("", ""), of: tolerationsOf, got: "node.kubernetes.io/memory-pressure:NoSchedule",
			now: `{metadata: {name: p}, spec: {containers: [{name: c, image: i, resources: {requests: {cpu: 1}}}]}}`},
		{it: "a toleration that is allowed", plugins: tolerations(allowed+`: '[{"key":"k","operator":"Exists"}]'`, ""), now: spec(`tolerations: [{key: k, operator: Equal, value: v, effect: NoExecute}], `),
			of: tolerationsOf, got: "kv:NoExecute"},
		{it: "none that is not", plugins: tolerations(allowed+`: '[{"key":"k","operator":"Exists"}]'`, ""), now: spec(`tolerations: [{key: o, operator: Exists}], `),
			want: "pod tolerations (possibly merged with namespace default tolerations) conflict with its namespace whitelist"},
		{it: "none that the cluster does not allow", plugins: tolerations("", `whitelist: [{key: k, operator: Exists}]`), now: spec(`tolerations: [{key: o, operator: Exists}], `),
			want: "conflict with its cluster whitelist"},
		{it: "nodes with the devices asked for", plugins: []any{ExtendedResources{}}, of: tolerationsOf, got: "b.io/x:NoSchedule a.io/x:NoSchedule",
			now: `{metadata: {name: p}, spec: {tolerations: [{key: b.io/x, operator: Exists, effect: NoSchedule, tolerationSeconds: null}],
 containers: [{name: c, image: i, resources: {limits: {b.io/x: 1, a.io/x: 1, cpu: 1}, requests: {b.io/x: 1, a.io/x: 1, cpu: 1}}}]}}`},
		{it: "keeping off others by node", plugins: []any{HostnameAntiAffinity{}}, of: labelsOf, got: "map[]",
			now: spec(`affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: kubernetes.io/hostname, labelSelector: {}}]}}, `)},
		{it: "not by zone", plugins: []any{HostnameAntiAffinity{}},
			now:  spec(`affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: zone, labelSelector: {}}]}}, `),
			want: `pods "p" is forbidden: affinity.PodAntiAffinity.RequiredDuringScheduling has TopologyKey zone but only key kubernetes.io/hostname is allowed`},
		{it: "where it runs", plugins: []any{TopologyLabels{world(t, "")}}, now: spec("nodeName: west, "), of: labelsOf, got: "map[topology.kubernetes.io/region:r topology.kubernetes.io/zone:w]"},
		{it: "nothing of a node that is not there", plugins: []any{TopologyLabels{world(t, "")}}, now: spec("nodeName: none, "), of: labelsOf, got: "map[]"},
		{it: "to grow within its node", plugins: []any{PodResizes{world(t, "")}}, sub: "resize", of: labelsOf, got: "map[]",
			now: `{metadata: {name: p, generation: 2}, spec: {nodeName: west, containers: [{name: c, image: i, resources: {requests: {cpu: 2, memory: 1Gi}}}]}}`, old: spec("")},
		{it: "not beyond it", plugins: []any{PodResizes{world(t, "")}}, sub: "resize", old: spec(""),
			now:  `{metadata: {name: p, generation: 2}, spec: {nodeName: west, containers: [{name: c, image: i, resources: {requests: {cpu: 3, memory: 2Gi}}}]}}`,
			want: `node didn't have enough allocatable resources: cpu, requested: 3000, allocatable: 2000; memory, requested: 2147483648, allocatable: 1073741824`},
		{it: "not on another system", plugins: []any{PodResizes{world(t, "")}}, sub: "resize", old: spec(""),
			now:  `{metadata: {name: p, generation: 2}, spec: {nodeName: glass, containers: [{name: c, image: i}]}}`,
			want: `pod resize is only supported on linux nodes, node "glass" is "windows"`},
		{it: "nothing", plugins: []any{Nothing{}}, now: spec(""), want: "admission control is denying all modifications"},
		{it: "everything", plugins: []any{Everything{}}, now: spec(""), of: labelsOf, got: "map[]"},
		{it: "in a namespace that there is", plugins: []any{NamespaceExists{world(t, "")}}, now: spec(""), of: labelsOf, got: "map[]"},
		{it: "in no other", plugins: []any{NamespaceExists{clienttest.New(t, kind.NewTable(core.Kinds()))}}, now: spec(""), want: `namespaces "shop" not found`},
	} {
		t.Run(c.it, func(t *testing.T) {
			pod, err := writePod(t, c.plugins, c.now, c.old, c.sub)
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%v, want %q", err, c.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := c.of(pod); got != c.got {
				t.Errorf("%s, want %s", got, c.got)
			}
		})
	}
}

// mutation is a Mutator that changes pods.
type mutation func(*corev1.Pod)

func (m mutation) Mutate(_ context.Context, a *Attempt) error {
	m(a.Object.(*corev1.Pod))
	return nil
}

func TestAPodThatGetsItsNodeLearnsItsZone(t *testing.T) {
	k := core.Pod()
	shared := map[string]string{"topology.kubernetes.io/zone": "old"}
	binding := &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Labels: shared}, Target: corev1.ObjectReference{Kind: "Node", Name: "west"}}
	pod := kindtest.Create(t, k, `{metadata: {name: p, labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}`).(*corev1.Pod)
	a := &Attempt{Operation: Update, Object: pod, Old: pod.DeepCopy(), Body: binding, Request: request.Request{Kind: k, Subresource: "binding", Namespace: "shop"}}
	if err := (TopologyLabels{world(t, "")}).Mutate(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	if pod.Labels["topology.kubernetes.io/zone"] != "w" || pod.Labels["a"] != "b" || binding.Labels["topology.kubernetes.io/region"] != "r" || shared["topology.kubernetes.io/zone"] != "old" {
		t.Errorf("the pod's labels %v, the binding's %v, those that came %v", pod.Labels, binding.Labels, shared)
	}
}

func TestANewNodeIsNotReadyYet(t *testing.T) {
	node := &corev1.Node{Spec: corev1.NodeSpec{Taints: []corev1.Taint{{Key: "mine", Effect: corev1.TaintEffectNoExecute}}}}
	for range 2 {
		if err := (NodeTaints{}).Mutate(t.Context(), create(core.Node(), node)); err != nil {
			t.Fatal(err)
		}
	}
	if len(node.Spec.Taints) != 2 || node.Spec.Taints[1].Key != "node.kubernetes.io/not-ready" || node.Spec.Taints[1].Effect != corev1.TaintEffectNoSchedule {
		t.Errorf("taints %v", node.Spec.Taints)
	}
}

func TestExternalAddressesStayButDoNotCome(t *testing.T) {
	k := core.Service()
	service := func(ips ...string) *corev1.Service {
		return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "s"}, Spec: corev1.ServiceSpec{ExternalIPs: ips}}
	}
	for _, c := range []struct {
		it       string
		now, old *corev1.Service
		refused  bool
	}{
		{"none", service(), nil, false},
		{"a new one", service("1.1.1.1"), nil, true},
		{"one of those that it had", service("1.1.1.1"), service("1.1.1.1", "2.2.2.2"), false},
		{"another", service("1.1.1.1", "3.3.3.3"), service("1.1.1.1"), true},
	} {
		a := create(k, c.now)
		if c.old != nil {
			a.Operation, a.Old = Update, c.old
		}
		err := NoExternalIPs{}.Review(t.Context(), a)
		if (err != nil) != c.refused || err != nil && !strings.Contains(err.Error(), "Use of external IPs is denied by admission control") {
			t.Errorf("%s: %v", c.it, err)
		}
	}
}

func TestWhoMaySayWhoOwnsWhat(t *testing.T) {
	table := kind.NewTable(core.Kinds(), apps.Kinds())
	may := func(rights ...string) OwnerReferences {
		return OwnerReferences{Kinds: table, May: authorizer.AuthorizerFunc(func(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
			if slices.Contains(rights, strings.Join([]string{a.GetVerb(), a.GetResource(), a.GetSubresource(), a.GetNamespace(), a.GetName()}, " ")) {
				return authorizer.DecisionAllow, "", nil
			}
			return authorizer.DecisionNoOpinion, "no", nil
		})}
	}
	yes := true
	owned := func(by string, blocks *bool) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "p", OwnerReferences: []metav1.OwnerReference{
			{APIVersion: "apps/v1", Kind: by, Name: "o", UID: "u", BlockOwnerDeletion: blocks}}}}
	}
	free := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "p"}}
	for _, c := range []struct {
		it       string
		plugin   OwnerReferences
		now, old *corev1.Pod
		want     string
	}{
		{it: "of what is new, anyone", plugin: may(), now: owned("ReplicaSet", nil)},
		{it: "of what is there, who may delete it", plugin: may("delete pods  shop p"), now: owned("ReplicaSet", nil), old: free},
		{it: "nobody else", plugin: may(), now: owned("ReplicaSet", nil), old: free, want: "cannot set an ownerRef on a resource you can't delete: no, <nil>"},
		{it: "nothing changes", plugin: may(), now: owned("ReplicaSet", &yes), old: owned("ReplicaSet", &yes)},
		{it: "who may finalize the owner keeps it", plugin: may("update replicasets finalizers shop o"), now: owned("ReplicaSet", &yes)},
		{it: "who may finalize all, too", plugin: may("update * finalizers  *"), now: owned("ReplicaSet", &yes)},
		{it: "nobody else keeps it", plugin: may(), now: owned("ReplicaSet", &yes),
			want: "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on: no, <nil>"},
		{it: "of a kind that there is not", plugin: may(), now: owned("Fish", &yes),
			want: "cannot set blockOwnerDeletion in this case because cannot find RESTMapping for APIVersion apps/v1 Kind Fish"},
	} {
		a := create(core.Pod(), c.now)
		a.Request.Namespace, a.Request.Name = "shop", "p"
		if c.old != nil {
			a.Operation, a.Old = Update, c.old
		}
		err := c.plugin.Review(t.Context(), a)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.it, err, c.want)
		}
	}
}

func TestEventsComeNoFasterThanTheirLimit(t *testing.T) {
	limited := func(limits string) (*EventRateLimit, error) {
		return NewEventRateLimit([]byte("apiVersion: eventratelimit.admission.k8s.io/v1alpha1\nkind: Configuration\nlimits: " + limits))
	}
	synctest.Test(t, func(t *testing.T) {
		p, err := limited("[{type: Namespace, qps: 1, burst: 2, cacheSize: 10}, {type: User, qps: 100, burst: 100}]")
		if err != nil {
			t.Fatal(err)
		}
		write := func(namespace string, dry bool) error {
			a := create(core.Event(), &corev1.Event{})
			a.Request.Namespace, a.Request.DryRun = namespace, dry
			return p.Review(t.Context(), a)
		}
		for i, c := range []struct {
			namespace string
			dry       bool
			after     time.Duration
			refused   bool
		}{
			{namespace: "a"}, {namespace: "a"}, {namespace: "a", refused: true}, {namespace: "a", dry: true}, {namespace: "b"},
			{namespace: "a", after: 900 * time.Millisecond, refused: true}, {namespace: "a", after: 100 * time.Millisecond}, {namespace: "a", refused: true},
		} {
			time.Sleep(c.after)
			err := write(c.namespace, c.dry)
			if (err != nil) != c.refused {
				t.Errorf("event %d: %v", i, err)
			}
			if err != nil && (!apierrors.IsTooManyRequests(err) || !strings.Contains(err.Error(), "limit reached on type Namespace for key a")) {
				t.Errorf("event %d: %v", i, err)
			}
		}
	})
	for limits, want := range map[string]string{
		"[]":                                              "limits: Invalid value: []: must not be empty",
		"[{type: Server, qps: 0, burst: 1}]":              "limits[0].qps: Invalid value: 0: must be positive",
		"[{type: Server, qps: 1, burst: 0}]":              "limits[0].burst: Invalid value: 0: must be positive",
		"[{type: Fish, qps: 1, burst: 1}]":                `limits[0].type: Unsupported value: "Fish"`,
		"[{type: User, qps: 1, burst: 1, cacheSize: -1}]": "limits[0].cacheSize: Invalid value: -1: must not be negative",
		"[{type: User, qps: 1, burst: 1, fish: 1}]":       `unknown field "limits[0].fish"`,
	} {
		if _, err := limited(limits); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", limits, err, want)
		}
	}
	if _, err := NewEventRateLimit(nil); err == nil {
		t.Error("without being told a limit there is one")
	}
}
