package clienttest_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"sampan/cluster/client"
	"sampan/cluster/client/clienttest"
	"sampan/cluster/kind"
)

func kinds() *kind.Table {
	nodeName := func(p *corev1.Pod) []string { return []string{p.Spec.NodeName} }
	return kind.NewTable([]*kind.Kind{
		kind.Declare(kind.Of[corev1.ConfigMap]{GVK: corev1.SchemeGroupVersion.WithKind("ConfigMap"), Plural: "configmaps"}),
		kind.Declare(kind.Of[appsv1.Deployment]{GVK: appsv1.SchemeGroupVersion.WithKind("Deployment"), Plural: "deployments",
			Spec: func(d *appsv1.Deployment) any { return &d.Spec },
			Parts: map[string]kind.Part[appsv1.Deployment]{
				"status": {Take: func(dst, src *appsv1.Deployment) { dst.Status = src.Status }}},
		}),
		kind.Declare(kind.Of[corev1.Node]{GVK: corev1.SchemeGroupVersion.WithKind("Node"), Plural: "nodes", Cluster: true,
			Parts: map[string]kind.Part[corev1.Node]{
				"status": {Take: func(dst, src *corev1.Node) { dst.Status = src.Status }, KeepOnCreate: true}},
		}),
		kind.Declare(kind.Of[corev1.Pod]{GVK: corev1.SchemeGroupVersion.WithKind("Pod"), Plural: "pods",
			Indexes: map[string]func(*corev1.Pod) []string{"spec.nodeName": nodeName},
			Fields:  map[string]func(*corev1.Pod) string{"spec.nodeName": func(p *corev1.Pod) string { return p.Spec.NodeName }},
			Grace: func(p *corev1.Pod, opts *metav1.DeleteOptions) bool {
				if opts.GracePeriodSeconds == nil {
					opts.GracePeriodSeconds = p.Spec.TerminationGracePeriodSeconds
				}
				return p.Spec.NodeName != ""
			},
			Actions: map[string]kind.Action[corev1.Pod]{"binding": {
				New: func() runtime.Object { return &corev1.Binding{} },
				Do: func(p *corev1.Pod, body runtime.Object) error {
					p.Spec.NodeName = body.(*corev1.Binding).Target.Name
					return nil
				}}},
		}),
	})
}

var ctx = context.Background()

func meta(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: "default", Name: name} }

func pod(name, node string) *corev1.Pod {
	grace := int64(30)
	return &corev1.Pod{ObjectMeta: meta(name), Spec: corev1.PodSpec{NodeName: node, TerminationGracePeriodSeconds: &grace}}
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

func TestStatusAndSpecAreWrittenApart(t *testing.T) {
	f := clienttest.New(t, kinds())
	made := must[*appsv1.Deployment](t)(client.Create(ctx, f, &appsv1.Deployment{
		ObjectMeta: meta("web"), Status: appsv1.DeploymentStatus{Replicas: 9}}))
	if made.Status.Replicas != 0 || made.Generation != 1 || made.UID == "" || made.ResourceVersion == "" {
		t.Errorf("created %+v", made)
	}
	change := made.DeepCopy()
	change.Spec.Paused, change.Status.Replicas = true, 3
	made = must[*appsv1.Deployment](t)(client.Update(ctx, f, change))
	if made.Status.Replicas != 0 || !made.Spec.Paused || made.Generation != 2 {
		t.Errorf("after update: %+v", made)
	}
	change = made.DeepCopy()
	change.Spec.Paused, change.Status.Replicas = false, 3
	made = must[*appsv1.Deployment](t)(client.UpdateStatus(ctx, f, change))
	if made.Status.Replicas != 3 || !made.Spec.Paused || made.Generation != 2 {
		t.Errorf("after update of the status: %+v", made)
	}
}

func TestAKindMayBeMadeWithItsStatus(t *testing.T) {
	f := clienttest.New(t, kinds())
	n := must[*corev1.Node](t)(client.Create(ctx, f, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}, Status: corev1.NodeStatus{Phase: "Running"}}))
	if n.Status.Phase != "Running" {
		t.Errorf("a node that registers has status %+v", n.Status)
	}
	n = n.DeepCopy()
	n.Status.Phase, n.Spec.PodCIDR = "Pending", "10.0.0.0/24"
	if n = must[*corev1.Node](t)(client.Update(ctx, f, n)); n.Status.Phase != "Running" || n.Spec.PodCIDR == "" {
		t.Errorf("an update of the object made it %+v, %+v", n.Spec, n.Status)
	}
}

func TestAnOldRevisionIsAConflict(t *testing.T) {
	f := clienttest.New(t, kinds())
	first := must[*corev1.ConfigMap](t)(client.Create(ctx, f, &corev1.ConfigMap{ObjectMeta: meta("a")}))
	change := first.DeepCopy()
	change.Data = map[string]string{"k": "1"}
	must[*corev1.ConfigMap](t)(client.Update(ctx, f, change.DeepCopy()))
	if _, err := client.Update(ctx, f, change); !apierrors.IsConflict(err) {
		t.Errorf("got %v, want a conflict", err)
	}
	if _, err := client.Create(ctx, f, &corev1.ConfigMap{ObjectMeta: meta("a")}); !apierrors.IsAlreadyExists(err) {
		t.Errorf("got %v, want already exists", err)
	}
}

func TestAWriteThatChangesNothingIsNoEvent(t *testing.T) {
	f := clienttest.New(t, kinds(), &corev1.ConfigMap{ObjectMeta: meta("a")})
	was := must[*corev1.ConfigMap](t)(client.Get[*corev1.ConfigMap](ctx, f, "default", "a"))
	is := must[*corev1.ConfigMap](t)(client.Update(ctx, f, was.DeepCopy()))
	if is.ResourceVersion != was.ResourceVersion {
		t.Errorf("revision %s, want still %s", is.ResourceVersion, was.ResourceVersion)
	}
}

func TestPatchesMergeAsTheirTypeSays(t *testing.T) {
	for _, c := range []struct {
		it   string
		typ  types.PatchType
		data string
		want []string // finalizers
	}{
		{"a merge patch replaces lists", types.MergePatchType, `{"metadata":{"finalizers":["x/b"]}}`, []string{"x/b"}},
		{"a strategic patch merges them", types.StrategicMergePatchType, `{"metadata":{"finalizers":["x/b"]}}`, []string{"x/b", "x/a"}},
		{"a JSON patch does as told", types.JSONPatchType, `[{"op":"add","path":"/metadata/finalizers/0","value":"x/c"}]`, []string{"x/c", "x/a"}},
		{"apply takes YAML", types.ApplyPatchType, "metadata: {finalizers: [x/d]}", []string{"x/d", "x/a"}},
	} {
		t.Run(c.it, func(t *testing.T) {
			m := meta("a")
			m.Finalizers = []string{"x/a"}
			f := clienttest.New(t, kinds(), &corev1.ConfigMap{ObjectMeta: m})
			got := must[kind.Object](t)(f.Patch(ctx, client.KindOf[*corev1.ConfigMap](f),
				client.Patch{Namespace: "default", Name: "a", Type: c.typ, Data: []byte(c.data)}))
			if !slices.Equal(got.GetFinalizers(), c.want) {
				t.Errorf("finalizers %q, want %q", got.GetFinalizers(), c.want)
			}
		})
	}
}

func TestDeletionWaitsForFinalizersAndGrace(t *testing.T) {
	m := meta("held")
	m.Finalizers = []string{"x/hold"}
	f := clienttest.New(t, kinds(), &corev1.ConfigMap{ObjectMeta: m}, pod("runs", "n1"), pod("waits", ""))
	if err := client.Delete[*corev1.ConfigMap](ctx, f, "default", "held", nil); err != nil {
		t.Fatal(err)
	}
	held := must[*corev1.ConfigMap](t)(client.Get[*corev1.ConfigMap](ctx, f, "default", "held")).DeepCopy()
	if held.DeletionTimestamp == nil {
		t.Fatal("not marked")
	}
	held.Finalizers = nil
	must[*corev1.ConfigMap](t)(client.Update(ctx, f, held))
	if _, err := client.Get[*corev1.ConfigMap](ctx, f, "default", "held"); !apierrors.IsNotFound(err) {
		t.Errorf("still there without finalizers: %v", err)
	}

	for _, name := range []string{"runs", "waits"} {
		if err := client.Delete[*corev1.Pod](ctx, f, "default", name, nil); err != nil {
			t.Fatal(err)
		}
	}
	left := must[[]*corev1.Pod](t)(client.List[*corev1.Pod](ctx, f, client.Query{}))
	if len(left) != 1 || left[0].Name != "runs" || *left[0].DeletionGracePeriodSeconds != 30 {
		t.Fatalf("left %v", left)
	}
	now := int64(0)
	if err := client.Delete[*corev1.Pod](ctx, f, "default", "runs", &metav1.DeleteOptions{GracePeriodSeconds: &now}); err != nil {
		t.Fatal(err)
	}
	if left = must[[]*corev1.Pod](t)(client.List[*corev1.Pod](ctx, f, client.Query{})); len(left) != 0 {
		t.Errorf("left %v after a delete with grace 0", left)
	}
}

func TestAWatchSeesObjectsComeIntoViewAndLeave(t *testing.T) {
	f := clienttest.New(t, kinds(), pod("a", "n1"), pod("b", "n2"))
	pods := client.KindOf[*corev1.Pod](f)
	w := must[client.Watcher](t)(f.Watch(ctx, pods, client.Query{Index: "spec.nodeName", Value: "n1"}))
	f.Put(pod("c", ""))
	if _, err := f.Act(ctx, pods, "default", "c", "binding", &corev1.Binding{Target: corev1.ObjectReference{Name: "n1"}}); err != nil {
		t.Fatal(err)
	}
	f.Put(pod("a", "n2"))
	f.Drop(pods, "default", "b")
	type seen struct {
		typ  client.EventType
		name string
	}
	var got []seen
	for _, e := range must[[]client.Event](t)(w.Next(ctx)) {
		s := seen{typ: e.Type}
		if e.Object != nil {
			s.name = e.Object.GetName()
		}
		got = append(got, s)
	}
	want := []seen{{client.Added, "a"}, {client.Synced, ""}, {client.Added, "c"}, {client.Deleted, "a"}}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestQueriesSelect(t *testing.T) {
	p := pod("a", "n1")
	p.Labels = map[string]string{"app": "web"}
	f := clienttest.New(t, kinds(), p, pod("b", "n1"), pod("c", "n2"))
	for _, c := range []struct {
		it   string
		q    client.Query
		want int
	}{
		{"all", client.Query{}, 3},
		{"by label", client.Query{Labels: labels.SelectorFromSet(labels.Set{"app": "web"})}, 1},
		{"by field", client.Query{Fields: fields.OneTermEqualSelector("spec.nodeName", "n1")}, 2},
		{"by index", client.Query{Index: "spec.nodeName", Value: "n2"}, 1},
		{"by another namespace", client.Query{Namespace: "other"}, 0},
	} {
		if got := must[[]*corev1.Pod](t)(client.List[*corev1.Pod](ctx, f, c.q)); len(got) != c.want {
			t.Errorf("%s: %d, want %d", c.it, len(got), c.want)
		}
	}
	if _, err := client.List[*corev1.Pod](ctx, f, client.Query{Fields: fields.OneTermEqualSelector("spec.x", "")}); !apierrors.IsBadRequest(err) {
		t.Errorf("an unknown field: %v", err)
	}
}

func TestTheTestCanFailCallsAndSeeThem(t *testing.T) {
	f := clienttest.New(t, kinds())
	broken := errors.New("broken")
	f.Before = func(a clienttest.Action) error {
		if a.Verb == "create" {
			return broken
		}
		return nil
	}
	if _, err := client.Create(ctx, f, pod("a", "")); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	if got := f.Actions(); len(got) != 1 || got[0].String() != "create pods default/a" {
		t.Errorf("actions %v", got)
	}
}

func TestAWriteToASharedObjectIsFound(t *testing.T) {
	f := clienttest.New(nil, kinds(), pod("a", ""))
	p := must[*corev1.Pod](t)(client.Get[*corev1.Pod](ctx, f, "default", "a"))
	p.Spec.NodeName = "n1"
	if got := f.Shared(); len(got) != 1 {
		t.Errorf("found %q, want the pod", got)
	}
}
