package admission

import (
	"fmt"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"

	"sampan/cluster/client/clienttest"
	"sampan/cluster/kind"
	"sampan/cluster/kind/core"
	"sampan/cluster/kind/kindtest"
	"sampan/cluster/request"
)

func TestQuotas(t *testing.T) {
	pods, services, quotas, maps := core.Pod(), core.Service(), core.ResourceQuota(), core.ConfigMap()
	table := kind.NewTable([]*kind.Kind{pods, services, quotas, maps})
	const there = `{metadata: {namespace: ns, name: there, uid: "1"}, spec: {containers: [{name: a, resources: {requests: {cpu: 1}}}]}}`
	for _, c := range []struct {
		it    string
		quota string // its spec
		kind  *kind.Kind
		sub   string
		old   string
		obj   string
		want  string
	}{
		{it: "lets in what fits", quota: `{hard: {pods: 2}}`, kind: pods, obj: `{metadata: {name: p}, spec: {containers: [{name: a}]}}`},
		{it: "keeps out what does not", quota: `{hard: {pods: 1, cpu: 1500m, memory: 1}}`, kind: pods,
			obj:  `{metadata: {name: p}, spec: {containers: [{name: a, resources: {requests: {cpu: 1, memory: 1}}}]}}`,
			want: `pods "p" is forbidden: exceeded quota: q, requested: cpu=1,pods=1, used: cpu=1,pods=1, limited: cpu=1500m,pods=1`},
		{it: "wants to know", quota: `{hard: {limits.cpu: 9}}`, kind: pods, obj: `{metadata: {name: p}, spec: {containers: [{name: a}]}}`,
			want: `pods "p" is forbidden: failed quota: q: must specify limits.cpu for: a`},
		{it: "is about its scope only", quota: `{hard: {pods: 0}, scopes: [BestEffort]}`, kind: pods,
			obj: `{metadata: {name: p}, spec: {containers: [{name: a, resources: {requests: {cpu: 1}}}]}}`},
		{it: "counts its scope only", quota: `{hard: {pods: 1}, scopes: [BestEffort]}`, kind: pods,
			obj: `{metadata: {name: p}, spec: {containers: [{name: a}]}}`},
		{it: "says what is used even if nothing is", quota: `{hard: {services.nodeports: 1}}`, kind: services,
			obj:  `{metadata: {name: s}, spec: {type: NodePort, ports: [{port: 1}, {port: 2}]}}`,
			want: `services "s" is forbidden: exceeded quota: q, requested: services.nodeports=2, used: services.nodeports=0, limited: services.nodeports=1`},
		{it: "sees a service grow", quota: `{hard: {services: 0, services.nodeports: 0}}`, kind: services,
			old:  `{metadata: {name: s, namespace: ns, uid: "2"}, spec: {type: ClusterIP, ports: [{port: 1}]}}`,
			obj:  `{metadata: {name: s, namespace: ns, uid: "2"}, spec: {type: NodePort, ports: [{port: 1}]}}`,
			want: `services "s" is forbidden: exceeded quota: q, requested: services.nodeports=1, used: services.nodeports=0, limited: services.nodeports=0`},
		{it: "lets change what does not grow", quota: `{hard: {services: 0, services.nodeports: 0}}`, kind: services,
			old: `{metadata: {name: s, namespace: ns, uid: "2"}, spec: {type: NodePort, ports: [{port: 1}]}}`,
			obj: `{metadata: {name: s, namespace: ns, uid: "2"}, spec: {type: NodePort, ports: [{port: 2}]}}`},
		{it: "sees a pod grow", quota: `{hard: {cpu: 1}}`, kind: pods, sub: "resize", old: there,
			obj:  `{metadata: {namespace: ns, name: there, uid: "1"}, spec: {containers: [{name: a, resources: {requests: {cpu: 3}}}]}}`,
			want: `pods "there" is forbidden: exceeded quota: q, requested: cpu=2, used: cpu=1, limited: cpu=1`},
		{it: "counts any kind", quota: `{hard: {count/configmaps: 0}}`, kind: maps, obj: `{metadata: {name: c}}`,
			want: `configmaps "c" is forbidden: exceeded quota: q, requested: count/configmaps=1, used: count/configmaps=0, limited: count/configmaps=0`},
	} {
		t.Run(c.it, func(t *testing.T) {
			fake := clienttest.New(t, table, kindtest.Read(t, pods, there),
				kindtest.Read(t, quotas, `{metadata: {namespace: ns, name: q}, spec: `+c.quota+`}`))
			a := &Attempt{Operation: Create, Object: kindtest.Read(t, c.kind, c.obj),
				Request: request.Request{Kind: c.kind, Namespace: "ns", Subresource: c.sub}}
			if c.old != "" {
				a.Operation, a.Old = Update, fake.Put(kindtest.Read(t, c.kind, c.old))
			}
			got := ""
			if err := NewQuotas(fake).Review(t.Context(), a); err != nil {
				got = err.Error()
			}
			if got != c.want {
				t.Errorf("says %q\nwant %q", got, c.want)
			}
		})
	}
}

// However many come at once, no more are let in than fit, and none of those
// that fit is refused for one that failed.
func TestQuotasAreExactUnderConcurrency(t *testing.T) {
	pods, quotas := core.Pod(), core.ResourceQuota()
	fake := clienttest.New(t, kind.NewTable([]*kind.Kind{pods, quotas}),
		kindtest.Read(t, quotas, `{metadata: {namespace: ns, name: q}, spec: {hard: {pods: 10}}}`))
	plugin := NewQuotas(fake)
	try := func(name string, store bool) (in bool) {
		p := &corev1.Pod{}
		p.Name, p.Namespace, p.UID = name, "ns", types.UID(name)
		a := &Attempt{Operation: Create, Object: p, Request: request.Request{Kind: pods, Namespace: "ns"}}
		err := plugin.Review(t.Context(), a)
		if err == nil && store {
			fake.Put(p)
		}
		a.Done(err == nil && store)
		return err == nil
	}
	for i := range 20 {
		if !try(fmt.Sprint("failing", i), false) {
			t.Fatal("a write that failed still counts")
		}
	}
	var mu sync.Mutex
	var all sync.WaitGroup
	let := 0
	for i := range 40 {
		all.Go(func() {
			if try(fmt.Sprint("p", i), true) {
				mu.Lock()
				defer mu.Unlock()
				let++
			}
		})
	}
	all.Wait()
	if let != 10 {
		t.Errorf("%d were let in, want 10", let)
	}
	if len(plugin.pending) != 0 {
		t.Errorf("left over: %v", plugin.pending)
	}
}

func TestQuotasSeeObjectsChange(t *testing.T) {
	pods, quotas := core.Pod(), core.ResourceQuota()
	fake := clienttest.New(t, kind.NewTable([]*kind.Kind{pods, quotas}),
		kindtest.Read(t, quotas, `{metadata: {namespace: ns, name: q}, spec: {hard: {cpu: 4}}}`))
	plugin := NewQuotas(fake)
	ask := func(cpu string) string {
		err := plugin.Review(t.Context(), &Attempt{Operation: Create, Request: request.Request{Kind: pods, Namespace: "ns", DryRun: true},
			Object: kindtest.Read(t, pods, `{metadata: {name: p}, spec: {containers: [{name: a, resources: {requests: {cpu: `+cpu+`}}}]}}`)})
		if err == nil {
			return ""
		}
		return err.Error()
	}
	put := func(cpu string) {
		fake.Put(kindtest.Read(t, pods, `{metadata: {namespace: ns, name: x, uid: "1"}, spec: {containers: [{name: a, resources: {requests: {cpu: `+cpu+`}}}]}}`))
	}
	put("1")
	if got := ask("3"); got != "" {
		t.Error(got)
	}
	put("2")
	if got, want := ask("3"), `pods "p" is forbidden: exceeded quota: q, requested: cpu=3, used: cpu=2, limited: cpu=4`; got != want {
		t.Errorf("after it grew: %q, want %q", got, want)
	}
	fake.Drop(pods, "ns", "x")
	if got := ask("4"); got != "" {
		t.Errorf("after it went: %s", got)
	}
	if len(plugin.pending) > 0 {
		t.Error("a dry run keeps room")
	}
}

// What a create costs in a namespace with a quota and 5,000 pods.
func BenchmarkQuotaOf5000Pods(b *testing.B) {
	pods, quotas := core.Pod(), core.ResourceQuota()
	q := &corev1.ResourceQuota{}
	q.Namespace, q.Name = "ns", "q"
	q.Spec.Hard = corev1.ResourceList{corev1.ResourcePods: resource.MustParse("100000"), corev1.ResourceRequestsCPU: resource.MustParse("1000000")}
	fake := clienttest.New(nil, kind.NewTable([]*kind.Kind{pods, quotas}), q)
	make := func(i int) *corev1.Pod {
		p := &corev1.Pod{}
		p.Name, p.Namespace, p.UID = fmt.Sprint("p", i), "ns", types.UID(fmt.Sprint(i))
		p.Spec.Containers = []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1m"), corev1.ResourceMemory: resource.MustParse("1Mi")}}}}
		return p
	}
	for i := range 5000 {
		fake.Put(make(i))
	}
	plugin := NewQuotas(fake)
	b.ResetTimer()
	for i := range b.N {
		a := &Attempt{Operation: Create, Object: make(10000 + i), Request: request.Request{Kind: pods, Namespace: "ns"}}
		if err := plugin.Review(b.Context(), a); err != nil {
			b.Fatal(err)
		}
		a.Done(false)
	}
}
