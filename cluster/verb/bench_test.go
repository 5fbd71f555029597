package verb_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"sampan/cluster/admission"
	"sampan/cluster/client"
	"sampan/cluster/kind"
	"sampan/cluster/kind/apps"
	"sampan/cluster/kind/coordination"
	"sampan/cluster/kind/core"
	"sampan/cluster/object"
	"sampan/cluster/request"
	"sampan/cluster/schema"
	"sampan/cluster/store"
	"sampan/cluster/verb"
)

// BenchmarkCreate is what 32 clients get without HTTP.
func BenchmarkCreate(b *testing.B) {
	kinds := kind.NewTable(core.Kinds(), apps.Kinds())
	db, err := store.Open(context.Background(), store.Config{Dir: b.TempDir(), Kinds: kinds, Codec: object.Storage{}})
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	reader := verb.NewReader(kinds, db)
	api, err := verb.New(verb.Config{Kinds: kinds, Store: db, Schemas: schema.New(kinds), Authorizer: everyone{},
		Admission: admission.NewChain(admission.Namespaces{Reader: reader})})
	if err != nil {
		b.Fatal(err)
	}
	r := request.Request{Verb: "create", User: request.User{Name: "ann"}, FieldManager: "bench", FieldValidation: "Strict"}
	make := func(plural, namespace, body string) error {
		for _, k := range kinds.All() {
			if k.Plural == plural {
				r := r
				r.Kind, r.GVK, r.Namespace = k, k.GVK, namespace
				_, err := api.Create(context.Background(), r, asJSON(body))
				return err
			}
		}
		return fmt.Errorf("no kind %s", plural)
	}
	if err := make("namespaces", "", `{"metadata":{"name":"default"}}`); err != nil {
		b.Fatal(err)
	}
	var n atomic.Int64
	for _, c := range []struct{ plural, body string }{
		{"configmaps", `{"metadata":{"name":"c-%d","labels":{"app":"x"}},"data":{"key":"value","other":"value"}}`},
		{"deployments", deployment},
	} {
		b.Run(c.plural, func(b *testing.B) {
			b.ReportAllocs()
			var wait sync.WaitGroup
			each := func(i int64) error {
				if c.plural == "deployments" {
					return make(c.plural, "default", fmt.Sprintf(`{"metadata":{"name":"d-%d"}`, i)+deployment[len(`{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web","labels":{"a":"1"}}`):])
				}
				return make(c.plural, "default", fmt.Sprintf(c.body, i))
			}
			var left atomic.Int64
			left.Store(int64(b.N))
			b.ResetTimer()
			for range 32 {
				wait.Go(func() {
					for left.Add(-1) >= 0 {
						if err := each(n.Add(1)); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wait.Wait()
		})
	}
}

// BenchmarkUpdate is what a node's writes cost: its lease, a pod's status.
func BenchmarkUpdate(b *testing.B) {
	kinds := kind.NewTable(core.Kinds(), coordination.Kinds())
	db, err := store.Open(context.Background(), store.Config{Dir: b.TempDir(), Kinds: kinds, Codec: object.Storage{}})
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	api, err := verb.New(verb.Config{Kinds: kinds, Store: db, Schemas: schema.New(kinds), Authorizer: everyone{}})
	if err != nil {
		b.Fatal(err)
	}
	c := api.As(request.User{Name: "system:node:n"})
	ctx := context.Background()
	lease, err := client.Create(ctx, c, &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: "n", Namespace: "default"},
		Spec: coordinationv1.LeaseSpec{HolderIdentity: new("n")}})
	if err != nil {
		b.Fatal(err)
	}
	b.Run("lease", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			next := lease.DeepCopy()
			now := metav1.NowMicro()
			next.Spec.RenewTime = &now
			if lease, err = client.Update(ctx, c, next); err != nil {
				b.Fatal(err)
			}
		}
	})
	pod, err := client.Create(ctx, c, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "default"},
		Spec: corev1.PodSpec{NodeName: "n", Containers: []corev1.Container{{Name: "c", Image: "i"}}}})
	if err != nil {
		b.Fatal(err)
	}
	b.Run("pod status", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			next := pod.DeepCopy()
			next.Status.Message = fmt.Sprint(i)
			if pod, err = client.UpdateStatus(ctx, c, next); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkConfigMap is what one client's writes cost without HTTP, of the
// objects that test/bench uses: about 1 kB, a field changed by each of two.
func BenchmarkConfigMap(b *testing.B) {
	kinds := kind.NewTable(core.Kinds())
	db, err := store.Open(context.Background(), store.Config{Dir: b.TempDir(), Kinds: kinds, Codec: object.Storage{}})
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	api, err := verb.New(verb.Config{Kinds: kinds, Store: db, Schemas: schema.New(kinds), Authorizer: everyone{}})
	if err != nil {
		b.Fatal(err)
	}
	k := kinds.ByGVK(corev1.SchemeGroupVersion.WithKind("ConfigMap"))
	ctx := context.Background()
	r := request.Request{Kind: k, GVK: k.GVK, Namespace: "default", FieldManager: "bench", FieldValidation: "Strict"}
	const body = `{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"c-%d","labels":{"app":"bench"}},"data":{"a":%q,"b":%q}}`
	a, z := strings.Repeat("0123456789abcdef", 28), strings.Repeat("fedcba9876543210", 28)
	made := 0
	create := func(b *testing.B) {
		r := r
		r.Verb = "create"
		if _, err := api.Create(ctx, r, asJSON(fmt.Sprintf(body, made, a, z))); err != nil {
			b.Fatal(err)
		}
		made++
	}
	patch := func(b *testing.B, i int, pt types.PatchType, manager, body string) {
		r := r
		r.Verb, r.Name, r.FieldManager, r.Force = "patch", fmt.Sprintf("c-%d", i), manager, pt == types.ApplyYAMLPatchType
		if _, _, err := api.Patch(ctx, r, pt, []byte(body)); err != nil {
			b.Fatal(err)
		}
	}
	of := func(b *testing.B, n int) int { // objects that nobody else has changed
		first := made
		for range n {
			create(b)
		}
		return first
	}
	run := func(name string, ready func(b *testing.B) (each func(i int))) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			each := ready(b)
			before := spent()
			b.ResetTimer()
			for i := range b.N {
				each(i)
			}
			b.ReportMetric(float64(spent()-before)/float64(b.N)/1e3, "cpu-µs/op")
		})
	}
	run("create", func(b *testing.B) func(int) { return func(int) { create(b) } })
	var encoded object.Codec
	binary := func(b *testing.B, i int, more string) verb.Body {
		m := &corev1.ConfigMap{TypeMeta: metav1.TypeMeta{Kind: "ConfigMap", APIVersion: "v1"},
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("c-%d", i), Labels: map[string]string{"app": "bench"}},
			Data:       map[string]string{"a": a, "b": z}}
		if more != "" {
			m.Data[more] = "1"
		}
		data, err := encoded.Encode(nil, m, object.Protobuf)
		if err != nil {
			b.Fatal(err)
		}
		return verb.Body{Data: data, MediaType: object.Protobuf}
	}
	run("create, protobuf", func(b *testing.B) func(int) {
		return func(int) {
			r := r
			r.Verb = "create"
			if _, err := api.Create(ctx, r, binary(b, made, "")); err != nil {
				b.Fatal(err)
			}
			made++
		}
	})
	update := func(b *testing.B, i int, body verb.Body) {
		r := r
		r.Verb, r.Name, r.FieldManager = "update", fmt.Sprintf("c-%d", i), "updater"
		if _, _, err := api.Update(ctx, r, body); err != nil {
			b.Fatal(err)
		}
	}
	run("update", func(b *testing.B) func(int) {
		first := of(b, b.N)
		return func(i int) { update(b, first+i, asJSON(fmt.Sprintf(body, first+i, a+"x", z))) }
	})
	run("update, protobuf", func(b *testing.B) func(int) {
		first := of(b, b.N)
		return func(i int) { update(b, first+i, binary(b, first+i, "new")) }
	})
	for _, c := range []struct {
		name string
		pt   types.PatchType
		body string
	}{
		{"patch", types.MergePatchType, `{"data":{"patched":"%d"}}`},
		{"strategic patch", types.StrategicMergePatchType, `{"data":{"patched":"%d"}}`},
		{"JSON patch", types.JSONPatchType, `[{"op":"add","path":"/data/patched","value":"%d"}]`},
	} {
		run(c.name, func(b *testing.B) func(int) {
			first := of(b, b.N)
			return func(i int) { patch(b, first+i, c.pt, "patcher", fmt.Sprintf(c.body, i)) }
		})
	}
	const config = `{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"c-%d","namespace":"default"},"data":{"applied":"%d"}}`
	run("apply", func(b *testing.B) func(int) {
		first := of(b, b.N)
		return func(i int) {
			patch(b, first+i, types.ApplyYAMLPatchType, "applier", fmt.Sprintf(config, first+i, i))
		}
	})
	run("apply again", func(b *testing.B) func(int) {
		first := of(b, 1)
		patch(b, first, types.ApplyYAMLPatchType, "applier", fmt.Sprintf(config, first, 0))
		return func(int) {
			patch(b, first, types.ApplyYAMLPatchType, "applier", fmt.Sprintf(config, first, 0))
		}
	})
}

// spent is the CPU time of this process so far.
func spent() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
